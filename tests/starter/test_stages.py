"""The starter's stages: each is run once, and its seconds are those of all its attempts."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from training.starter.__main__ import once

SLOW = """
import sys, time
from pathlib import Path
from training.starter.__main__ import once

def run():
    print("begun", flush=True)
    time.sleep(60)

once(Path(sys.argv[1]), "slow", run)
"""


def test_a_stage_that_is_done_is_passed_over(tmp_path: Path) -> None:
    ran: list[int] = []
    for attempt in range(3):
        once(tmp_path, "stage", lambda attempt=attempt: ran.append(attempt))
    assert ran == [0]
    assert json.loads((tmp_path / "stage.json").read_text())["done"]


def test_the_seconds_of_an_attempt_that_failed_count(tmp_path: Path) -> None:
    def fail() -> None:
        time.sleep(0.3)
        raise FloatingPointError

    with pytest.raises(FloatingPointError):
        once(tmp_path, "stage", fail)
    noted = json.loads((tmp_path / "stage.json").read_text())
    assert not noted["done"]
    once(tmp_path, "stage", lambda: time.sleep(0.3))
    noted = json.loads((tmp_path / "stage.json").read_text())
    assert noted["done"]
    assert noted["seconds"] >= 0.6


def test_the_seconds_of_an_attempt_that_was_told_to_end_count(tmp_path: Path) -> None:
    given = [sys.executable, "-c", SLOW, str(tmp_path)]
    with subprocess.Popen(given, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    noted = json.loads((tmp_path / "slow.json").read_text())
    assert not noted["done"]
    assert 0.5 <= noted["seconds"] < 60
