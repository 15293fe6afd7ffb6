"""Killed at any time and resumed, a run is the run that was never killed, to the last bit."""

from __future__ import annotations

import math
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from safetensors.torch import load_file

from tests.training import runs
from training import checkpoint
from training.launch import alone
from training.train import main

PICTURES, EPOCHS = 22, 2
MODES = {
    "plain": (),
    "accumulation, augmentation": ("--accumulate", "2", "--augment"),
    "workers": ("--workers", "2", "--accumulate", "2", "--augment"),
    "adapters, cache": ("--lora", "2", "--feature-cache", "{output}.cache", "--gradient-checkpointing"),
}
ALL = [(mode, processes) for mode in MODES for processes in (1, 2)]
LONG = {"marks": pytest.mark.long}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    runs.tiny_model(folder)
    runs.image_folder(folder / "data", PICTURES)
    runs.image_folder(folder / "held out", 3)
    return folder


def arguments(place: Path, output: Path, mode: str, *more: str) -> list[str]:
    held_out = ("--eval-data", str(place / "held out"), "--eval-every", "8") if mode == "plain" else ()
    return [
        *held_out,
        *("--data", str(place / "data"), "--output", str(output), "--model", str(place / "model")),
        *("--epochs", str(EPOCHS), "--batch-size", "2", "--save-every", "2", "--learning-rate", "1e-2"),
        *("--track", "none", "--resume", "latest", *more),
        *(word.format(output=output) for word in MODES[mode]),
    ]


def same(whole: Path, resumed: Path) -> None:
    """Losses, gates and order of every step, figures of what is held out, and every weight, to the bit."""
    assert runs.journal(whole) == runs.journal(resumed)
    assert (whole / "figures.json").read_text() == (resumed / "figures.json").read_text()
    a, b = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert a.keys() == b.keys()
    assert all(a[name].equal(b[name]) for name in a)


def whole(place: Path, mode: str, processes: int) -> Path:
    """The uninterrupted run, made once."""
    output = place / f"whole {mode} {processes}"
    if not output.exists():
        runs.run(arguments(place, output, mode), place / "log", processes=processes)
    return output


def some_time(output: Path, steps: int, random: Random) -> Callable[[], bool]:
    """A moment of a run, drawn at random: before its first step, or a little after one that is yet to come."""
    after = random.randint(min(runs.steps_done(output), steps) - 1, steps - 1)
    delay, reached = random.uniform(0.0, 0.1 if after > 0 else 1.0), math.inf

    def come() -> bool:
        nonlocal reached
        if reached == math.inf and (after <= 0 or runs.steps_done(output) >= after):
            reached = time.monotonic()
        return time.monotonic() > reached + delay

    return come


@pytest.mark.parametrize(("mode", "processes"), [("plain", 1), ("workers", 1), ("accumulation, augmentation", 2)])
def test_every_sample_comes_once_an_epoch(place: Path, mode: str, processes: int) -> None:
    drawn = [tuple(sample) for line in runs.journal(whole(place, mode, processes)) for sample in line["samples"]]
    assert len(drawn) == EPOCHS * PICTURES
    for epoch in range(EPOCHS):
        seen = Counter(drawn[epoch * PICTURES : (epoch + 1) * PICTURES])
        assert seen == Counter({(0, number): 1 for number in range(PICTURES)})


@pytest.mark.parametrize(
    ("mode", "processes", "kills"),
    [
        ("plain", 1, (3, 6)),
        ("workers", 1, (9,)),
        ("accumulation, augmentation", 2, (8,)),
        *(pytest.param(*run, tuple(range(1, 33)), **LONG) for run in ALL),
    ],
)
def test_killed_inside_saving(place: Path, tmp_path: Path, mode: str, processes: int, kills: tuple[int, ...]) -> None:
    """Each kill is at another call of those that write, name and prune checkpoints."""
    for at in kills:
        output = tmp_path / str(at)
        codes = runs.finish(
            runs.start(arguments(place, output, mode), tmp_path / "log", processes=processes, die_at=at)
        )
        assert codes[0] == -9
        runs.run(arguments(place, output, mode), tmp_path / "log", processes=processes)
        same(whole(place, mode, processes), output)
        shutil.rmtree(output)


