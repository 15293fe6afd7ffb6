"""Does it learn from shots? Tasks that only the shots explain, with controls that take away what could explain them.

    binding     things that no training stage saw get made-up names; then one of them is asked for
    matching    two pictures: alike or not, said in words made up for the item
    counting    how many there are, asked by the shots alone
    operator    the numbers of two kinds on a page become one: their sum, difference, or the larger
    attribute   the background's colour, or what stands leftmost, asked by the shots alone
    style       captions in one of several forms

Things of the first four are such as no training stage saw; the last two must name things, so theirs are known ones.

Open-ended and greedy, at most 15 new tokens, cut at the first line or end of chunk, lower case, exact match, as VL-ICL
Bench does (Zong et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from PIL import Image

from data import captions
from data.episodes import two_kinds
from data.made_up_names import made_up_names
from data.picture_book import Kind, Object, Scene, Stage, objects, random_scene
from flamingo_app.prompt import Mark, Piece, Prompt, said
from training.suites.reader import Reader, blank, drawn
from training.suites.score import CONTROL_ITEMS, Score

SHOTS = (0, 1, 2, 4, 8)  # where there are classes, of each
WAYS = (*((ways, shots) for ways in (2, 5) for shots in SHOTS), (10, 4))  # binding: ways, shots
NAME_TOKENS = 3  # names are of one to so many tokens


@dataclass(frozen=True)
class Shot:
    """Pictures with what is said of them: `between` words stand after each picture but the last."""

    scenes: tuple[Scene, ...]
    label: str
    between: str = ""


@dataclass(frozen=True)
class Item:
    """Shots, and a query whose label is asked for; the controls are items too."""

    shots: tuple[Shot, ...]
    query: Shot
    blank_shots: bool = False
    blank_query: bool = False
    described: bool = False  # words in place of the pictures

    def prompt(self) -> Prompt:
        pieces: list[Piece] = []
        for shot in self.shots:
            pieces += [*self._shown(shot), *said(shot.label), Mark.END_OF_CHUNK]
        return (*pieces, *self._shown(self.query))

    def _shown(self, shot: Shot) -> list[Piece]:
        pieces: list[Piece] = []
        for number, scene in enumerate(shot.scenes):
            pieces += [*said(shot.between if number else "")]
            pieces += [*said(f"{captions.things(scene)}.")] if self.described else [Mark.IMAGE]
        return pieces

    def pictures(self) -> list[Image.Image]:
        if self.described:
            return []
        shots = drawn([scene for shot in self.shots for scene in shot.scenes])
        query = drawn(self.query.scenes)
        return (blank(shots) if self.blank_shots else shots) + (blank(query) if self.blank_query else query)


Control = Callable[[Item, Random], Item]


def _shuffled(item: Item, random: Random) -> Item:
    labels = random.sample([shot.label for shot in item.shots], len(item.shots))
    return replace(
        item, shots=tuple(replace(shot, label=label) for shot, label in zip(item.shots, labels, strict=True))
    )


CONTROLS: dict[str, Control] = {
    "": lambda item, random: item,
    "_blank_supports": lambda item, random: replace(item, blank_shots=True),
    "_blank_query": lambda item, random: replace(item, blank_query=True),
    "_shuffled_names": _shuffled,
    "_described_in_words": lambda item, random: replace(item, described=True),
}

FEWEST = {"_shuffled_names": 2}  # shots without which a control would change nothing, if more than one


def run(
    reader: Reader, *, seed: int, items: int, only: Sequence[str] = (), controls: Sequence[str] = tuple(CONTROLS)
) -> dict[str, Any]:
    """Accuracy at every point of every task, or of those named, each with its controls; "" is none."""
    points: dict[str, Callable[[Random], Item]] = {
        f"{ways}_way_{shots}_shot": binding_item(reader, ways, shots, objects("heldout")) for ways, shots in WAYS
    }
    tasks: dict[str, Callable[[int], Callable[[Random], Item]]] = {
        "matching": lambda shots: _matching(reader, shots),
        "counting": lambda shots: _spoken(shots, (captions.RULES["count"],), _page("heldout", "group", "mixed")),
        "operator": lambda shots: _spoken(shots, tuple(captions.OPERATORS.values()), _two_kinds),
        "attribute": lambda shots: _spoken(
            shots, (captions.RULES["colour"], captions.RULES["leftmost"]), _page("trained", "group", "pair")
        ),
        "style": lambda shots: _spoken(shots, tuple(captions.STYLES.values()), _page("trained", "one")),
    }
    for name, task in tasks.items():
        points |= {f"{name}_{shots}_shot": task(shots) for shots in SHOTS}
    results: dict[str, Any] = {}
    for point in only or points:
        draw = points[point]
        drawn_items = [draw(Random(f"fewshot {point} {seed} {number}")) for number in range(items)]
        for control in controls:
            if control and len(drawn_items[0].shots) < FEWEST.get(control, 1):
                continue
            random = Random(f"control {point} {control} {seed}")
            asked = drawn_items[:CONTROL_ITEMS] if control else drawn_items
            results[point + control] = exact(reader, [CONTROLS[control](item, random) for item in asked]).as_json()
    return results


def binding_item(reader: Reader, ways: int, shots: int, of_things: Sequence[Object]) -> Callable[[Random], Item]:
    """Every class is shown `shots` times, in any order and in new renderings; the query's class is drawn by itself."""

    def draw(random: Random) -> Item:
        things = random.sample(of_things, ways)
        names = _names(reader, ways, random)
        order = random.sample([of for of in range(ways) for _ in range(shots)], ways * shots)
        supports = tuple(Shot((random_scene("one", [things[of]], random),), names[of]) for of in order)
        of = random.randrange(ways)
        return Item(supports, Shot((random_scene("one", [things[of]], random),), names[of]))

    return draw


