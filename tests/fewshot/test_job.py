"""From Python as from the command line: a file of records that the next call goes on with."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flamingo_app.errors import ConfigError, FlamingoError, PictureError
from flamingo_app.fewshot.captioning import Caption, caption
from flamingo_app.fewshot.classification import Classification, classify
from flamingo_app.fewshot.shots import Shot
from flamingo_app.model.flamingo import FlamingoForConditionalGeneration
from flamingo_app.processing import FlamingoProcessor

RED, BLUE = (Shot(Image.new("RGB", (12, 9), colour), f"a {colour} one.") for colour in ("red", "blue"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures, two of them the same, and two files that are none."""
    draw = random.Random(0)
    (tmp_path / "many").mkdir()
    for number in range(10):
        colour = "navy" if number in (2, 7) else tuple(draw.randrange(256) for _ in "rgb")
        Image.new("RGB", (9, 7), colour).save(tmp_path / "many" / f"{number}.png")
    (tmp_path / "many" / "35.png").write_text("words")
    (tmp_path / "many" / "36.png").mkdir()
    return tmp_path


@pytest.fixture(params=["caption", "classify"])
def labelled(request: Any, model: FlamingoForConditionalGeneration, processor: FlamingoProcessor) -> Callable[..., Any]:
    """Either function, with its shots."""

    def run(images: Any, **options: Any) -> list[Caption] | list[Classification]:
        given: dict[str, Any] = {"processor": processor, "shots": [RED, BLUE], "batch_size": 3} | options
        if request.param == "caption":
            return [*caption(model, images, max_new_tokens=5, **given)]
        return [*classify(model, images, orders=2, **given)]

    return run


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def as_record(said: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(said).items() if name != "error" or value is not None}


def test_what_is_returned_stands_in_the_file(labelled: Any, folder: Path) -> None:
    out = folder / "out.jsonl"
    said = labelled(folder / "many", out=out)
    names = [str(path) for path in sorted((folder / "many").iterdir())]
    assert [each.file_name for each in said] == names
    assert records(out) == [as_record(each) for each in said]
    assert {Path(each.file_name).name for each in said if each.error} == {"35.png", "36.png"}
    assert said == labelled(names), "and the same comes without a file"
    assert said == labelled({name: Path(name) for name in names})


def test_it_is_written_before_anything_is_asked_for(
    model: FlamingoForConditionalGeneration, processor: FlamingoProcessor, folder: Path
) -> None:
    caption(model, folder / "many", processor=processor, max_new_tokens=2, out=folder / "out.jsonl")
    assert len(records(folder / "out.jsonl")) == 12


@pytest.mark.parametrize("workers", [0, 2, None])
def test_a_run_that_stopped_anywhere_is_gone_on_with(labelled: Any, folder: Path, workers: int | None) -> None:
    out, run = folder / "out.jsonl", folder / ".out.jsonl.run"
    first = labelled(folder / "many", out=out)
    whole, log = out.read_bytes(), run.read_bytes()
    settings = log.index(b"\n") + 1
    draw = random.Random(1)
    for _ in range(3):
        end = draw.randrange(len(log) - settings) + settings
        run.write_bytes(log[:end])
        batches = [json.loads(line)["end"] for line in log[:end].split(b"\n")[1:-1]]
        out.write_bytes(whole[: draw.randrange(max([0, *batches]), len(whole))])
        assert labelled(folder / "many", out=out, workers=workers) == first
        assert out.read_bytes() == whole


def test_the_second_call_adds_what_is_new(labelled: Any, folder: Path) -> None:
    out = folder / "out.jsonl"
    labelled(folder / "many", out=out)
    before = out.read_bytes()
    Image.new("RGB", (9, 7), "pink").save(folder / "many" / "10.png")
    said = labelled(folder / "many", out=out)
    assert out.read_bytes().startswith(before)
    assert len(records(out)) == len(said) == 13
    assert said[2].file_name == records(out)[-1]["file_name"] == str(folder / "many" / "10.png")


def test_other_settings_are_refused(labelled: Any, folder: Path) -> None:
    out = folder / "out.jsonl"
    labelled(folder / "many", out=out)
    before = out.read_bytes()
    for options, flag in (({"prompt": "words"}, "--prompt"), ({"shots": [BLUE, RED]}, "--shots"), ({"seed": 1}, "--s")):
        with pytest.raises(FlamingoError, match=f"with other {flag}"):
            labelled(folder / "many", out=out, **options)
        assert out.read_bytes() == before
    labelled(folder / "many", out=out, prompt="words", overwrite=True)
    assert len(records(out)) == 12


def test_pictures_in_memory_need_names_for_a_file(labelled: Any, folder: Path) -> None:
    with pytest.raises(ConfigError, match="names for out"):
        labelled([RED.image], out=folder / "out.jsonl")
    assert not (folder / "out.jsonl").exists()
    (said,) = labelled({"red": RED.image}, out=folder / "out.jsonl")
    assert said.file_name == records(folder / "out.jsonl")[0]["file_name"] == "red"
    (unnamed,) = labelled([RED.image])
    assert unnamed.file_name is None


def test_a_picture_that_is_named_twice_is_returned_twice_and_written_once(labelled: Any, folder: Path) -> None:
    path = folder / "many" / "0.png"
    one, other = labelled([path, str(path)], out=folder / "out.jsonl")
    assert one == other
    assert len(records(folder / "out.jsonl")) == 1


def test_a_picture_may_stand_alone(labelled: Any, folder: Path) -> None:
    path = folder / "many" / "0.png"
    for alone in (path, path.read_bytes(), Image.open(path).copy()):
        (said,) = labelled(alone)
        (listed,) = labelled([alone])
        assert said == listed
        assert said.error is None


def test_a_path_has_one_name(labelled: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not it begins with ./, and wherever it stands."""
    monkeypatch.chdir(folder / "many")
    (folder / "many" / "list.jsonl").write_text('{"image": "./0.png"}\n{"image": "0.png"}\n')
    for images in (["./0.png", "0.png", Path("./0.png")], "./0.png", "./[0].png", "list.jsonl", "./list.jsonl"):
        assert {each.file_name for each in labelled(images, out=folder / "out.jsonl")} == {"0.png"}
    assert len(records(folder / "out.jsonl")) == 1


def test_a_path_without_pictures_is_refused_at_once(labelled: Any, folder: Path) -> None:
    (folder / "none").mkdir()
    for path in (folder / "none", str(folder / "*.gif")):
        with pytest.raises(PictureError):
            labelled(path)
