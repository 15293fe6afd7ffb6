from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from flamingo_app.model.cache import MediaCache, media_ordinals, text_time, visible_media
from tests import tiny

texts = st.lists(st.booleans(), min_size=1, max_size=12)


@given(is_image=texts, attend=st.sampled_from(["latest", "all_previous", "next"]), latents=st.integers(1, 3))
def test_a_token_sees_the_pictures_it_came_after_or_the_next_one(is_image, attend, latents):
    count = sum(is_image) + 1  # one more, that pads the row
    mask = torch.arange(count)[None] < count - 1
    time = text_time(torch.tensor([is_image]), None)
    visible = visible_media(time, media_ordinals(mask, None, latents), attend, torch.tensor([is_image]))[0]
    places = [place for place, here in enumerate(is_image) if here]
    for token, row in enumerate(visible.unflatten(1, (count, latents))):
        before = [picture for picture, place in enumerate(places) if place <= token]
        after = [picture for picture, place in enumerate(places) if place >= token]
        expected = {"latest": before[-1:], "all_previous": before, "next": after[:1]}[attend]
        assert row.all(1).nonzero().flatten().tolist() == expected
        assert row.any(1).nonzero().flatten().tolist() == expected


@given(is_image=texts, cut=st.integers(1, 11))
def test_time_goes_on_where_the_last_call_ended(is_image, cut):
    whole = text_time(torch.tensor([is_image]), None)
    first, second = torch.tensor([is_image])[:, :cut], torch.tensor([is_image])[:, cut:]
    assert torch.equal(text_time(second, whole[:, min(cut, len(is_image)) - 1]), whole[:, cut:])
    assert torch.equal(text_time(first, None), whole[:, :cut])


@pytest.fixture
def filled() -> tuple[DynamicCache, MediaCache]:
    """The cache after `*ab*c`, in a batch of one."""
    flamingo, cache = tiny.model(), DynamicCache()
    flamingo(**tiny.rows(["*ab*c"]), pixel_values=tiny.pictures(1, 2), past_key_values=cache)
    return cache, MediaCache.within(cache, 2, 2)


def test_our_layers_stand_behind_the_language_models(filled):
    cache, media = filled
    assert len(cache.layers) == 2 + 1 + 1 + 2
    assert media.timeline.keys.flatten().tolist() == [1, 1, 1, 2, 2]
    assert media.all_ordinals().tolist() == [[1, 1, 1, 2, 2, 2]]
    assert media.blocks[0].keys.shape == (1, 2, 6, 8)
    assert cache.get_seq_length() == 5


def test_they_are_repeated_and_reordered_with_it(filled):
    cache, media = filled
    cache.batch_repeat_interleave(3)
    cache.reorder_cache(torch.tensor([2, 0, 1]))
    assert {len(layer.keys) for layer in cache.layers} == {3}
    assert media.images_seen().tolist() == [2, 2, 2]


def test_cropping_text_keeps_media_until_their_ordinals_are_needed(filled):
    cache, media = filled
    cache.crop(-2)
    assert media.images_seen().tolist() == [1]
    assert media.blocks[0].keys.shape[2] == 6
    media.extend(torch.tensor([[2]]), torch.tensor([[2, 2, 2]]))
    assert media.all_ordinals().tolist() == [[1, 1, 1, 0, 0, 0, 2, 2, 2]]


def test_a_reset_cache_begins_again(filled):
    cache, media = filled
    cache.reset()
    assert media.images_seen() is None
    assert media.all_ordinals() is None
