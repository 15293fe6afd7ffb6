"""What is said of a page is true of it."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import captions
from data.picture_book import OBJECTS, Kind, objects, random_scene

THINGS = objects("trained")
BY_NAME = {thing.name: thing for thing in OBJECTS}


@given(seed=st.integers(0, 2**32), topic=st.sampled_from(sorted(captions.ASK)))
@settings(max_examples=200, deadline=None)
def test_answers_are_true(seed: int, topic: str) -> None:
    random = Random(seed)
    scene = random_scene(random.choice(["one", "group", "pair", "mixed"]), THINGS, random)
    asked = captions.ASK[topic](scene, random, THINGS)
    if asked is None:
        return
    words, answer = asked
    if topic == "count":
        total = [count for thing, count in scene.counts.items() if thing.plural in words] or [0]
        expected = len(scene.objects) if "things" in words or "objects" in words else max(total)
        assert answer == ("none." if expected == 0 else f"{captions.NUMBERS[expected]}.")
    if topic == "colour":
        assert answer == f"{scene.colour}."
    if topic == "exists":
        named = [thing for thing in scene.counts if f"{captions.noun(thing)} " in f"{words.rstrip('?')} "]
        assert answer == ("yes." if named else "no.")
    if topic == "what":
        assert all(captions.noun(thing, count) in answer for thing, count in scene.counts.items())


@given(seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_positions_are_true(seed: int) -> None:
    random = Random(seed)
    scene = random_scene("pair", THINGS, random)
    asked = captions.ask_position(scene, random, THINGS)
    assert asked is not None  # a pair stands clearly side by side, or one above the other
    first, second = scene.objects
    for words, answer in [asked]:
        if words.startswith(("where", "on which")):
            wanted = first if first.thing.name in words else second
            other = second if wanted is first else first
            place = answer.rstrip(".")
            assert {
                "on the left": wanted.x < other.x,
                "on the right": wanted.x > other.x,
                "at the top": wanted.y < other.y,
                "at the bottom": wanted.y > other.y,
            }[place]
        else:
            assert answer in {f"{captions.noun(placed.thing)}." for placed in scene.objects}


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["pair", "mixed"]))
@settings(max_examples=200, deadline=None)
def test_lists_are_true(seed: int, kind: Kind) -> None:
    scene = random_scene(kind, THINGS, Random(seed))
    names = {thing.name for thing in scene.counts}
    for name, there in captions.list_presence(scene, Random(seed), THINGS):
        assert (there == "yes") == (name in names)
    for plural, count in captions.list_counts(scene, Random(seed), THINGS):
        number = sum(placed.thing.plural == plural for placed in scene.objects)
        assert count == (captions.NUMBERS[number] if number else "none")
    for pair in captions.list_places(scene, Random(seed), THINGS):
        name, place = pair if pair[0] in names else reversed(pair)
        (placed,) = (placed for placed in scene.objects if placed.thing.name == name)
        (other,) = (placed for placed in scene.objects if placed.thing.name != name)
        first, second = (placed.x, other.x) if place in ("left", "right") else (placed.y, other.y)
        assert (first < second) == (place in ("left", "top"))


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [("owl", 1, "an owl"), ("umbrella", 1, "an umbrella"), ("unicorn", 1, "a unicorn"), ("mouse", 3, "three mice")],
)
def test_nouns(name: str, count: int, words: str) -> None:
    assert captions.noun(BY_NAME[name], count) == words


def test_listing() -> None:
    assert captions.listing(["a"]) == "a"
    assert captions.listing(["a", "b", "c"]) == "a, b and c"


def test_a_photograph_is_called_one() -> None:
    scene = random_scene("photo", THINGS, Random(0))
    assert captions.caption(scene) == captions.UNKNOWN
    assert captions.ask_what(scene, Random(0), THINGS)[1] == captions.UNKNOWN
    assert captions.ask_colour(scene, Random(0), THINGS) is None
