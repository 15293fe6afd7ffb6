"""Does it remember? A fact is told, other turns follow and push it out of the window, then it is asked for.

    named     a picture of a thing, with a made-up name; later another picture of that thing: what is it called?
    among     the same, and two other things were named in the same talk: what is left of the picture must tell which
    crowded   the same as named, with `CROWDED` turns in the window, as many as a chat mostly has there
    two           a name and what the user is called, in one question
    three         the same, and what was in the first picture of the talk
    both          two pictures, two names
    told      what the user is called
    shown     what was in the first picture of the talk
    seen      was this thing in a picture before? (a guess is right half the time)
    plain     a question about a new page, which no turn before it answers: a memory must not be in the way

Things that are named are such as no training stage saw. A distance of d means that d whole turns, most with pictures of
other things, were written after the fact; in the window then stand `IN_WINDOW` more, and the question. The controls:

    truncated     no memory: what a model sees that cuts off what does not fit; here also what a sliding window sees
    zeroed        a memory in which nothing was written
    swapped       the memory of another talk
    blank         the fact's pictures show nothing; that a name was told at all is still known
    in_window     nothing has left: the whole talk as one prompt, where it fits in the model's positions
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from data import talks
from data.episodes import Episode
from data.made_up_names import made_up_names
from data.picture_book import Object, objects
from data.talks import Spoken
from flamingo_app.memory.slots import Slots
from flamingo_app.prompt import Mark, Piece, Prompt
from training.suites.reader import Reader, blank, drawn
from training.suites.score import CONTROL_ITEMS, Score

DISTANCES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
IN_WINDOW, CROWDED = 2, 10
LEAD = 2  # turns before the facts that name things
FILLERS = 400  # turns, read once, from which all talks take theirs
CONTROLS = ("truncated", "zeroed", "swapped", "blank", "in_window")
NAME_TOKENS = 3
ANSWER_TOKENS = 24


@dataclass(frozen=True)
class Item:
    """Facts in the order of telling, the fillers after them, what is still in the window, and the question.

    Attributes:
        lead: fillers before the facts.
        fillers: numbers of the common fillers that follow the facts.
    """

    facts: tuple[Spoken, ...]
    lead: tuple[int, ...]
    fillers: tuple[int, ...]
    window: tuple[Spoken, ...]
    question: Episode

    @property
    def asked(self) -> Prompt:
        """The question's prompt, up to where the answer begins."""
        return tuple(piece for piece, _ in self.question.pieces[:-2])

    @property
    def answer(self) -> str:
        """What is to be said."""
        return str(self.question.pieces[-2][0]).strip().rstrip(".")


def run(reader: Reader, *, seed: int, items: int, points: Mapping[str, Sequence[int]] | None = None) -> dict[str, Any]:
    """Recall of every kind of fact at every distance, each with its controls; nothing for a model without a memory.

    Args:
        points: the distances to ask at, for each kind that is asked for; every kind at `DISTANCES` if None.
    """
    if reader.model.config.memory is None:
        return {}
    exam = Exam(reader, seed)
    results: dict[str, Any] = {}
    for task, distances in (points or dict.fromkeys(TASKS, DISTANCES)).items():
        for distance in distances:
            results |= exam.point(task, distance, items)
    return results


