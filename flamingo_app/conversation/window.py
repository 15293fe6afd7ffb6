"""Which turns of a chat the model reads.

Positions are baked into cached keys, so a window cannot slide: when a message no longer fits, whole old turns leave,
down to about half of the room, so that it happens rarely. Where the window begins hangs on the messages alone: a chat
that is continued elsewhere, or after a restart, is read exactly as it would have been here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flamingo_app.errors import PromptError
from flamingo_app.prompt import Role


class Length(NamedTuple):
    """How long a message is.

    Args:
        role: who speaks; a turn begins with the user's.
        tokens: of the message, spelled.
    """

    role: Role
    tokens: int


def window_start(messages: Sequence[Length], room: int, *, most: int | None = None, answering: bool = True) -> int:
    """The first message that the model reads when it answers the last one.

    Args:
        messages: the chat in order; where the last message is the user's, it is the one to be answered.
        room: tokens that the messages may have together.
        most: tokens that one message may have, which is then read alone; None for as many as `room`.
        answering: the last message is to be answered, so it must fit.

    Raises:
        PromptError: the message to be answered alone is longer than that.
    """
    begins, turns = _turns(messages)
    most = room if most is None else most
    if answering and messages and messages[-1].role == "user" and messages[begins[-1]].tokens > most:
        raise PromptError(
            expected=f"a message of at most {most} tokens",
            got=f"{messages[begins[-1]].tokens}",
            remedy="make it shorter, or show fewer examples",
        )
    first, length = 0, 0  # the first turn that is read, and the length of those before the one that is being answered
    for number, begin in enumerate(begins):  # as if each had been answered in its turn
        length += messages[begin].tokens
        if length > room:
            while first < number and length > room // 2:
                length -= turns[first]
                first += 1
        length += turns[number] - messages[begin].tokens
    return begins[first] if begins else 0


def next_start(messages: Sequence[Length], start: int, room: int) -> int:
    """The first message that is still read when the next one does not fit: what is before it leaves then, or more.

    Args:
        start: the first that is read now.
    """
    begins, turns = _turns(messages)
    length = max(sum(message.tokens for message in messages[start:]), room + 1)
    for begin, turn in zip(begins, turns, strict=True):
        if begin >= start:
            if length <= room // 2:
                return begin
            length -= turn
    return len(messages)


def _turns(messages: Sequence[Length]) -> tuple[list[int], list[int]]:
    """Where the turns begin, and how long they are."""
    begins = [number for number, message in enumerate(messages) if message.role == "user" or number == 0]
    ends = [*begins[1:], len(messages)] if begins else []
    return begins, [sum(message.tokens for message in messages[b:e]) for b, e in zip(begins, ends, strict=True)]
