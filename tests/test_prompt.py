"""One spelling for training and use, and no way for typed words to become special tokens."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_app.errors import PromptError
from flamingo_app.prompt import (
    END_OF_CHUNK_TOKEN,
    IMAGE_TOKEN,
    Mark,
    Turn,
    caption_prompt,
    chat_prompt,
    encode,
    num_images,
    refuse_special_tokens,
    spell_turn,
)
from tests import tiny

IMAGE, END = Mark.IMAGE, Mark.END_OF_CHUNK
WORDS = st.text(st.sampled_from("a <>|/_\n\t\"'\x00ÄİΣß🦩") | st.characters(codec="utf-8"))
TYPED = st.lists(WORDS | st.sampled_from([IMAGE_TOKEN, END_OF_CHUNK_TOKEN, tiny.PAD, "<IMAGE>"])).map("".join)


def test_captions_are_spelled_as_in_the_paper() -> None:
    assert caption_prompt(["a dog.", "two cats."], lead_in="three") == (
        *(IMAGE, " a dog.", END),
        *(IMAGE, " two cats.", END),
        *(IMAGE, " three"),
    )


def test_a_chat_ends_where_the_assistant_begins() -> None:
    turns = [
        Turn(role="user", pieces=("look:", IMAGE, "what is it?")),
        Turn(role="assistant", pieces=("a dog.",)),
        Turn(role="user", pieces=("sure?",)),
    ]
    assert chat_prompt(turns) == (
        *("user:", " look:", IMAGE, " what is it?", "\n"),
        *("assistant:", " a dog.", END),
        *("user:", " sure?", "\n"),
        "assistant:",
    )


@given(WORDS)
def test_words_are_trimmed_and_follow_one_space(words: str) -> None:
    spelled = spell_turn(Turn(role="user", pieces=(words,)))
    assert spelled == (("user:", f" {words.strip()}", "\n") if words.strip() else ("user:", "\n"))


@settings(deadline=None, max_examples=50)
@given(st.lists(TYPED, max_size=4), TYPED)
def test_only_marks_become_special_tokens(shots: list[str], lead_in: str) -> None:
    ids = encode(caption_prompt(shots, lead_in=lead_in), tiny.tokenizer())
    assert [i for i in ids if i >= tiny.BYTES] == [tiny.IMAGE_ID, tiny.END_ID] * len(shots) + [tiny.IMAGE_ID]


@settings(deadline=None)
@given(WORDS)
def test_encoding_loses_no_word(words: str) -> None:
    assert tiny.tokenizer().decode(encode((words,), tiny.tokenizer())) == words


def test_a_tokenizer_may_ask_for_a_token_on_both_sides_of_a_picture() -> None:
    tokenizer = copy.deepcopy(tiny.tokenizer())
    tokenizer.beside_image_token_id = 5
    assert encode((IMAGE, "\x00", IMAGE), tokenizer)[:3] == [5, tiny.IMAGE_ID, 5]
    assert encode((IMAGE, "\x00", IMAGE), tokenizer)[-3:] == [5, tiny.IMAGE_ID, 5]
    assert encode((END,), tokenizer) == [tiny.END_ID]


def test_places_for_pictures_are_counted() -> None:
    assert num_images(caption_prompt(["one", "<image>"])) == 3


@pytest.mark.parametrize("token", [IMAGE_TOKEN, END_OF_CHUNK_TOKEN])
def test_typed_special_tokens_are_refused(token: str) -> None:
    with pytest.raises(PromptError, match="take it out") as raised:
        refuse_special_tokens(f"what is{token} this?")
    assert token in str(raised.value)
    refuse_special_tokens("an <image > is no special token")
