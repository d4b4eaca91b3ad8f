"""Every row of the seed has a test, runs under both profiles, and no test is of a row that there is not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("outgate_docs_seed", Path(__file__).parents[2] / "docs" / "seed.py")
assert _SPEC is not None
assert _SPEC.loader is not None
seed = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(seed)


def test_the_rows_are_those_of_the_design() -> None:
    """S1 to S20, in order."""
    assert [row["number"] for row in seed.rows()] == list(range(1, 21))


def test_every_row_has_a_test() -> None:
    """And every test a row."""
    assert set(seed.tests()) == {row["number"] for row in seed.rows()}


def test_every_test_runs_under_both_profiles(request: pytest.FixtureRequest) -> None:
    """As pytest has collected them, where it has collected all."""
    ran: dict[str, set[str]] = {}
    for item in request.session.items:
        if item.path.parent == Path(__file__).parent and item.name.startswith("test_s"):
            parameters = getattr(item, "callspec", None)
            profile = parameters.params.get("profile", "") if parameters is not None else ""
            ran.setdefault(item.name.partition("[")[0], set()).add(profile)
    assert all(profiles <= {"default", "app-engine"} for profiles in ran.values()), ran
