"""Run a command again and again, each time killing it at a random moment, until it comes to its end.

    python -m tests.interfaces.killed SEED KILLS OUT ARGUMENTS...

Each run is a process of its own, forked from this one, which has imported everything already: a start costs
milliseconds. Prints how many records each killed run left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from random import Random

import transformers  # noqa: F401  # what every run needs

import flamingo_app.fewshot.captioning  # noqa: F401
from flamingo_app.interfaces.cli import main


def run(arguments: list[str]) -> int:
    """Start the command; returns its process."""
    process = os.fork()
    if not process:
        os._exit(main(arguments))
    return process


def kill_at(process: int, out: Path, size: int, wait: float) -> bool:
    """Kill it a little after its file has grown so far; False where it ended first."""
    while not out.exists() or out.stat().st_size < size:
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.0005)
    time.sleep(wait)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


def whole_lines(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0


if __name__ == "__main__":
    seed, kills, whole, out, *arguments = sys.argv[1:]
    random, left = Random(seed), list[int]()
    for size in sorted(random.randrange(int(whole)) for _ in range(int(kills))):
        if kill_at(run(arguments), Path(out), size, random.uniform(0, 0.03)):
            left.append(whole_lines(Path(out)))
    _, status = os.waitpid(run(arguments), 0)
    print(json.dumps({"left": left, "status": os.waitstatus_to_exitcode(status)}))
