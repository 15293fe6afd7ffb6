"""Laws of a reply, on a tiny random model whose tokens are bytes."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flamingo_app.conversation import Message, reply
from flamingo_app.errors import PromptError
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoImageProcessor, FlamingoProcessor
from flamingo_app.prompt import chat_prompt, encode
from tests import tiny

POSITIONS = 320
NEW = 24


@pytest.fixture(scope="module")
def model() -> FlamingoForConditionalGeneration:
    """Its random parts between pictures and words are so loud that each picture changes what is said."""
    made = tiny.model(positions=POSITIONS, gates=2.0)
    for parameter in (*made.resampler.parameters(), *made.gated_blocks.parameters()):
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return made


@pytest.fixture(scope="module")
def processor() -> FlamingoProcessor:
    return FlamingoProcessor(FlamingoImageProcessor(**tiny.PREPROCESS), tiny.tokenizer())


def user(*parts: Any) -> Message:
    return Message(role="user", parts=parts)


def assistant(words: str) -> Message:
    return Message(role="assistant", parts=(words,))


def picture(seed: int) -> Image.Image:
    """Noise: to a random tower, pages of one colour look alike."""
    return Image.frombytes("RGB", (8, 8), Random(seed).randbytes(8 * 8 * 3))


def num_tokens(messages: Sequence[Message]) -> int:
    return len(encode(chat_prompt([message.turn for message in messages]), tiny.tokenizer()))


CHAT = (user("what is", picture(1), "?"), assistant("a dot"), user("and", picture(2), "or", picture(3)))


def test_a_reply_is_what_the_model_generates_after_the_chat(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    prompt = chat_prompt([message.turn for message in CHAT])
    inputs = processor.prompts([prompt], [[picture(seed) for seed in (1, 2, 3)]])
    ids = model.generate(**inputs, max_new_tokens=NEW, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    said = "".join(reply(model, processor, CHAT, max_new_tokens=NEW))
    assert said == processor.tokenizer.decode(ids, skip_special_tokens=True)
    assert said


def test_the_order_of_words_and_pictures_matters(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor):
    answers = {
        "".join(reply(model, processor, [user(*parts)], max_new_tokens=NEW))
        for parts in [(picture(1), "a", picture(2)), (picture(2), "a", picture(1)), ("a",)]
    }
    assert len(answers) == 3


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 120), min_size=1, max_size=9))
def test_whole_oldest_turns_are_left_out_and_no_more_than_needed(lengths: list[int]):
    model, processor = tiny.model(positions=POSITIONS), FlamingoProcessor(FlamingoImageProcessor(), tiny.tokenizer())
    chat = [user("?" * lengths[0])]
    for length in lengths[1:]:
        chat += [assistant("."), user("?" * length)]
    out = reply(model, processor, chat, max_new_tokens=NEW).num_left_out
    assert out % 2 == 0  # the window begins with a user's message
    assert num_tokens(chat[out:]) + NEW <= POSITIONS
    assert out == 0 or num_tokens(chat[out - 2 :]) + NEW > POSITIONS


def test_the_pictures_of_turns_that_are_left_out_go_with_them(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    chat = [user(picture(1), "x" * 250), assistant("."), *CHAT]
    answer = reply(model, processor, chat, max_new_tokens=NEW)
    assert answer.num_left_out == 2
    assert "".join(answer) == "".join(reply(model, processor, CHAT, max_new_tokens=NEW))


@pytest.mark.parametrize("words", ["", "an <image> typed", "x" * POSITIONS])
def test_what_cannot_be_a_prompt_is_refused_before_anything_is_said(
    words: str, model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    with pytest.raises(PromptError):
        reply(model, processor, [user(words)], max_new_tokens=NEW)


def test_a_special_token_that_the_model_once_spelled_stays_words(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    chat = [user("hm"), assistant("<image>"), user("what?")]
    assert isinstance("".join(reply(model, processor, chat, max_new_tokens=NEW)), str)


def test_a_set_stop_ends_the_reply_within_two_tokens(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    stop = threading.Event()
    stop.set()
    assert len("".join(reply(model, processor, CHAT, stop=stop))) <= 2


def test_a_temperature_draws_other_words(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor):
    torch.manual_seed(0)
    drawn = {"".join(reply(model, processor, CHAT, temperature=2.0, max_new_tokens=NEW)) for _ in range(4)}
    assert len(drawn) > 1


def test_chats_in_many_threads_answer_as_each_does_alone(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    def answer(seed: int) -> str:
        return "".join(reply(model, processor, [user("a", picture(seed))], max_new_tokens=NEW))

    alone = [answer(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(answer, range(8))) == alone
    assert len(set(alone)) > 1
