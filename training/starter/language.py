"""Stage 2: a tiny GPT-2, trained on the book's language and on soft words, then frozen.

A soft word stands for a picture before there are pictures: a fresh random vector for each class of each episode, with a
little noise at each showing, added to every token from `<image>` to the end of that picture's text. That is where gated
cross-attention to the latest picture will put the picture's content, so that what is learnt here, to match contents
and to say the name that went with them, serves pictures of anything later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from data.collate import collate
from data.episodes import (
    FORMATS,
    Episode,
    binding,
    random_binding,
    random_captioned,
    random_comparing,
    random_dialogue,
    random_styled,
    random_which_picture,
)
from data.made_up_names import made_up_names
from data.picture_book import Kind, objects, random_scene
from training.loop import Batch, Plan, train
from training.starter.tokenizer import VOCABULARY

POSITIONS = 512
WIDTH = 192
BATCH, ROW = 12, 256  # rows of a batch, tokens of a row
WAVELENGTH = 1000.0
INIT = 0.05  # deviation of the initial weights: with GPT-2's 0.02 a model this small does not find the circuit
SOFT_SCALE, SOFT_NOISE = 1.4 * INIT, 0.3 * INIT
KINDS: tuple[Kind, ...] = ("one", "group", "pair", "mixed", "photo", "empty")
SHARES = (40, 20, 20, 15, 3, 2)
PLAN = Plan(steps=2000, learning_rate=1e-3, matrix_rate=2e-3, warmup=50, seed=2_000_000, weight_decay=0.01)
TASKS = {"binding": 45, "comparing": 5, "which": 8, "styled": 6, "captioned": 14, "dialogue": 22}  # shares
# Names of several tokens need a second circuit (which token comes next) on top of the first (whose name), and both are
# found soonest where there is nothing else: so first pictures with one-word names alone, then all ways of naming.
WORDS_FIRST, NAMES_FIRST = 0.12, 0.35


def build(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """The architecture, with random weights."""
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=POSITIONS,
            n_embd=WIDTH,
            n_layer=4,
            n_head=6,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            initializer_range=INIT,
            bos_token_id=cast(int, tokenizer.eos_token_id),
            eos_token_id=cast(int, tokenizer.eos_token_id),
            pad_token_id=cast(int, tokenizer.pad_token_id),
        )
    )
    # Waves instead of noise as the first positions (Vaswani et al. 2017, section 3.5): then "the token before" is the
    # same turn everywhere, and heads that look there, of which binding is made, are learnt once and not per position.
    place = torch.arange(POSITIONS)[:, None] * WAVELENGTH ** -(torch.arange(WIDTH // 2) / (WIDTH // 2))
    model.transformer.wpe.weight.data = INIT * math.sqrt(2) * torch.cat([place.sin(), place.cos()], 1)
    return model


class Draw:
    """Batches of rows filled with episodes, one after another; the batch of a step is always the same.

    Rows are full, so that nothing is spent on padding, and an episode begins anywhere in them, so that what is learnt
    holds at every position.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, plan: Plan) -> None:
        self.tokenizer, self.plan, self.things = tokenizer, plan, objects("trained")
        self.tasks: dict[str, Callable[[Random], Episode]] = {
            "binding": lambda random: random_binding(
                self.things, random, most_pictures=random.choice([12, 12, 24, 36])
            ),
            "comparing": lambda random: random_comparing(self.things, random),
            "which": lambda random: random_which_picture(self.things, random, told=True),
            "styled": lambda random: random_styled(self.things, random),
            "captioned": lambda random: random_captioned(KINDS, SHARES, self.things, random),
            "dialogue": lambda random: random_dialogue(KINDS, SHARES, self.things, random),
        }

    def episode(self, progress: float, random: Random) -> Episode:
        if progress < WORDS_FIRST:
            return random_binding(self.things, random, most_pictures=32, made_up=0.0, chat=0.0, forms=FORMATS[:1])
        task = "binding" if progress < NAMES_FIRST else random.choices(tuple(TASKS), tuple(TASKS.values()))[0]
        return self.tasks[task](random)

    def __call__(self, step: int) -> Batch:
        random = Random(self.plan.seed + step)
        rows = [self._row(step / self.plan.steps, random) for _ in range(BATCH)]
        batch: Batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        # a language model reads all words, not only those that are asked for
        batch["weights"] = torch.where(batch["weights"] > 0, batch["weights"], 0.1 * (batch["text_time"] >= 0))
        return batch

    def _row(self, progress: float, random: Random) -> Batch:
        parts: list[Batch] = []
        while sum(part["input_ids"].shape[1] for part in parts) < ROW:
            episode = self.episode(progress, random)
            part = collate([episode], self.tokenizer)
            parts.append(part | {"soft": soft_words([episode], part, random.getrandbits(32))})
        return {name: torch.cat([part[name] for part in parts], 1)[0, :ROW] for name in parts[0]}


