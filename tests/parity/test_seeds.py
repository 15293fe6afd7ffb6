"""docs/seeds.md is the table of these tests."""

from __future__ import annotations

import re
from pathlib import Path

from tests.parity.comparing import TOLERANCE
from tests.parity.seeds import FOLDER, MODULES, TABLE, cells, declared


def table() -> list[list[str]]:
    rows = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_every_case_has_its_row():
    assert [row[:-1] for row in table()] == [cells(test, row) for test, row in declared()]


def test_no_cell_is_empty_and_every_error_is_small():
    for row in table():
        assert all(row)
        assert 0.0 <= float(row[-1]) <= TOLERANCE


def test_every_parity_test_is_in_the_table():
    assert {f"test_{name}.py" for name in (*MODULES, "seeds")} == {path.name for path in FOLDER.glob("test_*.py")}


def test_what_a_row_names_is_there():
    for _, row in declared():
        name = re.match(r"\w+", row.ours).group()
        assert name in Path(row.where).read_text(encoding="utf-8"), f"{name} is not in {row.where}"
