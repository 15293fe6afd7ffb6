"""Answers to several chats at once, on the starter: tokens a second one after another, in threads, and as one batch.

Beside them how far a batch's numbers are from those of each chat alone: why the server does not answer in batches.
"""

from __future__ import annotations

import threading
from random import Random
from typing import Any

import torch
from PIL import Image

from benchmarks.clock import medians
from flamingo_app import load
from flamingo_app.conversation import Message
from flamingo_app.conversation.recollection import script_inputs
from flamingo_app.conversation.session import read_window

CHATS, NEW = 4, 40


@torch.inference_mode()
def run() -> dict[str, Any]:
    """Tokens a second of each way, and the largest difference between logits."""
    model, processor = load("starter")
    pictures = [Image.frombytes("RGB", (96, 96), Random(seed).randbytes(96 * 96 * 3)) for seed in range(CHATS)]
    windows = [
        read_window(model, processor, [Message(role="user", parts=(picture, "what is this?"))]) for picture in pictures
    ]
    alone = [script_inputs(model, processor, window.script, window.pictures) for window in windows]
    batch = {name: torch.cat([each[name] for each in alone]) for name in alone[0]}

    def say(inputs: dict[str, Any]) -> None:
        model.generate(**inputs, min_new_tokens=NEW, max_new_tokens=NEW, do_sample=False)  # pyright: ignore

    def in_threads() -> None:
        threads = [threading.Thread(target=torch.inference_mode()(say), args=(each,)) for each in alone]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    seconds = medians(
        {
            "one_after_another": lambda: [say(each) for each in alone],
            "threads": in_threads,
            "batch": lambda: say(batch),
        },
        rounds=3,
    )
    figures = {f"{name}_tokens_per_second": CHATS * NEW / spent for name, spent in seconds.items()}
    together = model(**batch).logits
    apart = max(float((model(**each).logits[0] - row).abs().max()) for each, row in zip(alone, together, strict=True))
    return figures | {
        "batch_of_threads": seconds["threads"] / seconds["batch"],
        "largest_difference_of_logits": apart,
        "threads": torch.get_num_threads(),
    }
