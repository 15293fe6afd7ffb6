"""The layout of the page, and what its buttons do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from flamingo_app.interfaces.cli.info import describe
from flamingo_app.interfaces.service import Service
from flamingo_app.interfaces.users import Users
from flamingo_app.interfaces.web import card
from flamingo_app.interfaces.web.acting import RETRY_TEMPERATURE, Acting, OpenPage, told
from flamingo_app.interfaces.web.composer import composer
from flamingo_app.interfaces.web.endpoints import add_endpoints
from flamingo_app.interfaces.web.examples import examples
from flamingo_app.interfaces.web.parts import part
from flamingo_app.interfaces.web.talks import Talks

KEPT_SECONDS = 3600
"""How long uploaded files are kept: what was sent with a message lives with its conversation."""


def build_page(service: Service, users: Users, fetch: Callable[[str], bytes] | None = None) -> gr.Blocks:
    """The chat page of a service; `fetch` as for the API."""
    # A model put together from backbones has no folder: what is looked for in none is not found.
    folder = Path(service.model.name_or_path or "no folder")
    talks = Talks.read(folder / "talks")
    description = describe(service.name, service.model)
    acting = Acting(service=service, users=users, talks=talks)
    with gr.Blocks(
        title="Flamingo", fill_height=True, analytics_enabled=False, delete_cache=(3600, KEPT_SECONDS)
    ) as page:
        state = gr.State(OpenPage(), delete_callback=_leave)
        with gr.Sidebar(width=270, elem_id="side"):
            shelf = part("shelf", {})
        gr.HTML(card.header(service.name))
        history = part("history", [], placeholder=card.GREETING, talks=talks.buttons())
        notice = gr.HTML(elem_id="notice")
        box = composer(max_bytes=service.limits.picture_bytes, placeholder=card.INVITATION)
        with gr.Row(elem_id="buttons"):
            stop = gr.Button("Stop", elem_id="stop", variant="stop", size="sm", visible=False, scale=0, min_width=80)
            retry = gr.Button("Retry", elem_id="retry", size="sm", scale=0, min_width=80)
            undo = gr.Button("Undo", elem_id="undo", size="sm", scale=0, min_width=80)
        budget = gr.HTML(elem_id="budget")
        examples(folder / "examples")
        with gr.Accordion("Examples shown first", open=False, elem_id="shots-panel") as shots_panel:
            shots = part("shots", {})
        with gr.Accordion("What it remembers", open=False, elem_id="memory-panel") as memory_panel:
            memory = part("memory", {})
        with gr.Accordion("What it looked at, and its gates", open=False, elem_id="look-panel") as look_panel:
            looking = part("looking", {})
            gates = gr.Slider(
                0, 1, value=1, step=0.05, label="Gates: 0 is the language model alone, 1 as trained", elem_id="gates"
            )
            gr.HTML(card.gates(description))
            wild = gr.Slider(
                0, 1.5, value=RETRY_TEMPERATURE, step=0.1, label="How wild a retry is", elem_id="temperature"
            )
        with gr.Accordion("What this model is and knows", open=False, elem_id="card"):
            gr.HTML(card.about(description))

        view = [history, notice, box, stop, shelf, shots, budget, looking, memory, look_panel]

        def answer(event: Callable[..., Any], act: Callable[..., Any], inputs: list[Any]) -> None:
            # Our own queue tells a place, so gradio's lets everybody in.
            event(act, inputs, view, show_progress="hidden", concurrency_limit=None, api_visibility="private")

        def act(event: Callable[..., Any], does: Callable[..., Any], inputs: list[Any]) -> None:
            event(told(does), inputs, view, queue=False, show_progress="hidden", api_visibility="private")

        act(page.load, acting.open, [state])
        answer(box.submit, acting.send, [state, box, gates])
        answer(history.select, acting.play, [state, history, gates])
        answer(retry.click, acting.retry, [state, wild, gates])
        act(undo.click, acting.undo, [state])
        act(history.submit, acting.on_turn, [state, history, gates])
        act(shelf.submit, acting.on_shelf, [state, shelf])
        act(shots.submit, acting.on_shots, [state, shots])
        act(memory.submit, acting.on_memory, [state, memory])
        for panel in (shots_panel, memory_panel):
            act(panel.expand, acting.unfold, [state])
        add_endpoints(service, users, fetch)
        stop.click(_stop, state, queue=False, show_progress="hidden", api_visibility="private")
    return page


def _stop(page: OpenPage) -> None:
    page.stop.set()


def _leave(page: OpenPage) -> None:
    """Nobody waits for the answers of a page that was closed."""
    page.stop.set()
