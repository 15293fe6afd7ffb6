"""Laws of the window, for chats of any shape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_app.conversation.window import Length, next_start, window_start
from flamingo_app.errors import PromptError

ROOM = 100
turns = st.lists(st.tuples(st.integers(1, 70), st.lists(st.integers(0, 40), max_size=1)), min_size=1, max_size=30)


def chat(drawn: list[tuple[int, list[int]]]) -> list[Length]:
    """Turns of a question and an answer or none; the last is a question."""
    messages: list[Length] = []
    for asked, answered in drawn:
        messages.append(Length(role="user", tokens=asked))
        messages += [Length(role="assistant", tokens=length) for length in answered]
    return messages[:-1] if messages[-1].role == "assistant" else messages


def total(messages: list[Length]) -> int:
    return sum(message.tokens for message in messages)


@given(turns)
def test_the_window_fits_and_begins_with_a_whole_turn(drawn: list[tuple[int, list[int]]]):
    messages = chat(drawn)
    start = window_start(messages, ROOM)
    assert messages[start].role == "user"
    assert total(messages[start:]) <= ROOM
    if total(messages) <= ROOM:
        assert start == 0


@given(turns)
def test_a_window_only_moves_on_and_to_about_half(drawn: list[tuple[int, list[int]]]):
    messages = chat(drawn)
    ends = [number for number, message in enumerate(messages) if message.role == "user"]
    starts = [window_start(messages[: end + 1], ROOM) for end in ends]
    assert starts == sorted(starts)
    for end, before, after in zip(ends[1:], starts, starts[1:], strict=False):
        if after > before:
            assert total(messages[before : end + 1]) > ROOM, "it moved without need"
            assert after == end or total(messages[after : end + 1]) <= ROOM // 2
            earlier = max(number for number in ends if number < after)
            assert total(messages[earlier : end + 1]) > ROOM // 2, "it moved further than it had to"


def test_only_a_message_that_is_too_long_alone_is_refused():
    asked = [Length(role="user", tokens=ROOM)]
    assert window_start([Length(role="user", tokens=ROOM + 1), *asked], ROOM) == 1
    with pytest.raises(PromptError, match="at most 100 tokens; got 101"):
        window_start([*asked, Length(role="user", tokens=ROOM + 1)], ROOM)


@given(turns, st.integers(1, 70))
def test_a_message_longer_than_the_room_is_read_alone(drawn: list[tuple[int, list[int]]], room: int):
    messages = chat(drawn)
    start = window_start(messages, room, most=70)
    assert total(messages[start:]) <= room or start == len(messages) - 1
    if all(message.tokens <= room for message in messages):
        assert start == window_start(messages, room)
    with pytest.raises(PromptError, match="at most 70 tokens; got 71"):
        window_start([*messages, Length(role="user", tokens=71)], room, most=70)


@given(turns, st.integers(1, ROOM))
def test_what_leaves_next_leaves_first(drawn: list[tuple[int, list[int]]], asked: int):
    messages = chat(drawn)
    start = window_start(messages, ROOM)
    leaving = next_start(messages, start, ROOM)
    assert leaving == len(messages) or messages[leaving].role == "user"
    assert start < leaving <= len(messages)
    moved = window_start([*messages, Length(role="assistant", tokens=0), Length(role="user", tokens=asked)], ROOM)
    if moved > start:
        assert moved >= leaving


def test_a_chat_that_waits_for_a_message_has_a_window_whatever_its_length():
    assert window_start([], ROOM) == 0
    assert next_start([], 0, ROOM) == 0
    long = [Length(role="user", tokens=3 * ROOM), Length(role="assistant", tokens=1)]
    assert window_start(long, ROOM) == 0
    assert window_start([*long, Length(role="user", tokens=2)], ROOM) == 2
    assert window_start([Length(role="assistant", tokens=3 * ROOM), Length(role="user", tokens=2)], ROOM) == 1
