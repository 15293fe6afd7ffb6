"""A chat spelled for the model, as much of it as fits, and the answer as a stream."""

from __future__ import annotations

import logging
import math
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import GEN_CLOSED, getgeneratorstate
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast
from weakref import ref

from transformers.cache_utils import Cache, DynamicCache

from flamingo_app.conversation.messages import Example, Message, Part, Picture
from flamingo_app.conversation.prefixes import Prefixes, Script
from flamingo_app.conversation.recollection import (
    Memories,
    TurnScript,
    by_turns,
    name_after,
    script_inputs,
    without_lost,
)
from flamingo_app.conversation.saved import read_folder, write_folder
from flamingo_app.conversation.window import Length, next_start, window_start
from flamingo_app.errors import BusyError, PictureError, PromptError
from flamingo_app.images import Source
from flamingo_app.memory.state import MemoryState
from flamingo_app.model.cache import first_tokens
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.streaming import Cutter, Decoder, Draw, Token, tokens
from flamingo_app.processing import FlamingoProcessor
from flamingo_app.prompt import Tokenizer, Turn, caption_prompt, chat_prompt, encode, spell_turn

logger = logging.getLogger(__name__)
MAX_NEW_TOKENS = 64
"""How long an answer is where nobody says, and the room that the window leaves for one."""

LONG = 1000
"""Letters of a message beyond which its spelling is not kept for others that say the same."""

LIMITS = (
    ("max_new_tokens", 1, math.inf),
    ("temperature", 0.0, sys.float_info.max),
    ("top_p", 0.0, 1.0),
    ("seed", -(2**63), 2**63 - 1),
    ("num_likeliest", 0, math.inf),
    ("forgotten", 0, math.inf),
)
"""Least and most of what `Settings` may say."""

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
        memory: read what has left the window, where the model has a memory.
        forgotten: how many of the first turns are not read there; of a conversation that goes on from a saved memory,
            all that this held is forgotten first.

    Raises:
        PromptError: one of them means nothing: an answer of no tokens, a negative temperature.
    """

    max_new_tokens: int = MAX_NEW_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    num_likeliest: int | None = None
    gate_scale: float = 1.0
    memory: bool = True
    forgotten: int = 0

    def __post_init__(self) -> None:
        for name, least, most in LIMITS:
            value = getattr(self, name)
            if value is not None and not least <= value <= most:  # as NaN is not, either
                upper = f" to {most:g}" if most < math.inf else ""
                raise PromptError(
                    expected=f"{name} of {least:g}{upper or ' or more'}", got=f"{value}", remedy="give such a number"
                )


@dataclass(frozen=True, kw_only=True)
class Window:
    """What the model reads of a chat: examples, then the messages that fit.

    Args:
        script: all of it as tokens, up to where the answer begins; each picture by its name.
        pictures: in the order of their places.
        left: the turns that are not in it, from the first.
        num_left_out: how many messages they have.
        num_leaving: how many more leave when the next message does not fit.
        room: tokens that examples and messages may have together.
        used: tokens that they have.
    """

    script: Script
    pictures: tuple[Picture, ...]
    left: tuple[TurnScript, ...]
    num_left_out: int
    num_leaving: int
    room: int
    used: int


def read_window(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    messages: Sequence[Message],
    examples: Sequence[Example] = (),
    *,
    answering: bool = True,
) -> Window:
    """Choose and spell what the model reads of a chat.

    Args:
        answering: the last message is to be answered; else it is looked at what stands there.

    Raises:
        PromptError: the user's last message is longer than what the model reads, or the examples are.
    """
    positions = model.config.max_positions or UNLIMITED
    tokenizer, image = processor.tokenizer, model.config.image_token_id
    shown = encode(caption_prompt([example.text for example in examples])[:-1], tokenizer)
    begin = encode(chat_prompt([]), tokenizer)
    room = positions - min(MAX_NEW_TOKENS, positions // 4) - len(begin)
    most = room - len(shown)
    if examples and most < (shortest := len(encode(spell_turn(Turn(role="user", pieces=("a",))), tokenizer))):
        raise PromptError(
            expected=f"examples of at most {room - shortest} tokens together",
            got=f"{len(shown)}",
            remedy="show fewer examples, or shorter ones",
        )
    scripts = [_spelled(message, tokenizer, image) for message in messages]
    lengths = [Length(role=message.role, tokens=len(ids)) for message, ids in zip(messages, scripts, strict=True)]
    for_messages = min(most, model.config.window or most)
    start = window_start(lengths, for_messages, most=most, answering=answering)
    pictures = (
        *(example.picture for example in examples),
        *(picture for message in messages[start:] for picture in message.pictures),
    )
    examples_script = _script(shown, [example.picture.name for example in examples], image)
    told = iter(scripts)
    script = (*examples_script, *chain.from_iterable(scripts[start:]))
    return Window(
        script=(*script, *begin),
        pictures=pictures,
        left=tuple(_turn_script(turn, tuple(islice(told, len(turn)))) for turn in by_turns(messages[:start])),
        num_left_out=start,
        num_leaving=next_start(lengths, start, for_messages) - start,
        room=len(shown) + for_messages,
        used=len(script),
    )


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How full the window is.

    Attributes:
        room: tokens that examples and messages may have together.
        used: tokens that they have; after a long answer, or with a long message, more than there is room for, until the
            next message.
        pictures: that are in the window.
        num_left_out: messages that have left it.
        next: the messages that leave it when the next one does not fit; after a long one more of them.
    """

    room: int
    used: int
    pictures: int
    num_left_out: int
    next: tuple[Message, ...]


