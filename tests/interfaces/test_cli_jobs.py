"""Labelling from lists and shards, classifying, and asking whether shots matter."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tests.interfaces.conftest import ALL, Flamingo
from tests.test_images import NOISE, encoded, png_header

CLASSES = {"red": "a red one", "blue": "a blue one"}


@pytest.fixture
def labelled(folder: Path) -> Path:
    """Shots of two labels, held-out pictures with theirs."""
    width = 8  # another for each, so that no two have the same content
    for name, count in (("shots", 3), ("heldout", 6)):
        lines: list[str] = []
        for number in range(count):
            for colour, text in CLASSES.items():
                path = folder / f"{name}-{colour}-{number}.png"
                Image.new("RGB", (width := width + 1, 9), colour).save(path)
                lines.append(json.dumps({"image": path.name, "text": text}))
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def test_lists_name_pictures_relative_to_themselves(flamingo: Flamingo, folder: Path) -> None:
    (folder / "pictures" / "list.csv").write_text('file_name,note\nred.png,"two\nlines"\nnone.png,\n')
    (folder / "list.jsonl").write_text('{"image": "pictures/blue.png"}\n\n{"path": "pictures/red.png"}\n')
    ran = flamingo("caption", "pictures/list.csv", "list.jsonl", "--model", "MODEL")
    assert [record["file_name"] for record in ran.records] == ["pictures/red.png", "pictures/none.png", ALL[0]]
    assert "missing" in ran.records[1]["error"]
    alone = flamingo("caption", ALL[0], "--model", "MODEL").records[0]
    assert ran.records[2]["text"] == alone["text"]


def test_shards_are_read_where_they_lie(flamingo: Flamingo, folder: Path) -> None:
    for number in (0, 1):
        with tarfile.open(folder / f"shard-{number}.tar", "w") as shard:
            for name in ("blue", "red") if number else ("lime",):
                shard.add(folder / "pictures" / f"{name}.png", f"{name}.png")
                shard.add(folder / "pictures" / "notes.txt", f"{name}.txt")
            shard.add(folder / "broken.png", f"broken{number}.png")
    ran = flamingo("caption", "shard-*.tar", "--model", "MODEL")
    names = ["shard-0.tar/lime.png", "shard-0.tar/broken0.png"]
    names += [f"shard-1.tar/{name}.png" for name in ("blue", "red", "broken1")]
    assert [record["file_name"] for record in ran.records] == names
    alone = {record["file_name"]: record for record in flamingo("caption", "pictures", "--model", "MODEL").records}
    for record in ran.records:
        if "error" in record:
            assert f"{record['file_name']!r}, whose content is none of these" in record["error"]
        else:
            assert record["text"] == alone[f"pictures/{Path(record['file_name']).name}"]["text"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list.csv", b"name\nred.png\n", "none in row 1 of 'list.csv'"),
        ("list.jsonl", b'{"image": "a.png"}\nwords\n', "none in row 2 of 'list.jsonl'"),
        ("list.jsonl", b"\xff\xfe", "not UTF-8 text"),
        ("list.jsonl", b"\n", "which names none"),
        ("list.csv", b"file_name\n", "which names none"),
        ("list.csv", b'file_name\n"' + b"x" * 200_000, "field larger than"),
        ("shard.tar", b"words", "damaged, compressed, or no archive"),
        ("none.tar", None, "No such file"),
        ("none.csv", None, "No such file"),
    ],
)
def test_lists_and_shards_that_cannot_be_read_are_one_line(
    flamingo: Flamingo, folder: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (folder / name).write_bytes(content)
    ran = flamingo("caption", name, "--model", "MODEL")
    assert (ran.status, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert said in ran.err


def unusual() -> dict[str, bytes]:
    """Pictures all the same."""
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.new("P", (9, 8), number) for number in range(3)]
    return {
        "wrong.png": encoded(NOISE, "JPEG"),
        "moving.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "print.jpg": encoded(NOISE.convert("CMYK"), "JPEG"),
        "deep.png": encoded(Image.new("I;16", (9, 8), 40_000)),
        "palette.png": encoded(NOISE.convert("P"), transparency=0),
        "turned.jpg": encoded(NOISE, "JPEG", exif=exif),
        "火烈鸟 🦩.webp": encoded(NOISE, "WEBP"),
        "two\nlines.bmp": encoded(NOISE, "BMP"),
    }


def test_each_broken_file_of_a_folder_is_named_with_its_reason(flamingo: Flamingo, folder: Path) -> None:
    """A few in a hundred, of every kind; the others are captioned."""
    broken = {
        "cut.jpg": (encoded(NOISE, "JPEG")[:-900], "damaged or cut short"),
        "half.png": (encoded(NOISE)[:6000], "damaged or cut short"),
        "text.png": (b"words", "none of these"),
        "bomb.png": (png_header(30_000, 30_000), "million pixels"),
        "zero.png": (b"", "empty"),
        "in\ntwo.png": (b"words", "none of these"),
    }
    (folder / "many" / "deep").mkdir(parents=True)
    for name, content in (unusual() | {name: content for name, (content, _) in broken.items()}).items():
        (folder / "many" / name).write_bytes(content)
    reasons = {name: reason for name, (_, reason) in broken.items()}
    for name, reason in (("folder.png", "a folder"), ("pipe.png", "no file"), ("loop.png", "leads nowhere")):
        reasons[name] = reason
    (folder / "many" / "folder.png").mkdir()
    os.mkfifo(folder / "many" / "pipe.png")
    (folder / "many" / "loop.png").symlink_to("loop.png")
    (folder / "many" / "deep" / "up").symlink_to("..")
    (folder / "many" / "locked.png").write_bytes(encoded(NOISE))
    (folder / "many" / "locked.png").chmod(0)
    if not os.access(folder / "many" / "locked.png", os.R_OK):  # whoever may read everything can read this
        reasons["locked.png"] = "not readable"
    draw = random.Random(0)
    for number in range(200):
        colour = tuple(draw.randrange(256) for _ in "rgb")
        Image.new("RGB", (8, 8), colour).save(folder / "many" / "deep" / f"{number:03}.png")
    ran = flamingo("caption", "many", "--model", "MODEL", "--out", "out.jsonl", "--batch-size", "50", "--json")
    assert ran.status == 1
    count = 200 + len(unusual()) + 1 + len(reasons) - ("locked.png" in reasons)
    summary = {"pictures": count, "captioned": count - len(reasons), "failed": len(reasons)}
    assert json.loads(ran.out).items() >= summary.items()
    failed = {}
    for line in (folder / "out.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "error" in record:
            failed[record["file_name"]] = record["error"]
        else:
            assert record["text"] is not None
    assert failed.keys() == {f"many/{name}" for name in reasons}
    for name, reason in reasons.items():
        assert reason in failed[f"many/{name}"]
        assert repr(f"many/{name}") in failed[f"many/{name}"]
    assert len(ran.err.splitlines()) == len(reasons), "a line each, whatever their names hold"


@pytest.mark.parametrize("where", ["folder", "shard"])
def test_pictures_of_formats_that_are_not_decoded_are_named(flamingo: Flamingo, folder: Path, where: str) -> None:
    (folder / "many").mkdir()
    NOISE.save(folder / "many" / "a.png")
    for name in ("b.tif", "c.TIFF", "d.heic", "e.avif"):
        (folder / "many" / name).write_bytes(encoded(NOISE, "TIFF"))
    (folder / "many" / "f.txt").write_text("words")
    given = "many"
    if where == "shard":
        given = "many.tar"
        with tarfile.open(folder / given, "w") as shard:
            shard.add(folder / "many", "./")
    ran = flamingo("caption", given, "--model", "MODEL")
    assert ran.status == 1
    good, *bad = sorted(ran.records, key=lambda record: record["file_name"])
    assert good["file_name"] == f"{given}/a.png"
    assert "error" not in good
    assert [record["file_name"] for record in bad] == [f"{given}/{n}" for n in ("b.tif", "c.TIFF", "d.heic", "e.avif")]
    for record in bad:
        assert record["error"].endswith("whose content is none of these; save it as JPEG or PNG")


def test_globs_do_not_go_round_in_circles(flamingo: Flamingo, folder: Path) -> None:
    (folder / "pictures" / "deep" / "up").symlink_to("..")
    ran = flamingo("caption", "pictures/**/*.png", "--model", "MODEL")
    assert [record["file_name"] for record in ran.records] == [ALL[0], *ALL[2:]]


def test_shots_are_given_one_by_one_too(flamingo: Flamingo, folder: Path) -> None:
    by_file = flamingo("caption", "pictures", "--model", "MODEL", "--shots", "shots.jsonl").records
    by_flag = flamingo("caption", "pictures", "--model", "MODEL", "--shot", "pictures/red.png=a red one.").records
    assert by_flag == by_file
    (folder / "a=b.png").write_bytes((folder / "pictures" / "red.png").read_bytes())
    assert flamingo("caption", "pictures", "--model", "MODEL", "--shot", "a=b.png=a red one.").records == by_file
    for wrong, said in (
        ("red.png", "after --shot"),
        ("=words", "after --shot"),
        ("none.png=words", "missing"),
        ("pictures/red.png=<image>", "the literal <image>"),
    ):
        ran = flamingo("caption", "pictures", "--model", "MODEL", "--shot", wrong)
        assert (ran.status, len(ran.err.splitlines())) == (2, 1)
        assert said in ran.err


def test_captions_that_are_a_shots_are_told(flamingo: Flamingo, folder: Path) -> None:
    given = ["caption", ALL[0], "--model", "MODEL", "--shots", "shots.jsonl", "--num-shots", "1"]

    def shots(*texts: str) -> None:
        lines = [{"image": ALL[-1], "text": text} for text in texts]
        (folder / "shots.jsonl").write_text("\n".join(map(json.dumps, lines)))

    shots("a red one.", "a red one.")
    ran = flamingo(*given)
    said = ran.records[0]["text"]
    assert ran.err == ""
    shown, _ = random.Random(0).sample(range(2), 2)
    shots(*(said if number != shown else "a red one." for number in range(2)))
    again = flamingo(*given)
    assert again.records == ran.records
    assert again.err.splitlines() == [
        "flamingo: 1 of 1 captions are a shot's, word for word: was the picture looked at?"
    ]
    assert json.loads(flamingo(*given, "--json").err)["copied_from_shots"] == 1


def test_classify_labels_every_picture(flamingo: Flamingo, labelled: Path) -> None:
    given = ["classify", "pictures", "broken.png", "--model", "MODEL", "--shots", "shots.jsonl"]
    ran = flamingo(*given, "--calibrate", "--json")
    assert ran.status == 1
    *labels, broken = ran.records
    for record in labels:
        assert set(record) == {"file_name", "label", "probabilities"}
        assert set(record["probabilities"]) == set(CLASSES.values())
        assert sum(record["probabilities"].values()) == pytest.approx(1)
        assert record["label"] == max(record["probabilities"], key=record["probabilities"].get)
    assert set(broken) == {"file_name", "label", "probabilities", "error"}
    summary = json.loads(ran.err.splitlines()[-1])
    assert summary.items() >= {"pictures": 5, "classified": 4, "failed": 1, "abstained": 0}.items()
    unsure = flamingo(*given, "--calibrate", "--abstain", "1")
    assert [record["label"] for record in unsure.records] == [None] * 5
    assert [r["probabilities"] for r in unsure.records] == [r["probabilities"] for r in ran.records]
    (row, *_) = csv.DictReader(io.StringIO(flamingo(*given, "--format", "csv").out, newline=""))
    assert set(json.loads(row["probabilities"])) == set(CLASSES.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--shot", "pictures/red.png=one"], "shots of at least two labels"),
        ([], "shots of at least two labels"),
        (["--shots", "shots.jsonl", "--abstain", "2"], "'2' where a probability, 0 to 1, belongs"),
        (["--label", "a", "--label", "<image>"], "the literal <image>"),
        (["--shots", "shots.jsonl", "--format", "coco"], "--format"),
    ],
)
def test_classify_refuses_in_one_line(flamingo: Flamingo, labelled: Path, options: list[str], said: str) -> None:
    ran = flamingo("classify", "pictures", "--model", "MODEL", *options)
    assert (ran.status, ran.out, len(ran.err.splitlines())) == (2, "", 1)
    assert said in ran.err


@pytest.mark.parametrize("kind", ["labels", "captions"])
def test_report_measures_five_conditions(flamingo: Flamingo, labelled: Path, kind: str) -> None:
    if kind == "captions":
        heldout = (labelled / "heldout.jsonl").read_text().replace("one", "page")
        (labelled / "heldout.jsonl").write_text(heldout)
    given = ["report", "--shots", "shots.jsonl", "--heldout", "heldout.jsonl", "--model", "MODEL"]
    ran = flamingo(*given, "--json", "--out", "plot.svg")
    assert (ran.status, ran.err) == (0, "")
    report = json.loads(ran.out)
    assert report["kind"] == kind
    assert [*report["conditions"]] == ["with", "without", "shuffled", "label_only", "blank"]
    for score in report["conditions"].values():
        assert 0 <= score["low"] <= score["score"] <= score["high"] <= 1
        assert score["count"] == 12
    assert report["verdict"].startswith("Your shots")
    assert "<svg" in (labelled / "plot.svg").read_text()
    lines = flamingo(*given).out.splitlines()
    assert lines[-1] == report["verdict"]
    assert [line[:10].strip() for line in lines[:5]] == ["with", "without", "shuffled", "label only", "blank"]


def test_report_goes_on_without_held_out_pictures_that_do_not_open(flamingo: Flamingo, labelled: Path) -> None:
    lines = (labelled / "heldout.jsonl").read_text().splitlines()
    broken = json.dumps({"image": "broken.png", "text": "a red one."})
    given = ["report", "--shots", "shots.jsonl", "--heldout", "heldout.jsonl", "--model", "MODEL", "--json"]
    whole = json.loads(flamingo(*given).out)
    (labelled / "heldout.jsonl").write_text("\n".join([*lines[:3], broken, *lines[3:]]))
    ran = flamingo(*given)
    assert ran.status == 1
    assert json.loads(ran.out) == whole | {"left_out": 1}
    (said,) = ran.err.splitlines()
    assert "broken.png', whose content is none of these in line 4 of 'heldout.jsonl'" in said


def test_report_refuses_what_it_cannot_measure(flamingo: Flamingo, labelled: Path) -> None:
    given = ["report", "--shots", "shots.jsonl", "--model", "MODEL"]
    for options, said in (
        (["--heldout", "shots.jsonl"], "held-out pictures that are no shots"),
        (["--heldout", "none.jsonl"], "'none.jsonl': No such file or directory; check the path after --heldout"),
        (["--heldout", "heldout.jsonl", "--out", "plot.txt"], "a plot's name"),
    ):
        ran = flamingo(*given, *options)
        assert (ran.status, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert said in ran.err
