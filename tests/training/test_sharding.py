"""Frozen weights that are spread over the processes: the same run, and the same checkpoints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.training import runs


def test_a_sharded_run_is_the_whole_one_and_is_resumed(tmp_path: Path) -> None:
    model, data = runs.tiny_model(tmp_path), runs.image_folder(tmp_path / "data", 12)

    def arguments(name: str) -> list[str]:
        return [
            *("--data", str(data), "--model", str(model), "--output", str(tmp_path / name), "--track", "none"),
            *("--batch-size", "2", "--epochs", "2", "--learning-rate", "1e-2", "--save-every", "2"),
            *("--eval-data", str(data), "--eval-every", "3", "--accumulate", "2", "--resume", "latest"),
        ]

    runs.run(arguments("whole"), tmp_path / "log", processes=2)
    log = tmp_path / "sharded.log"
    runs.run(arguments("sharded"), log, processes=2, shard=True)
    told = re.search(r"([\d,]+) of ([\d,]+) in this process", Path(f"{log}.0").read_text())
    assert told
    here, there = (int(number.replace(",", "")) for number in told.groups())
    assert there / 2 <= here < 0.6 * there  # tensors of odd length are not halved
    ends = runs.finish(runs.start(arguments("killed"), log, processes=2, shard=True, die_at=14))
    # Whichever of them is later at its own end may find the other gone before.
    assert -9 in ends
    assert 0 not in ends
    runs.run(arguments("killed"), log, processes=2, shard=True)
    assert runs.journal(tmp_path / "sharded") == runs.journal(tmp_path / "killed")
    losses = [[line["loss"] for line in runs.journal(tmp_path / name)] for name in ("whole", "sharded")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    whole, sharded, killed = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "sharded", "killed"))
    assert all(whole[name].allclose(sharded[name], atol=1e-4) for name in whole)
    assert all(sharded[name].equal(killed[name]) for name in sharded)
    checkpoints = [sorted((tmp_path / name / "checkpoints").glob("step-*"))[-1] for name in ("whole", "sharded")]
    shapes = [{k: v.shape for k, v in load_file(c / "optimizer.safetensors").items()} for c in checkpoints]
    assert shapes[0] == shapes[1]


def environment(config: str) -> dict[str, str]:
    """What `accelerate launch` with a config of ours tells the processes that it starts."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    path = Path(__file__).parents[2] / "training" / "configs" / config
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", str(path), "train"]))
    return prepare_multi_gpu_env(arguments)


def test_the_launcher_tells_of_shards_where_its_config_says_so() -> None:
    assert environment("fsdp2.yaml")["ACCELERATE_USE_FSDP"] == "true"
    assert "ACCELERATE_USE_FSDP" not in environment("ddp.yaml")
