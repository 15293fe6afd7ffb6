"""A chat spelled for the model, as much of it as fits, and the answer as a stream."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, cast

import torch
from transformers.cache_utils import Cache, DynamicCache

from flamingo_app.conversation.messages import Example, Message, Part, Picture
from flamingo_app.conversation.prefixes import Prefixes, Script
from flamingo_app.conversation.window import Length, window_start
from flamingo_app.images import Source
from flamingo_app.model.cache import first_tokens
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.streaming import Cutter, Decoder, Draw, Token, tokens
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import caption_prompt, chat_prompt, encode, spell_turn

MAX_NEW_TOKENS = 64
"""How long an answer is where nobody says, and the room that the window leaves for one."""

UNLIMITED = 2**20
"""Tokens that a language model without a limit of its own is given to read."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an answer is chosen.

    Args:
        max_new_tokens: where an answer that does not end by itself is cut.
        temperature: 0 says the likeliest words; above, words are drawn, the wilder the higher.
        top_p: draw only from the likeliest tokens that have this probability together.
        seed: draws the same words again; None draws others each time.
        stop: strings that end the answer, and are not part of it.
        num_likeliest: log-probabilities are wanted, and those of so many of the likeliest tokens beside each.
        gate_scale: what the model's gates are multiplied with; 0 is the language model alone.
    """

    max_new_tokens: int = MAX_NEW_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    num_likeliest: int | None = None
    gate_scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Window:
    """What the model reads of a chat: examples, then the messages that fit.

    Args:
        script: all of it as tokens, up to where the answer begins; each picture by its name.
        pictures: in the order of their places.
        num_left_out: how many of the oldest messages are not in it.
        room: tokens that examples and messages may have together.
    """

    script: Script
    pictures: tuple[Picture, ...]
    num_left_out: int
    room: int


def read_window(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    messages: Sequence[Message],
    examples: Sequence[Example] = (),
) -> Window:
    """Choose and spell what the model reads of a chat whose last message is the user's.

    Raises:
        PromptError: the last message is longer than what the model reads, or the examples are.
    """
    positions = model.config.max_positions or UNLIMITED
    room = positions - min(MAX_NEW_TOKENS, positions // 4)
    tokenizer = processor.tokenizer
    shown = encode(caption_prompt([example.text for example in examples])[:-1], tokenizer)
    begin = encode(chat_prompt([]), tokenizer)
    spelled = [encode(spell_turn(message.turn), tokenizer) for message in messages]
    lengths = [Length(role=message.role, tokens=len(ids)) for message, ids in zip(messages, spelled, strict=True)]
    start = window_start(lengths, room - len(shown) - len(begin))
    pictures = (
        *(example.picture for example in examples),
        *(picture for message in messages[start:] for picture in message.pictures),
    )
    names = iter(picture.name for picture in pictures)
    ids = [*shown, *chain.from_iterable(spelled[start:]), *begin]
    script = tuple(next(names) if token == model.config.image_token_id else token for token in ids)
    return Window(script=script, pictures=pictures, num_left_out=start, room=room)


@dataclass(kw_only=True)
class Reply:
    """An answer while it is being given: iterate over its words.

    Args:
        words: the answer in pieces, each as soon as it is known.
        num_left_out: how many of the oldest messages the model does not see, because the chat is longer than it reads.
        num_read: tokens of the window.
        num_known: how many of them were in a kept cache.
        said: the tokens of the answer so far.
        finish: how it ended: "stop" by itself or at a stop string, "length" where it was cut, "stopped" by somebody.
    """

    words: Iterator[str]
    num_left_out: int = 0
    num_read: int = 0
    num_known: int = 0
    said: list[Token] = field(default_factory=list[Token])
    finish: str | None = None

    def __iter__(self) -> Iterator[str]:
        return self.words


def reply(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    messages: Sequence[Message],
    *,
    examples: Sequence[Example] = (),
    prefixes: Prefixes | None = None,
    stop: threading.Event | None = None,
    settings: Settings | None = None,
) -> Reply:
    """Answer the last message of a chat.

    Args:
        messages: the chat in order; the last message is the user's.
        examples: pictures with words, shown before the chat.
        prefixes: what was read before, so that only what is new is read.
        stop: ends the answer when somebody sets it.
        settings: how the answer is chosen.

    Raises:
        PromptError: before anything is generated, for a message that cannot be a prompt or is too long alone.
    """
    for what in (*examples, messages[-1]):
        what.check()
    settings = settings or Settings()
    window = read_window(model, processor, messages, examples)
    # Words that come before their picture see it only where both are read in one call: there nothing is kept.
    kept = Prefixes(max_number=0) if prefixes is None or model.config.attend == "next" else prefixes
    layers = model.config.text_config.num_hidden_layers
    known, cache = kept.longest(window.script, layers, gate_scale=settings.gate_scale)
    answer = Reply(words=iter(()), num_left_out=window.num_left_out, num_read=len(window.script), num_known=known)
    answer.words = _speak(model, processor, window, cache, answer, kept, stop or threading.Event(), settings)
    return answer


def _speak(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    window: Window,
    cache: Cache | None,
    answer: Reply,
    prefixes: Prefixes,
    stop: threading.Event,
    settings: Settings,
) -> Iterator[str]:
    """Give the answer word by word, then keep what was read and said, however it ended."""
    cache = cache or DynamicCache(config=model.config.text_config)
    decoder, cutter = Decoder(processor.tokenizer), Cutter(settings.stop)
    draw = Draw(settings.temperature, settings.top_p, settings.seed) if settings.temperature else None
    spoken = tokens(
        model,
        _inputs(model, processor, window, answer.num_known),
        stop=stop,
        draw=draw,
        num_likeliest=settings.num_likeliest,
        past_key_values=cache,
        do_sample=False,
        max_new_tokens=settings.max_new_tokens,
        gate_scale=settings.gate_scale,
    )
    try:
        for token in spoken:
            answer.said.append(token)
            if token.id == model.config.end_of_chunk_token_id:
                answer.finish = "stop"
            if piece := cutter.add(decoder.add(token.id)):
                yield piece
            if cutter.cut:
                answer.finish = "stop"
                break
        if not cutter.cut and (rest := cutter.add(decoder.end()) + cutter.end()):
            yield rest
    except GeneratorExit:  # nobody listens any more
        stop.set()
        raise
    except BaseException:  # half a step may be in the cache
        cache = None
        raise
    finally:
        cast(Any, spoken).close()
        answer.finish = answer.finish or ("stopped" if stop.is_set() else "length")
        if cache is not None:
            script = (*window.script, *(token.id for token in answer.said))
            held = min(cache.get_seq_length(), len(script))  # more was found than anybody read
            layers = model.config.text_config.num_hidden_layers
            if held and (read := first_tokens(cache, held, layers)):
                prefixes.keep(script[:held], read, gate_scale=settings.gate_scale)


def _inputs(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, window: Window, num_known: int
) -> dict[str, Any]:
    """What is new to the cache, and the attention mask of the whole."""
    image = model.config.image_token_id
    ids = [image if isinstance(token, str) else token for token in window.script]
    new = len(window.pictures) - ids[num_known:].count(image)
    inputs: dict[str, Any] = {
        "input_ids": torch.tensor([ids[num_known:]]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
    }
    if pictures := window.pictures[new:]:
        opened = [picture.open() for picture in pictures]
        inputs["pixel_values"], inputs["image_mask"] = processor.image_processor.rows([opened])
    return {name: value.to(model.device) for name, value in inputs.items()}


class Conversation:
    """A chat that goes on. Each answer reads only what is new; what no longer fits leaves by whole turns.

    Args:
        model, processor: as `flamingo_app.load` returns them.
        messages: what was said before.
        examples: pictures with words, shown before the chat.
        prefixes: kept caches, to be shared by the conversations of one model; None gives this one its own.
    """

    def __init__(
        self,
        model: FlamingoForConditionalGeneration,
        processor: FlamingoProcessor,
        messages: Sequence[Message] = (),
        *,
        examples: Sequence[Example] = (),
        prefixes: Prefixes | None = None,
    ) -> None:
        self.model, self.processor = model, processor
        self.messages = list(messages)
        self.examples = tuple(examples)
        self.prefixes = Prefixes(max_number=2) if prefixes is None else prefixes

    def say(self, *parts: Part | Source, settings: Settings | None = None) -> str:
        """Say and show something, and return the whole answer; see `stream`."""
        return "".join(self.stream(*parts, settings=settings)).strip()

    def stream(
        self, *parts: Part | Source, stop: threading.Event | None = None, settings: Settings | None = None
    ) -> Iterator[str]:
        """Say and show something; the answer comes in pieces, and belongs to the conversation as far as it was read.

        Args:
            parts: words, and pictures as `Path`s, bytes or in memory, in the order in which they are to be read.
            stop: ends the answer when somebody sets it.
            settings: how the answer is chosen.

        Raises:
            PromptError: for a message that cannot be a prompt or is longer than the window; nothing is said then.
            PictureError: for a picture that cannot be opened.
        """
        said = tuple(part if isinstance(part, str | Picture) else Picture.of(part) for part in parts)
        message = Message(role="user", parts=said)
        answer = reply(
            self.model,
            self.processor,
            [*self.messages, message],
            examples=self.examples,
            prefixes=self.prefixes,
            stop=stop,
            settings=settings,
        )
        return self._hear(message, answer)

    def _hear(self, message: Message, answer: Reply) -> Iterator[str]:
        heard, failed = "", False
        try:
            for piece in answer:
                heard += piece
                yield piece
        except Exception:
            failed = True
            raise
        finally:
            cast(Any, answer.words).close()
            if not failed:
                self.messages += [message, Message(role="assistant", parts=(heard.strip(),))]

    def branch(self, num_messages: int | None = None) -> Conversation:
        """Another conversation that begins with the first so many messages of this one, or with all of them."""
        return Conversation(
            self.model,
            self.processor,
            self.messages[:num_messages],
            examples=self.examples,
            prefixes=self.prefixes,
        )
