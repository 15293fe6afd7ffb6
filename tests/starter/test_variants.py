"""Talks that memories are taught with: the answer is in them, once, and the shipped memory can give it."""

from random import Random

import pytest
import torch

from flamingo_app import load
from training.starter.memory import FACTS, Draw, at_once, predict
from training.starter.variants import PLAN, TALKS, turn_by_turn


@pytest.mark.parametrize("write", [at_once, turn_by_turn])
def test_the_answer_is_in_the_talk_and_the_shipped_memory_finds_it(write) -> None:
    model, processor = load("starter")
    tokenizer = processor.tokenizer
    batch = Draw(tokenizer, model.vision_encoder, PLAN, TALKS)(0)
    row = 0
    for questions in batch["questions"]:
        for ids, weights in zip(questions["input_ids"], questions["weights"], strict=True):
            name = tokenizer.decode(ids[weights == 1]).split(".")[0].split()[-1]
            told = [name in tokenizer.decode(batch["pool"]["input_ids"][turn]) for turn in batch["talks"][row]]
            (fact,) = batch["facts"][row]
            assert told == [place == fact for place in range(len(told))]
            row += 1
    assert row == TALKS.questions
    with torch.no_grad():
        loss, figures = predict(model, batch, write=write)
    assert loss.isfinite()
    assert figures["right"] >= 0.75


@pytest.mark.parametrize("kind", FACTS)
def test_each_turn_that_is_asked_about_tells_its_part_of_the_answer(kind: str) -> None:
    model, processor = load("starter")
    draw, random = Draw(processor.tokenizer, model.vision_encoder, PLAN), Random(kind)
    for _ in range(20):
        pool = draw.pool(random)
        facts, question, _ = draw.facts(kind, pool, random)
        (answer,) = [piece for piece, weight in question.pieces if weight == 1 and isinstance(piece, str)]
        parts = [pool[n].name or pool[n].things[0].name for n in facts]
        assert all(part in answer for part in parts)
        assert [pool[n].fact for n in facts] == list(FACTS[kind])


def test_what_was_seen_is_in_the_talk_and_what_was_not_is_not() -> None:
    model, processor = load("starter")
    draw, random, said = Draw(processor.tokenizer, model.vision_encoder, PLAN), Random("seen"), set[bool]()
    for _ in range(40):
        pool = draw.pool(random)
        facts, question, about = draw.seen(pool, random)
        (thing,) = about
        assert question.scenes[0].objects[0].thing == thing
        assert all(thing in pool[n].things for n in facts)
        said.add(bool(facts))
        assert any(piece == (" yes." if facts else " no.") for piece, _ in question.pieces)
    assert said == {True, False}
