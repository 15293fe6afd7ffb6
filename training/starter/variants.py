"""Memories side by side, each from nothing over the same frozen starter: `python -m training.starter.variants`.

All learn for as many steps from the same talks: what things were called that were named turns ago. They differ in what
reads a turn (`encoder`) and in how it gets into the slots (`update`). Where slots belong to turns, the search for the
right one can be shown where to look; the same memory without that stands beside them, since Memformer's slots belong to
no turn. Asked are talks of other names and pages, up to twice as long as those it learnt from; things are drawn alike.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from flamingo_app.memory.slots import Slots
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from training.loop import Batch, Plan, train
from training.remembering import written
from training.starter.memory import RATES, Draw, Talks, build, pictures, predict
from training.starter.side_by_side import Figures, compare
from training.suites.score import Score

Variant = dict[str, Any]
VARIANTS: dict[str, tuple[Variant, bool]] = {  # the config, and whether it is shown where to look
    "perceiver_io competing": ({"encoder": "perceiver_io", "update": "competing"}, True),
    "memformer competing": ({"encoder": "memformer", "update": "competing"}, True),
    "linformer competing": ({"encoder": "linformer", "update": "competing"}, True),
    "perceiver_io competing not shown": ({"encoder": "perceiver_io", "update": "competing"}, False),
    "perceiver_io memformer": ({"encoder": "perceiver_io", "update": "memformer"}, False),
}
PLACES = 16  # turns that a memory has room for
TALKS = Talks(named=16, new=12, shown=0, told=0, fillers=0, questions=24, longest=8, names_first=1.0)
LENGTHS, ASKED = (2, 4, 8, 16), 240
PLAN = Plan(steps=600, learning_rate=1e-3, matrix_rate=2e-3, warmup=40, seed=9_000_000, weight_decay=0.02)


def turn_by_turn(model: FlamingoForConditionalGeneration, batch: Batch) -> tuple[Slots, Tensor, float]:
    """The memories of talks, written as a conversation writes them, whatever the update is."""
    left = pad_sequence([torch.tensor(talk) for talk in batch["talks"]], True, padding_value=-1)
    turns = {"input_ids": batch["pool"]["input_ids"], **pictures(batch["pool"])}
    slots, recalled = written(model, Slots.empty(model.memory.config, len(left)), turns, left)
    return slots, recalled, 0.0


@torch.inference_mode()
def talks_of(length: int) -> Talks:
    """Talks of exactly so many turns, from the first step on."""
    return replace(TALKS, shortest=length, longest_first=length, longest=length)


def recall(model: FlamingoForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, length: int) -> Score:
    """Whole names said right, asked about talks of so many turns."""
    draw = Draw(tokenizer, model.vision_encoder, replace(PLAN, seed=PLAN.seed + PLAN.steps), talks_of(length))
    right = 0
    for number in range(ASKED // TALKS.questions):
        right += round(predict(model, draw(number), write=turn_by_turn, shown=False)[1]["right"] * TALKS.questions)
    return Score.of([True] * right + [False] * (ASKED - right))


def asked(name: str, folder: Path, output: Path) -> Figures:
    """Train one kind, or go on training it, and ask it."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    config, shown = VARIANTS[name]
    torch.manual_seed(PLAN.seed)
    model = build(folder, num_turns=PLACES, **config)
    draw = Draw(tokenizer, model.vision_encoder, PLAN, TALKS)
    train(model, draw, partial(predict, model, write=turn_by_turn, shown=shown), PLAN, output, rates=RATES)
    model.eval()
    return {f"{name}_{length}_turns": recall(model, tokenizer, length).as_json() for length in LENGTHS}


def main(argv: list[str] | None = None) -> None:
    compare("variants", tuple(VARIANTS), asked, argv)


if __name__ == "__main__":
    main()
