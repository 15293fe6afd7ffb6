"""The README's example: sixty pictures of ours and a new style of caption."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from data.documents import Sample
from data.draw_samples import COUNTS, FOLDER, KINDS, sailor
from data.formats import Reading, open_source
from data.picture_book import objects, random_scene
from flamingo_app.images import open_picture
from flamingo_app.model.backbones import STARTER
from tests.training import runs

ROOT = Path(__file__).parents[2]


def listed(part: str) -> list[Sample]:
    source = open_source(str(FOLDER / part), Reading())
    return [source[number] for number in range(len(source))]


def test_the_pictures_are_those_that_are_drawn_again() -> None:
    random = Random("samples")
    things = random.sample(objects("trained"), KINDS)
    for part, count in COUNTS.items():
        texts = [sailor(random_scene("one", [things[number % KINDS]], random)) for number in range(count)]
        assert [str(sample.pieces[1][0]).strip() for sample in listed(part)] == texts


def test_nothing_that_is_held_out_is_learnt_from() -> None:
    shown = {part: {open_picture(*sample.pictures).tobytes() for sample in listed(part)} for part in COUNTS}
    assert [len(shown[part]) for part in COUNTS] == list(COUNTS.values())
    assert not shown["train"] & shown["heldout"]


@pytest.mark.long
def test_five_minutes_teach_the_style_and_leave_what_is_frozen(tmp_path: Path) -> None:
    """From below 20% to at least 90% of the held-out captions, all of their words."""
    run = subprocess.run(
        ["make", "-n", "example", f"RUN={tmp_path / 'run'}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (command,) = [line for line in run.stdout.replace("\\\n", " ").splitlines() if "training.train" in line]
    arguments = command.partition("training.train")[2].replace('"', "").split()
    done = subprocess.run(
        [sys.executable, "-m", "training.train", *arguments, "--track", "none"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "run" / "figures.json").read_text())
    assert figures["before"]["exact"]["accuracy"] < 0.2
    assert figures["after"]["exact"]["accuracy"] >= 0.9
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (STARTER, tmp_path / "run"))
    assert all(before[name] == after[name] for name in ("text_hash", "vision_hash"))


@pytest.mark.long
def test_two_processes_of_the_launcher(tmp_path: Path) -> None:
    model, data = runs.tiny_model(tmp_path), runs.image_folder(tmp_path / "data", 16)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "training.train", "--data", str(data), "--model", str(model), "--output", str(tmp_path / "run")),
        *("--track", "none", "--batch-size", "2", "--epochs", "1"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    journal = runs.journal(tmp_path / "run")
    assert len(journal) == 4
    assert sorted(number for line in journal for _, number in line["samples"]) == list(range(16))