def _names(reader: Reader, count: int, random: Random) -> list[str]:
    while True:
        names = made_up_names(count, random)
        if all(len(reader.processor.tokenizer.encode(f" {name}")) <= NAME_TOKENS for name in names):
            return names


def _matching(reader: Reader, shots: int) -> Callable[[Random], Item]:
    def shot(same: bool, names: Sequence[str], random: Random) -> Shot:
        first, other = random.sample(objects("heldout"), 2)
        pair = tuple(random_scene("one", [thing], random) for thing in (first, first if same else other))
        return Shot(pair, f"{names[same]}.", between="and")

    def draw(random: Random) -> Item:
        names = _names(reader, 2, random)
        order = random.sample([False, True] * shots, 2 * shots)
        return Item(tuple(shot(same, names, random) for same in order), shot(random.random() < 0.5, names, random))

    return draw


def _spoken(
    shots: int, ways: Sequence[Callable[[Scene], str]], page: Callable[[Random], Scene]
) -> Callable[[Random], Item]:
    """Pages that are all spoken of in one of some ways."""

    def draw(random: Random) -> Item:
        say = random.choice(ways)
        *supports, query = [Shot((scene,), say(scene)) for scene in (page(random) for _ in range(shots + 1))]
        return Item(tuple(supports), query)

    return draw


def _page(stage: Stage, *kinds: Kind) -> Callable[[Random], Scene]:
    return lambda random: random_scene(random.choice(kinds), objects(stage), random)


def _two_kinds(random: Random) -> Scene:
    return two_kinds(objects("heldout"), random)


def exact(reader: Reader, items: Sequence[Item]) -> Score:
    """How many queries are answered with their label, as VL-ICL Bench counts."""
    said = reader.answer([item.prompt() for item in items], [item.pictures() for item in items], tokens=15)
    return Score.of(_first_line(text) == _first_line(item.query.label) for text, item in zip(said, items, strict=True))


def _first_line(text: str) -> str:
    return text.strip().split("\n")[0].strip().rstrip(".").lower()
