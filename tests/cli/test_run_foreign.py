"""``outgate run`` names a command that makes its sockets itself, and has the program name what else does, if fenced."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from outgate.core import foreign
from outgate.core.paths import FOREIGN_VARIABLE
from outgate.guard import fence
from support.commands import environment, outgate

TELL = f"import os; print(os.environ.get({FOREIGN_VARIABLE!r}))"


def _sentence(name: str) -> str:
    found = foreign.of_command([name])
    assert found is not None
    return f"outgate: {found[1]}"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with programs of these names that only say so; skips where nothing can be fenced."""
    if not isinstance(fence.probe(), fence.Fence):
        pytest.skip("this host lets this user make no fence")
    for name in ("curl", "wget"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho this is {name}\n")
        (tmp_path / name).chmod(0o755)
    return environment(PATH=f"{tmp_path}:{os.environ['PATH']}", **{FOREIGN_VARIABLE: None})


def _said(done: object) -> list[str]:
    """Return what outgate said after its first line, which tells what is in force."""
    lines = str(done.stderr).splitlines()  # type: ignore[attr-defined]
    return [line for line in lines if line.startswith("outgate: ")][1:]


def test_the_command_is_named_and_started(environ: dict[str, str]) -> None:
    """One line names curl before it takes the place of the command."""
    done = outgate("run", "--fence", "--", "curl", "http://a.example", env=environ)
    assert (done.returncode, done.stdout) == (0, "this is curl\n")
    assert _said(done) == [_sentence("curl")]


def test_a_command_within_a_shell_is_named_once(environ: dict[str, str]) -> None:
    """The text of a shell is looked into, and a Python program that it starts does not name the same again."""
    again = f"{sys.executable} -c \"import subprocess; subprocess.run(['curl']); subprocess.run(['wget'])\""
    done = outgate("run", "--fence", "--", "sh", "-c", f"curl && {again}", env=environ)
    assert done.stdout == "this is curl\nthis is curl\nthis is wget\n"
    assert _said(done) == [_sentence("curl"), _sentence("wget")]


def test_another_command_has_only_the_variable(environ: dict[str, str]) -> None:
    """Nothing is said of Python, which is asked to say what it imports and starts."""
    done = outgate("run", "--fence", "--", sys.executable, "-c", TELL, env=environ)
    assert (done.stdout, _said(done)) == ("\n", [])


@pytest.mark.parametrize("options", [("-q", "--fence"), ("--dev",), ("--unconfined",)], ids=" ".join)
def test_quiet_or_not_fenced_says_nothing(environ: dict[str, str], options: tuple[str, ...]) -> None:
    """With -q, and where curl can go round the gate, nothing is said, nor asked for."""
    code = f"{TELL}\nimport subprocess; subprocess.run(['curl'])"
    done = outgate("run", *options, "--", sys.executable, "-c", code, env=environ)
    assert sorted(done.stdout.splitlines()) == ["None", "this is curl"]
    assert "curl" not in done.stderr


def test_what_is_noted_is_not_said_again(environ: dict[str, str]) -> None:
    """Within another ``outgate run`` that has named curl, it is not named; with -q the request is taken back."""
    noted = {**environ, FOREIGN_VARIABLE: "curl"}
    assert _said(outgate("run", "--fence", "--", "curl", env=noted)) == []
    assert outgate("run", "--fence", "-q", "--", sys.executable, "-c", TELL, env=noted).stdout == "None\n"