def budget(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    messages: Sequence[Message],
    examples: Sequence[Example] = (),
) -> Budget:
    """What the model would read of a chat as it stands.

    Raises:
        PromptError: examples that leave no room for a message.
    """
    window = read_window(model, processor, messages, examples, answering=False)
    return Budget(
        room=window.room,
        used=window.used,
        pictures=len(window.pictures),
        num_left_out=window.num_left_out,
        next=tuple(messages[window.num_left_out : window.num_left_out + window.num_leaving]),
    )


def _turn_script(turn: Sequence[Message], scripts: tuple[Script, ...]) -> TurnScript:
    kept = turn[0].turns  # which are asked for at every turn of a chat: with a thousand of them, that is felt
    if (told := kept.get(scripts)) is None:
        pictures = tuple(picture for message in turn for picture in message.pictures)
        told = kept[scripts] = TurnScript(script=sum(scripts, ()), pictures=pictures)
    return told


def _spelled(message: Message, tokenizer: Tokenizer, image_token_id: int) -> Script:
    by = (tokenizer, image_token_id)
    if (script := message.scripts.get(by)) is None:  # a long chat asks every message of it at every turn
        names = tuple(picture.name for picture in message.pictures)
        spell = _encoded if len(message.text) <= LONG else _encoded.__wrapped__
        script = message.scripts[by] = spell(message.turn, names, tokenizer, image_token_id)
    return script


@lru_cache(maxsize=2**13)  # a server makes the messages of a chat anew at every turn of it; only short ones are kept
def _encoded(turn: Turn, names: tuple[str, ...], tokenizer: Tokenizer, image_token_id: int) -> Script:
    return _script(encode(spell_turn(turn), tokenizer), names, image_token_id)


def _script(ids: Sequence[int], names: Sequence[str], image_token_id: int) -> Script:
    """Tokens with the names of the pictures in their places."""
    in_order = iter(names)
    return tuple(next(in_order) if token == image_token_id else token for token in ids)


