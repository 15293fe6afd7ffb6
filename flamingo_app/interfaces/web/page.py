"""The layout of the page, and what its buttons do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from flamingo_app.interfaces.cli.info import describe
from flamingo_app.interfaces.web import card
from flamingo_app.interfaces.web.answering import Answering
from flamingo_app.interfaces.web.chat import Chat
from flamingo_app.interfaces.web.composer import composer
from flamingo_app.interfaces.web.examples import examples
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor

KEPT_SECONDS = 24 * 3600
"""How long uploaded files are kept."""


def build_page(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    *,
    name: str,
    max_bytes: int,
    concurrency: int,
) -> gr.Blocks:
    """The chat page for a model.

    Args:
        name: what the user called the model: "starter", a preset, or a folder.
        max_bytes: the largest picture file.
        concurrency: how many answers are given at once; further ones wait their turn.
    """
    # A model put together from backbones has no folder: what is looked for in none is not found.
    folder = Path(model.name_or_path or "no folder")
    answering = Answering(model=model, processor=processor)
    with gr.Blocks(
        title="Flamingo", fill_height=True, analytics_enabled=False, delete_cache=(3600, KEPT_SECONDS)
    ) as page:
        chat = gr.State(Chat(), delete_callback=_leave)
        gr.HTML(card.header(name))
        history = gr.Chatbot(
            label="Chat",
            show_label=False,
            elem_id="history",
            scale=1,
            height="48vh",
            layout="bubble",
            buttons=[],
            render_markdown=False,
            feedback_options=None,
            allow_file_downloads=False,
            placeholder=card.GREETING,
        )
        notice = gr.HTML(elem_id="notice")
        box = composer(max_bytes=max_bytes, placeholder=card.INVITATION)
        with gr.Row(elem_id="buttons"):
            stop = gr.Button("Stop", elem_id="stop", variant="stop", size="sm", visible=False, scale=0, min_width=80)
            retry = gr.Button("Retry", elem_id="retry", size="sm", scale=0, min_width=80)
            undo = gr.Button("Undo", elem_id="undo", size="sm", scale=0, min_width=80)
            clear = gr.Button("Clear", elem_id="clear", size="sm", scale=0, min_width=80)
        examples(folder / "examples")
        with gr.Accordion("What this model is and knows", open=False, elem_id="card"):
            gr.HTML(card.about(describe(name, model)))

        view = [history, notice, box, stop]

        def generate(event: Callable[..., Any], act: Callable[..., Any], inputs: list[Any]) -> None:
            event(act, inputs, view, show_progress="hidden", concurrency_limit=concurrency, concurrency_id="model")

        generate(box.submit, answering.send, [chat, box])
        generate(retry.click, answering.retry, [chat])
        stop.click(_stop, chat, queue=False, show_progress="hidden")
        undo.click(answering.undo, chat, view, queue=False, show_progress="hidden")
        clear.click(answering.clear, chat, view, queue=False, show_progress="hidden")
    return page


def _stop(chat: Chat) -> None:
    chat.stop.set()


def _leave(chat: Chat) -> None:
    """Nobody waits for the answers of a page that was closed."""
    chat.stop.set()
