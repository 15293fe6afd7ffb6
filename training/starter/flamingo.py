"""Stage 3: the Flamingo parts over two frozen backbones (Alayrac et al. 2022), on captions, dialogues and bindings."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from random import Random
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from data import captions
from data.collate import collate, piece_ids, tokens
from data.episodes import (
    FORMATS,
    ORDINALS,
    WAYS,
    Episode,
    captioned,
    dialogue,
    random_binding,
    random_captioned,
    random_comparing,
    random_dialogue,
    random_listed,
    random_naming_among,
    random_operated,
    random_placed,
    random_ruled,
    random_styled,
    random_which_picture,
)
from data.picture_book import Kind, Object, Placed, Renderer, objects, random_scene
from data.picture_book.invented import Invented, invented
from flamingo_app.model.checkpoint import make_processor
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.gated_cross_attention import Trace
from flamingo_app.model.looking import rollout
from flamingo_app.model.vision_encoder import VisionEncoder
from flamingo_app.prompt import Mark, caption_prompt, encode
from training.loop import Batch, Part, Plan, Watch, train
from training.starter.language import BAG, asked_words, bags, soft_bags
from training.starter.vision import SIZE, normalise
from training.suites.fewshot import binding_item, exact
from training.suites.reader import Reader, drawn
from training.suites.score import mentions
from training.suites.vqa import draw_questions

PICTURES, GROUP = 60, 24  # pictures of a batch; most episodes that are read together
KINDS: tuple[Kind, ...] = ("one", "group", "pair", "mixed", "photo", "empty")
SHARES = (16, 32, 36, 12, 3, 1)
LESSON = Part(
    name="pages",
    plan=Plan(steps=6500, learning_rate=1e-3, matrix_rate=2e-3, warmup=50, seed=3_000_000, weight_decay=0.02),
    phases=(
        # Names first, everything else grows from them.
        (0.03, {"name": 1}),
        # A question points at one thing of a page, and the word that names it is where the look must turn to it. In a
        # list every word is asked at once, right where it stands: there it is learnt first, and questions use it.
        (0.17, {"listed": 45, "page": 41, "placed": 8, "binding": 3, "met": 3}),
        # Which side a thing is on is found where little else is asked, and not at all among the rest.
        (0.25, {"placed": 60, "listed": 30, "page": 10}),
        (0.55, {"page": 40, "listed": 20, "placed": 30, "asked": 40, "dialogue": 8, "captioned": 2, "binding": 2,
                "met": 4, "which": 8, "compared": 1, "ruled": 1, "counted": 1, "operated": 1, "combined": 2,
                "styled": 2}),
        # Whatever is not heard for a thousand steps is forgotten by half; at the end all is heard together.
        (1.00, {"page": 26, "listed": 6, "placed": 16, "asked": 28, "dialogue": 6, "captioned": 2, "binding": 2,
                "met": 6, "which": 7, "compared": 1, "ruled": 1, "counted": 2, "operated": 1, "combined": 2,
                "styled": 2, "talk": 2, "named_among": 3}),
    ),
)  # fmt: skip
RATES = {"gate": 2.0}
LOOKED = 1.0  # weight of looking at a thing where it is named by what asks about it
ENOUGH = 0.75  # share of a look that has to be at the thing; what else is on the page is worth a look, too
TOLD = 0.3  # weight of writing what the language model was taught to read, where it was taught to read it
SHARP = 5.0  # how much nearer a written answer is to its own than to another, in e-folds of likelihood
LONGEST_TALK = 440  # tokens; what a window of the starter has room for
MOST_NEW = max(ways for ways, _ in WAYS)
CELLS = 6  # of a side of the tower's map
ORDER = 0.5  # strength of what tells pictures by their order, in that of the patches
ASKED: tuple[tuple[str, Kind], ...] = (
    ("count", "group"), ("position", "pair"), ("exists", "mixed"), ("exists", "pair"),
)  # fmt: skip
WATCHED: tuple[tuple[str, Kind], ...] = (("count", "group"), ("position", "pair"), ("exists", "mixed"))
PARTS: dict[str, Any] = {
    "resampler": {
        "depth": 2,
        "num_latents": 16,
        "heads": 4,
        "dim_head": 64,
        "ff_mult": 2,
        "num_positions": CELLS**2,
        "max_images": len(ORDINALS) + 1,  # the last stands for all after those that have a word
    },
    "gated": {"every": 1, "heads": 6, "dim_head": 32, "ff_mult": 3},
    "attend": "latest",
    "window": 200,  # what was taught of longer chats does not hold: see docs/architecture.md, "What is read at once"
    "initializer_range": 0.07,  # about one over the root of the widths; 0.02 is for models four times as wide
    # The stage of the tower whose 6 x 6 map is read: fine enough to tell places, deep enough to tell things.
    "vision_feature": {"layer": 3},
}


def page_episode(kind: Kind, things: Sequence[Object], random: Random) -> Episode:
    """One page, captioned or asked about."""
    scene = random_scene(kind, things, random)
    if random.random() < 0.5:
        return captioned([scene])
    asked, answer = captions.question(scene, random, things)
    return dialogue([((Mark.IMAGE, captions.as_typed(asked, random)), answer)], [scene])


def asked_episode(random: Random) -> Episode:
    """One page, asked how many, where, or whether: what is learnt last."""
    topic, kind = random.choice(ASKED)
    scenes, questions, answers = draw_questions(topic, kind, random, 1)
    return dialogue([((Mark.IMAGE, captions.as_typed(questions[0], random)), answers[0])], scenes)


def long_talk(things: Sequence[Object], random: Random, tokenizer: PreTrainedTokenizerFast) -> Episode:
    """A chat as long as a window may be, with few pictures or many."""
    while True:
        length, showing = random.randint(4, 18), random.choice((0.4, 0.9))
        talk = random_dialogue(KINDS, SHARES, things, random, length=length, showing=showing)
        if len(tokens(talk, tokenizer)) <= LONGEST_TALK:
            return talk


class Draw:
    """Batches of episodes with the frozen tower's patches; the batch of a step is always the same."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vision: VisionEncoder, part: Part) -> None:
        self.tokenizer, self.vision, self.part = tokenizer, vision, part
        self.things, self.renderer = objects("trained"), Renderer(SIZE)
        self.tasks: dict[str, Callable[[Random], Episode]] = {
            "name": lambda random: page_episode("one", self.things, random),
            "page": lambda random: page_episode(random.choices(KINDS, SHARES)[0], self.things, random),
            "asked": asked_episode,
            "placed": lambda random: random_placed(self.things, random),
            "listed": lambda random: random_listed(self.things, random),
            "captioned": lambda random: random_captioned(KINDS, SHARES, self.things, random),
            "dialogue": lambda random: random_dialogue(KINDS, SHARES, self.things, random),
            "talk": lambda random: long_talk(self.things, random, self.tokenizer),
            "binding": lambda random: random_binding(
                self.things, random, made_up=0.6, most_pictures=random.choice([12, 12, 12, 24])
            ),
            "which": lambda random: random_which_picture(self.things, random, told=False),
            "styled": lambda random: random_styled(self.things, random),
            "ruled": lambda random: random_ruled(self.things, random),
            "operated": lambda random: random_operated(self.things, random),
            # Of things that are met for the first time.
            "met": lambda random: random_binding(
                self.new(random),
                random,
                made_up=1.0,
                most_pictures=random.choice([12, 12, 24, 24, 44]),
                forms=random.choice((FORMATS[:1], FORMATS)),
                alike=0.3,
            ),
            "named_among": lambda random: random_naming_among(
                random.choice((self.things, self.new(random))), self.things, random
            ),
            "compared": lambda random: random_comparing(self.new(random), random),
            "counted": lambda random: random_ruled(self.new(random), random, rules=(captions.RULES["count"],)),
            "combined": lambda random: random_operated(self.new(random), random),
        }

    def new(self, random: Random) -> list[Invented]:
        """As many things of nobody's list as an episode may show."""
        return invented(MOST_NEW, self.things, random)

    @torch.no_grad()
    def __call__(self, step: int) -> Batch:
        """Groups of episodes of as many pictures and like length, so that little is spent on padding."""
        random = Random(self.part.plan.seed + step)
        proportions = self.part.shares(step)
        episodes: list[Episode] = []
        while sum(len(episode.scenes) for episode in episodes) < PICTURES:
            (task,) = random.choices(tuple(proportions), tuple(proportions.values()))
            episodes.append(self.tasks[task](random))
        episodes.sort(key=lambda episode: (len(episode.scenes), len(episode.pieces)))
        alike = (list(same) for _, same in groupby(episodes, lambda episode: len(episode.scenes)))
        groups = [same[start : start + GROUP] for same in alike for start in range(0, len(same), GROUP)]
        batches = with_patches(groups, self.tokenizer, self.vision, self.renderer)
        for group, batch in zip(groups, batches, strict=True):
            batch |= {"looks": looks(group, self.tokenizer), "tells": tells(group, batch, self.tokenizer)}
        return {"groups": batches}


