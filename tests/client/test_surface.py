"""What the four lists say of the socket module is so in programs, on every Python, an untested newer one included."""

from __future__ import annotations

import errno
import functools
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outgate.client import constants, untested
from outgate.core.surface import NATIVE, OURS, REFUSED, ROWS, rows_of
from outgate.testing.running import RunningGate
from support.commands import OUTGATE, PATIENCE, environment
from support.pythons import VERSIONS, interpreters

from .conftest import PROGRAMS

PROGRAM = PROGRAMS / "names.py"


@pytest.fixture(scope="module")
def strict_gate() -> Iterator[RunningGate]:
    """A gate with the default policy, which refuses what is for servers."""
    with RunningGate(dev=False) as gate:
        yield gate
        assert gate.faults == []


def run(gate: RunningGate, python: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program through a gate and return it with its output."""
    return subprocess.run(
        [python, *arguments],
        env=gate.environ({**environment(), "PYTHONDONTWRITEBYTECODE": "1", **environ}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


Told = Callable[[str], dict[str, list[str]]]


@pytest.fixture(scope="module")
def told(strict_gate: RunningGate) -> Told:
    """Return a function that gives what stands behind each name in an interpreter: at its start, and later."""

    @functools.cache
    def of(python: str) -> Any:
        done = run(strict_gate, python, str(PROGRAM))
        assert (done.stderr, done.returncode) == ("", 0)
        return json.loads(done.stdout)

    return of


def assert_what_stands_there(names: dict[str, list[str]]) -> None:
    """Demand that behind each name stands what its row says, and that each of outgate's has a row."""
    wrong = {}
    for name, seen in names.items():
        (row,) = rows_of(name)
        expected = {NATIVE: [NATIVE, NATIVE], OURS: [OURS, OURS]}.get(row.list, seen)
        if row.by == "late":
            expected = [NATIVE, OURS]
        if seen != expected:
            wrong[name] = (seen, row.list)
    assert wrong == {}
    assert sum(OURS in seen for seen in names.values()) > 30


def assert_refused(gate: RunningGate, folder: Path, names: dict[str, list[str]], python: str) -> None:
    """Demand of each refused name that what uses it raises the errno of its row, as an exception of outgate's."""
    rows = [row for name in names for row in rows_of(name) if row.list == REFUSED]
    refused = {name: rows_of(name)[0] for name in names if rows_of(name)[0].list == REFUSED}
    assert len(rows) == len(refused) > 100
    file = folder / "rows.json"
    file.write_text(json.dumps([(name, row.by) for name, row in refused.items()]), encoding="utf-8")
    done = run(gate, python, str(PROGRAM), "refused", str(file))
    assert (done.stderr, done.returncode) == ("", 0)
    wrong = {}
    for name, raised in json.loads(done.stdout).items():
        numbers = [getattr(errno, each) for each in refused[name].errno.split(" or ")]
        if raised is None or raised[0] != "outgate.errors" or raised[1] not in numbers or not raised[2]:
            wrong[name] = (raised, refused[name].errno)
    assert wrong == {}


def test_what_stands_behind_each_name(told: Told) -> None:
    """Each native name is the interpreter's own object and each of ours is not, in the running Python."""
    assert_what_stands_there(told(sys.executable))


def test_what_is_refused(strict_gate: RunningGate, told: Told, tmp_path: Path) -> None:
    """What uses a refused name raises the errno of its row, with outgate's class and a text, in the running Python."""
    assert_refused(strict_gate, tmp_path, told(sys.executable), sys.executable)


@pytest.mark.pythons
@pytest.mark.parametrize("version", interpreters())
def test_the_lists_on_other_pythons(strict_gate: RunningGate, told: Told, tmp_path: Path, version: str) -> None:
    """Both hold on every Python that the client is tested with."""
    python = interpreters()[version]
    assert_what_stands_there(told(python))
    assert_refused(strict_gate, tmp_path, told(python), python)


#: Prints of each name of ours whether it is, where ``socket`` was imported before outgate came.
PATCHED = """
import sys, json, socket
import outgate; outgate.install()
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
import _socket
def behind(name):
    cls, _, method = name.rpartition(".")
    value = getattr(socket.socket if cls else _socket, method)
    return "ours" if value.__module__.startswith("outgate.") else value.__module__
print(json.dumps({name: behind(name) for name in sys.argv[1:]}))
"""
#: Ours in another way: a module, a class of the interpreter's own, what calls ``_real_close``.
NOT_PATCHED = ("_socket", "__spec__", "socket", "SocketType", "socket.close", "socket.__init_subclass__")


def test_install_puts_ours_everywhere(gate: RunningGate) -> None:
    """Where ``socket`` was imported before, ``outgate.install()`` puts behind each name of ours what is ours."""
    names = [row.name for row in ROWS if row.list == OURS and row.name not in NOT_PATCHED]
    source = str(Path(untested.__file__).parents[2])
    environ = {**environment(), "OUTGATE_SOCKET": gate.socket, "PYTHONPATH": source}
    command = [sys.executable, "-c", PATCHED, *names]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stderr, done.returncode) == ("", 0)
    assert json.loads(done.stdout) == dict.fromkeys(names, OURS)
    assert len(names) > 25


