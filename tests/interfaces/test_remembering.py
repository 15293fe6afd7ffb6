"""The memory of a kept conversation, as the page shows it, over a tiny random model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from secrets import token_urlsafe
from typing import Any, cast

import gradio as gr
import pytest

from flamingo_app.conversation import Conversation, Settings
from flamingo_app.conversation.store import Store
from flamingo_app.interfaces.service import Service
from flamingo_app.interfaces.users import Users
from flamingo_app.interfaces.web.acting import Acting, OpenPage
from flamingo_app.interfaces.web.visitors import COOKIE
from flamingo_app.processing import FlamingoImageProcessor, FlamingoProcessor
from tests import tiny
from tests.conversation.test_session import picture
from tests.memory.test_conversation_memory import SMALL

TURNS = 12


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    gated = {"heads": 2, "dim_head": 8}
    model = tiny.model(positions=160, memory=SMALL | {"num_turns": 16, "gated": gated}, initializer_range=0.3)
    processor = FlamingoProcessor(FlamingoImageProcessor(**tiny.PREPROCESS), tiny.tokenizer())
    store = Store(f"sqlite:///{tmp_path}/chats.db", str(tmp_path / "pictures"))
    yield Service(model=model, processor=processor, name="tiny", store=store)
    store.close()


def test_the_panel_shows_what_has_left_and_it_can_be_switched_off_and_forgotten(service: Service):
    acting = Acting(service=service, users=Users())
    page, request = OpenPage(), gr.Request(headers={"cookie": f"{COOKIE}={token_urlsafe(32)}"}, query_params={})
    owner = acting._owner(request)
    page.turn_to(service.store.create(owner))
    for number in range(TURNS):
        service.store.ask(owner, cast(str, page.conversation), number, (service.store.pictures.put(picture(number)),))
        service.store.answer(owner, cast(str, page.conversation), number, "!" * (number % 3), "whole")

    shown = acting._all(page, owner).memory
    numbers = [turn["turn"] for turn in shown["turns"]]
    assert shown["has"]
    assert shown["on"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert 0 < len(numbers) < TURNS
    assert all(isinstance(turn["words"], str) and turn["share"] is None for turn in shown["turns"])

    looked = acting.on_turn(page, {"do": "look", "turn": TURNS - 1}, 1.0, request)
    shares = [turn["share"] for turn in looked.memory["turns"]]
    assert sum(shares) == pytest.approx(1.0, abs=0.01)

    service.store.ask(owner, cast(str, page.conversation), TURNS, ("?" * 100,))  # so long that no picture stays
    service.store.answer(owner, cast(str, page.conversation), TURNS, "!", "whole")
    looked = acting.on_turn(page, {"do": "look", "turn": TURNS}, 1.0, request)
    assert looked.looking["pictures"] == []
    assert sum(turn["share"] for turn in looked.memory["turns"]) == pytest.approx(1.0, abs=0.01)
    service.store.cut(owner, cast(str, page.conversation), TURNS)

    off = acting.on_memory(page, {"do": "read", "on": False}, request)
    assert not off.memory["on"]
    assert "does not see them" in off.budget
    gone = acting.on_memory(page, {"do": "forget"}, request)
    assert gone.memory["turns"] == []
    assert gone.memory["forgotten"] == len(numbers)
    saved = service.store.load(owner, cast(str, page.conversation))
    assert (saved.remembers, saved.forgotten) == (False, len(numbers))


def test_a_model_without_memory_says_so(tmp_path: Path):
    processor = FlamingoProcessor(FlamingoImageProcessor(**tiny.PREPROCESS), tiny.tokenizer())
    store = Store(f"sqlite:///{tmp_path}/chats.db", str(tmp_path / "pictures"))
    acting = Acting(service=Service(model=tiny.model(), processor=processor, name="tiny", store=store), users=Users())
    assert acting._all(OpenPage(), "somebody").memory == {"has": False, "on": True, "forgotten": 0, "turns": []}
    store.close()


def test_what_is_forgotten_is_not_read(service: Service):
    """Two chats of the same words, of which one has forgotten its beginning."""
    chat = Conversation(service.model, service.processor)
    for number in range(TURNS):
        chat.say(picture(number), settings=Settings(max_new_tokens=4))
    left = chat.budget.num_left_out // 2
    assert left > 1

    def said(**settings: Any) -> str:
        answer = service.reply(
            chat.messages[:-1], settings=Settings(max_new_tokens=12, **settings), stop=threading.Event()
        )
        return "".join(answer)

    assert said(forgotten=TURNS) == said(memory=False)
    assert said() != said(memory=False)
