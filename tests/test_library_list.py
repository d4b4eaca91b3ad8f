"""The list of libraries says what was tried: every row has its tests, and everything that is tried has its row."""

from __future__ import annotations

import functools
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from outgate.core import foreign

ROOT = Path(__file__).parent.parent
ROWS: list[dict[str, Any]] = tomllib.loads((ROOT / "docs/data/libraries.toml").read_text(encoding="utf-8"))["library"]
KINDS = ("stdlib", "sync", "async", "C")
KEYS = {"name", "version", "kind", "tested_with", "direct", "relay", "note", "test"}
#: All tests in these are of libraries.
FILES = ("test_async_libraries.py", "test_libraries.py", "test_libraries_logging.py", "test_foreign.py")
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['name']} {row['kind']}")


@functools.cache
def _tests() -> tuple[str, ...]:
    """Return the ids of all tests in the files that rows name."""
    files = {entry.partition("::")[0] for row in ROWS for entry in row["test"]}
    files |= {f"tests/integration/{name}" for name in FILES}
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *sorted(files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr
    return tuple(line for line in done.stdout.splitlines() if "::" in line)


def _is_of(test: str, entry: str) -> bool:
    """Whether the id of a test begins with an entry, which may end with a library's name."""
    return test.startswith(entry) and test[len(entry) :][:1] in ("", "[", "]", "-", " ", ",")


def _tests_of(row: dict[str, Any]) -> dict[str, list[str]]:
    """Return the tests of each of a row's entries."""
    return {entry: [test for test in _tests() if _is_of(test, entry)] for entry in row["test"]}


@each_row
def test_a_row_is_whole(row: dict[str, Any]) -> None:
    """It has each key with a value of its type and no other; a kind that is one; and its order is by name in a kind."""
    assert row.keys() == KEYS
    assert row["kind"] in KINDS
    assert type(row["direct"]) is type(row["relay"]) is bool
    assert type(row["test"]) is list
    assert all(type(row[key]) is str for key in ("name", "version", "tested_with", "note"))
    before = [each["name"].lower() for each in ROWS if each["kind"] == row["kind"]]
    assert before == sorted(set(before))


@pytest.mark.slow
@each_row
def test_the_tests_of_a_row_are_there(row: dict[str, Any]) -> None:
    """Each entry is how the id of a test begins, and of what works over a path there is one that tries that path."""
    found = _tests_of(row)
    assert all(found.values()), found
    tests = [test for each in found.values() for test in each]
    for path in ("direct", "relay"):
        # What outgate run does unless told otherwise is the direct path.
        tried = [test for test in tests if path in test or (path == "direct" and "test_real_servers.py" in test)]
        assert bool(tried) == row[path]


@functools.cache
def _pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {name.lower(): version for name, _, version in (line.partition("==") for line in lines) if version}


@each_row
def test_the_version_is_the_one_that_is_tried(row: dict[str, Any]) -> None:
    """A row of a library has the version that the tests are pinned to; one of the standard library has a Python's."""
    package = row["name"].partition(".")[0]
    if row["kind"] == "stdlib" or package in sys.stdlib_module_names:
        assert row["version"].startswith("Python 3.")
    elif row["version"]:
        assert row["version"] == _pinned()[package.lower()]


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_what_is_tried_has_a_row(file: str) -> None:
    """Each test in the files that try libraries is of some row."""
    entries = [entry for row in ROWS for entry in row["test"]]
    tests = [test for test in _tests() if test.startswith(f"tests/integration/{file}::")]
    assert tests
    assert not [test for test in tests if not any(_is_of(test, entry) for entry in entries)]


def test_a_library_in_c_says_what_to_use() -> None:
    """The row of a module of the client's table advises what the client does."""
    for row in ROWS:
        if row["kind"] == "C" and row["name"] in foreign.MODULES:
            assert row["note"].endswith(f"{foreign.MODULES[row['name']][1]}.")
