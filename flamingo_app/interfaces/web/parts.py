"""Parts of the page with HTML and JavaScript of their own, in files beside this one.

Gradio's HTML is used as it is: it writes a stub file beside every module that derives from one of its components.
A part sends what it wants as its value, with the event `submit`, and is given what it is to show as its value.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent


def part(name: str, value: Any, *, placeholder: str = "", **props: Any) -> gr.HTML:
    """The part of NAME.html and NAME.js; its id is its name."""
    template = HERE / f"{name}.html"
    return gr.HTML(
        value=value,
        html_template=template.read_text(encoding="utf-8").replace("@placeholder", escape(placeholder)),
        js_on_load=(HERE / f"{name}.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id=name,
        **props,
    )
