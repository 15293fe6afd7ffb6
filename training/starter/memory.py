"""Stage 4: the memory, over a whole Flamingo that is frozen: what turns leave behind, and how later turns find it.

Each step draws a pool of turns, and questions about some of them. A question is asked after a talk of its own, put
together from the pool: so a turn is read and encoded once and serves many talks, and the talks of a step differ in
what they hold, how long they are, and when what was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from data import talks
from data.collate import tokens
from data.episodes import Episode, random_binding, random_dialogue, random_which_picture
from data.made_up_names import made_up_names
from data.picture_book import Object, Renderer, objects
from data.picture_book.invented import invented
from data.talks import Spoken
from flamingo_app.memory.slots import Slots
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.gated_cross_attention import Trace
from flamingo_app.model.trainable import train_only
from flamingo_app.model.vision_encoder import VisionEncoder
from training.loop import Batch, Plan, train
from training.starter.flamingo import PARTS, open_gates, with_patches
from training.starter.vision import SIZE

SHARES = {"name": 26, "both": 1, "two": 7, "three": 8, "first": 8, "seen": 28, "told": 5, "plain": 26}
FACTS: dict[str, tuple[talks.Fact, ...]] = {
    "name": ("named",), "both": ("named", "named"), "two": ("named", "told"), "three": ("named", "told", "shown"),
    "first": ("shown",), "told": ("told",),
}  # fmt: skip
IN_WINDOW = (1, 2, 2, 2, 10)  # most turns that stand between memory and question; one of these
LONGEST_WINDOW = 250  # tokens; what a window of the starter holds, and some
LATEST = 1024  # number of a turn
ROWS = 8  # questions that are read together, of like length
RECALLED = 1.0  # weight of saying again what a turn said
FOUND = 1.0  # weight of looking, while answering, at the turns that hold the answer
LOOKING = slice(1, None)  # blocks that are to look there; before the first the picture has not met the words
PLAN = Plan(steps=3700, learning_rate=1e-3, matrix_rate=2e-3, warmup=40, seed=5_000_000, weight_decay=0.02)
RATES = {"gate": 10.0}
MEMORY: dict[str, Any] = {
    "encoder": "perceiver_io",
    "update": "competing",
    "num_turns": 256,
    "num_latents": 4,
    "dim": 192,
    "heads": 6,
    "dim_head": 32,
    "gated": {"every": 1, "heads": 6, "dim_head": 32, "ff_mult": 2},
}


@dataclass(frozen=True, kw_only=True)
class Talks:
    """How long talks are, and what they are put together from.

    Args:
        named, shown, told, fillers: turns of a pool.
        new: how many of those that are named are things of nobody's list.
        questions: about talks from one pool.
        shortest, longest: turns of a talk.
        longest_first: likewise at the very beginning, from where it grows while names alone are asked for.
        stretched: how often turns are numbered as if others had stood between them, up to `LATEST` (Ruoss et al. 2023,
            "Randomized positional encodings"), so that later no number is met for the first time.
        names_first: up to which share of the training names alone are asked for, of talks about nothing else: to look
            for a turn by what it showed is what all else grows from, and is found soonest where there is nothing else.
    """

    named: int = 24
    new: int = 12
    shown: int = 6
    told: int = 3
    fillers: int = 15
    questions: int = 24
    shortest: int = 2
    longest_first: int = 8
    longest: int = 64
    stretched: float = 0.5
    names_first: float = 0.35

    def most(self, progress: float) -> int:
        """Turns of the longest talk, after so large a share of the training."""
        if progress >= self.names_first:
            return self.longest
        return round(self.longest_first + progress / self.names_first * (self.longest - self.longest_first))


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question with the talk before it: numbers of the pool's turns in their order, and how it is spelled.

    Attributes:
        numbers: which turn of a talk each is, counted from 1.
        facts: which places of the talk hold the answer; none where no turn does.
    """

    talk: tuple[int, ...]
    numbers: tuple[int, ...]
    facts: tuple[int, ...]
    episode: Episode


Write = Callable[
    [FlamingoForConditionalGeneration, Batch], tuple[Slots, Tensor, float]
]  # a batch -> the memories of its talks, how badly they say the turns again, and how much of them right


