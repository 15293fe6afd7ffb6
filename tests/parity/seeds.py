"""Rewrites docs/seeds.md from a parity run: `python -m tests.parity.seeds`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.parity.comparing import TOLERANCE, Row, errors

FOLDER = Path(__file__).parent
TABLE = FOLDER.parents[1] / "docs" / "seeds.md"
MODULES = ("flamingo_pytorch", "idefics", "perceiver_io", "memformer", "linformer")
HEAD = f"""# Seeds

What grew into this project, each compared with its published package: the reference's random weights in our modules,
the same inputs, at sizes and options that hypothesis draws. The error is the largest difference seen in outputs and in
gradients of inputs and weights, relative to the largest value where that is above 1, in fp32 on a CPU; the tests allow
{TOLERANCE:.0e}. Where we differ on purpose, the test's docstring says why. `python -m tests.parity.seeds` measures and
writes this table.

| system | option | in the paper | in the reference | here | where | test | error |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def declared() -> list[tuple[str, Row]]:
    """Every case, and the test file that it is measured in."""
    return [(f"tests/parity/test_{name}.py", row) for name in MODULES for row in _rows(name)]


def cells(test: str, row: Row) -> list[str]:
    """A line of the table, but for the error."""
    names = [row.system, row.option, row.symbol]
    return [*names, *(f"`{name}`" for name in (row.reference, row.ours, row.where, test))]


def _rows(name: str) -> list[Row]:
    return import_module(f"tests.parity.test_{name}").ROWS


def main() -> int:
    if code := pytest.main([str(FOLDER), "-q", "--ignore", str(FOLDER / "test_seeds.py")]):
        return int(code)
    missing = [str(row) for _, row in declared() if row not in errors]
    if missing:
        sys.exit(f"no test measured: {', '.join(missing)}")
    lines = ["| " + " | ".join([*cells(test, row), f"{errors[row]:.1e}"]) + " |" for test, row in declared()]
    TABLE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
