"""Kept caches: the longest shared beginning is found, and their number and bytes are bounded."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_app.conversation.prefixes import Prefixes, num_common
from flamingo_app.model.cache import num_bytes
from tests import tiny

LAYERS = 2


def read(text: str, seed: int = 0):
    """A filled cache of a text, `*` standing for a picture, and its script."""
    model, rows = tiny.model(), tiny.rows([text])
    pictures = {"pixel_values": tiny.pictures(images=text.count("*"), seed=seed)} if "*" in text else {}
    with torch.no_grad():
        cache = model(**rows, **pictures, use_cache=True).past_key_values
    return tuple(text), cache


def test_the_longest_beginning_is_found_and_the_kept_cache_stays_as_it_is():
    prefixes = Prefixes()
    for text in ("a*bc", "a*bd*e", "x"):
        prefixes.keep(*read(text))
    known, cache = prefixes.longest(tuple("a*bd*f"), LAYERS)
    assert known == 5
    assert cache is not None
    with torch.no_grad():
        again = tiny.model()(
            **(tiny.rows(["a*bd*f"]) | {"input_ids": tiny.rows(["f"])["input_ids"]}), past_key_values=cache
        ).logits
        whole = tiny.model()(**tiny.rows(["a*bd*f"]), pixel_values=tiny.pictures(images=2)).logits[:, -1:]
    torch.testing.assert_close(again, whole)
    assert prefixes.longest(tuple("a*bd*e"), LAYERS)[0] == 5  # one token is left to read
    assert prefixes.longest(tuple("a*bd*eff"), LAYERS)[0] == 6  # what went on did so elsewhere
    assert prefixes.longest(tuple("zz"), LAYERS) == (0, None)


def test_what_is_cut_takes_its_pictures_with_it():
    prefixes = Prefixes()
    prefixes.keep(*read("a*b*c"))
    known, cache = prefixes.longest(tuple("a*bd"), LAYERS)
    assert cache is not None
    assert (known, num_bytes(cache)) == (3, num_bytes(read("a*b")[1]))


def test_the_least_recently_used_go_first():
    prefixes = Prefixes(max_number=2)
    for text in ("aa", "bb"):
        prefixes.keep(*read(text))
    prefixes.longest(tuple("aab"), LAYERS)
    prefixes.keep(*read("cc"))
    assert [prefixes.longest(tuple(text), LAYERS)[0] for text in ("aaz", "bbz", "ccz")] == [2, 0, 2]


def test_bytes_are_bounded():
    script, cache = read("abc")
    prefixes = Prefixes(max_bytes=2 * num_bytes(cache))
    for letter in "abc":
        prefixes.keep((letter, *script), cache)
        assert prefixes.num_bytes <= prefixes.max_bytes
    assert len(prefixes) == 2
    prefixes = Prefixes(max_bytes=1)
    prefixes.keep(script, cache)
    assert len(prefixes) == 0


def test_a_longer_cache_takes_the_place_of_its_beginning():
    prefixes = Prefixes()
    for text in ("ab", "abc"):
        prefixes.keep(*read(text))
    assert len(prefixes) == 1


@given(st.text("ab"), st.text("ab"))
def test_num_common(one: str, other: str):
    common = num_common(one, other)
    assert one[:common] == other[:common]
    assert one[common : common + 1] != other[common : common + 1] or one == other


def test_what_is_gone_on_from_holds_no_more_than_it_says():
    """The keys of pictures that come later are not held on to by a view of the first."""
    prefixes = Prefixes()
    prefixes.keep(*read("a" + "*" * 9))
    _, cache = prefixes.longest(tuple("a*b"), LAYERS)
    assert cache is not None
    media = [half for layer in cache.layers[LAYERS + 1 :] for half in (layer.keys, layer.values)]
    assert media
    assert all(half.untyped_storage().nbytes() == half.nbytes for half in media)