@torch.no_grad()
def with_patches(
    groups: Sequence[Sequence[Episode]], tokenizer: PreTrainedTokenizerFast, vision: VisionEncoder, renderer: Renderer
) -> list[Batch]:
    """Groups of episodes of any number of pictures, with the frozen tower's patches of them where there are any."""
    scenes = [scene for group in groups for episode in group for scene in episode.scenes]
    patches = vision(normalise(renderer(scenes))[None, :, None])[0] if scenes else torch.zeros(0)
    batches: list[Batch] = []
    for group in groups:
        batch = collate(group, tokenizer)
        counts = [len(episode.scenes) for episode in group]
        batch["image_mask"] = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
        if shown := sum(counts):
            batch["patches"] = patches.new_zeros(*batch["image_mask"].shape, *patches.shape[1:])
            batch["patches"][batch["image_mask"]], patches = patches[:shown], patches[shown:]
        batches.append(batch)
    return batches


def looks(episodes: Sequence[Episode], tokenizer: PreTrainedTokenizerFast) -> Batch:
    """Where words that ask about a thing name it, and where on the page it stands.

    Returns:
        row, token, picture: (words,) where the word ends, and which picture of the row it is about.
        cells: (words, `CELLS` ** 2) which parts of that picture show the thing.
    """
    found: list[tuple[int, int, int, Tensor]] = []
    for row, episode in enumerate(episodes):
        start, picture = 0, -1
        for piece, weight in episode.pieces:
            if isinstance(piece, str) and weight == 0 and picture >= 0:
                name = captions.looked_for(piece)
                shown = episode.scenes[picture].objects
                if name and (boxes := [o for o in shown if name in (o.thing.name, o.thing.plural)]):
                    before = piece[: piece.rindex(name) + len(name)]
                    found.append((row, start + len(piece_ids(before, tokenizer)) - 1, picture, cells(boxes)))
            picture += piece is Mark.IMAGE
            start += len(piece_ids(piece, tokenizer))
    rows, ends, pictures = (torch.tensor([word[i] for word in found], dtype=torch.long) for i in range(3))
    shown = torch.stack([word[3] for word in found]) if found else torch.zeros(0, CELLS**2)
    return {"row": rows, "token": ends, "picture": pictures, "cells": shown}


