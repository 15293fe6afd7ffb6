"""Stage 4: the memory, over a whole Flamingo that is frozen: what turns leave behind, and how later turns find it.

Each step draws a pool of turns, and questions about some of them. A question is asked after a talk of its own, put
together from the pool: so a turn is read and encoded once and serves many talks, and the talks of a step differ in
what they hold, how long they are, and when what was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from data import talks
from data.episodes import Episode
from data.made_up_names import made_up_names
from data.picture_book import Renderer, objects
from data.talks import Spoken
from flamingo_app.memory.slots import Slots
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.trainable import train_only
from flamingo_app.model.vision_encoder import VisionEncoder
from training.loop import Batch, Plan, train
from training.starter.flamingo import PARTS, open_gates, with_patches
from training.starter.vision import SIZE

NAMED, SHOWN, TOLD, FILLERS = 24, 6, 3, 9  # turns of a pool
QUESTIONS = 48
SHARES = {"name": 26, "two": 3, "three": 1, "first": 5, "seen": 18, "told": 8}
FACTS: dict[str, tuple[talks.Fact, int]] = {
    "name": ("named", 1), "two": ("named", 2), "three": ("named", 3), "first": ("shown", 1), "seen": ("named", 0),
    "told": ("told", 1),
}  # fmt: skip
SHORTEST, LONGEST = 2, 32  # turns of a talk
# Up to here names alone are asked for, of talks about nothing else: to look for a turn by what it showed is what
# all else grows from, and is found soonest where there is nothing else.
NAMES_FIRST = 0.3
IN_WINDOW = 2  # most turns that stand between memory and question
RECALLED = 0.2  # weight of saying again what a turn said
FOUND = 1.0  # weight of looking, while answering, at the turns that hold the answer
LOOKING = slice(1, None)  # blocks that are to look there; before the first the picture has not met the words
PLAN = Plan(steps=900, learning_rate=1e-3, matrix_rate=2e-3, warmup=40, seed=5_000_000, weight_decay=0.02, workers=1)
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
class Asked:
    """A question with the talk before it: numbers of the pool's turns in their order, and how it is spelled.

    Attributes:
        facts: which places of the talk hold the answer; none where it is not in one turn.
    """

    talk: tuple[int, ...]
    facts: tuple[int, ...]
    episode: Episode


class Draw:
    """Pools and questions with the frozen tower's patches; those of a step are always the same."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vision: VisionEncoder, plan: Plan) -> None:
        self.tokenizer, self.vision, self.plan = tokenizer, vision, plan
        self.things, self.renderer = objects("trained"), Renderer(SIZE)

    @torch.no_grad()
    def __call__(self, step: int) -> Batch:
        random = Random(self.plan.seed + step)
        progress = step / self.plan.steps
        pool = self.pool(random)
        asked = [self.asked(pool, progress, random) for _ in range(QUESTIONS)]
        asked.sort(key=lambda question: len(question.episode.pieces))
        return {
            "pool": self.tensors([turn.episode for turn in pool]),
            "talks": [question.talk for question in asked],
            "facts": [question.facts for question in asked],
            "questions": [
                self.tensors([question.episode for question in half])
                for half in (asked[: QUESTIONS // 2], asked[QUESTIONS // 2 :])
            ],
        }

    def pool(self, random: Random) -> list[Spoken]:
        """Turns: of those that name a thing, no two name the same thing, or give the same name."""
        named = random.sample(self.things, NAMED)
        names = made_up_names(NAMED + TOLD, random)
        return [
            *(talks.named(thing, name, random) for thing, name in zip(named, names, strict=False)),
            *(talks.shown(random.choice(self.things), random) for _ in range(SHOWN)),
            *(talks.told(name, random) for name in names[NAMED:]),
            *(talks.filler(self.things, random) for _ in range(FILLERS)),
        ]

    def asked(self, pool: Sequence[Spoken], progress: float, random: Random) -> Asked:
        """A talk from the pool, and a question that it answers."""
        begun = progress < NAMES_FIRST
        kind = "name" if begun else random.choices(tuple(SHARES), tuple(SHARES.values()))[0]
        by_fact = {fact: [n for n, turn in enumerate(pool) if turn.fact == fact] for fact in ("named", "shown", "told")}
        facts = random.sample(by_fact[FACTS[kind][0]], FACTS[kind][1])
        about = {thing for n in facts for thing in pool[n].things}
        told = None if kind == "told" else random.choice(by_fact["told"])  # nobody says twice what they are called
        others = [
            n
            for n, turn in enumerate(pool)
            if n not in facts and not about & set(turn.things) and (turn.fact != "told" or n == told)
        ]
        if begun:
            others = [n for n in others if pool[n].fact == "named"]
        size = random.randint(SHORTEST, LONGEST)
        rest = random.sample(others, min(max(0, size - len(facts)), len(others)))
        talk = [*rest, *facts]
        random.shuffle(talk)
        if kind == "first":
            talk = [*facts, *rest]
        question = self._question(kind, [pool[n] for n in facts], [pool[n] for n in talk], random)
        window = [] if begun else [talks.filler(self.things, random) for _ in range(random.randint(0, IN_WINDOW))]
        clean = [turn.episode for turn in window if not about & set(turn.things) and kind != "seen"]
        places = tuple(place for place, n in enumerate(talk) if n in facts)
        return Asked(talk=tuple(talk), facts=places, episode=talks.after(clean, question))

    def _question(self, kind: str, facts: list[Spoken], talk: list[Spoken], random: Random) -> Episode:
        if kind == "first":
            return talks.ask_first(facts[0], random)
        if kind == "told":
            return talks.ask_told(facts[0], random)
        if kind == "seen":
            shown = {thing for turn in talk for thing in turn.things}
            seen = bool(shown) and random.random() < 0.5
            candidates = [thing for thing in self.things if (thing in shown) == seen]
            return talks.ask_seen(random.choice(candidates), seen=seen, random=random)
        return talks.ask_name(facts, random)

    def tensors(self, episodes: Sequence[Episode]) -> Batch:
        """Episodes with their patches."""
        return with_patches(episodes, self.tokenizer, self.vision, self.renderer)


def pictures(batch: Batch) -> Batch:
    """What `forward` takes of a batch beside its tokens."""
    return {name: batch[name] for name in ("attention_mask", "patches", "image_mask") if name in batch}


def predict(model: FlamingoForConditionalGeneration, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Loss of the answers and, with less weight, of what the turns themselves said; the share of right answers."""
    pool = batch["pool"]
    with torch.no_grad():
        hidden = model.turn_states(pool["input_ids"], **pictures(pool))
    mask = pool["attention_mask"].bool()
    empty = Slots.empty(model.memory.config, batch=len(hidden))
    latents = model.memory.encoder(hidden, empty, mask)
    slots = gathered(latents, batch["talks"])
    loss, found, total, right, asked, start = torch.zeros(()), torch.zeros(()), 0.0, 0, 0, 0
    for questions in batch["questions"]:
        rows = len(questions["input_ids"])
        taken: list[Tensor] = []
        view = model.view_memory(slots.rows(start, start + rows), taken)
        logits = model(input_ids=questions["input_ids"], memory=view, **pictures(questions)).logits[:, :-1]
        targets, weights = questions["input_ids"][:, 1:], questions["weights"][:, 1:]
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        loss, total = loss + (losses * weights.flatten()).sum(), total + weights.sum().item()
        found = found + finding_loss(model, taken, batch["facts"][start : start + rows], weights == 1)
        start += rows
        wrong = ((logits.argmax(-1) != targets) & (weights == 1)).any(1)
        right, asked = right + int((~wrong).sum()), asked + rows
    said, recalled = recall_loss(model, latents, pool)
    gates = [p.detach().tanh().abs() for name, p in model.memory_blocks.named_parameters() if name.endswith("gate")]
    figures = {
        "right": right / asked,
        "found": found.item() / len(batch["questions"]),
        "recalled": recalled,
        "gates": torch.stack(gates).mean().item(),
    }
    return loss / total + FOUND * found / len(batch["questions"]) + RECALLED * said, figures


def finding_loss(
    model: FlamingoForConditionalGeneration, taken: Sequence[Tensor], facts: Sequence[tuple[int, ...]], asked: Tensor
) -> Tensor:
    """How little of what the answering tokens take from the memory is of the turns that hold the answer.

    That these are known makes the search learnable in a few hundred steps, as in the first memory networks (Weston et
    al. 2015, section 3.1); left to the answers alone it began after more than there was time for.
    """
    places = torch.zeros(len(facts), taken[0].shape[2] // model.memory.config.num_latents)
    for row, held in enumerate(facts):
        places[row, list(held)] = 1.0
    slots = places.repeat_interleave(model.memory.config.num_latents, dim=1)[:, None]
    counted = asked & (places.sum(1) > 0)[:, None]
    losses = [
        -((weights * slots).sum(-1) / weights.sum(-1).clamp(min=1e-6))[:, :-1].clamp(min=1e-6).log()[counted].mean()
        for weights in taken[LOOKING]
    ]
    return torch.stack(losses).mean()


def gathered(latents: Tensor, talk_turns: Sequence[Sequence[int]]) -> Slots:
    """The memories of talks, each of some of the turns whose latents are given, in their order."""
    longest = max(map(len, talk_turns))
    index = torch.tensor([[*talk, *[0] * (longest - len(talk))] for talk in talk_turns])
    lengths = torch.tensor([len(talk) for talk in talk_turns])
    order = torch.arange(1, longest + 1)
    return Slots(values=latents[index], turns=order * (order <= lengths[:, None]), written=lengths)


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
