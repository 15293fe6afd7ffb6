"""A chat with a picture in each turn, on the starter: seconds to the first word early, late, and late with no cache.

On one thread, so that what is compared is work: a turn of the starter is too small to be shared out.
"""

from __future__ import annotations

import statistics
import time
from random import Random
from typing import Any

import torch
from PIL import Image

from flamingo_app import Conversation, load
from flamingo_app.conversation import Prefixes, Settings

EARLY, LATE, ROUNDS = 2, 20, 7


def run() -> dict[str, Any]:
    """Medians over several chats. Answers are cut short, so that all turns stay in the window."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _medians()
    finally:
        torch.set_num_threads(threads)


def _medians() -> dict[str, Any]:
    model, processor = load("starter")
    seconds: dict[str, list[float]] = {"turn_2": [], "turn_20": [], "turn_20_anew": []}
    for number in range(ROUNDS + 1):
        chat = Conversation(model, processor)
        for turn in range(1, LATE + 1):
            picture = _picture(100 * number + turn)
            taken = _first_word(chat, picture)
            if turn in (EARLY, LATE):
                seconds[f"turn_{turn}"].append(taken)
            if turn == LATE:  # last: what reads everything anew leaves the processor's own caches cold
                anew = Conversation(model, processor, chat.messages[:-2], prefixes=Prefixes(max_number=0))
                seconds["turn_20_anew"].append(_first_word(anew, picture))
    known = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}  # the first chat warms up
    return known | {
        "turn_20_of_turn_2": known["turn_20"] / known["turn_2"],
        "anew_of_turn_20": known["turn_20_anew"] / known["turn_20"],
        "threads": torch.get_num_threads(),
    }


def _first_word(chat: Conversation, picture: Image.Image) -> float:
    """Seconds to the first word; then the answer is heard to its end."""
    started = time.perf_counter()
    words = chat.stream(picture, "what is this?", settings=Settings(max_new_tokens=6))
    next(words)
    taken = time.perf_counter() - started
    for _ in words:
        pass
    return taken


def _picture(seed: int) -> Image.Image:
    return Image.frombytes("RGB", (96, 96), Random(seed).randbytes(96 * 96 * 3))