def tells(episodes: Sequence[Episode], batch: Batch, tokenizer: PreTrainedTokenizerFast) -> Batch:
    """What the language model was taught to read where it sees a page whose things have a name (`language.bags`).

    Of a single page at every token, of several at the pictures and at the words that are asked about.

    Returns:
        row, token: (tokens,).
        bag: (tokens, `BAG`) ids of the words.
        asked: (tokens,) whether they are the answer on a word that is asked about; else they describe the page.
    """
    seen = (batch["text_time"] > 0) & batch["attention_mask"].bool()
    (image_token,) = encode((Mark.IMAGE,), tokenizer)
    asked, bag = torch.zeros_like(seen), torch.full((*seen.shape, BAG), -1)
    for row, episode in enumerate(episodes):
        if any(isinstance(placed.thing, Invented) for scene in episode.scenes for placed in scene.objects):
            seen[row] = False
            continue
        whole = {name: batch[name][row : row + 1] for name in ("input_ids", "text_time")}
        bag[row] = bags(episode, whole, tokenizer, described=True, pointed=True)[0]
        for start, stop, _ in asked_words(episode, tokenizer):
            asked[row, start:stop] = True
        if len(episode.scenes) > 1:
            seen[row] &= asked[row] | (batch["input_ids"][row] == image_token)
    rows, places = seen.nonzero(as_tuple=True)
    return {"row": rows, "token": places, "bag": bag[seen], "asked": asked[seen]}


def cells(boxes: Sequence[Placed]) -> Tensor:
    """Which cells of the tower's map, row after row, lie with their middle in one of the boxes, or nearest to one's."""
    middles = (torch.arange(CELLS) + 0.5) / CELLS
    shown = torch.zeros(CELLS, CELLS)
    for box in boxes:
        reach = max(box.size / 2, 0.5 / CELLS)
        shown += ((middles - box.y).abs() <= reach)[:, None] * ((middles - box.x).abs() <= reach)
    return shown.clamp(max=1.0).flatten()