@dataclass(kw_only=True)
class Reply:
    """An answer while it is being given: iterate over its words.

    Args:
        words: the answer in pieces, each as soon as it is known.
        num_left_out: how many of the oldest messages the model does not see, because the chat is longer than it reads.
        num_read: tokens of the window.
        num_known: how many of them were in a kept cache, once the answer has begun.
        memory: likewise, what was read of turns that have left the window; None where there are none, or no memory.
        said: the tokens of the answer so far.
        finish: how it ended: "stop" by itself or at a stop string, "length" where it was cut, "stopped" by somebody.
    """

    words: Iterator[str]
    num_left_out: int = 0
    num_read: int = 0
    num_known: int = 0
    memory: MemoryState | None = None
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
    memories: Memories | None = None,
    before: MemoryState | None = None,
    stop: threading.Event | None = None,
    settings: Settings | None = None,
) -> Reply:
    """Answer the last message of a chat.

    Args:
        messages: the chat in order; the last message is the user's.
        examples: pictures with words, shown before the chat.
        prefixes: what was read before, so that only what is new is read.
        memories: what was written before, so that only what has just left the window is written.
        before: what was remembered already when the first of the messages was said.
        stop: ends the answer when somebody sets it.
        settings: how the answer is chosen.

    Raises:
        PromptError: before anything is generated, for a message that cannot be a prompt or is too long alone.
    """
    for what in (*examples, messages[-1]):
        what.check()
    settings = settings or Settings()
    window = read_window(model, processor, messages, examples)
    answer = Reply(words=iter(()), num_left_out=window.num_left_out, num_read=len(window.script))
    memories = Memories() if memories is None else memories  # an empty one is false
    answer.words = _speak(
        model,
        processor,
        window,
        len(messages[-1].pictures),
        answer,
        prefixes,
        memories,
        before,
        stop or threading.Event(),
        settings,
    )
    return answer


