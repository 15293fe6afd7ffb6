"""How memory is measured and taught: what is written is what a conversation writes, and no talk answers by accident."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data import talks
from data.picture_book import objects
from flamingo_app.conversation import Conversation, Memories, Message
from flamingo_app.conversation.recollection import TurnScript, by_turns
from flamingo_app.conversation.session import read_window
from flamingo_app.processing import FlamingoImageProcessor, FlamingoProcessor
from tests import tiny
from tests.memory.test_conversation_memory import SMALL
from training.starter import memory as stage
from training.suites import memory as suite
from training.suites.reader import Reader, drawn


@pytest.fixture(scope="module")
def reader() -> Reader:
    gated = {"heads": 2, "dim_head": 8}
    model = tiny.model(positions=480, memory=SMALL | {"num_turns": 12, "gated": gated}, initializer_range=0.3)
    return Reader(model, FlamingoProcessor(FlamingoImageProcessor(**tiny.PREPROCESS), tiny.tokenizer()), batch_size=3)


def test_a_report_has_every_point_and_its_controls(reader: Reader, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(suite, "FILLERS", 20)
    monkeypatch.setattr(suite.Exam, "names", lambda exam, count, random: suite.made_up_names(count, random))
    results = suite.run(reader, seed=0, items=2, points={"two": (3,), "seen": (3,), "plain": (3,)})
    for task in ("two", "seen", "plain"):
        for control in ("", "_truncated", "_zeroed", "_swapped", "_blank"):
            assert results[f"{task}_3_turns{control}"]["count"] == 2


def test_a_model_without_memory_has_no_such_figures():
    processor = FlamingoProcessor(FlamingoImageProcessor(**tiny.PREPROCESS), tiny.tokenizer())
    assert suite.run(Reader(tiny.model(), processor), seed=0, items=4) == {}


def test_the_exam_writes_what_a_conversation_writes(reader: Reader, monkeypatch: pytest.MonkeyPatch):
    """Turns of a talk as episodes, and the same as messages of a chat."""
    monkeypatch.setattr(suite, "FILLERS", 3)
    exam, random = suite.Exam(reader, 0), Random(1)
    turns = [talks.named(thing, name, random) for thing, name in zip(objects("heldout"), ("dax", "wug"), strict=False)]
    messages: list[Message] = []
    for turn in turns:
        (scene,), words = turn.episode.scenes, turn.episode.pieces[2][0]
        messages.append(Message(role="user", parts=(drawn([scene])[0], str(words))))
        messages.append(Message(role="assistant", parts=(talks.NOTED,)))
    asked = Message(role="user", parts=("?" * 390,))
    window = read_window(reader.model, reader.processor, [*messages, asked])
    left: tuple[TurnScript, ...] = window.left
    assert len(left) == len(list(by_turns(messages))) == 2
    _, state = Memories().after(reader.model, reader.processor, left)
    item = suite.Item(tuple(turns), (), (), (), turns[0].episode)
    written = exam.written([item, item])
    torch.testing.assert_close(written.rows(1, 2).values, state.slots.used.values, atol=1e-5, rtol=1e-4)
    assert Conversation(reader.model, reader.processor, [*messages, asked]).memory is not None


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.sampled_from(tuple(stage.SHARES)), st.booleans())
def test_a_question_is_answered_by_its_facts_and_by_nothing_else_in_the_talk(seed: int, kind: str, begun: bool):
    draw = stage.Draw(cast(Any, tiny.tokenizer()), cast(Any, None), stage.PLAN)
    random = Random(seed)
    pool = draw.pool(random, begun=begun)
    names = [turn.name for turn in pool if turn.name]
    assert len(set(names)) == len(names)
    shares = {name: int(name == kind) for name in stage.SHARES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "SHARES", shares)
        patch.setattr(stage, "IN_WINDOW", (0,))  # all pages are the question's then
        question = draw.asked(pool, 0.0 if begun else 1.0, random)
    talk, answer = [pool[n] for n in question.talk], str(question.episode.pieces[-2][0])
    facts = [talk[place] for place in question.facts]
    if kind == "seen" and not begun:
        about = set(question.episode.scenes[-1].counts)
        assert len(facts) == ("yes" in answer)
    elif kind == "plain" and not begun:
        about = {thing for scene in question.episode.scenes for thing in scene.counts}
        assert not facts
        assert any(weight == 1 for _, weight in question.episode.pieces)
    else:
        about = {thing for fact in facts for thing in fact.things}
        assert sorted(fact.fact for fact in facts) == sorted(["named"] if begun else stage.FACTS[kind])
        assert all((fact.name or fact.things[0].name) in answer for fact in facts)
    assert len({turn.name for turn in talk if turn.fact == "told"}) <= 1
    assert [turn for turn in talk if about & set(turn.things)] == [fact for fact in facts if fact.things]
    assert question.numbers[0] == 1
    assert all(earlier < later for earlier, later in pairwise(question.numbers))
    assert len(question.numbers) == len(talk) <= draw.sizes.most(0.0 if begun else 1.0)
    assert question.numbers[-1] <= stage.LATEST
    if kind in ("first", "three") and not begun:
        assert question.facts[0] == 0
        assert talk[0].fact == "shown"


def test_talks_grow_while_names_alone_are_asked_for():
    sizes = stage.Talks(longest_first=8, longest=64, names_first=0.5)
    assert [sizes.most(progress) for progress in (0.0, 0.25, 0.5, 1.0)] == [8, 36, 64, 64]
    draw = stage.Draw(cast(Any, tiny.tokenizer()), cast(Any, None), stage.PLAN, sizes)
    random = Random(4)
    pool = draw.pool(random, begun=True)
    assert max(len(draw.asked(pool, 0.25, random).talk) for _ in range(40)) in range(9, 37)


@pytest.mark.parametrize("stretched", [0.0, 1.0])
def test_turns_are_numbered_as_they_come_or_as_if_others_stood_between(stretched: float):
    sizes = stage.Talks(stretched=stretched)
    draw = stage.Draw(cast(Any, tiny.tokenizer()), cast(Any, None), stage.PLAN, sizes)
    random = Random(3)
    pool = draw.pool(random)
    asked = [draw.asked(pool, 1.0, random) for _ in range(20)]
    as_they_come = [question.numbers == tuple(range(1, len(question.talk) + 1)) for question in asked]
    assert sum(as_they_come) == 20 if stretched == 0 else sum(as_they_come) < 5
    assert max(len(question.talk) for question in asked) > 32


def test_memories_of_a_batch_hold_their_own_talks():
    latents = torch.randn(5, 2, 3)
    slots = stage.gathered(latents, [(4, 0), (1, 2, 3)], [(1, 2), (1, 4, 9)])
    assert slots.turns.tolist() == [[1, 2, 0], [1, 4, 9]]
    assert slots.written.tolist() == [2, 9]
    assert torch.equal(slots.values[0, :2], latents[[4, 0]])
    assert torch.equal(slots.values[1], latents[[1, 2, 3]])
