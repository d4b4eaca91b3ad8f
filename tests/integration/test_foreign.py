"""Libraries in C and programs that are not Python: in the fence they reach nothing, visibly, and are named once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from outgate.core import foreign
from support.corp import CORP, DATABASE, Corp
from support.fenced import PROGRAMS, events, run
from support.servers import postgresql
from support.world import DOMAIN, PUBLIC, WWW, World

WWW4 = f"www4.{DOMAIN}"
RULE = ("--except", f"db.{CORP}:5432")


class Use(NamedTuple):
    """A program in Python that uses a library in C.

    :ivar program: its file and arguments; ``{host}`` is where it goes to.
    :ivar hosts: a name and an address where it works natively.
    :ivar prints: what it prints natively.
    :ivar says: what its error says in the fence, for the name and for the address.
    :ivar options: for ``outgate run``; the destination is permitted in any case.
    """

    program: tuple[str, ...]
    hosts: tuple[str, str]
    prints: str
    says: tuple[str, str]
    options: tuple[str, ...] = ()


LIBRARIES = {
    "psycopg": Use(
        ("psycopg_query.py", "{host}", "5432", postgresql.USER, postgresql.PASSWORD),
        (f"db.{CORP}", DATABASE),
        "42\n",
        ("psycopg.OperationalError: ", "Network is unreachable"),
        RULE,
    ),
    "pycurl": Use(
        ("pycurl_get.py", "http://{host}/hello"),
        (WWW4, WWW[0]),
        "200 hello from nginx\n",
        (f"Could not resolve host: {WWW4}", "Failed to connect"),
    ),
}


@pytest.mark.parametrize("kind", [0, 1], ids=["name", "address"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_in_c_fails_and_is_named(world: World, corp: Corp, log: Path, name: str, kind: int) -> None:
    """It works natively; in the fence its own error shows, after one line that tells why, unless quiet."""
    corp.postgresql
    use = LIBRARIES[name]
    program, *words = (word.format(host=use.hosts[kind]) for word in use.program)
    command = (sys.executable, str(PROGRAMS / "libraries" / program), *words)
    native = world.run(*command)
    assert (native.stdout, native.stderr) == (use.prints, "")
    with world.watch() as watch:
        done = run(world, log, *command, options=use.options)
        quiet = run(world, log, *command, options=(*use.options, "-q"))
        assert watch.to(*PUBLIC, DATABASE) == []
    lines = done.stderr.splitlines()
    assert lines[1] == f"outgate: {foreign.of_module(name)}"
    assert sum(line.startswith("outgate: ") for line in lines) == 2
    assert use.says[kind] in done.stderr
    assert (done.returncode, done.stdout) == (1, "")
    assert (quiet.returncode, quiet.stdout) == (1, "")
    assert "outgate: " not in quiet.stderr
    assert events(log, "end") == []


#: Program → its arguments, and its exit status in the fence.
EXECUTABLES = {
    "curl": (("-sS", "--noproxy", "*", "http://{address}/hello"), 7),
    "wget": (("-q", "--no-proxy", "-t", "1", "-O", "-", "http://{address}/hello"), 4),
    "git": (("ls-remote", "http://{address}/hello"), 128),
    "node": (("-e", "fetch('http://{address}/hello').catch(() => process.exit(9))"), 9),
    "psql": (("-h", "{address}", "-U", "nobody", "-w", "-c", "select 1"), 2),
    "ssh": (("-F", "none", "-o", "BatchMode=yes", "root@{address}", "true"), 255),
}


def _command(name: str) -> tuple[str, ...]:
    """Return the command line of one of the programs."""
    path = shutil.which(name)
    assert path, f"{name} is not installed (sh tests/integration/install.sh)"
    return (path, *(word.format(address=WWW[0]) for word in EXECUTABLES[name][0]))


def _sentence(name: str, *words: str) -> str:
    found = foreign.of_command([name, *words])
    assert found is not None
    return f"outgate: {found[1]}"


@pytest.mark.parametrize("name", EXECUTABLES)
def test_a_program_that_is_not_python_fails_and_is_named(world: World, log: Path, name: str) -> None:
    """Started by ``outgate run`` or by Python under it, it reaches nothing and is named in one line, unless quiet."""
    words = _command(name)
    started = (sys.executable, str(PROGRAMS / "libraries/start_program.py"), *words)
    with world.watch() as watch:
        direct, inner, quiet = (
            run(world, log, *words),
            run(world, log, *started),
            run(world, log, *words, options=("-q",)),
        )
        assert watch.to(*PUBLIC) == []
    status = EXECUTABLES[name][1]
    assert (direct.returncode, quiet.returncode, inner.stdout) == (status, status, f"{status}\n")
    for done in (direct, inner):
        assert [line for line in done.stderr.splitlines() if line.startswith("outgate: ")][1:] == [
            _sentence(name, *words[1:])
        ]
    assert "outgate: " not in quiet.stderr


def test_what_is_not_fenced_is_not_named(world: World, log: Path) -> None:
    """Where the program can go round the gate, curl works and nothing is said of it."""
    started = (sys.executable, str(PROGRAMS / "libraries/start_program.py"), *_command("curl"))
    done = world.outgate("run", "--unconfined", "--log", str(log), "--", *started)
    assert done.stdout == "0\n"
    assert "curl" not in done.stderr


def test_what_uses_a_pipe_of_python_is_not_named(world: World, log: Path) -> None:
    """ssh with a ProxyCommand has somebody else connect, which may well be the gate's."""
    words = ("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "ProxyCommand=false", "root@host", "true")
    done = run(world, log, *words)
    assert done.returncode == 255
    assert sum(line.startswith("outgate: ") for line in done.stderr.splitlines()) == 1