# --- an interpreter that nobody has tested ----------------------------------------------------------------------------

#: Makes the interpreter look newer, then does what the interpreter itself does at its start.
NEWER = """
import sys
class Version(tuple):
    major, minor, micro, releaselevel, serial = 3, 99, 0, "final", 0
sys.version_info = Version((3, 99, 0, "final", 0))
import sitecustomize
"""
CONNECT = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
    sock.sendall(b"x")
    assert server.accept()[0].recv(1) == b"x"
"""
LINE = f"outgate: Python 3.99 is newer than the client has been tested with ({VERSIONS[-1]})\n"


def test_the_newest_tested_is_the_newest_of_the_tests() -> None:
    """The version up to which the client says nothing is the newest that the tests run on."""
    assert ".".join(map(str, untested.NEWEST_TESTED)) == VERSIONS[-1]


def test_an_untested_python_is_named_once(gate: RunningGate) -> None:
    """A newer Python works with one line on stderr that names it, which is not repeated in a child."""
    counted = gate.app()["connects"]
    child = f"import os, subprocess; subprocess.run([sys.executable, '-S', '-c', {NEWER + CONNECT!r}], check=True)"
    done = run(gate, sys.executable, "-S", "-c", NEWER + CONNECT + child)
    assert (done.stderr, done.returncode) == (LINE, 0)
    assert gate.app()["connects"] - counted == 2


def test_a_tested_python_is_not_named(gate: RunningGate) -> None:
    """The running Python says nothing, and leaves nothing in the environment."""
    code = CONNECT + f"import os; assert {untested.UNTESTED_VARIABLE!r} not in os.environ"
    done = run(gate, sys.executable, "-c", code)
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("first", ["", "import socket"])
def test_install_names_an_untested_python(gate: RunningGate, first: str) -> None:
    """``outgate.install()`` says the same line, whatever the program had imported."""
    code = NEWER.replace("import sitecustomize", f"{first}\nimport outgate; outgate.install(); outgate.install()")
    source = str(Path(untested.__file__).parents[2])
    environ = {**environment(), "OUTGATE_SOCKET": gate.socket, "PYTHONPATH": source}
    done = subprocess.run([sys.executable, "-S", "-c", code + CONNECT], env=environ, capture_output=True, text=True)
    assert (done.stderr, done.returncode) == (LINE, 0)


def test_quiet_is_quiet_about_it(gate: RunningGate) -> None:
    """``outgate run -q`` leaves the line out."""
    command = [*OUTGATE, "run", "-q", "--dev", "--", sys.executable, "-S", "-c", NEWER + CONNECT]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stderr, done.returncode) == ("", 0)


# --- an interpreter that was built with less --------------------------------------------------------------------------

#: What socket.py itself needs for the program below.
NEEDED = ("AF_INET", "SOCK_STREAM", "SOCK_DGRAM")
#: Functions that a C library may not have.
FUNCTIONS = ("if_nameindex", "if_nametoindex", "if_indextoname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")
CONSTANTS = tuple(name for name in vars(constants) if hasattr(socket, name) and name.isupper() and name not in NEEDED)
#: Has the interpreter's own ``_socket`` come without some names.
WITHOUT = """
import sys
from importlib.machinery import ExtensionFileLoader
native = ExtensionFileLoader.exec_module
def exec_module(self, module):
    native(self, module)
    if module.__name__ == "_socket":
        for name in {names!r}:
            delattr(module, name)
