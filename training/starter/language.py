"""Stage 2: a tiny GPT-2, trained on the book's language and on soft words, then frozen.

A soft word stands for a picture before there are pictures: a fresh random vector for each class of each episode, with a
little noise at each showing, added to every token from `<image>` to the end of that picture's text. That is where gated
cross-attention to the latest picture will put the picture's content, so that what is learnt here, to match contents
and to say the name that went with them, serves pictures of anything later.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from data.collate import collate
from data.episodes import FORMATS, Episode, binding, random_binding, random_captioned, random_dialogue
from data.made_up_names import made_up_names
from data.picture_book import Kind, objects, random_scene
from training.loop import Batch, Plan, train
from training.starter.tokenizer import VOCABULARY

POSITIONS = 512
WIDTH = 192
BATCH = 24
INIT = 0.05  # deviation of the initial weights: with GPT-2's 0.02 a model this small does not find the circuit
SOFT_SCALE, SOFT_NOISE = 1.4 * INIT, 0.3 * INIT
KINDS: tuple[Kind, ...] = ("one", "group", "pair", "mixed", "photo", "empty")
SHARES = (40, 20, 20, 15, 3, 2)
PLAN = Plan(steps=1300, learning_rate=1e-3, warmup=100, seed=2_000_000, weight_decay=0.01)
SOFT_SHARE = 0.6  # of the episodes of a batch; the rest is the book's language without pictures
# Names of several tokens within sentences need a second circuit (which token comes next) on top of the first (whose
# name), and neither is found while both are missing. So this share of the steps has only pictures with one-word names.
WORDS_FIRST = 0.28


def build(tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """The architecture, with random weights."""
    return GPT2LMHeadModel(
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


class Draw:
    """Batches of episodes; the batch of a step is always the same."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, plan: Plan) -> None:
        self.tokenizer, self.plan, self.things = tokenizer, plan, objects("trained")

    def __call__(self, step: int) -> Batch:
        random = Random(self.plan.seed + step)
        words_first = step < WORDS_FIRST * self.plan.steps
        most = random.choice([12, 12, 24, 36])
        episodes = [
            random_binding(self.things, random, most_pictures=32, made_up=0.0, chat=0.0, forms=FORMATS[:1])
            if words_first
            else random_binding(self.things, random, most_pictures=most)
            if random.random() < SOFT_SHARE
            else random.choice([random_captioned, random_dialogue])(KINDS, SHARES, self.things, random)
            for _ in range(BATCH if words_first or most == 12 else BATCH // 2)
        ]
        batch = collate(episodes, self.tokenizer)
        weighted = batch["weights"]
        batch["weights"] = torch.where(
            weighted > 0, weighted, 0.1 * batch["attention_mask"]
        )  # a language model reads all
        return batch | {"soft": soft_words(episodes, batch, random.getrandbits(32))}


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
