"""What commands print and write."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

import flamingo_app
from tests.interfaces.conftest import ALL, Flamingo

STARTER = Path(flamingo_app.__file__).parent / "starter"


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["pictures"], ALL),
        (["pictures/*.png"], ["pictures/blue.png", "pictures/lime.png", "pictures/red.png"]),
        (["pictures/**/*.JPG", "pictures/red.png"], ["pictures/deep/white.JPG", "pictures/red.png"]),
        (["pictures/red.png", "pictures", "pictures/red.png"], ["pictures/red.png", *ALL[:-1]]),
    ],
)
def test_caption_finds_files_folders_and_globs(
    flamingo: Flamingo, folder: Path, paths: list[str], found: list[str]
) -> None:
    ran = flamingo("caption", *paths, "--model", "MODEL")
    assert ran.status == 0
    assert ran.err == ""
    assert [record["file_name"] for record in ran.records] == found
    for record in ran.records:
        assert set(record) == {"file_name", "text", "score"}
        assert isinstance(record["text"], str)
        assert record["score"] < 0


def test_a_name_that_looks_like_a_glob_is_a_file_first(flamingo: Flamingo, folder: Path) -> None:
    (folder / "pictures" / "red.png").rename(folder / "red[1].png")
    assert flamingo("caption", "red[1].png", "--model", "MODEL").records[0]["file_name"] == "red[1].png"


def test_caption_goes_on_after_a_failure_and_says_so(flamingo: Flamingo, folder: Path) -> None:
    ran = flamingo("caption", "broken.png", ALL[0], "none.png", "--model", "MODEL", "--batch-size", "2", "--json")
    assert ran.status == 1
    broken, blue, none = ran.records
    assert set(blue) == {"file_name", "text", "score"}
    assert (broken["text"], broken["score"]) == (None, None)
    assert "none of these" in broken["error"]
    assert "missing" in none["error"]
    first, second, summary = ran.err.splitlines()
    assert (first, second) == (f"flamingo: {broken['error']}", f"flamingo: {none['error']}")
    assert json.loads(summary).items() >= {"pictures": 3, "captioned": 1, "failed": 2, "out": None}.items()


def test_caption_writes_where_a_link_leads(flamingo: Flamingo, folder: Path) -> None:
    (folder / "there.jsonl").touch(0o600)
    (folder / "link.jsonl").symlink_to("there.jsonl")
    ran = flamingo("caption", "pictures", "--model", "MODEL", "--out", "link.jsonl", "--json")
    assert ran.status == 0
    assert json.loads(ran.out).items() >= {"pictures": 4, "captioned": 4, "failed": 0, "out": "link.jsonl"}.items()
    assert (folder / "link.jsonl").is_symlink()
    assert (folder / "there.jsonl").stat().st_mode & 0o777 == 0o600
    records = [json.loads(line) for line in (folder / "there.jsonl").read_text().splitlines()]
    assert records == flamingo("caption", "pictures", "--model", "MODEL").records
    assert sorted(path.name for path in folder.glob("*link*")) == ["link.jsonl"]


def test_caption_as_coco(flamingo: Flamingo, folder: Path) -> None:
    ran = flamingo("caption", ALL[0], "none.png", "--model", "MODEL", "--format", "coco")
    assert ran.status == 1
    coco = json.loads(ran.out)
    assert [image["file_name"] for image in coco["images"]] == [ALL[0], "none.png"]
    (annotation,) = coco["annotations"]
    assert annotation["image_id"] == coco["images"][0]["id"]
    assert annotation["caption"] == flamingo("caption", ALL[0], "--model", "MODEL").records[0]["text"]
    assert "missing" in coco["images"][1]["error"]


def test_caption_as_csv(flamingo: Flamingo, folder: Path) -> None:
    ran = flamingo("caption", ALL[0], "none.png", "--model", "MODEL", "--format", "csv")
    blue, none = csv.DictReader(io.StringIO(ran.out, newline=""))
    assert blue["file_name"] == ALL[0]
    assert float(blue["score"]) < 0
    assert blue["error"] == none["text"] == none["score"] == ""
    assert "missing" in none["error"]


@pytest.mark.parametrize("form", ["jsonl", "coco", "csv"])
def test_names_that_are_no_utf8_lose_no_byte(flamingo: Flamingo, folder: Path, form: str) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (folder / ALL[0]).rename(folder / name)
    ran = flamingo("caption", name, "--model", "MODEL", "--format", form, "--out", "out")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    written = (folder / "out").read_bytes()
    if form == "csv":
        assert b"\ncaf\xe9.png," in written
    else:
        record = json.loads(written.decode("utf-8"))
        assert record.get("images", [record])[0]["file_name"] == name


@pytest.mark.parametrize("select", ["random", "similar"])
def test_caption_after_shots_and_a_prompt(flamingo: Flamingo, folder: Path, select: str) -> None:
    options = ["--shots", "shots.jsonl", "--select", select, "--num-shots", "1", "--prompt", "a picture of"]
    ran = flamingo("caption", "pictures", "--model", "MODEL", *options)
    assert ran.status == 0
    without = flamingo("caption", "pictures", "--model", "MODEL").records
    assert [record["score"] for record in ran.records] != [record["score"] for record in without]


def test_ask_prints_one_answer(flamingo: Flamingo, folder: Path) -> None:
    ran = flamingo("ask", *ALL[:2], "--question", "what is this?", "--model", "MODEL")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == flamingo("ask", *ALL[:2], "--question", "what is this?", "--model", "MODEL").out
    assert ran.out.endswith("\n")


def test_info_describes_the_model(flamingo: Flamingo, saved: Path) -> None:
    ran = flamingo("info", "MODEL", "--json")
    assert (ran.status, ran.err) == (0, "")
    info = json.loads(ran.out)
    assert info["name"] == str(saved)
    assert info["parameters"].keys() == {"trainable", "frozen"}
    assert [gate["layer"] for gate in info["gates"]] == [0, 1]
    assert info["gates"][0]["attention"] == pytest.approx(0.4621)
    assert info["backbones"]["vision"]["identity"].startswith("local-dir:")
    assert len(info["backbones"]["text"]["sha256"]) == 64
    assert (info["attend"], info["positions"]) == ("latest", 320)
    assert info["world"] is None
    text = flamingo("info", "MODEL").out
    assert f"{info['parameters']['trainable']:,} that train" in text
    assert "layer 1: attention +0.462" in text


def test_info_shows_what_is_written_beside_the_weights(flamingo: Flamingo, saved: Path) -> None:
    things = [{"emoji": "🐶", "name": "dog", "stage": "trained"}, {"emoji": "🦩", "name": "bird", "stage": "heldout"}]
    (saved / "world.json").write_text(json.dumps({"objects": things}), encoding="utf-8")
    (saved / "measured.json").write_text('{"suites": {"captions": {"one_object": {"accuracy": 0.97}}}}')
    try:
        info, text = json.loads(flamingo("info", "MODEL", "--json").out), flamingo("info", "MODEL").out
    finally:
        (saved / "world.json").unlink()
        (saved / "measured.json").unlink()
    assert info["world"]["objects"] == things
    assert info["measured"]["suites"]["captions"]["one_object"]["accuracy"] == 0.97
    assert "1 objects: 🐶 dog" in text
    assert "suites captions one_object: 97.0%" in text


def test_info_of_the_starter(flamingo: Flamingo) -> None:
    info = json.loads(flamingo("info", "--json").out)
    assert info["name"] == "starter"
    assert info["backbones"]["vision"]["identity"] == "starter/vision"
    assert {thing["stage"] for thing in info["world"]["objects"]} == {"trained", "heldout"}
    assert all(thing["emoji"] and thing["name"] for thing in info["world"]["objects"])
    assert info["measured"]
