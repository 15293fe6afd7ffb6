"""Many conversations at once over one model, half of them of pages and half of programs: each is as alone."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_urlsafe

import gradio as gr
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from flamingo_app import load
from flamingo_app.conversation import Example, Settings
from flamingo_app.conversation.store import Store
from flamingo_app.interfaces.api import build_api
from flamingo_app.interfaces.service import Service
from flamingo_app.interfaces.users import Users
from flamingo_app.interfaces.web.acting import Acting, OpenPage
from flamingo_app.interfaces.web.visitors import COOKIE
from tests.interfaces.api.conftest import data_url, user

Converse = Callable[[int, int], list[str | None]]
"""A conversation's number, and how many turns, to its answers."""


@pytest.fixture
def service(remembering_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir()
    model, processor = load(str(remembering_folder))
    store = Store(f"sqlite:///{tmp_path}/chats.db", str(tmp_path / "pictures"))
    yield Service(model=model, processor=processor, name="tiny", store=store)
    store.close()


def words(number: int, turn: int) -> str:
    return f"secret {number * 7919}, {turn}"


def by_page(service: Service, uploads: Path) -> Converse:
    """What the buttons of a page do."""
    acting = Acting(service=service, users=Users())

    def converse(number: int, turns: int) -> list[str | None]:
        page, request = OpenPage(), gr.Request(headers={"cookie": f"{COOKIE}={token_urlsafe(32)}"}, query_params={})
        for turn in range(turns):
            file = uploads / f"{number}-{turn}.png"
            file.write_bytes(base64.b64decode(data_url(100 * number + turn).partition(",")[2]))
            views = [*acting.send(page, [{"words": words(number, turn)}, {"picture": str(file)}], 1.0, request)]
            assert not [view for view in views if re.search("expected", str(view.notice))]
        kept = service.store.load(acting._owner(request), str(page.conversation))
        assert [turn.said[0] for turn in kept.turns] == [words(number, turn) for turn in range(turns)]
        return [turn.answer for turn in kept.turns]

    return converse


def by_program(service: Service) -> Converse:
    """What a program sends."""
    client = TestClient(build_api(service, Users()))

    def converse(number: int, turns: int) -> list[str | None]:
        identity, said = token_urlsafe(16), list[str | None]()
        for turn in range(turns):
            message = user(words(number, turn), 100 * number + turn)
            asked = {"model": "tiny", "messages": [message], "conversation": identity, "max_tokens": 24}
            answer = client.post("/v1/chat/completions", json=asked)
            said.append(answer.raise_for_status().json()["choices"][0]["message"]["content"])
        return said

    return converse


@pytest.mark.parametrize(
    ("chats", "turns"), [(4, 2), pytest.param(32, 10, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_pages_and_programs_at_once_are_each_as_alone(service: Service, tmp_path: Path, chats: int, turns: int):
    ways = (by_page(service, tmp_path / "uploads"), by_program(service))
    with ThreadPoolExecutor(chats) as threads:
        together = list(threads.map(lambda number: ways[number % 2](number, turns), range(chats)))
    service.prefixes = type(service.prefixes)()  # nothing of it is known any more
    service.memories = type(service.memories)()
    alone = [ways[number % 2](number, turns) for number in range(chats)]
    assert together == alone
    assert len({tuple(said) for said in alone}) > 1  # a random model may say one thing to several


def test_a_program_goes_on_with_the_examples_that_a_page_chose(service: Service):
    examples = [Example(picture=service.store.pictures.put(Image.new("RGB", (8, 8), "red")), text="a dog, and a cat.")]
    for identity, shown in (("taught", examples), ("plain", [])):
        service.store.create("everybody", id=identity, examples=shown)

    def num_read(identity: str) -> int:
        asked = {"model": "tiny", "messages": [user("what?", 1)], "conversation": identity, "max_tokens": 2}
        given = TestClient(build_api(service, Users())).post("/v1/chat/completions", json=asked)
        return given.raise_for_status().json()["usage"]["prompt_tokens"]

    read = num_read("taught")
    question = service.store.load("everybody", "taught").turns[0].messages[0]
    answer = service.reply([question], examples=examples, settings=Settings(), stop=threading.Event())
    assert read == answer.num_read > num_read("plain")