class Exam:
    """A model with a memory, and a common stock of fillers that it has read once."""

    def __init__(self, reader: Reader, seed: int) -> None:
        self.reader, self.seed = reader, seed
        random = Random(f"memory fillers {seed}")
        self.fillers = [talks.filler(objects("trained"), random) for _ in range(FILLERS)]
        self.states = self.read(self.fillers)

    def point(self, task: str, distance: int, items: int) -> dict[str, Any]:
        """One kind of fact at one distance, with its controls."""
        random = Random(f"memory {task} {distance} {self.seed}")
        asked = [TASKS[task](self, distance, random) for _ in range(items)]
        some, name = asked[:CONTROL_ITEMS], f"{task}_{distance}_turns"
        results = {name: self.score(asked).as_json()}
        for control in CONTROLS:
            if control != "in_window" or self.fit(some):
                results[f"{name}_{control}"] = self.score(some, control).as_json()
        return results

    @torch.inference_mode()
    def read(self, turns: Sequence[Spoken], *, blanked: bool = False) -> list[Tensor]:
        """What the memory's encoder reads of turns, each read by itself: (1 tokens depth dim)."""
        states: list[Tensor] = []
        for start in range(0, len(turns), self.reader.batch_size):
            some = turns[start : start + self.reader.batch_size]
            shown = [drawn(turn.episode.scenes) for turn in some]
            prompts = [tuple(piece for piece, _ in turn.episode.pieces) for turn in some]
            inputs = self.reader.processor.prompts(prompts, [blank(row) if blanked else row for row in shown])
            hidden = self.reader.model.turn_states(**inputs)
            rows = zip(hidden, inputs["attention_mask"].bool(), strict=True)
            states += [row[mask][None] for row, mask in rows]
        return states

    @torch.inference_mode()
    def written(self, items: Sequence[Item], *, blanked: bool = False) -> Slots:
        """The memories of talks, written turn by turn, all talks at once."""
        model = self.reader.model
        told = iter(self.read([fact for item in items for fact in item.facts], blanked=blanked))
        rows = [
            [
                *(self.states[n] for n in item.lead),
                *(next(told) for _ in item.facts),
                *(self.states[n] for n in item.fillers),
            ]
            for item in items
        ]
        slots = Slots.empty(model.memory.config, batch=len(items))
        if model.memory.config.update == "competing":  # places that stay free cost time and change nothing
            slots = slots.places(len(rows[0]))
        for turn in zip(*rows, strict=True):
            longest = max(states.shape[1] for states in turn)
            hidden = torch.cat([torch.nn.functional.pad(s, (0, 0, 0, 0, 0, longest - s.shape[1])) for s in turn])
            mask = torch.arange(longest) < torch.tensor([states.shape[1] for states in turn])[:, None]
            slots = model.memory.write(slots, hidden, mask)
        return slots

    def score(self, items: Sequence[Item], control: str = "") -> Score:
        """The share of questions answered right."""
        right: list[bool] = []
        for start in range(0, len(items), self.reader.batch_size):
            some = items[start : start + self.reader.batch_size]
            prompts = [self._prompt(item, whole=control == "in_window") for item in some]
            shown = [self._pictures(item, whole=control == "in_window") for item in some]
            slots = None if control in ("truncated", "in_window") else self._memory(some, control)
            said = self.reader.answer(prompts, shown, tokens=ANSWER_TOKENS, slots=slots)
            right += [text.split("\n")[0].strip().rstrip(".") == i.answer for text, i in zip(said, some, strict=True)]
        return Score.of(right)

    def _memory(self, items: Sequence[Item], control: str) -> Slots:
        if control == "zeroed":
            return Slots.empty(self.reader.model.memory.config, batch=len(items))
        slots = self.written(items, blanked=control == "blank")
        if control == "swapped":
            return Slots(**{name: value.roll(1, dims=0) for name, value in vars(slots).items()})
        return slots

    def _turns(self, item: Item, *, whole: bool) -> Iterator[Spoken]:
        if whole:
            yield from (self.fillers[n] for n in item.lead)
            yield from item.facts
            yield from (self.fillers[n] for n in item.fillers)
        yield from item.window

    def _prompt(self, item: Item, *, whole: bool) -> Prompt:
        before: list[Piece] = [piece for turn in self._turns(item, whole=whole) for piece, _ in turn.episode.pieces]
        return (*before, *item.asked)

    def _pictures(self, item: Item, *, whole: bool) -> list[Any]:
        scenes = [scene for turn in self._turns(item, whole=whole) for scene in turn.episode.scenes]
        return drawn([*scenes, *item.question.scenes])

    def fit(self, items: Sequence[Item]) -> bool:
        """Whether each talk fits the language model's positions as a whole, with its answer."""
        most, encode = self.reader.model.config.max_positions, self.reader.processor.tokenizer.encode
        lengths = (
            sum(1 if isinstance(piece, Mark) else len(encode(piece)) for piece in self._prompt(item, whole=True))
            for item in items
        )
        return most is None or max(lengths) + ANSWER_TOKENS <= most

    def others(self, count: int, avoid: Sequence[Object], random: Random) -> tuple[int, ...]:
        """So many fillers, none of which shows what is asked for."""
        fitting = [n for n, turn in enumerate(self.fillers) if not set(avoid) & set(turn.things)]
        return tuple(random.sample(fitting, count))

    def window(self, avoid: Sequence[Object], random: Random, count: int = IN_WINDOW) -> tuple[Spoken, ...]:
        """The turns that are still there when the question comes."""
        return tuple(self.fillers[n] for n in self.others(count, avoid, random))

    def names(self, count: int, random: Random) -> list[str]:
        """Made-up names of few tokens."""
        encode = self.reader.processor.tokenizer.encode
        while True:
            names = made_up_names(count, random)
            if all(len(encode(f" {name}")) <= NAME_TOKENS for name in names):
                return names