ExtensionFileLoader.exec_module = exec_module
import sitecustomize, socket
for name in {names!r}:
    assert not hasattr(socket, name), name
"""
EXCHANGE = """
with socket.socket() as server, socket.socket() as sock:
    server.bind(("127.0.0.1", 0))
    server.listen()
    sock.connect(server.getsockname())
    sock.sendall(b"x")
    assert server.accept()[0].recv(1) == b"x"
left = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
right = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
right.bind(("127.0.0.1", 0))
left.sendto(b"x", right.getsockname())
assert right.recvfrom(9)[0] == b"x"
assert socket.getaddrinfo("localhost", 80, 2, 1)
right.close(), left.close()
"""


@pytest.mark.parametrize("path", ["gate", "relay"])
def test_names_that_an_interpreter_lacks(request: pytest.FixtureRequest, path: str) -> None:
    """Without any of the constants and the optional functions TCP, UDP and look-ups still go through the gate."""
    gate = request.getfixturevalue(path)
    counted = gate.app()["connects"]
    code = WITHOUT.format(names=[*CONSTANTS, *FUNCTIONS]) + EXCHANGE
    done = run(gate, sys.executable, "-S", "-c", code)
    assert (done.stderr, done.returncode) == ("", 0)
    assert gate.app()["connects"] - counted >= 1


@pytest.mark.pythons
@pytest.mark.parametrize("version", interpreters())
def test_names_that_other_pythons_lack(gate: RunningGate, version: str) -> None:
    """The same holds on every Python that the client is tested with."""
    code = WITHOUT.format(names=[*CONSTANTS, *FUNCTIONS]) + EXCHANGE
    done = run(gate, interpreters()[version], "-S", "-c", code)
    assert (done.stderr, done.returncode) == ("", 0)


def test_constants_are_those_of_the_kernel() -> None:
    """The number that stands for a missing name is the one that the name has here."""
    source = Path(constants.__file__).read_text("utf-8")
    fresh: dict[str, Any] = {"__name__": "constants"}
    exec(compile(source.replace("getattr(_socket, name, number)", "number"), "constants", "exec"), fresh)
    mine = {name: value for name, value in fresh.items() if name.isupper()}
    assert mine == {name: int(value) for name, value in vars(constants).items() if name.isupper()}
    assert len(mine) > 30


def test_what_the_client_cannot_do_without(gate: RunningGate) -> None:
    """Where the client cannot be built, ``import socket`` fails each time with a sentence: there is no way round it."""
    code = WITHOUT.format(names=["gaierror"]).partition("import sitecustomize")[0] + (
        "import sitecustomize\n"
        "for _ in range(2):\n"
        "    try:\n        import _socket\n"
        "    except ImportError as error:\n        print(error)\n"
        "    else:\n        raise SystemExit('imported')\n"
    )
    done = run(gate, sys.executable, "-S", "-c", code)
    version = ".".join(map(str, sys.version_info[:2]))
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.count(f"outgate: the client does not work with Python {version}: ") == 2
