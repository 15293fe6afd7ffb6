"""Memories side by side, each from nothing over the same frozen starter: `python -m training.starter.variants`.

All learn for as many steps from the same talks: what things were called that were named turns ago. They differ in what
reads a turn (`encoder`) and in how it gets into the slots (`update`). Where slots belong to turns, the search for the
right one can be shown where to look; the same memory without that stands beside them, since Memformer's slots belong to
no turn. Asked are talks of other names and pages, up to twice as long as those it learnt from; things are the same.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from data import talks
from data.made_up_names import made_up_names
from data.picture_book import Renderer, objects
from flamingo_app.memory.slots import Slots
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.vision_encoder import VisionEncoder
from training.loop import Batch, Plan, train
from training.remembering import written
from training.starter.flamingo import with_patches
from training.starter.memory import FOUND, RATES, RECALLED, build, finding_loss, pictures
from training.starter.vision import SIZE
from training.suites.plot import plot
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
POOL, QUESTIONS = 16, 24
SHORTEST, LONGEST = 2, 8  # turns of a talk
LENGTHS, ASKED = (2, 4, 8, 16), 240
PLAN = Plan(steps=600, learning_rate=1e-3, matrix_rate=2e-3, warmup=40, seed=9_000_000, weight_decay=0.02)


class Draw:
    """A pool of turns that name things, and questions about talks put together from it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vision: VisionEncoder, plan: Plan) -> None:
        self.tokenizer, self.vision, self.plan = tokenizer, vision, plan
        self.things, self.renderer = objects("trained"), Renderer(SIZE)

    def __call__(self, step: int) -> Batch:
        random = Random(self.plan.seed + step)
        return self.talks([random.randint(SHORTEST, LONGEST) for _ in range(QUESTIONS)], random)

    def talks(self, lengths: list[int], random: Random) -> Batch:
        """Talks of so many turns, with a question each."""
        named = zip(random.sample(self.things, POOL), made_up_names(POOL, random), strict=True)
        pool = [talks.named(thing, name, random) for thing, name in named]
        chosen = [random.sample(range(POOL), length) for length in lengths]
        facts = [random.randrange(length) for length in lengths]
        asked = [talks.ask_name([pool[talk[fact]]], random) for talk, fact in zip(chosen, facts, strict=True)]
        return {
            "pool": with_patches([turn.episode for turn in pool], self.tokenizer, self.vision, self.renderer),
            "left": torch.tensor([[*talk, *[-1] * (max(lengths) - len(talk))] for talk in chosen]),
            "facts": [(fact,) for fact in facts],
            "questions": with_patches(asked, self.tokenizer, self.vision, self.renderer),
        }


def predict(model: FlamingoForConditionalGeneration, batch: Batch, *, shown: bool) -> tuple[Tensor, dict[str, float]]:
    """Loss of answers, of saying the turns again, and where `shown` of looking elsewhere; the share of right ones."""
    pool, questions = batch["pool"], batch["questions"]
    turns = {"input_ids": pool["input_ids"], **pictures(pool)}
    slots, recalled = written(model, Slots.empty(model.memory.config, len(batch["left"])), turns, batch["left"])
    taken: list[Tensor] = []
    view = model.view_memory(slots, taken)
    logits = model(input_ids=questions["input_ids"], memory=view, **pictures(questions)).logits[:, :-1]
    targets, asked = questions["input_ids"][:, 1:], questions["weights"][:, 1:] == 1
    loss = F.cross_entropy(logits[asked], targets[asked]) + RECALLED * recalled
    if shown:
        loss = loss + FOUND * finding_loss(model, taken, batch["facts"], asked)
    right = ((logits.argmax(-1) == targets) | ~asked).all(1)
    return loss, {"right": right.float().mean().item()}


@torch.inference_mode()
def recall(model: FlamingoForConditionalGeneration, draw: Draw, length: int) -> Score:
    """Whole names said right, asked about talks of so many turns."""
    right = 0
    for number in range(ASKED // QUESTIONS):
        batch = draw.talks([length] * QUESTIONS, Random(f"variants {length} {number}"))
        right += round(predict(model, batch, shown=False)[1]["right"] * QUESTIONS)
    return Score.of([True] * right + [False] * (ASKED - right))


def compare(folder: Path, output: Path) -> dict[str, Any]:
    """Train and ask every variant; each resumes where it was stopped."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    recalled: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    for name, (config, shown) in VARIANTS.items():
        torch.manual_seed(PLAN.seed)
        model = build(folder, num_turns=PLACES, **config)
        draw = Draw(tokenizer, model.vision_encoder, PLAN)
        started = time.monotonic()
        train(
            model,
            draw,
            lambda batch, model=model, shown=shown: predict(model, batch, shown=shown),
            PLAN,
            output / name.replace(" ", "_"),
            rates=RATES,
        )
        seconds[name] = time.monotonic() - started
        for length in LENGTHS:
            recalled[f"{name}_{length}_turns"] = recall(model.eval(), draw, length).as_json()
        print(name, {length: recalled[f"{name}_{length}_turns"]["accuracy"] for length in LENGTHS}, flush=True)
    return {"steps": PLAN.steps, "seconds": seconds, "suites": {"recall": recalled}}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.starter.variants", description="Memories side by side over the frozen starter."
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/starter"), help="where make starter keeps its work")
    parser.add_argument("--output", type=Path, default=Path("runs/variants"), help="for checkpoints, figures, plot")
    options = parser.parse_args(argv)
    options.output.mkdir(parents=True, exist_ok=True)
    results = compare(options.folder, options.output)
    (options.output / "variants.json").write_text(json.dumps(results, indent=1) + "\n")
    plot(results["suites"], options.output / "variants.png")


if __name__ == "__main__":
    main()