def soft_words(episodes: Sequence[Episode], batch: Batch, seed: int) -> Tensor:
    """What stands for the pictures, (batch, tokens, width): one vector an object and episode, on its whole segment."""
    generator = torch.Generator().manual_seed(seed)
    soft = torch.zeros(*batch["input_ids"].shape, WIDTH)
    for row, episode in enumerate(episodes):
        vectors: dict[int, Tensor] = {}
        shown = [torch.zeros(WIDTH)]
        for scene in episode.scenes:
            things = [placed.thing.index for placed in scene.objects]
            if len(things) == 1:  # a page of several things has no one content
                vector = vectors.setdefault(things[0], SOFT_SCALE * torch.randn(WIDTH, generator=generator))
                shown.append(vector + SOFT_NOISE * torch.randn(WIDTH, generator=generator))
            else:
                shown.append(SOFT_SCALE * torch.randn(WIDTH, generator=generator))
        soft[row] = torch.stack(shown)[batch["text_time"][row]]
    return soft


def predict(model: GPT2LMHeadModel, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Weighted next-token loss, and the share of the fully weighted tokens that are right."""
    embeddings = model.transformer.wte(batch["input_ids"]) + batch["soft"]
    logits = model(inputs_embeds=embeddings, attention_mask=batch["attention_mask"]).logits[:, :-1]
    targets, weights = batch["input_ids"][:, 1:], batch["weights"][:, 1:]
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(weights)
    asked = weights == 1
    right = (logits.argmax(-1) == targets)[asked].float().mean().item()
    return (losses * weights).sum() / weights.sum(), {"right": right}


@torch.no_grad()
def text_binding(
    model: GPT2LMHeadModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    ways: int,
    shots: int,
    made_up: bool,
    count: int = 200,
) -> float:
    """Share of episodes whose whole name is said right for one soft query, after `shots` a class."""
    random, right = Random(7), 0
    for start in range(0, count, 50):
        episodes: list[Episode] = []
        for _ in range(min(50, count - start)):
            things = random.sample(list(objects("trained")), ways)
            supports = random.sample([of for of in range(ways) for _ in range(shots)], ways * shots)
            classes = [*supports, random.randrange(ways)]
            scenes = [random_scene("one", [things[of]], random) for of in classes]
            names = made_up_names(ways, random) if made_up else [thing.name for thing in random.sample(things, ways)]
            episodes.append(binding(classes, names, scenes, form=random.choice(FORMATS)))
        batch = collate(episodes, tokenizer)
        embeddings = model.transformer.wte(batch["input_ids"]) + soft_words(episodes, batch, random.getrandbits(32))
        predicted = model(inputs_embeds=embeddings, attention_mask=batch["attention_mask"]).logits[:, :-1].argmax(-1)
        last = (batch["text_time"] == len(episodes[0].scenes))[:, 1:] & (batch["weights"][:, 1:] == 1)
        right += int(((predicted == batch["input_ids"][:, 1:]) | ~last).all(1).sum())
    return right / count


def run(folder: Path, tokenizer: PreTrainedTokenizerFast, plan: Plan = PLAN) -> None:
    """Train, or go on training, and export to `folder`/text as a Hugging Face folder."""
    torch.manual_seed(plan.seed)
    model = build(tokenizer)

    def gate() -> str:
        points = ((2, 1, False), (5, 1, False), (2, 1, True), (5, 1, True), (5, 4, True))
        scores = [
            text_binding(model, tokenizer, ways=ways, shots=shots, made_up=made_up) for ways, shots, made_up in points
        ]
        return "words 2-way {:.2f}, 5-way {:.2f}; names 2-way {:.2f}, 5-way {:.2f}, with 4 shots {:.2f}".format(*scores)

    train(
        model,
        Draw(tokenizer, plan),
        lambda batch: predict(model, batch),
        plan,
        folder / "language",
        watch=[(100, gate)],
    )
    model.save_pretrained(folder / "text")
    tokenizer.save_pretrained(folder / "text")
