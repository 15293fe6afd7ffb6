"""The memory is fine-tuned on what was said and shown earlier in a document, as a conversation leaves it there."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from data.formats import Reading, open_source
from data.reading import Reader
from flamingo_app import load
from flamingo_app.model.trainable import NAMES
from tests.memory.test_conversation_memory import SMALL, VARIANTS
from tests.training import runs
from training.objective import row_losses
from training.remembering import remembered_losses
from training.train import main

MEMORY: dict[str, Any] = SMALL | {"gated": {"heads": 2, "dim_head": 8}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.tiny_model(tmp_path_factory.mktemp("model"), memory=MEMORY)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.documents(tmp_path_factory.mktemp("data") / "documents", 8)


def arguments(model: Path, data: Path | str, output: Path, *more: str) -> list[str]:
    return [
        *("--data", str(data), "--model", str(model), "--output", str(output), "--track", "none"),
        *("--train", "memory", "--batch-size", "4", "--learning-rate", "1e-2", "--gate-rate", "1", *more),
    ]


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in runs.journal(output)]


@pytest.mark.parametrize(("encoder", "update"), VARIANTS, ids=["-".join(each) for each in VARIANTS])
def test_rows_are_read_with_the_memory_that_a_conversation_would_have(
    encoder: str, update: str, tmp_path: Path
) -> None:
    """Turn by turn through `write_turn`, row by row; the rest is what it costs to say the turns again."""
    folder = runs.tiny_model(tmp_path, memory=MEMORY | {"encoder": encoder, "update": update}, initializer_range=0.3)
    flamingo, processor = load(folder)
    torch.nn.init.normal_(flamingo.memory.to_time.weight)
    reader = Reader(processor=processor, max_tokens=320, max_images=8, remembers=True)
    sources = [open_source(str(runs.documents(tmp_path / f"{n}", 1, chunks=n)), Reading()) for n in (2, 5, 7)]
    cuts = [reader.cut(source[0]) for source in sources]
    assert [len(cut.turns) for cut in cuts] == [1, 2, 3]
    pixels = [reader.pixels(cut, "") for cut in cuts]
    together = remembered_losses(flamingo, reader.batch(cuts, pixels, "pixel_values"))
    recalled = []
    for cut, shown, loss in zip(cuts, pixels, together, strict=True):
        alone = reader.batch([cut], [shown], "pixel_values")
        turns, left, slots = alone.pop("turns"), alone.pop("left"), flamingo.empty_slots()
        for number in left[0]:
            slots = flamingo.write_turn(slots, **{name: value[number, None] for name, value in turns.items()})
        read = row_losses(partial(flamingo, memory=flamingo.view_memory(slots)), alone).item()
        recalled.append((loss.item() - read) / cut.num_labels)
    assert recalled[0] > 0
    assert recalled == pytest.approx([recalled[0]] * 3, rel=1e-3)


def test_it_lowers_the_loss_and_moves_the_memory_alone(model: Path, data: Path, tmp_path: Path) -> None:
    flags = ("--steps", "20", "--eval-data", str(data), "--feature-cache", str(tmp_path / "cache"), "--workers", "1")
    assert main(arguments(model, data, tmp_path / "run", *flags)) == 0
    assert sum(losses(tmp_path / "run")[-5:]) < sum(losses(tmp_path / "run")[:5])
    before, after = (load(folder)[0].state_dict() for folder in (model, tmp_path / "run"))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == set(NAMES["memory"])
    assert {"memory 0 attn", "layer 0 attn"} <= runs.journal(tmp_path / "run")[0]["gates"].keys()


def test_with_other_parts_everything_named_moves(model: Path, data: Path, tmp_path: Path) -> None:
    assert main(arguments(model, data, tmp_path / "run", "--train", "memory,all", "--steps", "2")) == 0
    before, after = (load(folder)[0].state_dict() for folder in (model, tmp_path / "run"))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {part for parts in NAMES.values() for part in parts}


def test_two_processes_are_one_with_twice_the_batch_and_are_resumed_exactly(
    model: Path, data: Path, tmp_path: Path
) -> None:
    def two(name: str) -> list[str]:
        more = ("--batch-size", "2", "--epochs", "3", "--save-every", "2", "--resume", "latest")
        return arguments(model, data, tmp_path / name, *more)

    assert main(arguments(model, data, tmp_path / "one", "--epochs", "3")) == 0
    runs.run(two("two"), tmp_path / "log", processes=2)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    ends = runs.finish(runs.start(two("killed"), tmp_path / "log", processes=2, die_at=14))
    assert ends[0] == -9
    runs.run(two("killed"), tmp_path / "log", processes=2)
    assert runs.journal(tmp_path / "killed") == runs.journal(tmp_path / "two")


def test_where_nothing_is_to_be_remembered_it_is_told(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = runs.image_folder(tmp_path / "pairs", 4)
    assert main(arguments(model, pairs, tmp_path / "run")) == 2
    told = capsys.readouterr()
    assert "4 of 4" in told.err
    assert "a single chunk" in told.out
    without = runs.tiny_model(tmp_path / "without")
    assert main(arguments(without, pairs, tmp_path / "run")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "a model with memory to train" in line
    assert not (tmp_path / "run").exists()


def test_the_rows_that_are_shown_tell_what_is_remembered(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(model, data, tmp_path / "run", "--check")) == 0
    (row, *_) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("row"))
    remembered = "".join(f"(remembered: <image> {number:03}<|endofchunk|>) " for number in (0, 37))
    assert row.endswith(f"{remembered}<image>[ 074<|endofchunk|>]<image>[ 000<|endofchunk|>]")
