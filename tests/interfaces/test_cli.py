"""Commands, their output, and one clear line for whatever cannot be."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image

import flamingo_app
from flamingo_app.interfaces.cli import main
from flamingo_app.processing import FlamingoImageProcessor, FlamingoProcessor
from tests import tiny
from tests.test_images import NOISE, encoded, png_header

COMMAND = Path(sys.executable).with_name("flamingo")
STARTER = Path(flamingo_app.__file__).parent / "starter"
COLOURS = ("blue", "lime", "red")


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Flamingo = Callable[..., Ran]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in a folder, with its processor."""
    folder = tmp_path_factory.mktemp("model")
    tiny.from_backbones(folder / "backbones").save_pretrained(folder / "saved")
    FlamingoProcessor(FlamingoImageProcessor(**tiny.PREPROCESS), tiny.tokenizer()).save_pretrained(folder / "saved")
    return folder / "saved"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures and shots, where commands run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    for colour in COLOURS:
        Image.new("RGB", (40, 30), colour).save(tmp_path / "pictures" / f"{colour}.png")
    Image.new("RGB", (40, 30), "white").save(tmp_path / "pictures" / "deep" / "white.JPG", "JPEG")
    (tmp_path / "pictures" / "notes.txt").write_text("words")
    (tmp_path / "pictures" / ".hidden.png").write_text("words")
    (tmp_path / "shots.jsonl").write_text('{"image": "pictures/red.png", "text": "a red one."}\n')
    (tmp_path / "broken.png").write_text("words")
    return tmp_path


@pytest.fixture
def flamingo(capsys: pytest.CaptureFixture[str], saved: Path) -> Flamingo:
    """Run a command in this process; `MODEL` stands for the tiny model."""

    def run(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        try:
            status = main([str(saved) if argument == "MODEL" else str(argument) for argument in arguments])
        except SystemExit as stopped:  # argparse's way out
            status = int(str(stopped.code))
        return Ran(status, *capsys.readouterr())

    return run


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


ALL = ["pictures/blue.png", "pictures/deep/white.JPG", "pictures/lime.png", "pictures/red.png"]


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


def test_caption_writes_a_whole_file(flamingo: Flamingo, folder: Path) -> None:
    (folder / "there.jsonl").write_text("old")
    (folder / "there.jsonl").chmod(0o600)
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
        (["pictures", "--model", "nonsense"], "got nonsense"),
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
    assert_refused(flamingo("info", "nonsense"), "got nonsense")
    assert_refused(flamingo("serve", "--model", "nonsense"), "got nonsense")
    assert_refused(flamingo("info", folder / "pictures"), "config.json")


def test_an_interrupted_run_leaves_the_old_file(
    flamingo: Flamingo, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "out.jsonl").write_text("old")

    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("flamingo_app.interfaces.cli.caption.write_records", interrupt)
    assert flamingo("caption", "pictures", "--model", "MODEL", "--out", "out.jsonl").status == 130
    assert [path.name for path in folder.glob("*out*")] == ["out.jsonl"]
    assert (folder / "out.jsonl").read_text() == "old"


def run_command(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=250, **options)


def test_help_is_at_once() -> None:
    for arguments in (["--help"], ["caption", "--help"]):
        before = os.times()
        ran = run_command(*arguments)
        after = os.times()
        assert ran.returncode == 0
        assert "exit status: 0" in ran.stdout
        # Processor time: other work on the machine lengthens the clock's.
        assert after.children_user + after.children_system - before.children_user - before.children_system < 0.5


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from flamingo_app.interfaces.cli.parser import build_parser; build_parser().format_help(); "
        "import flamingo_app.interfaces.cli; "
        "print(sorted({'torch', 'transformers', 'PIL', 'numpy', 'gradio'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_the_installed_command_captions(folder: Path, saved: Path) -> None:
    ran = run_command("caption", "pictures/red.png", "none.png", "--model", saved, cwd=folder)
    assert ran.returncode == 1
    assert [json.loads(line)["file_name"] for line in ran.stdout.splitlines()] == ["pictures/red.png", "none.png"]
    assert ran.stderr.startswith("flamingo: expected a picture file; got 'none.png', which is missing;")
    assert len(ran.stderr.splitlines()) == 1, "no progress bars, no advice"


def test_the_installed_command_refuses(folder: Path) -> None:
    ran = run_command("ask", "broken.png", "--question", "what?", cwd=folder)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("flamingo: expected a picture")
    assert len(ran.stderr.splitlines()) == 1


def test_a_reader_that_leaves_early_sees_no_traceback(folder: Path, saved: Path) -> None:
    with subprocess.Popen(
        [COMMAND, "caption", "pictures", "--model", saved, "--batch-size", "1"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""


@pytest.mark.skipif(not (STARTER / "measured.json").is_file(), reason="the starter is not finished yet")
def test_info_of_the_starter(flamingo: Flamingo) -> None:
    info = json.loads(flamingo("info", "--json").out)
    assert info["name"] == "starter"
    assert info["backbones"]["vision"]["identity"] == "starter/vision"
    assert {thing["stage"] for thing in info["world"]["objects"]} == {"trained", "heldout"}
    assert all(thing["emoji"] and thing["name"] for thing in info["world"]["objects"])
    assert info["measured"]