@torch.no_grad()
def place_patches(model: FlamingoForConditionalGeneration, patches: Tensor) -> None:
    """Start the patches' positions from waves along both sides of the map, as strong as the patches themselves.

    Noise of the usual size is drowned by the patches, and where things are would have to be learnt from nothing. What
    tells pictures by their order is as strong, or it would be as hard to hear.
    """
    positions = cast(Tensor, model.resampler.position_embeddings)
    side, quarter = math.isqrt(len(positions)), positions.shape[1] // 4
    turns = torch.arange(side)[:, None] * torch.pi / side * torch.linspace(0.25, 2, quarter)
    waves = torch.cat([turns.sin(), turns.cos()], 1)
    positions.copy_(torch.cat([waves.repeat_interleave(side, 0), waves.repeat(side, 1)], 1) * 2**0.5 * patches.std())
    cast(Tensor, model.resampler.image_embeddings).normal_(std=ORDER * patches.std().item())


@torch.no_grad()
def open_gates(model: nn.Module) -> None:
    """Start from gates half open.

    A closed gate passes no gradient to what is behind it, and a short run has no steps to waste on that: most attention
    gates of a run begun at zero were still below 0.1 after four thousand.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            parameter.fill_(0.5)


def predict(model: FlamingoForConditionalGeneration, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Weighted next-token loss, the share of fully weighted tokens that are right, and how far the gates are open."""
    loss, total, right, asked = torch.zeros(()), 0.0, 0, 0
    looked: list[Tensor] = []
    said: list[Tensor] = []
    for group in batch["groups"]:
        pictures, layers, words = {}, [], group["looks"]
        trace = Trace((words["row"], words["token"])) if len(words["row"]) else None
        if "patches" in group:
            latents = model.resampler(group["patches"], layers if trace is not None else None)
            pictures = {"latents": latents, "image_mask": group["image_mask"]}
        with added_by(model.gated_blocks[0]) as added:
            logits = model(
                input_ids=group["input_ids"], attention_mask=group["attention_mask"], trace=trace, **pictures
            ).logits[:, :-1]
        said.append(added[0][group["tells"]["row"], group["tells"]["token"]])
        if trace is not None:
            looked.append(seen_of(trace.taken, layers, words))
        targets, weights = group["input_ids"][:, 1:], group["weights"][:, 1:]
        losses = F.cross_entropy(rearrange(logits, "b t v -> (b t) v"), targets.flatten(), reduction="none")
        loss, total = loss + (losses * weights.flatten()).sum(), total + weights.sum().item()
        full = weights == 1
        right, asked = right + int((logits.argmax(-1) == targets)[full].sum()), asked + int(full.sum())
    gates = [p.detach().tanh().abs() for name, p in model.named_parameters() if name.endswith("gate")]
    loss, figures = loss / total, {"right": right / asked, "gates": torch.stack(gates).mean().item()}
    if looked:
        seen = torch.cat(looked, 1)
        loss, figures["seen"] = loss - LOOKED * seen.clamp(1e-4, ENOUGH).log().mean(), seen.mean().item()
    tells = {name: torch.cat([group["tells"][name] for group in batch["groups"]]) for name in ("bag", "asked")}
    for name, missing in untold(model.get_input_embeddings(), torch.cat(said), **tells).items():
        loss, figures[name] = loss + TOLD * missing, missing.item()
    return loss, figures


@contextmanager
def added_by(block: nn.Module) -> Generator[list[Tensor]]:
    """What a block adds to the tokens that go through it."""
    added: list[Tensor] = []
    hook = block.register_forward_hook(lambda _, given, result: added.append(result - given[0]))
    try:
        yield added
    finally:
        hook.remove()


def untold(words: nn.Embedding, said: Tensor, bag: Tensor, asked: Tensor) -> dict[str, Tensor]:
    """How far what the first block adds to tokens, (tokens, width), is from what the language model learnt to read.

    Returns:
        undescribed, untold: of words that describe the page and of answers, the distance in that of adding nothing.
        mistaken: how hard it is to tell which answer of the batch is added, in nats: "on the left" is so near to "on
            the right" that being near says little.
    """
    wanted = soft_bags(words, bag)
    missing = (said - wanted).square().sum(-1) / wanted.square().sum(-1).clamp(min=1e-6)
    found = {"undescribed": missing[~asked], "untold": missing[asked]}
    if asked.any():
        answers, which = bag[asked].unique(dim=0, return_inverse=True)
        wanted = soft_bags(words, answers)
        apart = torch.cdist(said[asked], wanted).square() / wanted.square().sum(-1).clamp(min=1e-6)
        found["mistaken"] = F.cross_entropy(-SHARP * apart, which, reduction="none")
    return {name: each.mean() for name, each in found.items() if len(each)}


