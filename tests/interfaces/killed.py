"""Run a command again and again, each time killing it at a random moment, until it comes to its end.

    python -m tests.interfaces.killed SEED KILLS WHOLE OUT ARGUMENTS...

Each run is a process of its own, forked from this one, which has imported everything already: a start costs
milliseconds. Arguments that begin with `python` are a folder and a model: `flamingo_app.caption` runs on these.
Prints how many records each killed run left.
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

import flamingo_app.fewshot.classification  # noqa: F401
from flamingo_app import caption, load
from flamingo_app.interfaces.cli import main


def run(arguments: list[str]) -> int:
    """Start the command; returns its process."""
    process = os.fork()
    if not process:
        os._exit(python(*arguments[1:]) if arguments[0] == "python" else main(arguments))
    return process


def python(folder: str, name: str, out: str) -> int:
    """The same from Python; a picture that failed is status 1."""
    model, processor = load(name)
    said = caption(model, folder, processor=processor, batch_size=3, max_new_tokens=32, workers=2, out=out)
    return int(any(each.error for each in said))


def kill_at(process: int, out: Path, size: int, wait: float) -> bool:
    """Kill it a little after its file has grown so far, or has not begun; False where it ended first."""
    while size and (not out.exists() or out.stat().st_size < size):
        if os.waitpid(process, os.WNOHANG)[0]:
            return False
        time.sleep(0.0005)
    until = time.monotonic() + wait
    while time.monotonic() < until and (size or not whole_lines(out)):  # before it has begun, or just after it grew
        time.sleep(0.0005)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


def whole_lines(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0


if __name__ == "__main__":
    seed, kills, whole, out, *arguments = sys.argv[1:]
    random, left = Random(seed), list[int]()
    sizes = sorted(random.randrange(int(whole)) for _ in range(int(kills)))
    for size in (0, 0, 0, *sizes[3:]):  # some while models are loaded and workers begin
        if kill_at(run(arguments), Path(out), size, random.uniform(0, 0.002 if size else 0.5)):
            left.append(whole_lines(Path(out)))
    _, status = os.waitpid(run(arguments), 0)
    print(json.dumps({"left": left, "status": os.waitstatus_to_exitcode(status)}))
