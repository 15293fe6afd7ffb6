"""One clear line for whatever cannot be, and nothing half-written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.interfaces.conftest import ALL, Flamingo, Ran
from tests.test_images import NOISE, encoded, png_header


def assert_refused(ran: Ran, *said: str) -> None:
    """Nothing but one line on standard error for each complaint."""
    assert ran.status == 2
    assert ran.out == ""
    lines = ran.err.splitlines()
    assert len(lines) == len(said)
    for line, words in zip(lines, said, strict=True):
        assert line.startswith("flamingo: expected ")
        assert "; got " in line
        assert line.isprintable()
        assert words in line


BAD_PICTURES: dict[str, tuple[bytes | None, str]] = {
    "none.png": (None, "which is missing"),
    "notes.png": (b"words", "whose content is none of these"),
    "empty.png": (b"", "which is empty"),
    "cut.jpg": (encoded(NOISE, "JPEG")[:-900], "damaged or cut short"),
    "huge.png": (png_header(30_000, 30_000), "at most 80 million pixels"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "whose content is none of these"),
    "photo.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "whose content is none of these"),
    os.fsdecode(b"caf\xe9.png"): (b"words", "caf"),
}


@pytest.mark.parametrize("command", [["caption", "--out", "out.jsonl"], ["ask", "--question", "what?"]])
def test_bad_pictures_are_each_one_line(flamingo: Flamingo, folder: Path, command: list[str]) -> None:
    for name, (content, _) in BAD_PICTURES.items():
        if content is not None:
            (folder / name).write_bytes(content)
    # No model of this name: that is not what the lines are about, so nothing was loaded.
    ran = flamingo(*command, *BAD_PICTURES, "--model", "nonsense")
    assert_refused(ran, *(said for _, said in BAD_PICTURES.values()))
    assert not [*folder.glob("*out*")]


def test_ask_needs_every_picture(flamingo: Flamingo, folder: Path) -> None:
    assert_refused(flamingo("ask", ALL[0], "none.png", "--question", "what?", "--model", "MODEL"), "missing")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pictures", "--prompt", ""], "words after --prompt"),
        (["pictures", "--prompt", " \n"], "words after --prompt"),
        (["pictures", "--prompt", "an <image>"], "the literal <image>"),
        (["pictures", "--prompt", "end<|endofchunk|>"], "the literal <|endofchunk|>"),
        (["pictures", "--prompt", "long " * 300], "at most 320 tokens"),
        (["pictures", "--shots", "none.jsonl"], "No such file"),
        (["pictures", "--shots", "bad.jsonl"], "in line 2 of 'bad.jsonl'"),
        (["pictures", "--shots", "lost.jsonl"], "blue.jpg', which is missing in line 1 of 'lost.jsonl'"),
        (["pictures", "--model", "nonsense"], "got 'nonsense'"),
        (["pictures", "--out", "none/out.jsonl"], "--out 'none/out.jsonl': No such file or directory"),
        (["pictures", "--out", "pictures"], "--out 'pictures'"),
        (["pictures", "--out", "/dev/null"], "--out '/dev/null'"),
        (["pictures", "--batch-size", "0"], "'0' where a number above 0 belongs"),
        (["pictures", "--format", "xml"], "--format"),
        (["pictures", "--colour", "red"], "--colour"),
        (["nothing"], "a folder with pictures"),
        (["*.gif"], "'*.gif', which matches none"),
        (["https://example.com/cat.png"], "the address"),
        ([""], "which is a folder"),
        ([], "PATHS"),
    ],
)
def test_bad_usage_is_one_line(flamingo: Flamingo, folder: Path, arguments: list[str], said: str) -> None:
    (folder / "nothing").mkdir()
    (folder / "bad.jsonl").write_text((folder / "shots.jsonl").read_text() + "words\n")
    (folder / "lost.jsonl").write_text('{"image": "blue.jpg", "text": "a blue one."}\n')
    before = sorted(folder.rglob("*"))
    given = arguments if "--model" in arguments else [*arguments, "--model", "MODEL"]
    assert_refused(flamingo("caption", *given), said)
    if "--out" not in arguments:
        assert_refused(flamingo("caption", *given, "--out", "out.jsonl"), said)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("question", "said"),
    [("", "words after --question"), ("is <image> it?", "the literal <image>"), ("why " * 300, "at most 320 tokens")],
)
def test_bad_questions_are_one_line(flamingo: Flamingo, folder: Path, question: str, said: str) -> None:
    assert_refused(flamingo("ask", ALL[0], "--question", question, "--model", "MODEL"), said)


def test_unknown_models_are_one_line(flamingo: Flamingo, folder: Path) -> None:
    assert_refused(flamingo("info", "nonsense"), "got 'nonsense'")
    assert_refused(flamingo("serve", "--model", "nonsense"), "got 'nonsense'")
    assert_refused(flamingo("info", folder / "pictures"), "config.json")


@pytest.mark.parametrize("form", ["jsonl", "coco", "csv"])
def test_a_file_of_something_else_is_not_written_over(flamingo: Flamingo, folder: Path, form: str) -> None:
    (folder / "out").write_text("old")
    given = ["caption", "pictures", "--model", "MODEL", "--out", "out", "--format", form]
    assert_refused(flamingo(*given), "--out 'out', which holds something else; choose another, or give --overwrite")
    assert [path.name for path in folder.glob("*out*")] == ["out"]
    assert (folder / "out").read_text() == "old"
    assert flamingo(*given, "--overwrite").status == 0
    assert "old" not in (folder / "out").read_text()
