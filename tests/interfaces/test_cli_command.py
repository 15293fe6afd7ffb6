"""The command as it is installed, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("flamingo")


def run_command(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, **{"timeout": 250} | options)


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
