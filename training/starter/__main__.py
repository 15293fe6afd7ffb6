"""Make the starter from nothing: `python -m training.starter` (or `make starter`).

    tokenizer   a byte-level BPE over the book's words                             seconds
    vision      a tiny CLIP, contrastively: pages and captions, places and names    30 minutes
    language    a tiny GPT-2 on the book's language and on soft words               65 minutes
    flamingo    resampler and gated blocks over the two, which are frozen           65 minutes
    memory      slots for the turns of long talks, over all that                    70 minutes
    install     the weights, in half precision, into flamingo_app/starter
    card        every figure measured again on what was installed, and the card     90 minutes

Each stage resumes where it was stopped and is passed over once it is done; times are of two CPU cores with AVX-512,
others take up to twice as long.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from training.starter import card, flamingo, language, memory, vision
from training.starter.install import install
from training.starter.tokenizer import train_tokenizer

SEED = 0


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.starter", description="Train the starter, stage by stage."
    )
    parser.add_argument("--output", type=Path, default=Path("runs/starter"), help="where stages keep their work")
    folder: Path = parser.parse_args(argv).output
    folder.mkdir(parents=True, exist_ok=True)

    def tokenizer() -> PreTrainedTokenizerFast:
        return PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")

    stages: dict[str, Callable[[], object]] = {
        "tokenizer": lambda: train_tokenizer(folder / "tokenizer", SEED),
        "vision": lambda: vision.run(folder, tokenizer()),
        "language": lambda: language.run(folder, tokenizer()),
        "flamingo": lambda: flamingo.run(folder, tokenizer()),
        "memory": lambda: memory.run(folder, tokenizer()),
        "install": lambda: install(folder),
        "card": lambda: card.write(folder),
    }
    for name, run in stages.items():
        once(folder, name, run)


def once(folder: Path, name: str, run: Callable[[], object]) -> None:
    """Run a stage unless it is done; note the seconds it took, over all its attempts.

    An attempt that is interrupted, fails, or is politely told to end (SIGTERM) counts as well.
    """
    note = folder / f"{name}.json"
    seconds = json.loads(note.read_text()) if note.exists() else {"done": False, "seconds": 0.0}
    if seconds["done"]:
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    started = time.monotonic()
    try:
        run()
        seconds["done"] = True
    finally:
        signal.signal(signal.SIGTERM, before)
        seconds["seconds"] += time.monotonic() - started
        note.write_text(json.dumps(seconds))


if __name__ == "__main__":
    main()
