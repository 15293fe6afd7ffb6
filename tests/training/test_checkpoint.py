"""Checkpoints are whole or not there."""

import resource
from pathlib import Path

import pytest
import torch

from flamingo_app.errors import TrainingError
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
@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0, None])
def test_a_damaged_one_is_passed_over(tmp_path: Path, file: str, kept: float | None) -> None:
    """Cut to nothing, to half, by its last byte; and lost."""
    saved(tmp_path, 1)
    newest = saved(tmp_path, 2)
    content = (newest / file).read_bytes()
    (newest / file).write_bytes(content[: min(len(content) - 1, int(len(content) * (kept or 0)))])
    if kept is None:
        (newest / file).unlink()
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 1


def test_damaged_ones_are_told_and_make_way_for_those_that_come_after(tmp_path: Path) -> None:
    """Also where one alone is kept, and the damaged one has the later step."""
    (saved(tmp_path, 8) / "model.safetensors").write_bytes(b"")
    told: list[Path] = []
    assert checkpoint.latest(tmp_path, passed_over=told.append) is None
    assert [path.name for path in told] == ["step-0000008"]
    here = Checkpoint(step=2, model={"w": torch.zeros(1)}, optimizer={"0.step": torch.tensor(1.0)}, notes={})
    assert checkpoint.save(tmp_path, here, keep=1).is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000002"]
    assert checkpoint.latest(tmp_path) is not None


def test_where_there_is_no_room_the_one_before_stays(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    room = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, room[1]))
    try:
        with pytest.raises(TrainingError, match="--resume latest") as raised:
            saved(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
    assert str(tmp_path / "step-0000002") in str(raised.value)
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert saved(tmp_path, 2).is_dir()


def test_a_manifest_of_something_else_is_no_manifest(tmp_path: Path) -> None:
    (saved(tmp_path, 1) / "manifest.json").write_text("[]")
    assert checkpoint.latest(tmp_path) is None


def test_what_a_kill_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".step-0000007.writing").mkdir()
    saved(tmp_path, 9)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000009"]


def test_what_was_cut_short_is_no_checkpoint(tmp_path: Path) -> None:
    saved(tmp_path, 1).rename(tmp_path / ".step-0000001.writing")
    assert checkpoint.latest(tmp_path) is None
    assert saved(tmp_path, 1).is_dir()


def test_nothing_in_it_is_a_pickle(tmp_path: Path) -> None:
    assert {path.suffix for path in saved(tmp_path, 1).iterdir()} == {".json", ".safetensors"}
