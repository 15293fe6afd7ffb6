"""Laws of a reply, on a tiny random model whose tokens are bytes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image

from flamingo_app.conversation import Conversation, Example, Message, Picture, Prefixes, Settings, reply
from flamingo_app.errors import BusyError, ConfigError, PromptError
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import caption_prompt, chat_prompt
from tests import tiny

POSITIONS = 320
SHORT = Settings(max_new_tokens=24)


@pytest.fixture(scope="module")
def model() -> FlamingoForConditionalGeneration:
    """Its random parts between pictures and words are so loud that each picture changes what is said."""
    made = tiny.model(positions=POSITIONS, gates=2.0)
    for parameter in (*made.resampler.parameters(), *made.gated_blocks.parameters()):
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return made


def user(*parts: Any) -> Message:
    return Message(role="user", parts=parts)


def assistant(words: str) -> Message:
    return Message(role="assistant", parts=(words,))


def picture(seed: int) -> Image.Image:
    """Noise: to a random tower, pages of one colour look alike."""
    return Image.frombytes("RGB", (8, 8), Random(seed).randbytes(8 * 8 * 3))


CHAT = (user("what is", picture(1), "?"), assistant("a dot"), user("and", picture(2), "or", picture(3)))


def test_a_reply_is_what_the_model_generates_after_the_chat(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    prompt = chat_prompt([message.turn for message in CHAT])
    inputs = processor.prompts([prompt], [[picture(seed) for seed in (1, 2, 3)]])
    ids = model.generate(**inputs, max_new_tokens=24, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    said = "".join(reply(model, processor, CHAT, settings=SHORT))
    assert said == processor.tokenizer.decode(ids, skip_special_tokens=True)
    assert said


def test_the_order_of_words_and_pictures_matters(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor):
    answers = {
        "".join(reply(model, processor, [user(*parts)], settings=SHORT))
        for parts in [(picture(1), "a", picture(2)), (picture(2), "a", picture(1)), ("a",)]
    }
    assert len(answers) == 3


def test_the_pictures_of_turns_that_are_left_out_go_with_them(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    chat = [user(picture(1), "x" * 200), assistant("."), *CHAT]
    answer = reply(model, processor, chat, settings=SHORT)
    assert answer.num_left_out == 2
    assert "".join(answer) == "".join(reply(model, processor, CHAT, settings=SHORT))


def test_a_model_may_read_less_of_a_chat_than_it_has_positions_for(processor: FlamingoProcessor):
    model = tiny.model(positions=POSITIONS, window=80)
    chat = [user("x" * 60), assistant("."), user("y" * 60)]
    assert reply(model, processor, chat[:1], settings=SHORT).num_left_out == 0
    assert reply(model, processor, chat, settings=SHORT).num_left_out == 2
    assert "".join(reply(model, processor, [user("z" * 150)], settings=SHORT)), "a long message is read alone"
    asked = Conversation(model, processor, [user("x" * 30), assistant("."), user("y" * 150), assistant(".")])
    assert asked.budget.room == 80
    assert asked.budget.used > 150
    assert list(asked.window) == asked.messages[2:]
    with pytest.raises(ConfigError, match="a window of 1 token or more; got window=0"):
        tiny.config(window=0)


@pytest.mark.parametrize("words", ["", "an <image> typed", "x" * POSITIONS])
def test_what_cannot_be_a_prompt_is_refused_before_anything_is_said(
    words: str, model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    with pytest.raises(PromptError):
        reply(model, processor, [user(words)], settings=SHORT)


def test_a_special_token_that_the_model_once_spelled_stays_words(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    chat = [user("hm"), assistant("<image>"), user("what?")]
    assert isinstance("".join(reply(model, processor, chat, settings=SHORT)), str)


def test_a_set_stop_ends_the_reply_within_two_tokens(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    stop = threading.Event()
    stop.set()
    assert len("".join(reply(model, processor, CHAT, stop=stop))) <= 2


def test_a_temperature_draws_words_and_a_seed_draws_them_again(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    def draw(seed: int | None) -> str:
        settings = Settings(temperature=2.0, top_p=0.9, seed=seed, max_new_tokens=24)
        return "".join(reply(model, processor, CHAT, settings=settings))

    drawn = [draw(seed) for seed in (1, 2, 3)]
    assert len(set(drawn)) > 1
    with ThreadPoolExecutor(3) as threads:  # whoever else draws meanwhile
        assert list(threads.map(draw, (1, 2, 3))) == drawn


@pytest.mark.parametrize("temperature", [5e-324, 1e-9])
def test_next_to_no_temperature_says_the_likeliest_words(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, temperature: float
):
    cold = Settings(temperature=temperature, seed=1, max_new_tokens=24)
    likeliest = Settings(max_new_tokens=24)
    said = ["".join(reply(model, processor, CHAT, settings=settings)) for settings in (cold, likeliest)]
    assert said[0] == said[1]


def test_closed_gates_are_the_language_model_alone(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    blind = Settings(gate_scale=0.0, max_new_tokens=24)
    answers = {"".join(reply(model, processor, [user(picture(seed), "?")], settings=blind)) for seed in range(3)}
    closed = tiny.model(positions=POSITIONS, gates=0.0)
    closed.language_model.load_state_dict(model.language_model.state_dict())
    assert answers == {"".join(reply(closed, processor, [user(picture(0), "?")], settings=SHORT))}


def test_chats_in_many_threads_answer_as_each_does_alone(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    def answer(seed: int) -> str:
        return "".join(reply(model, processor, [user("a", picture(seed))], settings=SHORT))

    alone = [answer(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(answer, range(8))) == alone
    assert len(set(alone)) > 1


def rest_of(conversation: Conversation, message: Message) -> str:
    """What a conversation without any cache answers."""
    whole = [*conversation.messages, message]
    return "".join(reply(conversation.model, conversation.processor, whole, settings=SHORT)).strip()


def test_an_answer_from_kept_caches_is_the_answer_without(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    """Through turns that go on, that branch off earlier ones, and past the window's end."""
    conversation, known, left = Conversation(model, processor), [], []
    conversation.prefixes = Prefixes()
    for turn in range(12):
        if turn in (4, 9):
            conversation = conversation.branch(len(conversation.messages) - 2)
        message = user("and", picture(turn), "?" * turn)
        expected = rest_of(conversation, message)
        answer = reply(
            model,
            processor,
            [*conversation.messages, message],
            prefixes=conversation.prefixes,
            settings=SHORT,
        )
        left.append(answer.num_left_out)
        assert "".join(conversation._hear(message, answer)).strip() == expected
        known.append(answer.num_known)
    assert all(known[turn] for turn in (1, 2, 3, 4))
    assert sum(count < 10 for count in known) == 1 + sum(after > before for before, after in pairwise(left))
    assert left[-1]