def _speak(
    model: FlamingoForConditionalGeneration,
    processor: FlamingoProcessor,
    window: Window,
    num_shown: int,
    answer: Reply,
    prefixes: Prefixes | None,
    memories: Memories,
    before: MemoryState | None,
    stop: threading.Event,
    settings: Settings,
) -> Iterator[str]:
    """Give the answer word by word, then keep what was read and said, however it ended."""
    left = window.left[settings.forgotten :] if settings.memory else ()
    before = before if settings.memory and not settings.forgotten else None
    name, answer.memory = memories.after(model, processor, left, before)
    condition = (settings.gate_scale, name)
    # Words that come before their picture see it only where both are read in one call: there nothing is kept.
    kept = Prefixes(max_number=0) if prefixes is None or model.config.attend == "next" else prefixes
    layers = model.config.text_config.num_hidden_layers

    def begun(script: Script, pictures: Sequence[Picture]) -> tuple[int, Cache, dict[str, Any]]:
        num_known, cache = kept.longest(script, layers, condition)
        inputs = script_inputs(model, processor, script, pictures, num_known)
        return num_known, cache or DynamicCache(config=model.config.text_config), inputs

    script, pictures = window.script, window.pictures
    try:
        answer.num_known, cache, inputs = begun(script, pictures)
    except PictureError as error:  # one that is shown just now must open; of those before, what is lost is lost
        logger.warning("A picture was lost, and is read as a grey page: %s", error)
        script, found = without_lost(script, pictures[: len(pictures) - num_shown])
        answer.num_known, cache, inputs = begun(script, (*found, *pictures[len(found) :]))
    decoder, cutter = Decoder(processor.tokenizer), Cutter(settings.stop)
    draw = Draw(settings.temperature, settings.top_p, settings.seed) if settings.temperature else None
    spoken = tokens(
        model,
        inputs,
        stop=stop,
        draw=draw,
        num_likeliest=settings.num_likeliest,
        past_key_values=cache,
        do_sample=False,
        max_new_tokens=settings.max_new_tokens,
        gate_scale=settings.gate_scale,
        memory=None if answer.memory is None else memories.view(model, name, answer.memory),
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
            script = (*script, *(token.id for token in answer.said))
            held = min(cache.get_seq_length(), len(script))  # more was found than anybody read
            if held and (read := first_tokens(cache, held, layers)):
                kept.keep(script[:held], read, condition)


class Conversation:
    """A chat that goes on, for any number of turns. Each answer reads only what is new; what no longer fits leaves by
    whole turns, and where the model has a memory is written there.

    Args:
        model, processor: as `flamingo_app.load` returns them.
        messages: what was said before.
        examples: pictures with words, shown before the chat.
        prefixes: kept caches, to be shared by the conversations of one model; None gives this one its own.
        memories: kept memory states, likewise.
        memory: what was remembered already when the first of `messages` was said: a conversation that was saved goes on
            from its `memory` and its `window`.

    Raises:
        CheckpointError: other weights wrote that memory.
    """

    def __init__(
        self,
        model: FlamingoForConditionalGeneration,
        processor: FlamingoProcessor,
        messages: Sequence[Message] = (),
        *,
        examples: Sequence[Example] = (),
        prefixes: Prefixes | None = None,
        memories: Memories | None = None,
        memory: MemoryState | None = None,
    ) -> None:
        if memory is not None:
            memory.check(model)
        self.model, self.processor = model, processor
        self.before = memory
        self.messages = list(messages)
        self.examples = tuple(examples)
        self.prefixes = Prefixes(max_number=2) if prefixes is None else prefixes
        self.memories = Memories(max_number=8, max_views=1) if memories is None else memories
        self._answering: Callable[[], Generator[str] | None] = lambda: None
        self._lock = threading.Lock()

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
            BusyError: the answer before this is still being read; it is not yet known what was said.
        """
        with self._lock:  # of two threads at once, one is first
            if (before := self._answering()) is not None and getgeneratorstate(before) != GEN_CLOSED:
                raise BusyError(
                    expected="the answer before to be read to its end",
                    got="one that is still being given",
                    remedy="read it, or close() it; a branch() goes on beside it",
                )
            heard = self._begin(parts, stop, settings)
            self._answering = ref(heard)  # one that nobody holds any more is closed
        return heard

    def _begin(
        self, parts: Sequence[Part | Source], stop: threading.Event | None, settings: Settings | None
    ) -> Generator[str]:
        said = tuple(part if isinstance(part, str | Picture) else Picture.of(part) for part in parts)
        message = Message(role="user", parts=said)
        answer = reply(
            self.model,
            self.processor,
            [*self.messages, message],
            examples=self.examples,
            prefixes=self.prefixes,
            memories=self.memories,
            before=self.before,
            stop=stop,
            settings=settings,
        )
        return self._hear(message, answer)

    def _hear(self, message: Message, answer: Reply) -> Generator[str]:
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
            memories=self.memories,
            memory=self.before,
        )

    def save(self, folder: str | Path) -> None:
        """Keep the conversation in a folder, over the one that it may hold: its messages, pictures and memory.

        Raises:
            ConversationError, CheckpointError: it cannot be written there.
        """
        states: dict[str, tuple[str, MemoryState]] = {}
        if self.before is not None:
            states["before"] = self.before.name, self.before
        name, after = self._remembered()
        if after is not None:
            states["after"] = name, after
        write_folder(Path(folder), self.messages, self.examples, states)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        model: FlamingoForConditionalGeneration,
        processor: FlamingoProcessor,
        *,
        anew: bool = False,
    ) -> Conversation:
        """A conversation that was saved, in this process or another; it goes on as it would have there.

        Args:
            anew: leave its memories unread, which belong to the model that wrote them: what has left the window is
                written again by this one. What was remembered before the first message is not known then.

        Raises:
            ConversationError: the folder holds none.
            CheckpointError: its memory is damaged, or was written by other weights.
        """
        messages, examples, states = read_folder(Path(folder), None if anew else model)
        before = states["before"][1] if "before" in states else None
        chat = cls(model, processor, messages, examples=examples, memory=before)
        if "after" in states:
            name, after = states["after"]
            if name == name_after(chat._left, before):  # else it is of other messages, and is written again
                chat.memories.keep(name, after)
        return chat

    @property
    def memory(self) -> MemoryState | None:
        """What is remembered of the turns that have left the window; None where none have, or there is no memory."""
        return self._remembered()[1]

    def _remembered(self) -> tuple[str, MemoryState | None]:
        return self.memories.after(self.model, self.processor, self._left, self.before)

    @property
    def _left(self) -> tuple[TurnScript, ...]:
        return read_window(self.model, self.processor, self.messages, self.examples, answering=False).left

    @property
    def window(self) -> tuple[Message, ...]:
        """The messages that have not left."""
        return tuple(self.messages[self.budget.num_left_out :])

    @property
    def budget(self) -> Budget:
        """How full the window is, and what leaves it next."""
        return budget(self.model, self.processor, self.messages, self.examples)
