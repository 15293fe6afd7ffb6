import pickle

import pytest
from PIL import Image

from flamingo_app.conversation import Message
from flamingo_app.errors import PromptError
from flamingo_app.prompt import Mark

PICTURE = Image.new("RGB", (4, 4))


def test_a_turn_has_a_mark_where_each_picture_stands():
    message = Message(role="user", parts=("left", PICTURE, "right", PICTURE))
    assert message.turn.pieces == ("left", Mark.IMAGE, "right", Mark.IMAGE)
    assert [picture.open() for picture in message.pictures] == [PICTURE, PICTURE]


@pytest.mark.parametrize("parts", [(), ("",), (" \n", "")])
def test_a_message_that_says_nothing_is_refused(parts: tuple[str, ...]):
    with pytest.raises(PromptError, match="empty message"):
        Message(role="user", parts=parts).check()


@pytest.mark.parametrize("words", ["<image>", "look: <|endofchunk|>!"])
def test_a_typed_special_token_is_refused(words: str):
    with pytest.raises(PromptError, match="literal"):
        Message(role="user", parts=("fine", PICTURE, words)).check()


def test_a_picture_alone_is_a_message():
    Message(role="user", parts=(PICTURE,)).check()


def test_a_message_travels_with_what_was_said_alone():
    """Also after it was spelled; and its pictures as files, whatever they were in memory."""
    message = Message(role="user", parts=("look", Image.new("RGB", (900, 900), "teal")))
    message.scripts["tokenizer"] = tuple(range(10_000))
    packed = pickle.dumps(message)
    assert len(packed) < 20_000
    again: Message = pickle.loads(packed)
    assert (again.role, again.text, again.pictures[0].name) == ("user", "look", message.pictures[0].name)
    assert again.pictures[0].open().getpixel((5, 5)) == (0, 128, 128)
