"""Stage 2: a tiny GPT-2, trained on the book's language and on soft words, then frozen.

A soft word stands for a picture before there are pictures: it is added to every token from `<image>` to the end of that
picture's text. That is where gated cross-attention to the latest picture will put the picture's content, so that what
is learnt here serves pictures later. At first a soft word is a fresh random vector for each class of each episode, with
a little noise at each showing: what is learnt is to match contents and to say the names that went with them, whatever
they are of. Then, for pages that can be described, it is the bag of the words that would describe the page, and on the
word of a question that names what is asked about it is the answer's words, as a picture's reader would find them there:
what is learnt is to say what is seen, and to look for an answer where the question points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from data import captions
from data.collate import collate, piece_ids
from data.episodes import (
    FORMATS,
    ORDINALS,
    Episode,
    binding,
    random_binding,
    random_captioned,
    random_comparing,
    random_dialogue,
    random_listed,
    random_located,
    random_operated,
    random_placed,
    random_ruled,
    random_styled,
    random_which_picture,
)
from data.made_up_names import made_up_names
from data.picture_book import Kind, Scene, objects, random_scene
from flamingo_app.prompt import Mark
from training.loop import Batch, Part, Plan, train
from training.starter.tokenizer import VOCABULARY

POSITIONS = 512
WIDTH = 192
BATCH, ROW = 12, 256  # rows of a batch, tokens of a row
WAVELENGTH = 1000.0
INIT = 0.05  # deviation of the initial weights: with GPT-2's 0.02 a model this small does not find the circuit
SOFT_SCALE = 1.4 * INIT
BAG = 16  # most tokens of a description
POINTED = {"dialogue": 0.8, "placed": 0.8, "listed": 0.8, "which": 0.3}  # how often the answer is where it is asked
SILENT = 0.8  # how often only the pictures themselves speak where it is asked which of them showed a thing
KINDS: tuple[Kind, ...] = ("one", "group", "pair", "mixed", "photo", "empty")
SHARES = (40, 20, 20, 15, 3, 2)


@dataclass(frozen=True, kw_only=True)
class Reading(Part):
    """A part of the training.

    Args:
        described: how often what stands for the pictures of a task is the words that describe them; 0 where not named.
    """

    described: dict[str, float]


PARTS = (
    # Names of several tokens need a second circuit (which token comes next) on top of the first (whose name), and both
    # are found soonest where there is nothing else: so first one-word names alone, then all ways of naming.
    Reading(
        name="naming",
        plan=Plan(
            steps=2000, learning_rate=1e-3, matrix_rate=2e-3, warmup=50, seed=2_000_000, weight_decay=0.01, workers=1
        ),
        phases=(
            (0.12, {"words": 1}),
            (0.35, {"binding": 1}),
            (1.00, {"binding": 45, "comparing": 5, "told": 8, "styled": 6, "captioned": 14, "dialogue": 22}),
        ),
        described={},
    ),
    Reading(
        name="reading",
        plan=Plan(
            steps=4200, learning_rate=1e-3, matrix_rate=2e-3, warmup=30, seed=4_000_000, weight_decay=0.01, workers=1
        ),
        phases=(
            # What stands on a thing's name is found right after it (lists), and which of several pictures showed a
            # thing right after its name, too; questions, where the answer comes some words later, use both.
            (0.12, {"binding": 40, "located": 22, "placed": 10, "listed": 8, "dialogue": 14, "captioned": 6}),
            # Such an episode is a few words among pages of shots, so it takes many to be heard.
            (0.55, {"binding": 30, "remapped": 14, "which": 24, "located": 4, "placed": 5, "listed": 2, "dialogue": 11,
                    "styled": 4, "ruled": 2, "operated": 2, "captioned": 2}),
            # What is left wrong of names is how they go on and where they end. Names that share their syllables, and
            # contents that are alike, teach it.
            (1.00, {"spelled": 34, "binding": 8, "remapped": 12, "which": 12, "placed": 6, "listed": 2, "dialogue": 12,
                    "styled": 6, "ruled": 3, "operated": 3, "captioned": 2}),
        ),
        described={"binding": 0.4, "spelled": 0.4, "remapped": 0.4, "which": 1.0, "styled": 1.0, "ruled": 1.0,
                   "operated": 1.0, "captioned": 1.0, "dialogue": 1.0, "located": 1.0, "placed": 1.0, "listed": 1.0},
    ),
)  # fmt: skip
COMMON, NOISE = (0.0, 0.4, 0.7), (0.3, 0.6, 0.9)  # of what stands for the things of an episode whose names are spelt


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
            activation_function="gelu_pytorch_tanh",  # GPT-2's own, in one pass over the memory instead of seven
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

    def __init__(self, tokenizer: PreTrainedTokenizerFast, part: Reading) -> None:
        self.tokenizer, self.part, self.things = tokenizer, part, objects("trained")
        self.tasks: dict[str, Callable[[Random], Episode]] = {
            "words": lambda random: random_binding(
                self.things, random, most_pictures=32, made_up=0.0, chat=0.0, forms=FORMATS[:1]
            ),
            "binding": lambda random: random_binding(
                self.things, random, most_pictures=random.choice([12, 12, 24, 36])
            ),
            "spelled": lambda random: random_binding(
                self.things,
                random,
                made_up=1.0,
                most_pictures=random.choice([12, 24, 36]),
                alike=0.5,
                chat=0.1,
                forms=random.choice((FORMATS[:1], FORMATS)),
            ),
            "comparing": lambda random: random_comparing(self.things, random, made_up=0.0),
            "remapped": lambda random: random_comparing(self.things, random),
            "told": lambda random: random_which_picture(self.things, random, told=True),
            "which": lambda random: random_which_picture(self.things, random, told=False),
            "located": lambda random: random_located(self.things, random),
            "placed": lambda random: random_placed(self.things, random),
            "listed": lambda random: random_listed(self.things, random),
            "styled": lambda random: random_styled(self.things, random),
            "ruled": lambda random: random_ruled(self.things, random),
            "operated": lambda random: random_operated(self.things, random),
            "captioned": lambda random: random_captioned(KINDS, SHARES, self.things, random),
            "dialogue": lambda random: random_dialogue(KINDS, SHARES, self.things, random),
        }

    def __call__(self, step: int) -> Batch:
        random = Random(self.part.plan.seed + step)
        rows = [self._row(self.part.shares(step), random) for _ in range(BATCH)]
        batch: Batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        # a language model reads all words, not only those that are asked for
        batch["weights"] = torch.where(batch["weights"] > 0, batch["weights"], 0.1 * (batch["text_time"] >= 0))
        return batch

    def _row(self, shares: Mapping[str, int], random: Random) -> Batch:
        parts: list[Batch] = []
        while sum(part["input_ids"].shape[1] for part in parts) < ROW:
            (task,) = random.choices(tuple(shares), tuple(shares.values()))
            parts.append(self.episode(task, random))
        return {name: torch.cat([part[name] for part in parts], 1)[0, :ROW] for name in parts[0]}

    def episode(self, task: str, random: Random) -> Batch:
        """One episode of a task, with what stands for its pictures."""
        episode = self.tasks[task](random)
        described = random.random() < self.part.described.get(task, 0.0)
        pointed = described and random.random() < POINTED.get(task, 0.0)
        batch = collate([episode], self.tokenizer)
        # A question about another page than the last is found more easily where the last does not speak as well.
        silent = task in ("located", "which") and random.random() < SILENT
        bag = bags(episode, batch, self.tokenizer, described=described, pointed=pointed, silent=silent)
        common, noise = (random.choice(COMMON), random.choice(NOISE)) if task == "spelled" else (0.0, NOISE[0])
        soft = soft_words([episode], batch, random.getrandbits(32), noise_alone=described, common=common, noise=noise)
        return batch | {"soft": soft, "bag": bag}


def soft_words(
    episodes: Sequence[Episode],
    batch: Batch,
    seed: int,
    *,
    noise_alone: bool = False,
    common: float = 0.0,
    noise: float = 0.3,
) -> Tensor:
    """What stands for the pictures, (batch, tokens, width): one vector an object and episode, on its whole segment.

    Args:
        noise_alone: only what differs at each showing.
        common: cosine between the vectors of any two objects of an episode.
        noise: deviation of what differs at each showing, in that of the language model's initial weights.
    """
    generator = torch.Generator().manual_seed(seed)
    scale, noise = (0.0 if noise_alone else SOFT_SCALE), noise * INIT
    soft = torch.zeros(*batch["input_ids"].shape, WIDTH)
    for row, episode in enumerate(episodes):
        vectors: dict[int, Tensor] = {}
        shared = scale * common**0.5 * torch.randn(WIDTH, generator=generator) if common else 0.0
        shown = [torch.zeros(WIDTH)]
        for scene in episode.scenes:
            things = [placed.thing.index for placed in scene.objects]
            if len(things) == 1:  # a page of several things has no one content
                own = scale * (1 - common) ** 0.5 * torch.randn(WIDTH, generator=generator)
                vector = vectors.setdefault(things[0], own + shared)
                shown.append(vector + noise * torch.randn(WIDTH, generator=generator))
            else:
                shown.append(max(scale, noise) * torch.randn(WIDTH, generator=generator))
        soft[row] = torch.stack(shown)[batch["text_time"][row]]
    return soft


def bags(
    episode: Episode,
    batch: Batch,
    tokenizer: PreTrainedTokenizerFast,
    *,
    described: bool,
    pointed: bool,
    silent: bool = False,
) -> Tensor:
    """The words that stand at each token of an episode, (1, tokens, `BAG`) ids with -1 where there are fewer.

    Args:
        described: the words that describe a page stand on its whole segment, the first pages' with which of them it is;
            else there are none.
        pointed: the answer's words stand on the word of a question that says what is asked about.
        silent: the words that describe a page stand at its picture alone.
    """
    bag = torch.full((*batch["input_ids"].shape, BAG), -1)
    if not described:
        return bag
    words = [bag_of((), tokenizer)]
    for number, scene in enumerate(episode.scenes):
        order = f" {ORDINALS[number]}" if number < len(ORDINALS) else ""
        words.append(bag_of((order + description(scene),), tokenizer))
    bag[0] = torch.stack(words)[batch["text_time"][0]]
    if silent:
        bag[batch["input_ids"] != piece_ids(Mark.IMAGE, tokenizer)[0]] = -1
    if pointed:
        for start, stop, answer in asked_words(episode, tokenizer):
            bag[0, start:stop] = bag_of((f" {answer}",), tokenizer)
    return bag


def description(scene: Scene) -> str:
    """What a glance at a page tells: what is there, how many, and the colour; of a texture, that it is a photograph."""
    return " photograph" if scene.style == "photo" else f" {captions.things(scene)} {scene.colour}"


def bag_of(words: Sequence[str], tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Some words as `BAG` ids, -1 where there are fewer."""
    ids = [token for word in words for token in piece_ids(word, tokenizer)][:BAG]
    return torch.tensor(ids + [-1] * (BAG - len(ids)))


