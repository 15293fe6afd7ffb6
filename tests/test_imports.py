"""The layers hold, the public names are the promised ones, and importing is cheap."""

import subprocess
import sys
from pathlib import Path

import pytest

import flamingo_app

ROOT = Path(__file__).parent.parent
PUBLIC = {
    "Conversation",
    "FlamingoConfig",
    "FlamingoForConditionalGeneration",
    "FlamingoProcessor",
    "MemoryState",
    "Shot",
    "caption",
    "classify",
    "load",
}
HEAVY = {"torch", "transformers", "open_clip", "gradio", "PIL"}


def test_the_layers_of_the_imports_hold():
    # In a process of its own: import-linter reads the source, which the test hooks have rewritten in this one.
    result = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


def test_the_public_names_are_pinned_and_can_be_had():
    assert set(flamingo_app.__all__) == PUBLIC == set(dir(flamingo_app))
    for name in PUBLIC:
        assert getattr(flamingo_app, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'flamenco'"):
        flamingo_app.flamenco  # noqa: B018


@pytest.mark.parametrize("module", ["flamingo_app", "flamingo_app.errors", "flamingo_app.interfaces.cli"])
def test_importing_loads_nothing_heavy(module: str):
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not HEAVY & set(loaded.split())
