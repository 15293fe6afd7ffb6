"""Fine-tuning: from each format, with each choice of what learns; faults are found before and during."""

from __future__ import annotations

import json
import re
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from flamingo_app import load
from flamingo_app.model.backbones import fingerprint
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.model.trainable import NAMES, TRAINABLE
from tests.data.test_formats import PAIRS, make
from tests.training import runs
from training.train import main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.image_folder(tmp_path_factory.mktemp("data") / "pictures", 12)


def train(model: Path, data: Path | str, output: Path, *more: str) -> int:
    return main(
        [
            *("--data", str(data), "--model", str(model), "--output", str(output), "--track", "none"),
            *("--batch-size", "4", "--learning-rate", "1e-2", "--gate-rate", "1", *more),
        ]
    )


def losses(output: Path) -> list[float]:
    return [line["loss"] for line in runs.journal(output)]


@pytest.mark.parametrize("kind", [*PAIRS, "picture-book", "mixture"])
def test_twenty_steps_from_each_format_lower_the_loss(kind: str, model: Path, tmp_path: Path) -> None:
    if kind == "mixture":
        for name in ("csv", "mmc4"):
            (tmp_path / name).mkdir()
        sources = [{"path": make("csv", tmp_path / "csv")}, {"path": make("mmc4", tmp_path / "mmc4"), "share": 2}]
        data = str(tmp_path / "mixture.json")
        Path(data).write_text(json.dumps({"sources": sources}))
    else:
        data = "picture-book:8" if kind == "picture-book" else make(kind, tmp_path)
    assert train(model, data, tmp_path / "run", "--steps", "20") == 0
    loss = losses(tmp_path / "run")
    assert len(loss) == 20
    assert sum(loss[-5:]) < sum(loss[:5])


@pytest.mark.parametrize("part", [*(name for name in NAMES if name != "memory"), "all"])
def test_only_what_is_named_learns(part: str, model: Path, data: Path, tmp_path: Path) -> None:
    before = load(model)[0].state_dict()
    assert train(model, data, tmp_path / "run", "--steps", "3", "--train", part) == 0
    after = load(tmp_path / "run")[0].state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == (set(TRAINABLE) - set(NAMES["memory"]) if part == "all" else set(NAMES[part]))


def test_what_comes_out_is_a_model_with_its_card_over_the_same_frozen_weights(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(model, data, tmp_path / "run", "--epochs", "2", "--eval-data", str(data)) == 0
    told = capsys.readouterr().out
    assert re.search(r"frozen weights: sha256 [0-9a-f]{64} before and after", told)
    assert told.count("wanted: ") == told.count("says: ") == 6  # three before, three after
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (model, tmp_path / "run"))
    assert before["text_hash"] == after["text_hash"]
    assert before["vision_hash"] == after["vision_hash"]
    card = (tmp_path / "run" / "README.md").read_text()
    for words in (before["text_hash"], before["vision_hash"], str(data), "| before |", "| after |", "loss.svg"):
        assert words in card
    assert "<polyline" in (tmp_path / "run" / "gates.svg").read_text()
    figures = json.loads((tmp_path / "run" / "figures.json").read_text())
    assert figures["after"]["loss"] < figures["before"]["loss"]
    assert figures["after"]["exact"]["count"] == 12


def test_adapters_are_merged_into_a_language_model_of_its_own(model: Path, data: Path, tmp_path: Path) -> None:
    assert train(model, data, tmp_path / "run", "--steps", "4", "--lora", "2") == 0
    frozen, tuned = load(model)[0], load(tmp_path / "run")[0]
    assert frozen.config.text_hash != tuned.config.text_hash == fingerprint(tuned.language_model.state_dict())
    assert tuned.config.vision_hash == frozen.config.vision_hash
    names = {name for name, _ in frozen.language_model.named_parameters()}
    changed = {
        name
        for name, parameter in tuned.language_model.named_parameters()
        if not torch.equal(parameter, frozen.language_model.get_parameter(name))
    }
    assert {name for name, _ in tuned.language_model.named_parameters()} == names
    assert changed
    assert not any("ln_" in name or "wte" in name for name in changed)


