"""The laws of generation: a cache, a batch, a thread or a beam changes nothing that it should not."""

from __future__ import annotations

import copy
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from flamingo_app.errors import PromptError
from flamingo_app.model.streaming import stream
from tests import tiny

ENDLESS = {"do_sample": False, "eos_token_id": None}


def prompts() -> dict[str, Any]:
    """Rows of different lengths and numbers of pictures."""
    mask = torch.tensor([[True, True], [True, False]])
    return {**tiny.rows(["a*cat*", "*?"]), "pixel_values": tiny.pictures(2, 2), "image_mask": mask}


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("attend", ["latest", "all_previous"])
def test_cached_is_uncached(attend, num_beams):
    flamingo = tiny.model(attend=attend)
    cached, uncached = (
        flamingo.generate(**prompts(), **ENDLESS, max_new_tokens=256, num_beams=num_beams, use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert cached.shape[1] == 6 + 256
    assert torch.equal(cached, uncached)


def test_a_batch_gives_each_row_what_it_gets_alone():
    flamingo, inputs = tiny.model(), prompts()
    together = flamingo.generate(**inputs, **ENDLESS, max_new_tokens=30)[:, 6:]
    for row, text in enumerate(["a*cat*", "*?"]):
        pictures = inputs["pixel_values"][row, inputs["image_mask"][row]][None]
        ids = tiny.rows([text])
        alone = flamingo.generate(**ids, pixel_values=pictures, **ENDLESS, max_new_tokens=30)
        assert torch.equal(alone[0, ids["input_ids"].shape[1] :], together[row])


@pytest.mark.parametrize("made_with_config", [True, False])
def test_three_turns_from_one_cache_are_one_prefill(made_with_config):
    flamingo = tiny.model()
    turns, pictures = ["user*what?", "and*this or*that?", "no picture here"], tiny.pictures(1, 3)
    cache = DynamicCache(config=flamingo.config.text_config) if made_with_config else DynamicCache()
    parts, seen = [], 0
    for turn in turns:
        count = turn.count("*")
        new = pictures[:, seen : seen + count] if count else None
        ids = tiny.rows([turn])["input_ids"]
        parts.append(flamingo(ids, pixel_values=new, past_key_values=cache, use_cache=True).logits)
        seen += count
    whole = flamingo(tiny.rows(["".join(turns)])["input_ids"], pixel_values=pictures).logits
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("whole_text", [True, False], ids=["whole text", "new text"])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_generating_on_from_a_cache_is_generating_from_the_whole(whole_text, num_beams):
    flamingo, pictures = tiny.model(), tiny.pictures(2, 2)
    first, both = tiny.rows(["*abc", "*a"]), tiny.rows(["*abc*more", "*a*more"])
    cache = flamingo(**first, pixel_values=pictures[:, :1], use_cache=True).past_key_values
    ids = both["input_ids"] if whole_text else both["input_ids"][:, 4:]
    asked = {**ENDLESS, "max_new_tokens": 20, "num_beams": num_beams}
    onward = flamingo.generate(
        ids, attention_mask=both["attention_mask"], pixel_values=pictures[:, 1:], past_key_values=cache, **asked
    )
    afresh = flamingo.generate(**both, pixel_values=pictures, **asked)
    assert torch.equal(onward[:, ids.shape[1] :], afresh[:, 9:])
    if num_beams > 1:
        assert cache.get_seq_length() == 4, "the caller's cache was changed"


def test_a_cropped_cache_forgets_the_pictures_of_the_cropped_text():
    flamingo, pictures = tiny.model(), tiny.pictures(1, 2)
    cache = flamingo(**tiny.rows(["*ab*c"]), pixel_values=pictures, use_cache=True).past_key_values
    cache.crop(-2)
    other = tiny.pictures(seed=7)
    onward = flamingo(tiny.rows(["*d"])["input_ids"], pixel_values=other, past_key_values=cache).logits
    whole = flamingo(**tiny.rows(["*ab*d"]), pixel_values=torch.cat([pictures[:, :1], other], dim=1)).logits
    torch.testing.assert_close(onward, whole[:, -2:], rtol=1e-4, atol=1e-4)


def test_eight_threads_at_once_are_each_alone():
    flamingo = tiny.model()

    def answer(seed: int) -> Tensor:
        return flamingo.generate(
            **tiny.rows(["*what is this" + "?" * seed]),
            pixel_values=tiny.pictures(seed=seed),
            **ENDLESS,
            max_new_tokens=40,
        )

    alone = [answer(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(answer, range(8)))
    assert all(map(torch.equal, alone, together))
    assert len({tuple(row[0, -40:].tolist()) for row in alone}) > 1, "pictures made no difference"


def test_sampling_is_repeatable_and_never_says_a_picture():
    flamingo = tiny.model()
    with torch.no_grad():
        flamingo.language_model.transformer.ln_f.bias += 100 * flamingo.get_output_embeddings().weight[tiny.IMAGE_ID]
    said = []
    for _ in range(2):
        torch.manual_seed(0)
        said.append(flamingo.generate(**prompts(), do_sample=True, max_new_tokens=20))
    assert torch.equal(*said)
    assert not (said[0][:, 6:] == tiny.IMAGE_ID).any()


def test_an_answer_ends_where_the_positions_do():
    flamingo = tiny.model(positions=16)
    assert flamingo.generate(**tiny.rows(["x" * 10]), **ENDLESS, max_new_tokens=50).shape == (1, 16)
    assert flamingo.generate(**tiny.rows(["x" * 10]), **ENDLESS, max_length=50).shape == (1, 16)
    with pytest.raises(PromptError, match="at most 16 tokens; got 17"):
        flamingo.generate(**tiny.rows(["x" * 16]), max_new_tokens=1)


def test_a_cache_that_holds_the_whole_text_is_refused():
    flamingo, inputs = tiny.model(), tiny.rows(["abc"])
    cache = flamingo(**inputs, use_cache=True).past_key_values
    with pytest.raises(PromptError, match="more than the 3 tokens in the cache"):
        flamingo.generate(**inputs, past_key_values=cache, max_new_tokens=2)


def test_generation_ends_at_a_stop_string():
    flamingo, inputs = tiny.model(), prompts()
    inputs = {name: value[:1] for name, value in inputs.items()}
    said = flamingo.generate(**inputs, **ENDLESS, max_new_tokens=20)[0, 6:]
    place = next(place for place, token in enumerate(said) if token < 94)  # the letters of ASCII come first
    stop_strings = [tiny.tokenizer().decode(said[place])]
    stopped = flamingo.generate(
        **inputs, **ENDLESS, max_new_tokens=20, stop_strings=stop_strings, tokenizer=tiny.tokenizer()
    )
    assert torch.equal(stopped[0, 6:], said[: place + 1])


def one_row() -> dict[str, Tensor]:
    return {**tiny.rows(["*abc"]), "pixel_values": tiny.pictures()}


def test_a_stream_is_the_answer_in_pieces():
    flamingo, tokenizer = tiny.model(), tiny.tokenizer()
    whole = flamingo.generate(**one_row(), do_sample=False, max_new_tokens=30)[0, 4:]
    pieces = list(stream(flamingo, tokenizer, one_row(), do_sample=False, max_new_tokens=30))
    assert "".join(pieces) == tokenizer.decode(whole, skip_special_tokens=True)


def test_a_stream_stops_within_two_tokens():
    flamingo, stop, steps = tiny.model(), threading.Event(), []
    flamingo.register_forward_hook(lambda *_: (steps.append(1), stop.set() if len(steps) == 3 else None)[0])
    list(stream(flamingo, tiny.tokenizer(), one_row(), stop=stop, **ENDLESS, max_new_tokens=200))
    assert len(steps) <= 3 + 2


def test_leaving_a_stream_ends_its_work():
    flamingo, steps = tiny.model(), []
    flamingo.register_forward_hook(lambda *_: steps.append(1))
    pieces = stream(flamingo, tiny.tokenizer(), one_row(), **ENDLESS, max_new_tokens=250)
    next(pieces)
    pieces.close()
    done = len(steps)
    time.sleep(0.3)
    assert len(steps) == done < 250


def test_what_goes_wrong_in_a_stream_is_raised_to_its_reader():
    flamingo = tiny.model(positions=4)
    with pytest.raises(PromptError, match="at most 4 tokens"):
        list(stream(flamingo, tiny.tokenizer(), one_row(), max_new_tokens=5))
    with pytest.raises(ValueError, match="beam"):
        list(stream(tiny.model(), tiny.tokenizer(), one_row(), num_beams=2, max_new_tokens=5))


def test_a_mistyped_keyword_raises():
    with pytest.raises(ValueError, match="image_maks"):
        tiny.model().generate(**tiny.rows(["a"]), image_maks=torch.ones(1, 1), max_new_tokens=2)


def test_a_copied_model_is_a_model_of_its_own():
    flamingo = tiny.model()
    expected = flamingo(**one_row()).logits
    clone = copy.deepcopy(flamingo)
    tiny.set_gates(flamingo, 0.0)
    assert torch.equal(clone(**one_row()).logits, expected)


def test_pictures_keep_their_order_over_a_cache():
    flamingo = tiny.model(resampler=tiny.SMALL_PARTS["resampler"] | {"max_images": 2})
    text, pictures, cache = tiny.rows(["*a*b"]), tiny.pictures(1, 2), DynamicCache()
    whole = flamingo(**text, pixel_values=pictures).logits
    flamingo(text["input_ids"][:, :2], pixel_values=pictures[:, :1], past_key_values=cache)
    rest = flamingo(
        **text | {"input_ids": text["input_ids"][:, 2:]}, pixel_values=pictures[:, 1:], past_key_values=cache
    )
    torch.testing.assert_close(rest.logits, whole[:, 2:])
    cache.crop(-2)
    said = flamingo.generate(
        **text, pixel_values=pictures[:, 1:], past_key_values=cache, max_new_tokens=1, output_logits=True,
        return_dict_in_generate=True, do_sample=False,
    )  # fmt: skip
    torch.testing.assert_close(said.logits[0], whole[:, -1])
