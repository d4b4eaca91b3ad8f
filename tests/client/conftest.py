"""Run the programs beside these tests, natively and through a gate, and hand out how each of their checks ended."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import trustme

from outgate.testing.running import RunningGate

PROGRAMS = Path(__file__).parent / "programs"

Results = dict[str, "str | None"]


def checks_of(program: str) -> list[str]:
    """Return the names of the checks in a program, in their order."""
    tree = ast.parse((PROGRAMS / program).read_text("utf-8"))
    return [
        node.name
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("check_")
    ]


def go(
    program: str,
    environ: dict[str, str],
    *,
    python: str = sys.executable,
    only: Sequence[str] = (),
    close_fds: bool = True,
) -> Results:
    """Run the checks of a program in one process; return check → traceback, or ``None`` where it held."""
    command = [python, "-W", "error", str(PROGRAMS / program), *only]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=55, close_fds=close_fds)
    results: Results = {}
    for line in done.stdout.splitlines():
        result = json.loads(line)
        results[result["check"]] = result["error"]
    for name in only or checks_of(program):
        results.setdefault(name, f"not reached; exit status {done.returncode}\n{done.stderr}")
    if done.stderr and not any(results.values()):
        results = dict.fromkeys(results, f"the program said on stderr: {done.stderr}")
    return results


@pytest.fixture(scope="session")
def gate() -> Iterator[RunningGate]:
    """A gate with the development policy."""
    with RunningGate() as running:
        yield running
        assert running.faults == []


@pytest.fixture(scope="session")
def relay() -> Iterator[RunningGate]:
    """A gate with the development policy that carries the bytes itself."""
    with RunningGate(path="relay") as running:
        yield running
        assert running.faults == []


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables that name a certificate for localhost and the authority that made it."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "localhost.pem"))
    return {"TEST_AUTHORITY": str(folder / "authority.pem"), "TEST_CERTIFICATE": str(folder / "localhost.pem")}


@pytest.fixture(scope="session")
def results(gate: RunningGate, relay: RunningGate, certificates: dict[str, str]) -> Callable[[str, str], Results]:
    """Return a function that runs a program ``"native"``, through the ``"gate"`` or its ``"relay"``."""

    @functools.cache
    def of(program: str, how: str) -> Results:
        environ = {**os.environ, **certificates, "PYTHONDONTWRITEBYTECODE": "1"}
        through = {"gate": gate, "relay": relay}.get(how)
        return go(program, environ if through is None else through.environ(environ))

    return of
