"""Checkpoints are whole or not there."""

from pathlib import Path

import pytest
import torch

from training import checkpoint
from training.checkpoint import Checkpoint


def saved(folder: Path, step: int) -> Path:
    model = {"w": torch.full((3,), float(step))}
    return checkpoint.save(
        folder, Checkpoint(step=step, model=model, optimizer={"0.step": torch.tensor(1.0)}, notes={})
    )


def test_the_newest_is_found_and_older_ones_are_pruned(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "nothing") is None
    for step in (1, 2, 3):
        saved(tmp_path, step)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 3
    assert found.model["w"].tolist() == [3.0] * 3
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "manifest.json"])
def test_a_damaged_one_is_passed_over(tmp_path: Path, file: str) -> None:
    saved(tmp_path, 1)
    newest = saved(tmp_path, 2)
    content = (newest / file).read_bytes()
    (newest / file).write_bytes(content[: len(content) // 2])
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 1


def test_what_was_cut_short_is_no_checkpoint(tmp_path: Path) -> None:
    saved(tmp_path, 1).rename(tmp_path / ".step-0000001.writing")
    assert checkpoint.latest(tmp_path) is None
    assert saved(tmp_path, 1).is_dir()


def test_nothing_in_it_is_a_pickle(tmp_path: Path) -> None:
    assert {path.suffix for path in saved(tmp_path, 1).iterdir()} == {".json", ".safetensors"}
