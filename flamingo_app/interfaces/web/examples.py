"""Pictures of ours to click; each goes into the message where the cursor is."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

import gradio as gr

HERE = Path(__file__).parent


def examples(folder: Path) -> gr.HTML:
    """A row of the PNG files in a folder, which may be missing; a file's name says what it shows: two-dogs.png."""
    pictures = sorted(folder.glob("*.png"))
    return gr.HTML(
        value="".join(_button(file) for file in pictures),
        js_on_load=(HERE / "examples.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="examples",
        visible=bool(pictures),
    )


def _button(file: Path) -> str:
    source = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
    words = escape(file.stem.replace("-", " "))
    return f'<button type="button" title="{words}"><img src="{source}" alt="{words}"></button>'
