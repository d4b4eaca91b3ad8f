"""What a program imports or starts that makes its sockets itself is named on standard error, once, if that is wanted.

Stand-ins with the names of such modules and programs are enough here; the real ones are tried in
``tests/integration/test_foreign.py``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import outgate.client
from outgate.core import foreign
from outgate.core.paths import FOREIGN_VARIABLE
from support.commands import PATIENCE, environment
from support.pythons import VERSIONS, interpreter

AUTOLOAD = Path(outgate.client.__file__).parent / "autoload"
PYCURL, PSYCOPG = (f"outgate: {foreign.of_module(name)}\n" for name in ("pycurl", "psycopg"))
CURL, WGET = (f"outgate: {foreign.of_command([name])[1]}\n" for name in ("curl", "wget"))  # type: ignore[index]

#: Runs code in a Python that has the client before it.
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run code where stand-ins for the modules and programs are found first; it must succeed."""
    for name in ("pycurl", "psycopg"):
        (tmp_path / f"{name}.py").write_text("import socket\nVALUE = 1\n")
    (tmp_path / "grpc.py").write_text("raise ImportError('not today')\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("curl", "wget"):
        (programs / name).write_text(f"#!/bin/sh\necho {name} $*\n")
        (programs / name).chmod(0o755)

    def go(code: str, said: str | None = "", python: str = sys.executable) -> Any:
        environ = environment(**{FOREIGN_VARIABLE: said})
        environ["PYTHONPATH"] = f"{AUTOLOAD}:{tmp_path}"
        environ["PATH"] = f"{programs}:{environ['PATH']}"
        done = subprocess.run(
            [python, "-W", "error", "-c", code], env=environ, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == 0, done.stderr
        return done

    return go


NOTED = f"import os; print(os.environ.get({FOREIGN_VARIABLE!r}))\n"


@pytest.mark.parametrize("first", ["", "import socket\n", "import subprocess, multiprocessing\n"])
def test_a_module_is_named_when_it_is_imported(run: Run, first: str) -> None:
    """Importing it prints one line and notes its name, whatever was imported before; the module is as it would be."""
    done = run(
        f"{first}import pycurl, importlib, sys\nimport pycurl, psycopg\n{NOTED}"
        "print(pycurl.VALUE, type(pycurl.__loader__).__name__, pycurl.__spec__.loader is pycurl.__loader__)"
    )
    assert done.stderr == PYCURL + PSYCOPG
    assert done.stdout == "pycurl psycopg\n1 SourceFileLoader True\n"


@pytest.mark.parametrize(
    "code",
    [
        "import importlib.util; assert importlib.util.find_spec('pycurl')",
        "import contextlib\nwith contextlib.suppress(ImportError): import grpc",
        "import contextlib\nwith contextlib.suppress(ImportError): import MySQLdb",
    ],
)
def test_a_module_that_is_not_imported_is_not_named(run: Run, code: str) -> None:
    """Looking for it says nothing, nor does an import that fails, or of what is not there."""
    assert run(code).stderr == ""


STARTS = {
    "run": "import subprocess; subprocess.run(['curl', 'x'], check=True)",
    "shell": "import subprocess; subprocess.run('true; curl x', shell=True, check=True)",
    "bytes": "import subprocess; subprocess.run([b'curl', b'x'], check=True)",
    "path": "import shutil, pathlib, subprocess; subprocess.run([pathlib.Path(shutil.which('curl')), 'x'], check=True)",
    "text": "import subprocess; subprocess.run('curl', check=True)",
    "executable": "import shutil, subprocess; subprocess.run(['a', 'x'], executable=shutil.which('curl'), check=True)",
    "spawn": "import os, shutil; os.waitpid(os.posix_spawn(shutil.which('curl'), ['curl', 'x'], os.environ), 0)",
    "spawnp": "import os; os.waitpid(os.posix_spawnp('curl', ['curl', 'x'], os.environ), 0)",
    "system": "import os; os.system('curl x')",
    "popen": "import os\nwith os.popen('curl x') as curl: print(curl.read())",
    "spawnlp": "import os; os.spawnlp(os.P_WAIT, 'curl', 'curl', 'x')",
    "execvp": "import os; os.execvp('curl', ['curl', 'x'])",
    "execlpe": "import os; os.execlpe('curl', 'curl', 'x', os.environ)",
    "socket first": "import socket, subprocess; subprocess.run(['curl', 'x'], check=True)",
    "subprocess, then socket": "import subprocess, socket; subprocess.run(['curl', 'x'], check=True)",
    "asyncio": "import asyncio\nasync def main():\n    curl = await asyncio.create_subprocess_exec('curl', 'x')\n"
    "    await curl.wait()\nasyncio.run(main())",
}


@pytest.mark.parametrize("code", STARTS.values(), ids=STARTS.keys())
def test_a_program_is_named_when_it_is_started(run: Run, code: str) -> None:
    """By whatever call it is started, it runs as it would, and is named in one line."""
    done = run(code)
    assert done.stderr == CURL
    assert done.stdout.strip() in ("curl x", "curl")


def test_each_is_named_once_in_a_tree_of_processes(run: Run) -> None:
    """Neither a second start nor a child repeats a line, and a child says what is new."""
    child = "import subprocess, psycopg, pycurl; subprocess.run(['curl']); subprocess.run(['wget'])"
    code = f"import subprocess, sys, pycurl\nfor _ in range(2): subprocess.run(['curl'])\n{NOTED}"
    done = run(code + f"sys.stdout.flush(); subprocess.run([sys.executable, '-c', {child!r}], check=True)")
    assert sorted(done.stderr.splitlines(keepends=True)) == sorted([CURL, PYCURL, PSYCOPG, WGET])
    assert "pycurl curl" in done.stdout.splitlines()


def test_what_is_noted_is_not_named(run: Run) -> None:
    """What ``outgate run`` has named already is not named by the program."""
    assert run("import pycurl, subprocess; subprocess.run(['curl'])", said="curl").stderr == PYCURL


def test_without_the_variable_nothing_is_watched(run: Run) -> None:
    """Where nobody asks for it nothing is said, and the functions of os are the native ones."""
    done = run("import os; native = os.execv; import socket, pycurl; print(type(native).__name__)", said=None)
    assert (done.stdout, done.stderr) == ("builtin_function_or_method\n", "")


@pytest.mark.parametrize("close", ["sys.stderr.close()", "sys.stderr = None", "os.close(2)"])
def test_a_program_without_standard_error_goes_on(run: Run, close: str) -> None:
    """Where the line cannot be written, what the program does works all the same."""
    done = run(f"import os, sys, subprocess\n{close}\nimport pycurl\nprint(subprocess.run(['curl']).returncode)")
    assert done.stdout.splitlines()[-1] == "0"


WRONG = [
    "os.execv()",
    "os.execv('curl')",
    "os.execv('curl', [])",
    "os.execv(None, ['curl'])",
    "os.execv('curl', ['curl', 'nul\\0'])",
    "os.execv('curl', 7)",
    "os.execve('/nothing/curl', ['curl'], {})",
    "os.posix_spawn('/nothing/curl', ['curl'], {})",
    "os.system()",
    "os.system(7)",
]


@pytest.mark.parametrize("call", WRONG)
def test_wrong_calls_fail_as_natively(run: Run, call: str) -> None:
    """A call that the native function refuses is refused by the same exception, with the same text."""
    code = f"import os\ntry:\n    {call}\nexcept Exception as error:\n    print(repr(error))"
    assert run(code).stdout == run(code, said=None).stdout != ""


def test_arguments_reach_the_native_function_unread(run: Run) -> None:
    """A command that can be read only once is not used up, and what may take an fd still says so."""
    code = (
        "import os, subprocess; subprocess.run(iter(['echo', 'whole']), check=True); print(os.execve in os.supports_fd)"
    )
    done = run(code)
    assert (done.stdout, done.stderr) == ("whole\nTrue\n", "")


@pytest.mark.pythons
@pytest.mark.parametrize("version", VERSIONS)
def test_other_pythons_name_them_too(run: Run, version: str) -> None:
    """Each Python that may load the client names a module and a program."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    done = run("import pycurl, os, subprocess; subprocess.run(['curl']); os.system('wget')", python=python)
    assert done.stderr == PYCURL + CURL + WGET