def test_a_text_model_with_adapters_says_what_it_said_while_training(model: Path) -> None:
    from training import lora

    flamingo: FlamingoForConditionalGeneration = load(model)[0]
    lora.add(flamingo, 2, seed=0)
    for name, parameter in flamingo.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(parameter)
    plain = load(model)[0]
    plain.language_model.load_state_dict(lora.merged(flamingo))
    ids = torch.tensor([[97, 98, 99]])
    torch.testing.assert_close(flamingo(ids).logits, plain(ids).logits)


def test_the_feature_cache_changes_no_loss_and_is_written_once(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = ("--feature-cache", str(tmp_path / "cache"))
    assert train(model, data, tmp_path / "plain", "--steps", "5") == 0
    assert train(model, data, tmp_path / "cached", "--steps", "5", *cache) == 0
    assert "12 pictures encoded" in capsys.readouterr().out
    assert train(model, data, tmp_path / "again", "--steps", "5", *cache, "--workers", "2") == 0
    assert "0 pictures encoded, 12 there" in capsys.readouterr().out
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)
    assert losses(tmp_path / "cached") == losses(tmp_path / "again")
    (store,) = (tmp_path / "cache").iterdir()
    with (store / "features.f32").open("r+b") as file:  # as if killed while it wrote
        file.truncate(100)
    assert train(model, data, tmp_path / "cut", "--steps", "5", *cache) == 0
    assert losses(tmp_path / "cut") == losses(tmp_path / "cached")


def test_accumulated_batches_are_one_large_batch(model: Path, data: Path, tmp_path: Path) -> None:
    assert train(model, data, tmp_path / "large", "--steps", "4", "--batch-size", "6") == 0
    assert train(model, data, tmp_path / "small", "--steps", "4", "--batch-size", "2", "--accumulate", "3") == 0
    assert losses(tmp_path / "small") == pytest.approx(losses(tmp_path / "large"), rel=1e-4)


def test_checkpointed_activations_change_nothing(model: Path, data: Path, tmp_path: Path) -> None:
    assert train(model, data, tmp_path / "plain", "--steps", "3") == 0
    assert train(model, data, tmp_path / "lean", "--steps", "3", "--gradient-checkpointing") == 0
    assert losses(tmp_path / "lean") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)


def test_evaluating_on_the_way_changes_no_step(model: Path, data: Path, tmp_path: Path) -> None:
    assert train(model, data, tmp_path / "plain", "--steps", "6") == 0
    assert train(model, data, tmp_path / "looked", "--steps", "6", "--eval-data", str(data), "--eval-every", "2") == 0
    assert losses(tmp_path / "plain") == losses(tmp_path / "looked")


def spoil(folder: Path, rows: list[dict[str, Any]]) -> Path:
    with (folder / "metadata.jsonl").open("a") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)
    return folder