def test_only_new_pictures_are_opened(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor):
    opened: list[int] = []

    def shown(seed: int) -> Picture:
        return Picture(name=str(seed), open=lambda: (opened.append(seed), picture(seed))[1])

    conversation = Conversation(model, processor)
    for seed in range(3):
        conversation.say(shown(seed), "?", settings=SHORT)
    assert opened == [0, 1, 2]


def test_a_chat_whose_pictures_differ_does_not_go_on_from_its_cache(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    prefixes = Prefixes()
    for seed in (1, 2):
        answer = reply(model, processor, [user("a", picture(seed))], prefixes=prefixes, settings=SHORT)
        said = "".join(answer)
        assert answer.num_known == len("user: a") * (seed - 1)
        assert said == "".join(reply(model, processor, [user("a", picture(seed))], settings=SHORT))


def test_a_cache_read_through_other_gates_is_not_gone_on_from(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    prefixes = Prefixes()
    list(reply(model, processor, CHAT, prefixes=prefixes, settings=SHORT))
    for settings, known in ((Settings(gate_scale=0.5, max_new_tokens=24), False), (SHORT, True)):
        answer = reply(model, processor, CHAT, prefixes=prefixes, settings=settings)
        list(answer)
        assert (answer.num_known > 0) == known


def test_words_before_their_picture_are_read_with_it_each_time(processor: FlamingoProcessor):
    model, prefixes = tiny.model(positions=POSITIONS, attend="next"), Prefixes()
    list(reply(model, processor, CHAT, prefixes=prefixes, settings=SHORT))
    assert len(prefixes) == 0


def test_an_answer_that_was_stopped_or_left_can_be_gone_on_from(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    conversation = Conversation(model, processor)
    answer = conversation.stream("a", picture(1), settings=Settings(max_new_tokens=60))
    first = next(answer)
    answer.close()
    assert conversation.messages[-1].parts == (first.strip(),)
    message = user("go on")
    assert conversation.say("go on", settings=SHORT) == rest_of(conversation.branch(2), message)


def test_a_stop_string_ends_the_answer_and_is_not_in_it(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor
):
    whole = "".join(reply(model, processor, CHAT, settings=SHORT))
    for cut in (whole[3:5], whole[7:10]):
        answer = reply(model, processor, CHAT, settings=Settings(max_new_tokens=24, stop=("never", cut)))
        assert "".join(answer) == whole[: whole.index(cut)]
        assert answer.finish == "stop"


def test_examples_stand_before_the_chat(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor):
    examples = [Example(picture=Picture.of(picture(9)), text="a nine")]
    shown = "".join(reply(model, processor, CHAT, examples=examples, settings=SHORT))
    inputs = processor.prompts(
        [(*caption_prompt(["a nine"])[:-1], *chat_prompt([message.turn for message in CHAT]))],
        [[picture(seed) for seed in (9, 1, 2, 3)]],
    )
    ids = model.generate(**inputs, max_new_tokens=24, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert shown == processor.tokenizer.decode(ids, skip_special_tokens=True)
    with pytest.raises(PromptError, match="words for the picture"):
        reply(model, processor, CHAT, examples=[Example(picture=Picture.of(picture(9)), text=" ")])


def test_a_failed_answer_leaves_nothing_behind(processor: FlamingoProcessor):
    model = tiny.model(positions=POSITIONS)
    conversation = Conversation(model, processor)
    broken = Picture(name="gone", open=lambda: Image.open("no such file"))
    with pytest.raises(FileNotFoundError):
        conversation.say(broken)
    assert conversation.messages == []
    assert len(conversation.prefixes) == 0


def test_one_answer_is_given_at_a_time(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> None:
    conversation = Conversation(model, processor)
    answer = conversation.stream("a")
    with pytest.raises(BusyError, match="read to its end"):
        conversation.stream("b")
    beside = conversation.branch()
    assert beside.say("b") == Conversation(model, processor).say("b")
    said = "".join(answer).strip()
    assert conversation.say("b") == Conversation(model, processor, conversation.messages[:2]).say("b")
    assert [message.text for message in conversation.messages[:3]] == ["a", said, "b"]
    conversation.stream("c")  # nobody holds this one
    conversation.say("d")
    assert [message.text for message in conversation.messages[4:] if message.role == "user"] == ["d"]


def test_of_two_threads_one_is_answered(model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> None:
    conversation, ready = Conversation(model, processor), threading.Barrier(2)
    shown = Image.frombytes("RGB", (1200, 1200), Random(0).randbytes(3 * 1200**2))  # which takes a while to keep

    def asked(words: str) -> Any:
        ready.wait()
        try:
            return conversation.stream(shown, words)
        except BusyError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(asked, ("a", "b")))
    assert sorted(isinstance(answer, BusyError) for answer in answers) == [False, True]