def asked_words(episode: Episode, tokenizer: PreTrainedTokenizerFast) -> list[tuple[int, int, str]]:
    """Where a dialogue's questions name what is asked about (first token, one past the last), and the answer."""
    found: list[tuple[int, int, str]] = []
    start, place, pictures = 0, None, 0
    for piece, weight in episode.pieces:
        ids = piece_ids(piece, tokenizer)
        if isinstance(piece, str):
            word = captions.asked_about(piece) if weight == 0 else ""
            if word:
                before = piece[: piece.rindex(word)].rstrip()
                first = start + len(piece_ids(before, tokenizer))
                place = (first, first + len(piece_ids(f" {word}", tokenizer)))
            elif weight == 1:
                if place and pictures:
                    found.append((*place, piece.strip().rstrip(".")))
                place = None
        elif piece is Mark.IMAGE:
            pictures, place = pictures + 1, None  # what was asked before this picture was shown sees nothing of it
        start += len(ids)
    return found


def predict(model: GPT2LMHeadModel, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Weighted next-token loss, and the share of the fully weighted tokens that are right."""
    logits = _logits(model, batch)
    targets, weights = batch["input_ids"][:, 1:], batch["weights"][:, 1:]
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(weights)
    asked = weights == 1
    right = (logits.argmax(-1) == targets)[asked].float().mean().item()
    return (losses * weights).sum() / weights.sum(), {"right": right}


def _logits(model: GPT2LMHeadModel, batch: Batch) -> Tensor:
    """Next-token logits (batch, tokens - 1, vocabulary) of words with what stands for their pictures."""
    words = model.transformer.wte
    embeddings = words(batch["input_ids"]) + batch["soft"]
    if "bag" in batch:
        embeddings = embeddings + soft_bags(words, batch["bag"])
    # Nothing follows the last token; left out here, not of the logits, the loss need not copy them.
    return model(inputs_embeds=embeddings[:, :-1], attention_mask=batch["attention_mask"][:, :-1]).logits


def soft_bags(words: nn.Embedding, bag: Tensor) -> Tensor:
    """What stands for bags of words, (..., `BAG`) ids, beside a token's own embedding: (..., width).

    Each word adds the same whatever stands beside it, and as much as an embedding is at first.
    """
    counted = (bag >= 0).to(words.weight.dtype).flatten(0, -2)
    directions = F.normalize(words.weight.detach(), dim=-1)
    seen = F.embedding_bag(bag.clamp(min=0).flatten(0, -2), directions, mode="sum", per_sample_weights=counted)
    return INIT * WIDTH**0.5 * seen.unflatten(0, bag.shape[:-1])


@torch.no_grad()
def answered(model: GPT2LMHeadModel, draw: Draw, task: str, count: int = 60) -> float:
    """Share of a task's episodes whose last answer is right in every token."""
    random, right = Random(f"answered {task}"), 0
    for _ in range(count):
        batch = draw.episode(task, random)
        predicted, asked = _logits(model, batch).argmax(-1)[0], (batch["weights"][0, 1:] == 1).nonzero().flatten()
        last = asked[asked > asked[-1] - _run(asked)]
        right += int((predicted[last] == batch["input_ids"][0, 1:][last]).all())
    return right / count


def _run(places: Tensor) -> int:
    """How many places at the end follow one another."""
    breaks = (places.diff() != 1).nonzero().flatten()
    return len(places) - (int(breaks[-1]) + 1 if len(breaks) else 0)


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
        batch["soft"] = soft_words(episodes, batch, random.getrandbits(32))
        predicted = _logits(model, batch).argmax(-1)
        last = (batch["text_time"] == len(episodes[0].scenes))[:, 1:] & (batch["weights"][:, 1:] == 1)
        right += int(((predicted == batch["input_ids"][:, 1:]) | ~last).all(1).sum())
    return right / count


def run(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Train, or go on training, part after part, and export to `folder`/text as a Hugging Face folder."""
    torch.manual_seed(PARTS[0].plan.seed)
    model = build(tokenizer)
    for part in PARTS:
        draw = Draw(tokenizer, part)
        train(
            model,
            draw,
            lambda batch: predict(model, batch),
            part.plan,
            folder / part.name,
            watch=[(part.plan.steps // 2, lambda draw=draw: examined(model, draw))],
        )
    model.half().float().save_pretrained(folder / "text")  # what comes after is taught over what is shipped
    tokenizer.save_pretrained(folder / "text")


def examined(model: GPT2LMHeadModel, draw: Draw) -> str:
    """A few figures while it trains: names bound to random vectors, and the last answers of each task."""
    points = ((2, 1, False), (5, 1, False), (2, 1, True), (5, 1, True), (5, 4, True))
    scores = [
        text_binding(model, draw.tokenizer, ways=ways, shots=shots, made_up=made_up) for ways, shots, made_up in points
    ]
    tasks = [f"{task} {answered(model, draw, task):.2f}" for task in draw.part.phases[-1][1]]
    return "words 2-way {:.2f}, 5-way {:.2f}; names 2-way {:.2f}, 5-way {:.2f}, with 4 shots {:.2f}; ".format(
        *scores
    ) + ", ".join(tasks)