def test_the_linter_finds_what_is_wrong(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs.image_folder(tmp_path / "data", 20)
    (folder / "broken.png").write_bytes(b"\x89PNG no more")
    spoil(
        folder,
        [
            {"file_name": "broken.png", "text": "a broken one"},
            {"file_name": "0.png", "text": "  "},
            {"file_name": "1.png", "text": "an <image> typed"},
            {"file_name": "none.png", "text": "missing"},
            {"file_name": "2.png", "text": "x" * 500},
            {"file_name": "3.png", "text": "a gold 0"},
        ],
    )
    assert main(["--data", str(folder), "--model", str(model), "--output", str(tmp_path / "run"), "--check"]) == 2
    told = capsys.readouterr()
    rows, bad, cut, silent, twice, pictures = told.out.splitlines()[-2].split()[:6]
    assert (rows, bad, cut, silent, twice, pictures) == ("26", "4", "1", "0", "1", "22")
    for line, why in ((21, "none of these"), (22, "no words"), (23, "plain words"), (24, "missing")):
        assert any(
            said.startswith(f"bad  metadata.jsonl line {line}") and why in said for said in told.out.splitlines()
        )
    assert "<image>[ a red 0<|endofchunk|>]" in told.out
    assert "4 of 26" in told.err
    assert not (tmp_path / "run").exists()


def test_the_linter_names_pictures_that_no_row_names(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs.image_folder(tmp_path / "data", 6)
    given = ["--data", str(folder), "--model", str(model), "--output", str(tmp_path / "run"), "--check"]
    assert main(given) == 0
    assert "no row" not in capsys.readouterr().out
    (folder / "more").mkdir()
    (folder / "more" / "forgotten.png").write_bytes((folder / "0.png").read_bytes())
    assert main(given) == 0
    told = capsys.readouterr().out
    assert "names: 1, such as" in told
    assert "forgotten.png" in told


def test_what_is_held_out_is_looked_at_too(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its bad rows, and those that are trained on."""
    held_out = runs.image_folder(tmp_path / "held out", 40)  # of which 12 are those of `data`
    (held_out / "20.png").write_bytes(b"no picture")
    given = ("--eval-data", str(held_out), "--eval-items", "30", "--steps", "1", "--augment")
    assert train(model, data, tmp_path / "run", *given) == 0
    told = capsys.readouterr().out
    assert re.search(r"^ +30 +1 .* 12 +29 .*held out \(held out\)$", told, flags=re.MULTILINE)
    assert "bad  metadata.jsonl line 21" in told
    assert json.loads((tmp_path / "run" / "figures.json").read_text())["after"]["exact"]["count"] == 29
    for path in held_out.glob("*.png"):
        path.write_bytes(b"no picture")
    assert train(model, data, tmp_path / "other", *given) == 2
    assert "30 of 30" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_pictures_are_cut_for_learning_and_whole_for_measuring(model: Path, data: Path, tmp_path: Path) -> None:
    still, cut = ("--eval-data", str(data), "--steps", "1"), ("--augment",)
    assert train(model, data, tmp_path / "still", *still) == 0
    assert train(model, data, tmp_path / "cut", *still, *cut) == 0
    before = [json.loads((tmp_path / run / "figures.json").read_text())["before"]["loss"] for run in ("still", "cut")]
    assert before[0] == before[1]
    assert losses(tmp_path / "still") != losses(tmp_path / "cut")


def test_two_percent_of_bad_rows_are_skipped_counted_and_named_and_more_stop_the_run(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs.image_folder(tmp_path / "data", 98)
    (folder / "broken.png").write_bytes(b"no picture")
    spoil(folder, [{"file_name": "broken.png", "text": "a"}, {"file_name": "0.png"}])
    assert train(model, folder, tmp_path / "run", "--steps", "25") == 0
    told = capsys.readouterr().out
    assert "metadata.jsonl line 99" in told
    assert "metadata.jsonl line 100" in told
    drawn = {number for line in runs.journal(tmp_path / "run") for _, number in line["samples"]}
    assert not drawn & {98, 99}
    spoil(folder, [{"file_name": "broken.png", "text": "a"}] * 30)
    assert train(model, folder, tmp_path / "other", "--steps", "2") == 2
    told = capsys.readouterr()
    assert "32 of 130" in told.err
    named = re.findall(r"^bad  metadata.jsonl line (\d+)", told.out, flags=re.MULTILINE)
    assert [int(number) for number in named] == [*range(99, 131)]


def test_bad_rows_that_nobody_looked_at_are_skipped_on_the_way(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs.image_folder(tmp_path / "data", 49)
    (folder / "7.png").write_bytes(b"no picture")
    look = ("--check-rows", "2", "--epochs", "1")
    assert train(model, folder, tmp_path / "run", *look) == 0
    told = capsys.readouterr().out
    assert told.count("skipped at step") == 1
    assert "line 8" in told
    for number in range(1, 20):
        (folder / f"{number}.png").write_bytes(b"no picture")
    assert train(model, folder, tmp_path / "other", *look) == 1
    assert "unreadable" in capsys.readouterr().err


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_sample(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from data.reading import Reader

    real = Reader.pixels
    monkeypatch.setattr(
        Reader,
        "pixels",
        lambda self, cut, chance: real(self, cut, chance) * (float("nan") if "5.png" in cut.name else 1),
    )
    assert train(model, data, tmp_path / "run", "--batch-size", "1", "--epochs", "1", "--save-every", "1") == 1
    told = capsys.readouterr().err
    assert "line 6" in told
    assert "line 5" not in told
    drawn = runs.journal(tmp_path / "run")
    assert all([0, 5] not in line["samples"] for line in drawn)
    checkpoint = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1]
    assert checkpoint.name == f"step-{len(drawn):07}"
    assert all(tensor.isfinite().all() for tensor in load_file(checkpoint / "model.safetensors").values())


def test_weights_that_are_no_numbers_are_not_saved(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss of the last step cannot tell: it came before."""
    broken = ("--steps", "1", "--learning-rate", "1e30", "--gate-rate", "1e10")
    assert train(model, data, tmp_path / "run", *broken) == 1
    (line,) = [said for said in capsys.readouterr().err.splitlines() if said.startswith("train: ")]
    assert "finite weights after step 1" in line
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-0000000"]
    assert not (tmp_path / "run" / "config.json").exists()


def test_gates_that_stay_shut_are_told(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shut = runs.tiny_model(tmp_path / "shut", gates=0.0)
    assert train(shut, data, tmp_path / "run", "--steps", "2", "--learning-rate", "1e-6") == 0
    assert "no gate is open by more than" in capsys.readouterr().out


def test_figures_reach_the_tracker(model: Path, data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert train(model, data, tmp_path / "run", "--steps", "3", "--track", "tensorboard") == 0
    (events,) = (tmp_path / "run" / "tensorboard").glob("events*")
    found = EventAccumulator(str(events)).Reload()
    assert [point.value for point in found.Scalars("loss")] == pytest.approx(losses(tmp_path / "run"), rel=1e-5)
    assert "gates/layer 0 attn" in found.Tags()["scalars"]
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and path.suffix != ".safetensors"]
    starts = [path.read_bytes()[:2] for path in files]
    assert not any(start == b"PK" or (start[:1] == b"\x80" and start[1:] <= b"\x05") for start in starts)  # no pickles


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_that_is_not_there_is_told_in_one_line(
    name: str, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    assert train(model, data, tmp_path / "run", "--steps", "1", "--track", name) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"pip install {name}" in line
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_written_over_nor_gone_on_with_as_another(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(model, data, tmp_path / "run", "--steps", "2") == 0
    assert train(model, data, tmp_path / "run", "--steps", "2") == 2
    assert "--resume latest" in capsys.readouterr().err
    assert train(model, data, tmp_path / "run", "--steps", "2", "--seed", "1", "--resume", "latest") == 2
    assert "--seed 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--train", "vision"), "--train"),
        (("--train", ","), "--train"),
        (("--learning-rate", "inf"), "--learning-rate"),
        (("--dry-run",), "--push-to-hub"),
        (("--push-to-hub", "no such name", "--dry-run"), "--push-to-hub"),
        (("--feature-cache", "x", "--augment"), "--augment"),
        (("--batch-size", "0"), "--batch-size"),
        (("--steps", "0"), "--steps"),
        (("--workers", "-1"), "--workers"),
        (("--max-bad", "1"), "--max-bad"),
        (("--feature-cache", __file__), "--feature-cache"),
    ],
)
def test_bad_usage_is_one_line(
    flags: tuple[str, ...], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", "nowhere", "--output", str(tmp_path / "run"), *flags]) == 2
    told = capsys.readouterr().err
    assert named in told
    assert len(told.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_what_is_missing_is_told_by_where_it_was_named(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mixture.json").write_text(json.dumps({"sources": [{"path": "none"}]}))
    for given, where, more in (
        ("none", "after --data", ()),
        (tmp_path / "mixture.json", f"among the sources of {tmp_path / 'mixture.json'}", ()),
        (data, "after --eval-data", ("--eval-data", "none")),
        (data, "after --eval-data", ("--eval-data", "none.csv")),
    ):
        assert train(model, given, tmp_path / "run", *more) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert where in line
        assert "none" in line
    assert not (tmp_path / "run").exists()
    assert train(model, data, Path("/proc/none"), "--steps", "1") == 2  # where nobody can make a folder
    (line,) = capsys.readouterr().err.splitlines()
    assert "'/proc/none': No such file" in line


@pytest.mark.parametrize("name", ["DEEPSPEED", "MEGATRON_LM"])
def test_a_launcher_that_saves_by_itself_is_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    assert main(["--data", "nowhere", "--output", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "fsdp2.yaml" in line


def test_the_signals_are_ours_only_while_we_train(model: Path, data: Path, tmp_path: Path) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    assert train(model, data, tmp_path / "run", "--steps", "1") == 0
    assert [signal.getsignal(number) for number in numbers] == before


def test_what_would_be_uploaded_is_the_model_and_its_card_alone(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(model, data, tmp_path / "run", "--steps", "2", "--push-to-hub", "me/mine", "--dry-run") == 0
    told = capsys.readouterr().out
    listed = {line.strip() for line in told.partition("me/mine")[2].splitlines()[1:] if line.startswith("  ")}
    assert {"config.json", "model.safetensors", "README.md", "tokenizer.json"} <= listed
    assert not any("checkpoints" in name or "events" in name for name in listed)
