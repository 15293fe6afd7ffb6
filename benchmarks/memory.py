"""A conversation that goes on for a thousand turns, and a memory against the whole talk as context.

The second comparison has random weights at half of GPT-2's depth and width, because the starter has no positions for
the whole talk. Both sides run in the same process, turn by turn; the whole talk is read in two ways: from a cache that
grows, and anew at each turn, as open models do it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image
from transformers import GPT2Config

from flamingo_app import Conversation, FlamingoConfig, FlamingoForConditionalGeneration, load
from flamingo_app.config import GatedConfig, MemoryConfig, ResamplerConfig
from flamingo_app.conversation import Message, Picture, Prefixes, Settings
from flamingo_app.conversation.session import read_window
from flamingo_app.processing import FlamingoProcessor

TURNS, EARLY, SPAN = 1000, 20, 40
WHOLE, MEASURED, ANEW = 64, 16, 2  # turns in all, those that are answered and timed, and those that are read anew
QUESTION = "what is in this picture, and what do you think of it? tell me all that you see, please."


@dataclass(frozen=True, kw_only=True)
class Talk:
    """How long the turns of a talk are, and what each side has positions for.

    Args:
        question: what the user says of a picture in each turn.
        answer_tokens: of each answer.
        window, positions: what is read of it with the memory, and as a whole.
    """

    question: str
    answer_tokens: int
    window: int
    positions: int

    def turn(self, number: int) -> tuple[Message, Message]:
        """One turn that was said before; its answer is about as long as those that are given."""
        answer = " ".join(["tree"] * self.answer_tokens)
        user = Message(role="user", parts=(Picture.of(_picture(number)), self.question))
        return user, Message(role="assistant", parts=(answer,))


# A sentence and a short answer; and a passage of some two hundred words that is asked about, in GPT-2's own window.
TALKS = {
    "short_turns": Talk(question=QUESTION, answer_tokens=64, window=384, positions=8192),
    "long_turns": Talk(question=" ".join([QUESTION] * 12), answer_tokens=64, window=1024, positions=32768),
}


def run() -> dict[str, Any]:
    """What the module's first line says."""
    return {"thousand_turns": thousand_turns(), "against_whole_talk": against_whole_talk()}


def thousand_turns() -> dict[str, Any]:
    """The mean turn and the resident memory from turn 20 on and up to turn 1,000, on the starter.

    A mean over 40 turns, since now and then old turns leave the window and the rest is read again.
    """
    model, processor = load("starter")
    chat, seconds, resident = Conversation(model, processor), [], []
    for turn in range(TURNS):
        seconds.append(_turn(chat, turn, "what is this?", 8))
        resident.append(_resident())
    early, late = statistics.fmean(seconds[EARLY : EARLY + SPAN]), statistics.fmean(seconds[-SPAN:])
    return {
        "remembers": model.config.memory is not None,
        "seconds_from_turn_20": early,
        "seconds_to_turn_1000": late,
        "late_of_early": late / early,
        "resident_mb_at_turn_20": resident[EARLY] / 2**20,
        "resident_mb_at_turn_1000": resident[-1] / 2**20,
        "resident_late_of_early": resident[-1] / resident[EARLY],
    }


def against_whole_talk() -> dict[str, Any]:
    """The last turns of the same talk of 64, where turns are short and where they are long."""
    return {name: _against(talk) for name, talk in TALKS.items()}


def _against(talk: Talk) -> dict[str, Any]:
    """Seconds of a turn, and bytes that the conversation holds.

    What was said before is given, so that only the turns that count are answered. A mean over some of them, since in
    one of two or three old turns leave the window and are written.
    """
    _, processor = load("starter")
    said = [message for turn in range(WHOLE - MEASURED) for message in talk.turn(turn)]
    whole = _model(processor, talk.positions, memory=False)
    chats = {
        "memory": _chat(_model(processor, talk.window, memory=True), processor, said, kept=2),
        "whole_cached": _chat(whole, processor, said, kept=2),
        "whole_anew": _chat(whole, processor, said, kept=0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in chats}
    for turn in range(WHOLE - MEASURED, WHOLE):
        for name, chat in chats.items():
            if name == "whole_anew" and turn < WHOLE - ANEW:
                continue
            if name == "whole_anew":
                chat.messages = list(chats["whole_cached"].messages[:-2])
            seconds[name].append(_turn(chat, turn, talk.question, talk.answer_tokens))
    late = {name: statistics.fmean(taken[1 if len(taken) > ANEW else 0 :]) for name, taken in seconds.items()}
    held = {name: _held(chat) for name, chat in chats.items() if name != "whole_anew"}
    return {
        "tokens_of_a_turn": len(read_window(whole, processor, chats["whole_cached"].messages[:-1]).script) / WHOLE,
        "seconds": late,
        "held_mb": {name: size / 2**20 for name, size in held.items()},
        "memory_faster_than_cached": late["whole_cached"] / late["memory"],
        "memory_faster_than_anew": late["whole_anew"] / late["memory"],
        "memory_smaller": held["whole_cached"] / held["memory"],
        "threads": torch.get_num_threads(),
    }


def _model(processor: FlamingoProcessor, positions: int, *, memory: bool) -> FlamingoForConditionalGeneration:
    tokenizer = processor.tokenizer
    torch.manual_seed(0)
    config = FlamingoConfig(
        text_config=GPT2Config(
            vocab_size=len(tokenizer), n_positions=positions, n_embd=384, n_layer=6, n_head=6, bos_token_id=None
        ),
        vision_config=load("starter")[0].config.vision_config,
        resampler=ResamplerConfig(depth=2, num_latents=64, heads=4),
        gated=GatedConfig(heads=6),
        memory=MemoryConfig(dim=384, gated=GatedConfig(heads=6, dim_head=32)) if memory else None,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        end_of_chunk_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        num_added_tokens=0,
    )
    return FlamingoForConditionalGeneration(config).eval()


def _chat(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, said: Sequence[Message], *, kept: int
) -> Conversation:
    return Conversation(model, processor, said, prefixes=Prefixes(max_number=kept))


def _held(chat: Conversation) -> int:
    """Bytes of what a turn goes on from: the newest cache, and the memory with what is read of it."""
    size = max(prefix.num_bytes for prefix in chat.prefixes)
    if (state := chat.memory) is not None:
        view = chat.model.view_memory(state.slots)
        layers = [half for layer in view.blocks for half in (layer.keys, layer.values) if half is not None]
        size += sum(tensor.nbytes for tensor in (state.slots.values, *layers))
    return size


def _turn(chat: Conversation, number: int, words: str, tokens: int) -> float:
    picture = _picture(number)
    started = time.perf_counter()
    chat.say(picture, words, settings=Settings(max_new_tokens=tokens))
    return time.perf_counter() - started


def _picture(number: int) -> Image.Image:
    return Image.frombytes("RGB", (96, 96), Random(number).randbytes(96 * 96 * 3))


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
