"""Talks that memories are taught with: the answer is in them, once, and the shipped memory can give it."""

import pytest
import torch

from flamingo_app import load
from training.starter.memory import Draw, at_once, predict
from training.starter.variants import LENGTHS, PLAN, TALKS, talks_of, turn_by_turn


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


@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_compared_are_talks_of_that_length(length: int) -> None:
    model, processor = load("starter")
    batch = Draw(processor.tokenizer, model.vision_encoder, PLAN, talks_of(length))(0)
    assert {len(talk) for talk in batch["talks"]} == {length}