@pytest.mark.parametrize(
    ("mode", "processes", "kills"), [("workers", 1, 2), *(pytest.param(*run, 20, **LONG) for run in ALL)]
)
def test_killed_at_any_time_again_and_again(place: Path, tmp_path: Path, mode: str, processes: int, kills: int) -> None:
    """So many kills that found the run alive, at most three of one run; it then goes on to its end."""
    random, landed, number = Random(f"{mode} {processes}"), list[int](), 0
    steps = len(runs.journal(whole(place, mode, processes)))
    while len(landed) < kills:
        output = tmp_path / f"run {number}"
        number += 1
        for _ in range(3):
            codes = runs.finish(
                runs.start(arguments(place, output, mode), tmp_path / "log", processes=processes),
                kill_when=some_time(output, steps, random),
            )
            if -9 not in codes:
                break
            landed.append(runs.steps_done(output))
        runs.run(arguments(place, output, mode), tmp_path / "log", processes=processes)
        same(whole(place, mode, processes), output)
        shutil.rmtree(output)
    print(f"{mode}, {processes}: killed after steps {landed}")
    assert kills < 20 or len(set(landed)) > 5


@pytest.mark.parametrize(
    ("mode", "processes"), [("plain", 1), *(pytest.param(*run, **LONG) for run in ALL if run != ("plain", 1))]
)
def test_each_file_of_the_newest_checkpoint_cut_short_in_turn(
    place: Path, tmp_path: Path, mode: str, processes: int
) -> None:
    base = whole(place, mode, processes)
    for name in ("model.safetensors", "optimizer.safetensors", "manifest.json"):
        output = tmp_path / name
        shutil.copytree(base / "checkpoints", output / "checkpoints")
        shutil.copyfile(base / "log.jsonl", output / "log.jsonl")  # and nothing of what came of it
        before, newest = sorted((output / "checkpoints").glob("step-*"))
        content = (newest / name).read_bytes()
        (newest / name).write_bytes(content[: len(content) // 2])
        found = checkpoint.latest(output / "checkpoints")
        assert found is not None
        assert before.name == f"step-{found.step:07}"
        # Another feature cache would be another run.
        again = [word.replace(f"{output}.cache", f"{base}.cache") for word in arguments(place, output, mode)]
        runs.run(again, tmp_path / "log", processes=processes)
        told = Path(f"{tmp_path / 'log'}.0").read_text()
        assert f"{newest.name} is damaged" in told
        assert f"going on from step {found.step} of" in told
        same(base, output)


def test_a_run_has_no_pickles(place: Path) -> None:
    kinds = {path.suffix for path in whole(place, "plain", 1).rglob("*") if path.is_file()}
    assert kinds <= {".json", ".jsonl", ".safetensors", ".md", ".svg"}


def test_two_runs_do_not_write_in_one_folder(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run"
    slow = arguments(place, output, "workers", "--epochs", "600")
    started = runs.start(slow, tmp_path / "log")
    while not runs.steps_done(output):
        assert started[0].exitcode is None, Path(f"{tmp_path / 'log'}.0").read_text()[-2000:]
        time.sleep(0.01)
    assert main(slow) == 2
    (line,) = [said for said in capsys.readouterr().err.splitlines() if said.startswith("train: ")]
    assert "no other run is writing" in line
    assert started[0].pid
    os.kill(started[0].pid, signal.SIGKILL)
    started[0].join()
    with alone(output):  # while those that read ahead for it live on for seconds
        pass
    assert runs.finish(started) == [-9]
    assert checkpoint.latest(output / "checkpoints") is not None


@pytest.mark.parametrize(
    ("mode", "processes", "number"),
    [("plain", 1, signal.SIGINT), ("workers", 1, signal.SIGTERM), ("accumulation, augmentation", 2, signal.SIGTERM)],
)
def test_a_polite_stop_saves_and_is_gone_on_from(
    place: Path, tmp_path: Path, mode: str, processes: int, number: signal.Signals
) -> None:
    """The whole group of the last process is told, with those that read ahead for it; the others are not."""
    output = tmp_path / "run"
    slow = arguments(place, output, mode, "--save-every", "1000", "--epochs", "6")
    started = runs.start(slow, tmp_path / "log", processes=processes)
    while not runs.steps_done(output):
        assert any(process.exitcode is None for process in started), Path(f"{tmp_path / 'log'}.0").read_text()[-2000:]
        time.sleep(0.01)
    assert started[-1].pid
    os.killpg(started[-1].pid, number)
    codes = runs.finish(started)
    assert codes == [143] * (processes - 1) + [128 + number], Path(f"{tmp_path / 'log'}.0").read_text()[-2000:]
    found = checkpoint.latest(output / "checkpoints")
    assert found is not None
    assert found.step == runs.steps_done(output) > 0
    runs.run(slow, tmp_path / "log", processes=processes)
    undisturbed = tmp_path / "undisturbed"
    runs.run(
        [str(undisturbed) if word == str(output) else word for word in slow], tmp_path / "log", processes=processes
    )
    same(undisturbed, output)
