"""A server killed at any moment loses nothing that it acknowledged, and shows no half answer as whole."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx
import openai
import pytest

from flamingo_app.conversation.store import Store
from tests.interfaces.api.conftest import user
from tests.interfaces.serving import reborn, served_here

TOKENS = 24


class Talker(threading.Thread):
    """Talks on and on, and remembers what was acknowledged: each question that was heard, each answer that ended."""

    def __init__(self, address: str, identity: str, start: int) -> None:
        super().__init__(daemon=True)
        self.client = openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0, timeout=60)
        self.identity, self.number = identity, start
        self.heard: dict[int, str] = {}
        self.whole: dict[int, str] = {}

    def run(self) -> None:
        extra = {"conversation": self.identity}
        try:
            while True:
                stream = self.client.chat.completions.create(
                    model="tiny", messages=[question(self.number)], max_tokens=TOKENS, stream=True, extra_body=extra
                )
                said = ""
                for chunk in stream:
                    self.heard[self.number] = said = said + (chunk.choices[0].delta.content or "")
                    if chunk.choices[0].finish_reason:
                        self.whole[self.number] = said.strip()
                self.number += 1
        except (openai.APIError, httpx.TransportError):  # the server is gone
            return


def question(number: int) -> Any:
    return user(f"turn {number}", number)


def asked(store: Store) -> list[Any]:
    return list(store.load("everybody", "kept").turns)


def kill_again_and_again(model: Path, data: Path, times: int) -> None:
    random = Random(5)
    acknowledged: dict[int, str] = {}
    start, cut_off = 0, 0
    with reborn(model, data) as server:
        for _ in range(times):
            server.start()
            talker = Talker(server.address, "kept", start)
            talker.start()
            while not acknowledged and not talker.whole:  # the first server says one answer at least
                assert talker.is_alive()
                time.sleep(0.01)
            time.sleep(random.uniform(0.0, 2.0))
            server.kill()
            talker.join(timeout=60)
            assert not talker.is_alive()
            acknowledged |= talker.whole
            store = Store(f"sqlite:///{data}/conversations.db", str(data / "pictures"))
            try:
                turns = asked(store)
            finally:
                store.close()
            assert len(turns) > max(talker.heard, default=-1), "a question that was heard is gone"
            for number, turn in enumerate(turns):
                assert turn.said[0] == f"turn {number}"
                assert turn.said[1].open().size == (8, 8)
                assert (turn.answer is None) == (turn.status == "asked")
                if number in acknowledged:
                    assert turn.answer == acknowledged[number], "an answer that was acknowledged is another"
            start = len(turns)
            cut_off += turns[-1].answer is None
    assert times == 1 or cut_off, "no kill struck an answer"

    # What the killed server kept is gone on with as if it had never been killed.
    store = Store(f"sqlite:///{data}/conversations.db", str(data / "pictures"))
    turns = asked(store)
    store.close()
    history: list[Any] = []
    for number, turn in enumerate(turns):
        history.append(question(number))
        if turn.answer is not None:
            history.append({"role": "assistant", "content": turn.answer})
    with served_here(model, data) as address:
        last = question(len(turns))
        kept = answer(address, [last], {"conversation": "kept"})
        assert kept == answer(address, [*history, last], {})


def answer(address: str, messages: list[Any], extra: dict[str, str]) -> str:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0) as client:
        done = client.chat.completions.create(model="tiny", messages=messages, max_tokens=TOKENS, extra_body=extra)
        return done.choices[0].message.content or ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("times", [1, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(7200)])])
def test_a_killed_server_loses_nothing(remembering_folder: Path, tmp_path: Path, times: int):
    kill_again_and_again(remembering_folder, tmp_path / "data", times)
