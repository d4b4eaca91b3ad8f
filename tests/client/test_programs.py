"""Unmodified programs see through a gate what they see natively: every check holds in both."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from outgate.testing.running import RunningGate
from support.pythons import interpreters

from .conftest import Results, checks_of, go

PROGRAMS = (
    *("sockets.py", "streams.py", "processes.py", "signals.py", "layers.py", "datagrams.py", "module.py"),
    "startmethods.py",
)


@pytest.mark.parametrize("how", ["native", "gate", pytest.param("relay", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("program", "check"), [(p, check) for p in PROGRAMS for check in checks_of(p)])
def test_a_check_holds_natively_and_through_a_gate(
    results: Callable[[str, str], Results], program: str, check: str, how: str
) -> None:
    """What the check's own docstring says is so, in a program that imports nothing of outgate."""
    error = results(program, how)[check]
    assert error is None, error


@pytest.mark.pythons
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("version", interpreters())
def test_every_check_holds_on_other_pythons(
    gate: RunningGate, certificates: dict[str, str], version: str, program: str
) -> None:
    """All checks of a program hold through a gate on every Python the client is made for."""
    environ = gate.environ({**os.environ, **certificates, "PYTHONDONTWRITEBYTECODE": "1"})
    results = go(program, environ, python=interpreters()[version])
    assert {check: error for check, error in results.items() if error} == {}
