"""The world: every page can be drawn again, and nothing on it hides."""

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.picture_book import COLOURS, OBJECTS, Placed, Renderer, Scene, objects, random_scene
from data.picture_book.invented import Invented, invented
from data.picture_book.scene import GAP, side
from data.picture_book.world import hides

KINDS = ["one", "group", "pair", "mixed", "empty", "photo"]


def page(*placed: Placed, colour: str = "white") -> Scene:
    shade = COLOURS[colour][0]
    return Scene(objects=placed, colour=colour, shades=(shade, shade), style="plain", shape=(1.0, 1.0), seed=0)


def test_every_object_has_its_own_names_and_a_glyph() -> None:
    assert len({thing.name for thing in OBJECTS}) == len({thing.emoji for thing in OBJECTS}) == len(OBJECTS) > 200
    glyphs = Renderer(96).mipmaps[0]
    assert len(glyphs) == len(OBJECTS)
    assert (glyphs[:, 3].mean((1, 2)) > 0.1).all()
    assert torch.pdist(glyphs.flatten(1)).min() > 1  # no two look the same


def test_training_never_sees_what_is_held_out() -> None:
    trained, heldout = objects("trained"), objects("heldout")
    assert len(heldout) >= 20
    assert not set(trained) & set(heldout)
    assert set(trained) | set(heldout) == set(OBJECTS)


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_a_page_is_drawn_again_from_its_seed_and_its_objects_never_touch(kind: str, seed: int) -> None:
    scene = random_scene(kind, objects("trained"), Random(seed))
    assert scene == random_scene(kind, objects("trained"), Random(seed))
    for i, one in enumerate(scene.objects):
        assert one.size / 2 <= one.x <= 1 - one.size / 2
        for other in scene.objects[:i]:
            apart = max(abs(one.x - other.x), abs(one.y - other.y))
            assert apart >= GAP * (one.size + other.size) / 2 - 1e-9


@given(seed=st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch(seed: int) -> None:
    random, renderer = Random(seed), Renderer(48)
    scenes = [random_scene(kind, objects("trained"), random) for kind in KINDS]
    together = renderer(scenes)
    assert together.min() >= 0
    assert together.max() <= 1
    for scene, picture in zip(scenes, together, strict=True):
        torch.testing.assert_close(renderer([scene])[0], picture, atol=2e-3, rtol=0)


def test_no_page_swallows_what_stands_on_it() -> None:
    star = next(thing for thing in OBJECTS if thing.name == "star")
    assert hides("yellow", star)
    assert not hides("blue", star)
    random = Random(0)
    for _ in range(300):
        things = [star, *objects("heldout"), *invented(5, objects("trained"), random)]
        scene = random_scene(random.choice(["one", "pair", "mixed"]), things, random)
        assert not any(hides(scene.colour, placed.thing) for placed in scene.objects)


def test_sizes_do_not_give_counts_away() -> None:
    random = Random(0)
    sizes: dict[int, list[float]] = {n: [] for n in range(1, 5)}
    for _ in range(2000):
        scene = random_scene("group", objects("trained"), random)
        sizes[len(scene.objects)] += [placed.size for placed in scene.objects]
    means = [sum(values) / len(values) for values in sizes.values()]
    assert max(means) - min(means) < 0.03


def test_an_object_is_drawn_where_it_stands() -> None:
    placed = Placed(thing=OBJECTS[0], x=0.25, y=0.75, size=0.3, angle=0)
    picture = Renderer(96)([page(placed, colour="black")])[0]
    ys, xs = (picture.amax(0) > 0.3).nonzero(as_tuple=True)
    assert xs.float().mean().item() / 96 == pytest.approx(0.25, abs=0.03)
    assert ys.float().mean().item() / 96 == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("x", "y", "where"),
    [(0.2, 0.5, "left"), (0.8, 0.5, "right"), (0.5, 0.2, "above"), (0.5, 0.8, "below"), (0.2, 0.2, None)],
)
def test_sides_are_as_a_person_sees_them(x: float, y: float, where: str | None) -> None:
    centre = Placed(thing=OBJECTS[0], x=0.5, y=0.5, size=0.2, angle=0)
    assert side(Placed(thing=OBJECTS[1], x=x, y=y, size=0.2, angle=0), centre) == where


@given(count=st.integers(2, 12), related=st.floats(0, 1), seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_invented_things_are_new_and_made_of_what_training_may_see(count: int, related: float, seed: int) -> None:
    things = objects("trained")
    made = invented(count, things, Random(seed), related=related)
    assert made == invented(count, things, Random(seed), related=related)
    assert len(set(made)) == count
    assert not set(made) & set(OBJECTS)
    for thing in made:
        assert {OBJECTS[thing.index], OBJECTS[thing.below]} <= set(things)
    pages = [page(Placed(thing=thing, x=0.5, y=0.5, size=0.9, angle=0)) for thing in made]
    assert torch.pdist(Renderer(96)(pages).flatten(1)).min() > 0.5  # as related as they may be, each looks different


def test_an_invented_thing_has_the_halves_of_two_others() -> None:
    upper, lower = objects("trained")[:2]
    thing = Invented(
        emoji="", name="", plural="", stage="trained", index=upper.index, below=lower.index, order=(2, 0, 1)
    )
    drawn = Renderer(96)([page(Placed(thing=one, x=0.5, y=0.5, size=0.9, angle=0)) for one in (thing, upper, lower)])
    for band, half in ((slice(10, 44), drawn[1]), (slice(52, 86), drawn[2])):
        torch.testing.assert_close(drawn[0][:, band], half[[2, 0, 1], band], atol=0.02, rtol=0)
