"""Turns of long talks, and questions about turns that are long gone.

    named     user:<image> this is a dax.\\nassistant: i see.            ... <image> what is this called?   a dax.
    shown     user:<image> what is this?\\nassistant: a dog.             ... what was in the first picture? a dog.
    told      user: my name is wumo.\\nassistant: i see.                ... what is my name?                wumo.
    filler    a page and a question about it, which nobody comes back to

One question may be about several: "what is this called and what is my name?", "a dax and wumo."

Names are made up for each talk, so that weights cannot know them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from data import captions
from data.episodes import Episode, dialogue
from data.picture_book import Kind, Object, Scene, random_scene
from flamingo_app.prompt import Mark, Piece

Fact = Literal["named", "shown", "told", "filler"]
KINDS: tuple[Kind, ...] = ("one", "group", "pair", "mixed")
NAMING = ("this is a {}.", "look, a {}.", "this is called {}.", "it is called {}.", "this one is a {}.")
CALLED = ("what is this called?", "what was it called?", "do you remember the name?", "which one is this?")
FIRST = ("what was in the first picture?", "what did i show you first?", "what was the first picture?")
SEEN = ("did i show you this before?", "have you seen this before?")
TELLING = ("my name is {}.", "i am called {}.")
WHO = ("what is my name?", "do you remember my name?", "what am i called?")
NOTED = "i see."


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """One turn of a talk.

    Attributes:
        fact: what kind of turn it is.
        episode: the turn as the model reads it.
        things: what its page shows.
        name: the name that it tells; "" where it tells none.
    """

    fact: Fact
    episode: Episode
    things: tuple[Object, ...]
    name: str = ""


def named(thing: Object, name: str, random: Random) -> Spoken:
    """A picture, and what it is called in this talk."""
    scene = random_scene("one", [thing], random)
    words = captions.as_typed(random.choice(NAMING).format(name), random)
    return Spoken(fact="named", episode=_turn((Mark.IMAGE, words), NOTED, [scene]), things=(thing,), name=name)


def told(name: str, random: Random) -> Spoken:
    """What the user is called."""
    words = captions.as_typed(random.choice(TELLING).format(name), random)
    return Spoken(fact="told", episode=_turn((words,), NOTED, []), things=(), name=name)


def shown(thing: Object, random: Random) -> Spoken:
    """A picture of one thing, asked what it is."""
    scene = random_scene("one", [thing], random)
    asked = captions.as_typed(random.choice(captions.WHAT), random)
    answer = f"{captions.things(scene)}."
    return Spoken(fact="shown", episode=_turn((Mark.IMAGE, asked), answer, [scene]), things=(thing,))


def filler(things: Sequence[Object], random: Random) -> Spoken:
    """Any page with any question, or a word or two without a picture."""
    if random.random() < 0.1:
        asked, answer = captions.chitchat(random)
        return Spoken(fact="filler", episode=_turn((captions.as_typed(asked, random),), answer, []), things=())
    scene = random_scene(random.choice(KINDS), things, random)
    asked, answer = captions.question(scene, random, things)
    turn = _turn((Mark.IMAGE, captions.as_typed(asked, random)), answer, [scene])
    return Spoken(fact="filler", episode=turn, things=tuple(scene.counts))


def ask_name(facts: Sequence[Spoken], random: Random) -> Episode:
    """New pictures of things that were named: what are they called?"""
    scenes = [random_scene("one", fact.things, random) for fact in facts]
    words = random.choice(CALLED) if len(facts) == 1 else "what are these called?"
    answer = captions.listing([f"a {fact.name}" for fact in facts])
    return _turn((*[Mark.IMAGE] * len(facts), captions.as_typed(words, random)), f"{answer}.", scenes)


def ask_several(facts: Sequence[Spoken], random: Random) -> Episode:
    """Several facts in one question: a new picture of a thing that was named, and what words alone ask for.

    Args:
        facts: a "named" turn, then a "told" one, and perhaps the "shown" one of the first picture.
    """
    thing, user, *first = facts
    asked = ["what is this called", "what is my name", *("what was in the first picture" for _ in first)]
    answer = captions.listing([f"a {thing.name}", user.name, *(captions.noun(turn.things[0]) for turn in first)])
    words = captions.as_typed(f"{captions.listing(asked)}?", random)
    return _turn((Mark.IMAGE, words), f"{answer}.", [random_scene("one", thing.things, random)])


def ask_first(first: Spoken, random: Random) -> Episode:
    """What was in the picture of the very first turn?"""
    words = captions.as_typed(random.choice(FIRST), random)
    return _turn((words,), f"{captions.noun(first.things[0])}.", [])


def ask_seen(thing: Object, *, seen: bool, random: Random) -> Episode:
    """Was this thing in a picture before?"""
    words = captions.as_typed(random.choice(SEEN), random)
    return _turn((Mark.IMAGE, words), "yes." if seen else "no.", [random_scene("one", [thing], random)])


def ask_told(fact: Spoken, random: Random) -> Episode:
    """What is the user called?"""
    return _turn((captions.as_typed(random.choice(WHO), random),), f"{fact.name}.", [])


def _turn(user: tuple[Piece, ...], answer: str, scenes: Sequence[Scene]) -> Episode:
    return dialogue([(user, answer)], scenes)


def after(turns: Sequence[Episode], last: Episode) -> Episode:
    """Turns that are still in the window, then the one whose answer counts."""
    before = [(piece, 0.0) for turn in turns for piece, _ in turn.pieces]
    scenes = [scene for turn in turns for scene in turn.scenes]
    return Episode(pieces=(*before, *last.pieces), scenes=(*scenes, *last.scenes))
