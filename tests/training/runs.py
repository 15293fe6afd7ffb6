"""Fine-tuning runs in processes of their own, forked from one that has everything imported, and killed for real."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from flamingo_app.model.checkpoint import make_processor
from tests import tiny

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["training.finetune", "training.preparing", "training.launch", "peft"])
WORDS = ("red", "green", "blue", "gold", "grey", "pink", "teal")


def tiny_model(folder: Path, *, gates: float = 0.5, **fields: Any) -> Path:
    """A tiny random model on the disk, ready to be loaded by its folder; `fields` are its config's."""
    flamingo = tiny.from_backbones(folder, special=False, **fields)
    tiny.set_gates(flamingo, gates)
    flamingo.save_pretrained(folder / "model")
    made = make_processor(flamingo.config.vision_model, flamingo.config.text_model)
    made.save_pretrained(folder / "model")
    return folder / "model"


def picture(number: int) -> Image.Image:
    """A small picture that no other number has."""
    random = Random(number)
    image = Image.new("RGB", (24, 20), tuple(random.randrange(256) for _ in range(3)))
    image.paste(tuple(random.randrange(256) for _ in range(3)), (2, 3, 6 + number % 7, 12))
    return image


def image_folder(folder: Path, count: int) -> Path:
    """An imagefolder of so many pictures."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(count):
        picture(number).save(folder / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": f"a {WORDS[number % 7]} {number % 3}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def documents(folder: Path, count: int, *, chunks: int = 4) -> Path:
    """OBELICS documents of so many pictures, each with three letters of words, the last the same as the first."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(count):
        shown = [number * chunks + place for place in range(chunks)]
        for picked in shown:
            picture(picked).save(folder / f"{picked}.png")
        texts = [f"{picked * 37 % 1000:03}" for picked in (*shown[:-1], shown[0])]
        lines.append(
            json.dumps(
                {
                    "images": [name for picked in shown for name in (f"{picked}.png", None)],
                    "texts": [words for text in texts for words in (None, text)],
                }
            )
        )
    (folder / "documents.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "documents.jsonl"


def start(
    arguments: Sequence[str], log: Path, *, processes: int = 1, die_at: int | None = None, shard: bool = False
) -> list[BaseProcess]:
    """Start `python -m training.train` with these arguments, as one process or as several that gloo connects.

    Args:
        shard: as `accelerate launch` starts them with training/configs/fsdp2.yaml.
        die_at: the first process kills itself at this call of those that saving is made of: fsync, rename, unlink.
    """
    port = _free_port()
    started = []
    for rank in range(processes):
        env = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_FSDP": str(shard).lower()}
        if processes > 1:
            env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        process = SERVER.Process(
            target=_child, args=(list(arguments), env, f"{log}.{rank}", die_at if not rank else None)
        )
        process.start()
        started.append(process)
    return started


def finish(started: Sequence[BaseProcess], *, kill_when: Callable[[], bool] = lambda: False) -> list[int | None]:
    """Wait for the end, or kill -9 as soon as that is so; when one was killed, the others are too."""
    deadline = time.monotonic() + 300
    running = list(started)
    while running and time.monotonic() < deadline and not kill_when():
        time.sleep(0.005)
        for process in [process for process in running if _gone(process)]:
            running.remove(process)
            _kill(process)  # what it left behind
            process.join()
            if process.exitcode == -signal.SIGKILL:
                deadline = 0.0
    for process in running:
        _kill(process)
        process.join()
    return [process.exitcode for process in started]


def _gone(process: BaseProcess) -> bool:
    assert process.pid  # 0 would mean ourselves
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def _kill(process: BaseProcess) -> None:
    """kill -9, to the process and to those that read ahead for it."""
    assert process.pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run(arguments: Sequence[str], log: Path, *, processes: int = 1, shard: bool = False) -> None:
    """A run to its end, which must be a good one."""
    codes = finish(start(arguments, log, processes=processes, shard=shard))
    assert codes == [0] * processes, Path(f"{log}.0").read_text()[-2000:]


def steps_done(folder: Path) -> int:
    """Steps that a run at work has written down."""
    path = folder / "log.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def journal(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def _child(arguments: list[str], env: dict[str, str], log: str, die_at: int | None) -> None:
    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # as in a process that nobody forked
    os.environ.update(env)
    sys.stdout = sys.stderr = Path(log).open("w")  # noqa: SIM115  # for as long as this process lives
    import torch

    torch.set_num_threads(1)
    if die_at is not None:
        _die_inside_saving(die_at)
    from training.train import main

    code = main(arguments)
    sys.stdout.flush()
    os._exit(code)


def _die_inside_saving(at: int) -> None:
    calls = 0

    def dying(real: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **keywords)

        return call

    os.fsync, os.rename, os.unlink, os.rmdir = dying(os.fsync), dying(os.rename), dying(os.unlink), dying(os.rmdir)
    Path.rename = dying(Path.rename)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
