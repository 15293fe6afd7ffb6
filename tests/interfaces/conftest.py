"""What the tests of the command line share: a tiny model, a folder of pictures, and commands run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image

from flamingo_app.interfaces.cli import main
from flamingo_app.processing import FlamingoImageProcessor, FlamingoProcessor
from tests import tiny
from tests.memory.test_conversation_memory import SMALL

COLOURS = ("blue", "lime", "red")
ALL = ["pictures/blue.png", "pictures/deep/white.JPG", "pictures/lime.png", "pictures/red.png"]


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Flamingo = Callable[..., Ran]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in a folder, with its processor."""
    folder = tmp_path_factory.mktemp("model")
    tiny.from_backbones(folder / "backbones").save_pretrained(folder / "saved")
    FlamingoProcessor(FlamingoImageProcessor(**tiny.PREPROCESS), tiny.tokenizer()).save_pretrained(folder / "saved")
    return folder / "saved"


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose pictures are loud."""
    return save_loud(tmp_path_factory.mktemp("api-model"))


@pytest.fixture(scope="session")
def remembering_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with a memory, which is loud too."""
    memory = SMALL | {"gated": tiny.SMALL_PARTS["gated"]}
    return save_loud(tmp_path_factory.mktemp("remembering-model"), memory=memory)


def save_loud(folder: Path, **fields: Any) -> Path:
    model = tiny.from_backbones(folder / "backbones", **fields)
    tiny.set_gates(model, 2.0)
    parts = [model.resampler, model.gated_blocks, *([model.memory_blocks] if fields else [])]
    for parameter in chain(*(part.parameters() for part in parts)):
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder / "tiny")
    FlamingoProcessor(FlamingoImageProcessor(**tiny.PREPROCESS), tiny.tokenizer()).save_pretrained(folder / "tiny")
    return folder / "tiny"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures and shots, where commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", f"{tmp_path}-cache")
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    for colour in COLOURS:
        Image.new("RGB", (40, 30), colour).save(tmp_path / "pictures" / f"{colour}.png")
    Image.new("RGB", (40, 30), "white").save(tmp_path / "pictures" / "deep" / "white.JPG", "JPEG")
    (tmp_path / "pictures" / "notes.txt").write_text("words")
    (tmp_path / "pictures" / ".hidden.png").write_text("words")
    (tmp_path / "shots.jsonl").write_text('{"image": "pictures/red.png", "text": "a red one."}\n')
    (tmp_path / "broken.png").write_text("words")
    return tmp_path


@pytest.fixture
def flamingo(capsys: pytest.CaptureFixture[str], saved: Path) -> Flamingo:
    """Run a command in this process; `MODEL` stands for the tiny model."""

    def run(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        try:
            status = main([str(saved) if argument == "MODEL" else str(argument) for argument in arguments])
        except SystemExit as stopped:  # argparse's way out
            status = int(str(stopped.code))
        return Ran(status, *capsys.readouterr())

    return run
