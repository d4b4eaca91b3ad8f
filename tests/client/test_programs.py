"""Unmodified programs see through a gate what they see natively: every check holds in both."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Results, checks_of

PROGRAMS = ("sockets.py", "processes.py", "signals.py", "layers.py")


@pytest.mark.parametrize("how", ["native", "gate"])
@pytest.mark.parametrize(("program", "check"), [(p, check) for p in PROGRAMS for check in checks_of(p)])
def test_a_check_holds_natively_and_through_a_gate(
    results: Callable[[str, str], Results], program: str, check: str, how: str
) -> None:
    """What the check's own docstring says is so, in a program that imports nothing of outgate."""
    error = results(program, how)[check]
    assert error is None, error
