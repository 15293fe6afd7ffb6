"""Killed at any time and resumed, a run is the run that was never killed, to the last bit."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from safetensors.torch import load_file

from tests.training import runs

PICTURES, EPOCHS = 22, 2
MODES = {
    "plain": (),
    "accumulation, augmentation": ("--accumulate", "2", "--augment"),
    "workers": ("--workers", "2", "--accumulate", "2", "--augment"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    runs.tiny_model(folder)
    runs.image_folder(folder / "data", PICTURES)
    runs.image_folder(folder / "held out", 3)
    return folder


def arguments(place: Path, output: Path, mode: str, *more: str) -> list[str]:
    held_out = ("--eval-data", str(place / "held out"), "--eval-every", "3") if mode == "plain" else ()
    return [
        *held_out,
        *("--data", str(place / "data"), "--output", str(output), "--model", str(place / "model")),
        *("--epochs", str(EPOCHS), "--batch-size", "2", "--save-every", "2", "--learning-rate", "1e-2"),
        *("--track", "none", "--resume", "latest", *MODES[mode], *more),
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
        *(
            pytest.param(mode, processes, tuple(range(1, 21)), marks=pytest.mark.long)
            for mode in MODES
            for processes in (1, 2)
        ),
    ],
)
def test_killed_inside_saving(place: Path, tmp_path: Path, mode: str, processes: int, kills: tuple[int, ...]) -> None:
    """Each kill is at another call of fsync or rename; they are all between the first and the last save."""
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
    ("mode", "processes", "kills"),
    [
        ("workers", 1, 2),
        *(pytest.param(mode, processes, 20, marks=pytest.mark.long) for mode in MODES for processes in (1, 2)),
    ],
)
def test_killed_at_any_time_again_and_again(place: Path, tmp_path: Path, mode: str, processes: int, kills: int) -> None:
    random, output = Random(f"{mode} {processes}"), tmp_path / "run"
    for number in range(kills):
        output = tmp_path / f"run {number}"
        codes = [0]
        for after in (random.uniform(0.3, 4.0), random.uniform(0.3, 4.0)):
            codes = runs.finish(
                runs.start(arguments(place, output, mode), tmp_path / "log", processes=processes), kill_after=after
            )
            if set(codes) == {0}:
                break
        if set(codes) != {0}:
            runs.run(arguments(place, output, mode), tmp_path / "log", processes=processes)
        same(whole(place, mode, processes), output)


def test_each_file_of_the_newest_checkpoint_cut_short_in_turn(place: Path, tmp_path: Path) -> None:
    base = whole(place, "plain", 1)
    for name in ("model.safetensors", "optimizer.safetensors", "manifest.json"):
        output = tmp_path / name
        shutil.copytree(base, output)
        (newest,) = sorted((output / "checkpoints").glob("step-*"))[-1:]
        content = (newest / name).read_bytes()
        (newest / name).write_bytes(content[: len(content) // 2])
        runs.run(arguments(place, output, "plain"), tmp_path / "log")
        same(base, output)


def test_a_run_has_no_pickles(place: Path) -> None:
    kinds = {path.suffix for path in whole(place, "plain", 1).rglob("*") if path.is_file()}
    assert kinds <= {".json", ".jsonl", ".safetensors", ".md", ".svg"}


def test_a_polite_stop_saves_and_is_gone_on_from(place: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    (process,) = runs.start(arguments(place, output, "plain", "--save-every", "1000"), tmp_path / "log")
    while process.exitcode is None and not (output / "log.jsonl").exists():
        process.join(0.05)
    process.terminate()
    process.join(60)
    if process.exitcode == 0:
        pytest.skip("it was done before it could be stopped")
    assert process.exitcode == 143
    found = sorted((output / "checkpoints").glob("step-*"))[-1]
    reached = json.loads((found / "manifest.json").read_text())["step"]
    assert reached == len(runs.journal(output))
    runs.run(arguments(place, output, "plain"), tmp_path / "log")
    same(whole(place, "plain", 1), output)