def _named(exam: Exam, distance: int, random: Random, asked: int, told: int, in_window: int = IN_WINDOW) -> Item:
    things = random.sample(objects("heldout"), told)
    facts = [talks.named(t, name, random) for t, name in zip(things, exam.names(told, random), strict=True)]
    lead = exam.others(LEAD, things, random)
    question = talks.ask_name(random.sample(facts, asked), random)
    window = exam.window(things, random, in_window)
    return Item(tuple(facts), lead, exam.others(distance, things, random), window, question)


def _several(exam: Exam, distance: int, random: Random, count: int) -> Item:
    thing = random.choice(objects("heldout"))
    name, user = exam.names(2, random)
    first = [talks.shown(random.choice(objects("trained")), random) for _ in range(count - 2)]
    facts = [talks.named(thing, name, random), talks.told(user, random)]
    question = talks.ask_several([*facts, *first], random)
    things = [thing, *(thing for turn in first for thing in turn.things)]
    told = (*first, *random.sample(facts, 2))
    return Item(told, (), exam.others(distance, things, random), exam.window(things, random), question)


def _told(exam: Exam, distance: int, random: Random) -> Item:
    fact = talks.told(exam.names(1, random)[0], random)
    return Item((fact,), (), exam.others(distance, (), random), exam.window((), random), talks.ask_told(fact, random))


def _shown(exam: Exam, distance: int, random: Random) -> Item:
    first = talks.shown(random.choice(objects("trained")), random)
    window = exam.window(first.things, random)
    return Item((first,), (), exam.others(distance, first.things, random), window, talks.ask_first(first, random))


def _seen(exam: Exam, distance: int, random: Random) -> Item:
    shown, other = random.sample(objects("heldout"), 2)
    seen = random.random() < 0.5
    fact = talks.named(shown, exam.names(1, random)[0], random)
    question = talks.ask_seen(shown if seen else other, seen=seen, random=random)
    return Item((fact,), (), exam.others(distance, (), random), exam.window((), random), question)


def _plain(exam: Exam, distance: int, random: Random) -> Item:
    while not (asked := talks.filler(objects("trained"), random)).things:
        pass
    fillers, window = exam.others(distance, asked.things, random), exam.window(asked.things, random)
    return Item((), (), fillers, window, asked.episode)


TASKS: dict[str, Callable[[Exam, int, Random], Item]] = {
    "named": lambda exam, distance, random: _named(exam, distance, random, 1, 1),
    "among": lambda exam, distance, random: _named(exam, distance, random, 1, 3),
    "crowded": lambda exam, distance, random: _named(exam, distance, random, 1, 1, CROWDED),
    "two": lambda exam, distance, random: _several(exam, distance, random, 2),
    "three": lambda exam, distance, random: _several(exam, distance, random, 3),
    "both": lambda exam, distance, random: _named(exam, distance, random, 2, 2),
    "told": _told,
    "shown": _shown,
    "seen": _seen,
    "plain": _plain,
}
