"""Memories side by side: what they are asked is in their talk, and the shipped one can answer it."""

from random import Random

import torch

from flamingo_app import load
from training.starter.variants import PLAN, Draw, predict


def test_the_answer_is_in_the_talk_and_the_shipped_memory_finds_it() -> None:
    model, processor = load("starter")
    tokenizer = processor.tokenizer
    batch = Draw(tokenizer, model.vision_encoder, PLAN).talks([2, 5, 5, 3], Random(0))
    assert (batch["left"] >= 0).sum(1).tolist() == [2, 5, 5, 3]
    for row, (fact,) in enumerate(batch["facts"]):
        question = batch["questions"]
        name = tokenizer.decode(question["input_ids"][row][question["weights"][row] == 1]).split(".")[0].split()[-1]
        turns = batch["pool"]["input_ids"][batch["left"][row][batch["left"][row] >= 0]]
        told = [name in tokenizer.decode(turn) for turn in turns]
        assert told == [place == fact for place in range(len(turns))]
    with torch.no_grad():
        loss, figures = predict(model, batch, shown=True)
    assert loss.isfinite()
    assert figures["right"] >= 0.75
