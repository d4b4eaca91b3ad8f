"""The table of evasions names tests that exist, and all that there are."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/evasions.md"
ROWS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| (?!evasion )", line)]


@cache
def _tests(pattern: str) -> frozenset[str]:
    """Return the names of the test functions in these files of the integration tests."""
    found: set[str] = set()
    for path in sorted((ROOT / "tests/integration").glob(pattern)):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        functions = (each for each in body if isinstance(each, ast.FunctionDef))
        found |= {each.name for each in functions if each.name.startswith("test_")}
    return frozenset(found)


@pytest.mark.parametrize("row", ROWS, ids=[row.split("|")[1].strip()[:40] for row in ROWS])
def test_every_row_names_tests_that_exist(row: str) -> None:
    """Each row says what happens, and its last cell is nothing but names of integration tests."""
    evasion, outcome, tests = (cell.strip() for cell in row.strip("|").split("|"))
    assert evasion
    assert outcome
    assert re.fullmatch(r"`test_\w+`(, `test_\w+`)*", tests)
    assert set(re.findall(r"test_\w+", tests)) <= _tests("test_*.py")


def test_no_test_of_an_evasion_is_missing() -> None:
    """Every test of the files about evasions stands in the table."""
    assert _tests("test_evasions_*.py") - set(re.findall(r"`(test_\w+)`", "\n".join(ROWS))) == set()
