"""The box to write in, with pictures between the words, where the cursor is.

On its way from the browser a message is a list of `{"words": text}` and `{"picture": path of an uploaded file}`.
"""

from __future__ import annotations

import gradio as gr

from flamingo_app.interfaces.web.parts import part


def composer(*, max_bytes: int, placeholder: str) -> gr.HTML:
    """The box. Its event `submit` sends; a value that goes to the page replaces what stands in it.

    Args:
        max_bytes: the largest picture file that the page tries to upload.
        placeholder: what an empty box says.
    """
    return part("composer", [], max_bytes=max_bytes, placeholder=placeholder)
