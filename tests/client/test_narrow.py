"""``outgate.narrow`` in programs, on both paths and every Python; without a gate, and over a gate's end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import outgate
from outgate.testing.running import RunningGate
from support.pythons import interpreters

from .conftest import Results, checks_of, go

PROGRAM = "narrow.py"
SOURCE = str(Path(outgate.__file__).parents[1])


@pytest.mark.parametrize("how", ["gate", pytest.param("relay", marks=pytest.mark.slow)])
@pytest.mark.parametrize("check", checks_of(PROGRAM))
def test_a_check_holds(results: Callable[[str, str], Results], check: str, how: str) -> None:
    """What the check's own docstring says is so."""
    error = results(PROGRAM, how)[check]
    assert error is None, error


@pytest.mark.pythons
@pytest.mark.parametrize("version", interpreters())
def test_every_check_holds_on_other_pythons(gate: RunningGate, version: str) -> None:
    """All checks hold on every Python that the client is made for."""
    environ = gate.environ({**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    results = go(PROGRAM, environ, python=interpreters()[version])
    assert {check: error for check, error in results.items() if error} == {}


@pytest.mark.parametrize("begin", ["", "import socket; "])
def test_a_program_that_has_no_gate_is_told(begin: str) -> None:
    """Where a program's sockets are native, narrow() would limit nothing, and so it raises and says what to do."""
    code = f"{begin}import outgate; outgate.narrow(allow=[])"
    environ = {**os.environ, "PYTHONPATH": SOURCE}
    done = subprocess.run([sys.executable, "-c", code], env=environ, stderr=subprocess.PIPE, text=True)
    assert "GateUnavailable" in done.stderr
    assert "narrow() would change nothing; start it by outgate run, or call outgate.install() first" in done.stderr


def test_a_gate_that_does_not_answer(tmp_path: Path) -> None:
    """With the client and no gate the error is that of every other request, and nothing is narrowed."""
    code = (
        "import os, outgate; outgate.install()\n"
        "try:\n    outgate.narrow(allow=[])\n"
        "except outgate.errors.GateUnavailable as e:\n    print(e, 'OUTGATE_NARROW' in os.environ)\n"
    )
    environ = {**os.environ, "PYTHONPATH": SOURCE, "OUTGATE_SOCKET": str(tmp_path / "none.sock")}
    done = subprocess.run(
        [sys.executable, "-c", "import outgate.errors\n" + code], env=environ, capture_output=True, text=True
    )
    assert "no gate answers at" in done.stdout, done.stderr
    assert done.stdout.endswith("False\n")


OVER_AN_END = """
import outgate, socket, sys
outgate.narrow(deny=["127.0.0.1"])
def told():
    try:
        socket.create_connection(("127.0.0.1", 1))
    except OSError as e:
        return type(e).__name__
print(told(), flush=True)
input()
print(told(), flush=True)
"""


def test_it_holds_at_the_next_gate() -> None:
    """A program says with every hello what it has narrowed itself to: a gate that was killed and comes back knows."""
    with RunningGate() as gate:
        with gate.program("-c", OVER_AN_END) as program:
            assert program.stdout is not None
            assert program.stdin is not None
            assert program.stdout.readline() == "PolicyDenied\n"
            gate.kill()
            gate.start()
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline() == "PolicyDenied\n"
        assert gate.faults == []


def test_a_whole_tree_from_outside(tmp_path: Path) -> None:
    """``outgate run --narrow`` holds for the program and what it starts; a rule that is none starts nothing."""
    log = tmp_path / "log"
    run = [sys.executable, "-m", "outgate", "run", "--dev", "-q", "--log", str(log), "--narrow"]
    code = "import socket; socket.create_connection(('127.0.0.2', 1))"
    shell = f'unset OUTGATE_NARROW; {sys.executable} -c "{code}"'
    environ = {**os.environ, "PYTHONPATH": SOURCE}
    for command in ([sys.executable, "-c", code], ["sh", "-c", f"{shell}; true"]):
        done = subprocess.run([*run, "127.0.0.1", "--", *command], env=environ, capture_output=True, text=True)
        assert "narrowed by the program itself" in done.stderr, done.stderr
    done = subprocess.run([*run, "no rule", "--", "true"], env=environ, capture_output=True, text=True)
    assert done.returncode == 2
    assert "outgate run: --narrow[0]: " in done.stderr
