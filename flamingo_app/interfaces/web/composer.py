"""The box to write in, with pictures between the words, where the cursor is.

On its way from the browser a message is a list of `{"words": text}` and `{"picture": path of an uploaded file}`.
Gradio's HTML is used as it is: it writes a stub file beside every module that derives from one of its components.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import gradio as gr

from flamingo_app.errors import PromptError
from flamingo_app.interfaces.web.chat import Draft
from flamingo_app.interfaces.web.uploads import Picture, open_upload

HERE = Path(__file__).parent
MAX_PICTURES = 16


def composer(*, max_bytes: int, placeholder: str) -> gr.HTML:
    """The box. Its event `submit` sends; a value that goes to the page replaces what stands in it.

    Args:
        max_bytes: the largest picture file that the page tries to upload.
        placeholder: what an empty box says.
    """
    return gr.HTML(
        value=cast(Any, []),
        html_template=(HERE / "composer.html").read_text(encoding="utf-8").replace("@placeholder", placeholder),
        js_on_load=(HERE / "composer.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="composer",
        max_bytes=max_bytes,
    )


def show_draft(draft: Draft) -> list[dict[str, Any]]:
    """A draft as the page takes it; gradio adds the address of each file."""
    return [
        {"words": part} if isinstance(part, str) else {"picture": gr.FileData(path=str(part.file)).model_dump()}
        for part in draft
    ]


def read_draft(payload: Any) -> Draft:
    """What came from the page, with its pictures opened.

    Raises:
        PromptError: for what is no message.
        PictureError: for a file that is no safe picture.
    """
    parts: list[str | Picture] = []
    for part in cast(list[object], payload) if isinstance(payload, list) else [None]:
        match part:
            case {"words": str(words)}:
                parts.append(words)
            case {"picture": str(path)}:
                parts.append(open_upload(path))
            case _:
                raise PromptError(expected="words and pictures", got="something else", remedy="write the message again")
        if sum(isinstance(part, Picture) for part in parts) > MAX_PICTURES:
            raise PromptError(expected=f"at most {MAX_PICTURES} pictures", got="more", remedy="send some of them later")
    return tuple(parts)
