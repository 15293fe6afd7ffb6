"""However a run ends, the next one goes on where it stopped."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.interfaces.conftest import Flamingo
from tests.interfaces.test_cli_command import run_command

ROOT = Path(__file__).parents[2]
CAPTION = ["caption", "many", "--model", "MODEL", "--out", "out.jsonl", "--batch-size", "3"]


@pytest.fixture
def many(folder: Path) -> Path:
    """Forty pictures: each fifth a copy of an earlier one, each ninth broken."""
    draw = random.Random(0)
    (folder / "many").mkdir()
    for number in range(40):
        path = folder / "many" / f"{number:02}.png"
        if number % 9 == 4:
            path.write_text("words")
        elif number % 5 == 4:
            shutil.copy(folder / "many" / "00.png", path)
        else:
            Image.new("RGB", (9, 7), tuple(draw.randrange(256) for _ in "rgb")).save(path)
    return folder


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def killed(folder: Path, saved: Path, seed: int, kills: int, whole: int, *arguments: str) -> dict[str, Any]:
    """Run the command, killed so many times, to its end."""
    given = [str(saved) if argument == "MODEL" else argument for argument in arguments]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.interfaces.killed", *map(str, (seed, kills, whole, "out.jsonl")), *given],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])  # what is printed before are summaries


CLASSIFY = ["classify", "many", "--label", "a cat", "--label", "dogs", "--calibrate", *CAPTION[2:]]
AT_LENGTH = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(CAPTION, id="caption"),
        pytest.param(CLASSIFY, id="classify", marks=AT_LENGTH),
        pytest.param(["python", "many", "MODEL", "out.jsonl"], id="python", marks=AT_LENGTH),
    ],
)
def test_killed_at_any_moment_the_file_is_that_of_one_run(
    flamingo: Flamingo, many: Path, saved: Path, arguments: list[str]
) -> None:
    """Kills strike the loading, the decoding in workers and the writing; what is left must be gone on with."""
    if arguments[0] == "python":
        uninterrupted = CAPTION
    else:
        arguments = uninterrupted = [*arguments, "--workers", "2", "--json"]
    assert flamingo(*uninterrupted).status == 1
    whole = (many / "out.jsonl").read_bytes()
    for file in (many / "out.jsonl", many / ".out.jsonl.run"):
        file.unlink()
    result = killed(many, saved, 1, 20, len(whole), *arguments)
    assert result["status"] == 1
    assert len(set(result["left"]) - {0, 40}) >= 5, "the moments must lie within the work"
    assert (many / "out.jsonl").read_bytes() == whole


def test_the_installed_command_goes_on_after_a_kill(many: Path, saved: Path) -> None:
    arguments = [*CAPTION, "--batch-size", "1", "--json"]
    given = [str(saved) if argument == "MODEL" else argument for argument in arguments]
    assert run_command(*given, cwd=many).returncode == 1  # of the same number of threads, on which last digits hang
    whole = (many / "out.jsonl").read_bytes()
    for file in (many / "out.jsonl", many / ".out.jsonl.run"):
        file.unlink()
    with subprocess.Popen(
        [Path(sys.executable).with_name("flamingo"), *given], cwd=many, stderr=subprocess.DEVNULL
    ) as it:
        while not (many / "out.jsonl").exists() or not (many / "out.jsonl").stat().st_size:
            assert it.poll() is None
        it.kill()
    ran = run_command(*given, cwd=many)
    assert ran.returncode == 1
    summary = json.loads(ran.stdout)
    assert (summary["pictures"], summary["captioned"], summary["failed"]) == (40, 36, 4)
    assert (many / "out.jsonl").read_bytes() == whole


@pytest.mark.parametrize("form", ["jsonl", "coco", "csv"])
def test_a_second_run_adds_only_what_is_new(flamingo: Flamingo, many: Path, form: str) -> None:
    given = [*CAPTION, "--format", form, "--json"]
    first = json.loads(flamingo(*given).out)
    assert first.items() >= {"pictures": 40, "captioned": 36, "failed": 4, "written_before": 0}.items()
    before = (many / "out.jsonl").read_text()
    assert json.loads(flamingo(*given).out)["written_before"] == 40
    assert (many / "out.jsonl").read_text() == before
    Image.new("RGB", (3, 3), "orange").save(many / "many" / "99.png")
    assert json.loads(flamingo(*given).out).items() >= {"pictures": 41, "written_before": 40}.items()
    if form == "jsonl":
        assert (many / "out.jsonl").read_text().startswith(before)
        assert records(many / "out.jsonl")[-1]["file_name"] == "many/99.png"


def test_records_that_somebody_took_out_are_made_again(flamingo: Flamingo, many: Path) -> None:
    flamingo(*CAPTION)
    whole = records(many / "out.jsonl")
    (many / "many" / "04.png").write_bytes((many / "many" / "03.png").read_bytes())
    lines = (many / "out.jsonl").read_text().splitlines(keepends=True)
    (many / "out.jsonl").write_text("".join(line for line in lines if '"many/04.png"' not in line))
    flamingo(*CAPTION)
    again = records(many / "out.jsonl")
    assert [each["file_name"] for each in again] == [e["file_name"] for e in whole if "04" not in e["file_name"]] + [
        "many/04.png"
    ]
    assert {key: again[-1][key] for key in ("text", "score")} == {key: whole[3][key] for key in ("text", "score")}


def test_the_end_of_the_file_may_be_torn_anywhere(flamingo: Flamingo, many: Path) -> None:
    flamingo(*CAPTION)
    whole, run = (many / "out.jsonl").read_bytes(), (many / ".out.jsonl.run").read_bytes()
    draw = random.Random(1)
    for _ in range(6):
        (many / "out.jsonl").write_bytes(whole[: draw.randrange(len(whole))])
        if draw.random() < 0.5:
            (many / ".out.jsonl.run").write_bytes(run[: draw.randrange(run.index(b"\n") + 1, len(run))])
        flamingo(*CAPTION)
        names = [record["file_name"] for record in records(many / "out.jsonl")]
        assert names == [f"many/{number:02}.png" for number in range(40)]


def test_other_settings_are_refused(flamingo: Flamingo, many: Path) -> None:
    flamingo(*CAPTION)
    before = (many / "out.jsonl").read_bytes()
    for other, said in (
        (["--prompt", "a picture of"], "with other --prompt"),
        (["--shots", "shots.jsonl"], "with other --shots"),
        (["--format", "csv"], "something else"),
    ):
        ran = flamingo(*CAPTION, *other)
        assert ran.status == 2
        assert said in ran.err
        assert (many / "out.jsonl").read_bytes() == before
    assert flamingo(*CAPTION, "--prompt", "a picture of", "--overwrite").status == 1
    assert len(records(many / "out.jsonl")) == 40


def test_a_list_of_pictures_is_no_file_of_records(flamingo: Flamingo, many: Path) -> None:
    (many / "list.jsonl").write_text('{"file_name": "many/00.png"}\n')
    for command in ("caption", "classify"):
        labels = ["--label", "a", "--label", "b"] if command == "classify" else []
        ran = flamingo(command, "list.jsonl", *labels, "--model", "MODEL", "--out", "list.jsonl")
        assert ran.status == 2
        assert "holds something else" in ran.err
    assert (many / "list.jsonl").read_text() == '{"file_name": "many/00.png"}\n'


def test_two_runs_do_not_write_one_file(flamingo: Flamingo, many: Path) -> None:
    import fcntl

    flamingo(*CAPTION)
    (many / "out.jsonl").write_text("")
    with (many / ".out.jsonl.run").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        ran = flamingo(*CAPTION)
    assert ran.status == 2
    assert "no other run is writing" in ran.err
    assert (many / "out.jsonl").read_text() == ""


def test_copies_have_the_same_caption(flamingo: Flamingo, many: Path) -> None:
    said = {record["file_name"]: record for record in flamingo("caption", "many", "--model", "MODEL").records}
    for copy in ("09", "14", "19"):
        assert said[f"many/{copy}.png"]["text"] == said["many/00.png"]["text"]
        assert said[f"many/{copy}.png"]["score"] == said["many/00.png"]["score"]
