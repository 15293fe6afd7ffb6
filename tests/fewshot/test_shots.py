"""A shots file is read whole, or the line that is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from flamingo_app.errors import ShotsError
from flamingo_app.fewshot.shots import Shot, read_shots


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (4, 4), "red").save(tmp_path / "pictures" / "red.png")
    return tmp_path


def line(image: str = "pictures/red.png", text: str = "a red one.") -> str:
    return json.dumps({"image": image, "text": text}, ensure_ascii=False)


def test_paths_are_relative_to_the_file(folder: Path) -> None:
    file = folder / "shots.jsonl"
    file.write_text("\ufeff" + line() + "\r\n\n" + line(text="rouge\u2028é"), encoding="utf-8")
    picture = folder / "pictures" / "red.png"
    assert read_shots(file) == [Shot(picture, "a red one."), Shot(picture, "rouge\u2028é")]
    assert read_shots(str(file)) == read_shots(file)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("not json", "'not json' in line 2"),
        ("[" * 100_000, "in line 2"),
        ('"words"', "in line 2"),
        ('{"image": "pictures/red.png"}', "in line 2"),
        ('{"image": 7, "text": "seven"}', "in line 2"),
        (line(text=" "), "in line 2"),
        (line(text="a <image> in it"), "the literal <image> in the text in line 2"),
        (line(image="pictures/blue.png"), "blue.png', which is missing in line 2"),
        (line(image="shots.jsonl"), "whose content is none of these in line 2"),
    ],
)
def test_the_wrong_line_is_named(folder: Path, wrong: str, said: str) -> None:
    file = folder / "shots.jsonl"
    file.write_text(f"{line()}\n{wrong}\n")
    with pytest.raises(ShotsError) as raised:
        read_shots(file)
    assert said in str(raised.value)
    assert str(file) in str(raised.value)
    assert len(str(raised.value)) < 600


def test_pictures_that_do_not_open_may_be_left_out(folder: Path) -> None:
    (folder / "words.png").write_text("words")
    file = folder / "shots.jsonl"
    file.write_text(f"{line(image='words.png')}\n{line()}\n{line(image='none.png')}\n")
    left_out: list[ShotsError] = []
    assert read_shots(file, left_out=left_out.append) == [Shot(folder / "pictures" / "red.png", "a red one.")]
    for error, said in zip(left_out, ("none of these in line 1", "missing in line 3"), strict=True):
        assert said in str(error)
    file.write_text(f"{line()}\nnot json\n")
    with pytest.raises(ShotsError, match="in line 2"):
        read_shots(file, left_out=left_out.append)


def test_files_without_shots_are_refused(folder: Path) -> None:
    (folder / "empty.jsonl").write_text("\n\n")
    (folder / "latin.jsonl").write_bytes(b"\xff\xfe\xfa")
    for name, said in [("none.jsonl", "No such file"), ("pictures", "director"), ("empty.jsonl", "has none")]:
        with pytest.raises(ShotsError, match=said):
            read_shots(folder / name)
        with pytest.raises(ShotsError, match="after --heldout"):
            read_shots(folder / name, option="--heldout")
    with pytest.raises(ShotsError, match="not UTF-8"):
        read_shots(folder / "latin.jsonl")