class Draw:
    """Pools and questions with the frozen tower's patches; those of a step are always the same."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, vision: VisionEncoder, plan: Plan, sizes: Talks | None = None
    ) -> None:
        self.tokenizer, self.vision, self.plan, self.sizes = tokenizer, vision, plan, sizes or Talks()
        self.things, self.renderer = objects("trained"), Renderer(SIZE)

    @torch.no_grad()
    def __call__(self, step: int) -> Batch:
        random = Random(self.plan.seed + step)
        progress = step / self.plan.steps
        pool = self.pool(random, begun=progress < self.sizes.names_first)
        asked = [self.asked(pool, progress, random) for _ in range(self.sizes.questions)]
        asked.sort(key=lambda question: self._tokens(question.episode))
        rows = [[question.episode for question in asked[start : start + ROWS]] for start in range(0, len(asked), ROWS)]
        turns, *questions = with_patches(
            [[turn.episode for turn in pool], *rows], self.tokenizer, self.vision, self.renderer
        )
        return {
            "pool": turns,
            "talks": [question.talk for question in asked],
            "numbers": [question.numbers for question in asked],
            "facts": [question.facts for question in asked],
            "questions": questions,
        }

    def pool(self, random: Random, *, begun: bool = False) -> list[Spoken]:
        """Turns: of those that name a thing, no two name the same thing, or give the same name.

        Args:
            begun: only those, as long as names alone are asked for.
        """
        sizes = self.sizes
        new = invented(sizes.new, self.things, random)
        named: list[Object] = [*new, *random.sample(self.things, sizes.named - sizes.new)]
        names = made_up_names(sizes.named + sizes.told, random)
        spoken = [talks.named(thing, name, random) for thing, name in zip(named, names, strict=False)]
        if begun:
            return spoken
        return [
            *spoken,
            *(talks.shown(random.choice(self.things), random) for _ in range(sizes.shown)),
            *(talks.told(name, random) for name in names[sizes.named :]),
            *(talks.filler(self.things, random) for _ in range(sizes.fillers)),
        ]

    def asked(self, pool: Sequence[Spoken], progress: float, random: Random) -> Asked:
        """A talk from the pool, and a question that it answers."""
        begun = progress < self.sizes.names_first
        kind = "name" if begun else random.choices(tuple(SHARES), tuple(SHARES.values()))[0]
        asking = {"seen": self._seen, "plain": self._plain}.get(kind, partial(self._facts, kind))
        facts, question, about = asking(pool, random)
        told = None if begun or "told" in FACTS.get(kind, ()) else random.choice(_turns(pool, "told"))
        others = [
            n
            for n, turn in enumerate(pool)
            if n not in facts
            and not about & set(turn.things)
            # Nobody has two names.
            and (turn.fact == "named" if begun else turn.fact != "told" or n == told)
        ]
        size = random.randint(self.sizes.shortest, self.sizes.most(progress))
        rest = _some(others, size - len(facts), random)
        first = [n for n in facts if pool[n].fact == "shown" and kind in ("first", "three")]
        talk = random.sample([*rest, *facts], len(rest) + len(facts))
        talk = [*first, *(n for n in talk if n not in first)]
        most = 0 if begun else random.choice(IN_WINDOW)
        window = [talks.filler(self.things, random) for _ in range(random.randint(0, most))]
        clean = [turn.episode for turn in window if not about & set(turn.things)]
        places = tuple(place for place, n in enumerate(talk) if n in facts)
        while self._tokens(episode := talks.after(clean, question)) > LONGEST_WINDOW and clean:
            clean = clean[1:]
        last = len(talk)
        if not begun and random.random() < self.sizes.stretched:
            last = round(math.exp(random.uniform(math.log(last), math.log(LATEST))))
        numbers = (1, *sorted(random.sample(range(2, last + 1), len(talk) - 1)))
        return Asked(talk=tuple(talk), numbers=numbers, facts=places, episode=episode)

    def _tokens(self, episode: Episode) -> int:
        return len(tokens(episode, self.tokenizer))

    def _facts(self, kind: str, pool: Sequence[Spoken], random: Random) -> tuple[list[int], Episode, set[Object]]:
        """Turns, a question about them, and the things that no other turn of the talk may show."""
        facts: list[int] = []
        for fact in FACTS[kind]:
            facts.append(random.choice([n for n in _turns(pool, fact) if n not in facts]))
        spoken = [pool[n] for n in facts]
        about = {thing for turn in spoken for thing in turn.things}
        if kind == "first":
            return facts, talks.ask_first(spoken[0], random), about
        if kind == "told":
            return facts, talks.ask_told(spoken[0], random), about
        if kind in ("two", "three"):
            return facts, talks.ask_several(spoken, random), about
        return facts, talks.ask_name(spoken, random), about

    def _seen(self, pool: Sequence[Spoken], random: Random) -> tuple[list[int], Episode, set[Object]]:
        """Likewise, whether a thing was shown; half the time no turn of the talk shows it."""
        if random.random() < 0.5:
            thing = random.choice((random.choice(self.things), invented(1, self.things, random)[0]))
            return [], talks.ask_seen(thing, seen=False, random=random), {thing}
        fact = random.choice([n for n, turn in enumerate(pool) if turn.things])
        thing = random.choice(pool[fact].things)
        return [fact], talks.ask_seen(thing, seen=True, random=random), {thing}

    def _plain(self, pool: Sequence[Spoken], random: Random) -> tuple[list[int], Episode, set[Object]]:
        """Likewise, what is to be answered from what is in sight, as without a memory: most of any chat is so."""
        form = random.choices(("page", "dialogue", "names", "which"), (6, 2, 1, 1))[0]
        if form == "page":
            question = talks.filler(self.things, random).episode
        elif form == "dialogue":
            # One that begins without a picture says that there is none, which is not so after a talk.
            while not (question := random_dialogue(talks.KINDS, (1, 1, 1, 1), self.things, random)).begins_with_picture:
                pass
        elif form == "names":
            things = [*random.sample(self.things, 6), *invented(6, self.things, random)]
            question = random_binding(things, random, most_pictures=6, chat=1.0, made_up=1.0)
        else:
            question = random_which_picture(self.things, random, told=False)
        return [], question, {thing for scene in question.scenes for thing in scene.counts}


def _some(turns: Sequence[int], count: int, random: Random) -> list[int]:
    """So many turns in any order; more than there are come again."""
    if count <= 0 or not turns:
        return []
    return random.sample(turns, count, counts=[-(-count // len(turns))] * len(turns))


def _turns(pool: Sequence[Spoken], fact: talks.Fact) -> list[int]:
    return [n for n, turn in enumerate(pool) if turn.fact == fact]


def pictures(batch: Batch) -> Batch:
    """What `forward` takes of a batch beside its tokens."""
    return {name: batch[name] for name in ("attention_mask", "patches", "image_mask") if name in batch}


def at_once(model: FlamingoForConditionalGeneration, batch: Batch) -> tuple[Slots, Tensor, float]:
    """The memories of talks where a turn is read by itself and keeps slots of its own: each turn is read once.

    Returns:
        Also how badly the turns' first tokens are known from their latents, and how many of them are right.
    """
    pool = batch["pool"]
    with torch.no_grad():
        hidden = model.turn_states(pool["input_ids"], **pictures(pool))
    empty = Slots.empty(replace(model.memory.config, num_turns=1), batch=len(hidden))
    latents = model.memory.encoder(hidden, empty, pool["attention_mask"].bool())
    return gathered(latents, batch["talks"], batch["numbers"]), *recall_loss(model, latents, pool)


def predict(
    model: FlamingoForConditionalGeneration, batch: Batch, *, write: Write = at_once, shown: bool = True
) -> tuple[Tensor, dict[str, float]]:
    """Loss of the answers, of looking for them, and of saying again what the turns said; the share of right answers.

    Args:
        write: writes the talks of a batch.
        shown: whether the search is told which turns hold the answer, where slots belong to turns.
    """
    slots, said, recalled = write(model, batch)
    loss, found, total, right, asked, start = torch.zeros(()), torch.zeros(()), 0.0, 0, 0, 0
    for questions in batch["questions"]:
        rows = len(questions["input_ids"])
        targets, weights = questions["input_ids"][:, 1:], questions["weights"][:, 1:]
        full = weights == 1
        answered = full.nonzero(as_tuple=True)
        trace = Trace(answered) if shown else None
        view = model.view_memory(slots.rows(start, start + rows), trace)
        logits = model(input_ids=questions["input_ids"], memory=view, **pictures(questions)).logits[:, :-1]
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        loss, total = loss + (losses * weights.flatten()).sum(), total + weights.sum().item()
        if trace is not None:
            facts = [batch["facts"][start + row] for row in answered[0].tolist()]
            found = found + finding_loss(model, trace.taken, facts)
        start += rows
        wrong = ((logits.argmax(-1) != targets) & full).any(1)
        right, asked = right + int((~wrong).sum()), asked + rows
    gates = [p.detach().tanh().abs() for name, p in model.memory_blocks.named_parameters() if name.endswith("gate")]
    figures = {
        "right": right / asked,
        "found": found.item() / len(batch["questions"]),
        "recalled": recalled,
        "gates": torch.stack(gates).mean().item(),
    }
    return loss / total + FOUND * found / len(batch["questions"]) + RECALLED * said, figures


def finding_loss(
    model: FlamingoForConditionalGeneration, taken: Sequence[Tensor], facts: Sequence[tuple[int, ...]]
) -> Tensor:
    """How little of what the answering tokens take from the memory is of the turns that hold the answer; where none
    does, of nothing.

    That these are known makes the search learnable in a few hundred steps, as in the first memory networks (Weston et
    al. 2015, section 3.1); left to the answers alone it began after more than there was time for.

    Args:
        taken: what the answering tokens took in each block, (tokens, slots and the one that holds nothing).
        facts: for each of these tokens, which places of its talk hold the answer.
    """
    places = torch.zeros(len(facts), (taken[0].shape[1] - 1) // model.memory.config.num_latents)
    for token, held in enumerate(facts):
        places[token, list(held)] = 1.0
    slots = places.repeat_interleave(model.memory.config.num_latents, dim=1)
    slots = torch.cat([slots, (places.sum(1, keepdim=True) == 0).float()], dim=1)
    losses = [
        -((weights * slots).sum(-1) / weights.sum(-1).clamp(min=1e-6)).clamp(min=1e-6).log().mean()
        for weights in taken[LOOKING]
    ]
    return torch.stack(losses).mean()


def gathered(latents: Tensor, talk_turns: Sequence[Sequence[int]], numbers: Sequence[Sequence[int]]) -> Slots:
    """The memories of talks, each of some of the turns whose latents are given, in their order, so numbered."""
    index, turns = (pad_sequence([torch.tensor(row) for row in rows], True) for rows in (talk_turns, numbers))
    return Slots(values=latents[index], turns=turns, written=turns.max(dim=1).values)


def recall_loss(model: FlamingoForConditionalGeneration, latents: Tensor, pool: Batch) -> tuple[Tensor, float]:
    """How badly a turn's first tokens are known from its latents alone, and how many of them are right."""
    logits = model.get_output_embeddings()(model.memory.recall(latents))
    length = min(logits.shape[1], pool["input_ids"].shape[1])
    targets, mask = pool["input_ids"][:, :length], pool["attention_mask"][:, :length].bool()
    chosen = logits[:, :length][mask]
    right = (chosen.argmax(-1) == targets[mask]).float().mean().item()
    return F.cross_entropy(chosen, targets[mask]), right


def build(folder: Path, **memory: Any) -> FlamingoForConditionalGeneration:
    """The Flamingo that the last stage left, with a memory that knows nothing yet; only that trains."""
    model = FlamingoForConditionalGeneration.from_backbones(
        vision=f"local-dir:{folder / 'vision'}", text=str(folder / "text"), memory=MEMORY | memory, **PARTS
    )
    model.load_state_dict(load_file(folder / "flamingo" / "model.safetensors"), strict=False)
    train_only(model, ["memory"])
    open_gates(model.memory_blocks)
    return model


def run(folder: Path, tokenizer: PreTrainedTokenizerFast, plan: Plan = PLAN) -> None:
    """Train, or go on training, the memory of `folder`/flamingo; export to `folder`/remembering."""
    torch.manual_seed(plan.seed)
    model = build(folder)
    draw = Draw(tokenizer, model.vision_encoder, plan)
    train(model, draw, lambda batch: predict(model, batch), plan, folder / "memory", rates=RATES)
    model.save_pretrained(folder / "remembering")