def seen_of(taken: Sequence[Tensor], layers: list[Tensor], looks: Batch) -> Tensor:
    """How much of what a word takes of its picture, in each block, is of the thing that it names: (blocks, words).

    That the page tells where its things stand makes the search learnable: from answers alone a question's noun chose
    among the latents hardly better than by chance after a thousand steps.
    """
    held = rollout(layers, looks["cells"].shape[1])
    latents = held.shape[1]
    images = taken[0].shape[1] // latents
    shown = (held[looks["row"] * images + looks["picture"]] * looks["cells"][:, None]).sum(-1)
    by_picture = torch.stack([block.unflatten(1, (images, latents)) for block in taken])
    weights = by_picture[:, torch.arange(len(looks["picture"])), looks["picture"]]
    return (weights * shown).sum(-1) / weights.sum(-1).clamp(min=1e-6)


def examined(reader: Reader, items: int = 60) -> str:
    """A few figures while it trains, as the suites take them, but on other pages and on things that it may see."""
    reader.model.eval()
    random, things = Random("watch"), objects("trained")
    figures: dict[str, float] = {}
    for kind in cast(tuple[Kind, ...], ("one", "pair")):
        scenes = [random_scene(kind, things, random) for _ in range(items)]
        said = reader.answer([caption_prompt()] * items, [[page] for page in drawn(scenes)])
        named = [all(mentions(text, o.name) for o in scene.counts) for text, scene in zip(said, scenes, strict=True)]
        figures[kind] = sum(named) / items
    for topic, kind in WATCHED:
        scenes, questions, answers = draw_questions(topic, kind, random, items)
        said = reader.ask(questions, [[page] for page in drawn(scenes)])
        figures[topic] = sum(text == answer for text, answer in zip(said, answers, strict=True)) / items
    for ways in (2, 5):
        draw = binding_item(reader, ways, 1, things)
        figures[f"{ways}-way"] = exact(reader, [draw(random) for _ in range(items)]).accuracy
    new = [binding_item(reader, 5, 4, invented(5, things, random))(random) for _ in range(items)]
    figures["5-way, new things"] = exact(reader, new).accuracy
    reader.model.train()
    return ", ".join(f"{name} {figure:.2f}" for name, figure in figures.items())


def begin(folder: Path, tokenizer: PreTrainedTokenizerFast, part: Part, **changed: Any) -> Reader:
    """The Flamingo before its first lesson, over `folder`/vision and `folder`/text; `changed` of `PARTS`."""
    vision, text = f"local-dir:{folder / 'vision'}", str(folder / "text")
    torch.manual_seed(part.plan.seed)
    model = FlamingoForConditionalGeneration.from_backbones(vision=vision, text=text, **PARTS | changed)
    open_gates(model)
    place_patches(model, Draw(tokenizer, model.vision_encoder, part)(0)["groups"][0]["patches"])
    return Reader(model, make_processor(vision, text))


def learn(reader: Reader, tokenizer: PreTrainedTokenizerFast, part: Part, output: Path, watch: Watch = ()) -> None:
    """A lesson, from its start or from where it was stopped."""
    draw = Draw(tokenizer, reader.model.vision_encoder, part)
    train(reader.model, draw, partial(predict, reader.model), part.plan, output, rates=RATES, watch=watch)


def taught(folder: Path, part: Part, output: Path, **changed: Any) -> Reader:
    """A Flamingo of one lesson over `folder`'s backbones, to be asked: for what is compared side by side."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
    reader = begin(folder, tokenizer, part, **changed)
    learn(reader, tokenizer, part, output)
    reader.model.eval()
    return reader


def run(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """Train, or go on training, the parts between `folder`/vision and `folder`/text; export to `folder`/flamingo."""
    reader = begin(folder, tokenizer, LESSON)
    learn(reader, tokenizer, LESSON, folder / LESSON.name, watch=[(1000, lambda: examined(reader))])
    reader.model.save_pretrained(folder / "flamingo")
