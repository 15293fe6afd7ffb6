"""Run benchmarks: `python -m benchmarks.run [NAME...] --json OUT`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import (
    batching,
    conversation,
    decoding,
    finetuning,
    first_token,
    importing,
    labelling,
    memory,
    optimizing,
    replaying,
)

PEERS = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"  # `make peers`
BENCHMARKS: dict[str, Callable[[], dict[str, Any]]] = {
    "first_token": first_token.run,
    "conversation": conversation.run,
    "batching": batching.run,
    "decoding": decoding.run,
    "importing": importing.run,
    "finetuning": partial(finetuning.run, None),
    "labelling": labelling.run,
    "memory": memory.run,
    "optimizing": optimizing.run,
    "replaying": replaying.run,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="Measure speed, side by side.")
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"some of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures there too")
    parser.add_argument(
        "--peers-python", type=Path, metavar="PATH", default=PEERS if PEERS.exists() else None,
        help="interpreter beside which open_flamingo and flamingo-mini are installed (default: that of make peers)",
    )  # fmt: skip
    options = parser.parse_args(argv)
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"expected some of {', '.join(BENCHMARKS)}; got {unknown[0]}; choose one of these")
    if options.peers_python and not options.peers_python.is_file():
        parser.error(f"--peers-python: expected an interpreter; got {options.peers_python}; run make peers")
    benchmarks = BENCHMARKS | {
        "finetuning": partial(finetuning.run, options.peers_python and options.peers_python.absolute())
    }
    figures = {name: benchmarks[name]() for name in options.names or benchmarks}
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
