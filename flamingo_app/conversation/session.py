"""A chat spelled for the model, as much of it as fits, and the answer as a stream."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from flamingo_app.conversation.messages import Message
from flamingo_app.errors import PromptError
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.generation import stream
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import chat_prompt, encode

MAX_NEW_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer while it is being given.

    Args:
        words: the answer in pieces, each as soon as it is known.
        num_left_out: how many of the oldest messages the model does not see, because the chat is longer than it reads.
    """

    words: Iterator[str]
    num_left_out: int

    def __iter__(self) -> Iterator[str]:
        return self.words


def reply(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    messages: Sequence[Message],
    *,
    stop: threading.Event | None = None,
    temperature: float = 0.0,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> Reply:
    """Answer the last message of a chat.

    Args:
        messages: the chat in order; the last message is the user's.
        stop: ends the answer when somebody sets it.
        temperature: 0 says the likeliest words; above, words are drawn, the wilder the higher.
        max_new_tokens: where an answer that does not end by itself is cut.

    Raises:
        PromptError: before anything is generated, for a message that cannot be a prompt or is too long alone.
    """
    messages[-1].check()
    most_tokens = (model.config.max_positions or sys.maxsize) - max_new_tokens
    num_left_out = _num_left_out(messages, processor.tokenizer, most_tokens)
    window = messages[num_left_out:]
    prompt = chat_prompt([message.turn for message in window])
    pictures = [picture for message in window for picture in message.pictures]
    inputs = cast(Any, processor.prompts([prompt], [pictures])).to(model.device)
    sampling: dict[str, Any] = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    words = stream(model, processor.tokenizer, inputs, stop=stop, max_new_tokens=max_new_tokens, **sampling)
    return Reply(words=words, num_left_out=num_left_out)


def _num_left_out(messages: Sequence[Message], tokenizer: Any, most_tokens: int) -> int:
    """How many messages must go from the front, whole turns at a time, until the rest has at most so many tokens."""
    length = 0
    for start in (start for start, message in enumerate(messages) if message.role == "user"):
        length = len(encode(chat_prompt([message.turn for message in messages[start:]]), tokenizer))
        if length <= most_tokens:
            return start
    raise PromptError(expected=f"a message of at most {most_tokens} tokens", got=f"{length}", remedy="make it shorter")
