"""What the README shows runs as it stands there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    README,
    *(path.read_text(encoding="utf-8") for path in (ROOT / "CONTRIBUTING.md", ROOT / "docs/architecture.md")),
]
MAKE = re.compile(r"(?:^ *|`)make ([a-z]+)", flags=re.MULTILINE)

needs_starter = pytest.mark.skipif(
    not (ROOT / "flamingo_app/starter/model.safetensors").is_file(),
    reason="the starter is not built: run `make starter`",
)


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language in the README."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line.startswith(".venv/bin/flamingo")]


def run(command: list[str], folder: Path = ROOT) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What is read; what is written stays here."""
    for name in ("data", "flamingo_app"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@needs_starter
@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_runs(code: str, checkout: Path):
    assert run([sys.executable, "-c", code], checkout).strip()


@needs_starter
@pytest.mark.parametrize("command", commands())
def test_the_commands_run(command: str, checkout: Path):
    _, *arguments = shlex.split(command)
    said = run([str(Path(sys.executable).parent / "flamingo"), *arguments], checkout)
    assert said.strip() or (checkout / arguments[arguments.index("--out") + 1]).stat().st_size


@pytest.mark.parametrize("target", sorted({name for page in PAGES for name in MAKE.findall(page)}))
def test_the_make_targets_exist(target: str):
    assert run(["make", "-n", target])


def test_the_two_commands_are_shown():
    assert {"make chat", "make test"} <= {line.split("  ")[0] for block in blocks("sh") for line in block.splitlines()}


@pytest.mark.parametrize("page", PAGES, ids=["README", "CONTRIBUTING", "architecture"])
def test_the_files_that_are_linked_exist(page: str):
    for link in re.findall(r"\]\((?!http)([^)]+)\)", page):
        assert (ROOT / link).exists(), link


def test_contributing_stays_short():
    assert len(PAGES[1].splitlines()) <= 50
