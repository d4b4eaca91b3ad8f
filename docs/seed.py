"""The page of the seed's sentences, from the data about them and the tests of each."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "data" / "seed.toml"
TESTS = ROOT / "tests" / "seed"

_PAGE = """\
# App Engine, sentence by sentence

<!-- Made by docs/generate.py; do not edit. -->

What the documentation of App Engine's Socket API promised and refused, and what an app has of it here: by default, and
with `profile = "app-engine"` where that is something else ([profiles](profile.md)). Each sentence is a test that runs
under both.

{table}
"""


def tests() -> dict[int, list[str]]:
    """Return number of a row → names of its tests, from the files of ``tests/seed``."""
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                match = re.match(r"test_s(\d\d)_", node.name)
                if match is not None:
                    found.setdefault(int(match[1]), []).append(f"{path.name}::{node.name}")
    return found


def rows() -> list[dict[str, object]]:
    """Return the rows of the data."""
    return tomllib.loads(DATA.read_text(encoding="utf-8"))["row"]


def page(table: Callable[..., str]) -> str:
    """Return docs/seed.md."""
    known = tests()
    lines = []
    for row in rows():
        names = "<br>".join(f"`{name}`" for name in known[row["number"]])
        lines.append((f"S{row['number']}", row["seed"], row["default"], row.get("original", "the same"), names))
    return _PAGE.format(table=table(("", "the original", "by default", "app-engine", "tests in tests/seed"), lines))
