"""Episodes: marks match pictures, and only what can be known is to be said."""

import re
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from data.collate import collate
from data.episodes import (
    FORMATS,
    binding,
    captioned,
    random_binding,
    random_captioned,
    random_dialogue,
    random_listed,
    random_located,
    random_naming_among,
)
from data.made_up_names import ALIKE, made_up_names
from data.picture_book import objects, random_scene
from flamingo_app.prompt import Mark, caption_prompt
from tests import tiny

THINGS = objects("trained")


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_mark_has_its_picture_and_every_episode_something_to_say(seed: int) -> None:
    random = Random(seed)
    for episode in (
        random_captioned(["one", "pair"], [1, 1], THINGS, random),
        random_dialogue(["one", "group"], [1, 1], THINGS, random),
        random_binding(THINGS, random),
        random_located(THINGS, random),
        random_naming_among(THINGS, THINGS, random),
        random_listed(THINGS, random),
    ):
        assert sum(piece is Mark.IMAGE for piece, _ in episode.pieces) == len(episode.scenes)
        assert any(weight > 0 for _, weight in episode.pieces)
        assert all(weight == 0 for piece, weight in episode.pieces if piece is Mark.IMAGE)


def test_a_name_is_to_be_said_only_once_it_is_known() -> None:
    scenes = [random_scene("one", THINGS[:1], Random(0))] * 4
    episode = binding([0, 1, 0, 1], ["dax", "wug"], scenes, form=FORMATS[3])
    spoken = [weight for piece, weight in episode.pieces if piece in (" dax", " wug")]
    assert spoken == [0, 0, 1, 1]


def test_training_and_use_spell_captions_alike() -> None:
    scenes = [random_scene("one", THINGS, Random(seed)) for seed in range(2)]
    pieces = [piece for piece, _ in captioned(scenes).pieces]
    first, second = (piece for piece in pieces if isinstance(piece, str))
    assert (*caption_prompt([first]), second, Mark.END_OF_CHUNK) == tuple(pieces)


@given(seed=st.integers(0, 2**32), count=st.integers(2, 12), alike=st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_made_up_name_begins_another_or_is_a_word_of_the_book(seed: int, count: int, alike: bool) -> None:
    names = made_up_names(count, Random(seed), alike=alike)
    assert len(set(names)) == count
    assert not any(a != b and a.startswith(b) for a in names for b in names)
    assert not {thing.name for thing in THINGS} & set(names)


def test_names_that_are_alike_begin_with_few_sounds() -> None:
    for seed in range(20):
        alike, others = (made_up_names(10, Random(seed), alike=alike) for alike in (True, False))
        assert len({name[0] for name in alike}) <= ALIKE[0] < len({name[0] for name in others})


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_among_names_a_chat_calls_other_things_what_the_book_calls_them(seed: int) -> None:
    episode = random_naming_among(THINGS[:10], THINGS, Random(seed))
    text = "".join(piece if isinstance(piece, str) else "|" for piece, _ in episode.pieces)
    shown = [turn for turn in text.split("user:") if turn]
    told: dict[str, str] = {}
    assert len(shown) == len(episode.scenes)
    for turn, scene in zip(shown, episode.scenes, strict=True):
        thing = scene.objects[0].thing.name
        name = re.search(r"(?:this is|this is called|look,)(?: a)? (\w+)\.\nassistant: i see", turn)
        if name:
            told[thing] = name[1]
        elif thing in told and len(scene.objects) == 1:
            assert f"assistant: a {told[thing]}." in turn
        assert name or thing in told or not set(told.values()) & set(re.findall(r"\w+", turn))


def test_collating_pads_on_the_right_and_counts_pictures() -> None:
    episodes = [captioned([random_scene("one", THINGS, Random(i)) for i in range(count)]) for count in (1, 3)]
    batch = collate(episodes, tiny.tokenizer())
    ids, mask, time = batch["input_ids"], batch["attention_mask"], batch["text_time"]
    assert (ids[mask == 0] == tiny.PAD_ID).all()
    assert (batch["weights"][mask == 0] == 0).all()
    assert ((ids == tiny.IMAGE_ID).cumsum(1) * mask == time).all()
