"""The client is loaded into every Python that ``outgate run`` starts and that these start, with nothing installed.

The probe connects to a loopback port that nobody has: natively it is refused by the kernel, through the gate by policy.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import peers
from support.commands import OUTGATE, PATIENCE, Served, environment, serving
from support.pythons import TOO_OLD, VERSIONS, interpreter

#: Prints who refused, from whatever Python 3.
PROBE = """
import json, socket, sys
def refused_by(address):
    try:
        socket.create_connection(address).close()
    except OSError as error:
        return type(error).__name__
    return "nobody"
if __name__ == "__main__":
    print(json.dumps(refused_by(("127.0.0.1", int(sys.argv[1])))))
"""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gate with the built-in policy, for all tests of this module."""
    with serving(tmp_path_factory.mktemp("gate")) as served:
        yield served


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    """A loopback port where nothing listens."""
    with peers.refusing() as address:
        yield str(address[1])


@pytest.fixture
def probe(tmp_path: Path) -> str:
    """The probe as a file."""
    path = tmp_path / "probe.py"
    path.write_text(PROBE, encoding="utf-8")
    return str(path)


def run(gate: Served, *command: str, env: dict[str, str] | None = None, **options: Any) -> Any:
    """Run a program through the gate, in the host's network, and return it with its output."""
    return subprocess.run(
        [*OUTGATE, "run", "-q", "--unconfined", "--socket", gate.socket, "--", *command],
        env=environment() if env is None else env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **options,
    )


def refused_by(done: Any) -> str:
    """Return what the probe printed; it must have succeeded without a word on stderr."""
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return str(json.loads(done.stdout))


class Environment:
    """A virtual environment without outgate."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, env=environment())
        self.python = str(folder / "bin" / "python")
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        self.site = Path(subprocess.check_output([self.python, "-I", "-c", code], text=True).strip())

    def add(self, name: str, text: str) -> None:
        """Put a file into its site-packages."""
        (self.site / name).write_text(text, encoding="utf-8")


@pytest.fixture
def venv(tmp_path: Path) -> Environment:
    """A fresh virtual environment."""
    return Environment(tmp_path / "venv")


def files_below(folder: Path) -> set[str]:
    """Return everything in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_the_probe_tells(port: str, probe: str) -> None:
    """Natively the kernel refuses: what the other tests see comes from the gate."""
    done = subprocess.run([sys.executable, probe, port], capture_output=True, text=True, env=environment())
    assert refused_by(done) == "ConnectionRefusedError"


def test_a_virtual_environment(gate: Served, port: str, probe: str, venv: Environment) -> None:
    """A Python in an environment that has no outgate loads the client, and the environment stays as it was."""
    before = files_below(venv.site)
    absent = subprocess.run([venv.python, "-c", "import outgate"], capture_output=True, env=environment())
    assert absent.returncode == 1
    assert refused_by(run(gate, venv.python, probe, port)) == "PolicyDenied"
    assert files_below(venv.site) == before


@pytest.mark.parametrize("how", ["file", "-c", "-m", "stdin", "zip", "folder"])
def test_ways_to_start_a_program(gate: Served, port: str, probe: str, tmp_path: Path, how: str) -> None:
    """A file, ``-c``, ``-m``, standard input, a zip file and a folder are all programs that load it."""
    options: dict[str, Any] = {"cwd": tmp_path}
    if how == "file":
        arguments = [probe]
    elif how == "-c":
        arguments = ["-c", PROBE]
    elif how == "-m":
        arguments = ["-m", "probe"]
    elif how == "stdin":
        arguments, options["input"] = ["-"], PROBE
    else:
        folder = tmp_path / "program"
        folder.mkdir()
        shutil.copy(probe, folder / "__main__.py")
        arguments = [shutil.make_archive(str(folder), "zip", folder) if how == "zip" else str(folder)]
    assert refused_by(run(gate, sys.executable, *arguments, port, **options)) == "PolicyDenied"


def test_a_script_with_a_first_line(gate: Served, port: str, tmp_path: Path, venv: Environment) -> None:
    """A script that the kernel starts by its first line loads it."""
    script = tmp_path / "script"
    script.write_text(f"#!{venv.python}\n{PROBE}", encoding="utf-8")
    script.chmod(0o755)
    assert refused_by(run(gate, str(script), port)) == "PolicyDenied"


def test_children_of_a_shell(gate: Served, port: str, probe: str, venv: Environment) -> None:
    """A Python that a shell starts that another Python starts loads it."""
    code = "import subprocess, sys; sys.exit(subprocess.call(['sh', '-c', '\"$@\"', 'sh', *sys.argv[1:]]))"
    assert refused_by(run(gate, sys.executable, "-c", code, venv.python, probe, port)) == "PolicyDenied"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(gate: Served, port: str, probe: str, tmp_path: Path, method: str) -> None:
    """Processes of ``multiprocessing`` go out through the gate, however they are started."""
    program = tmp_path / "pool.py"
    program.write_text(
        "import json, multiprocessing, probe, sys\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context(sys.argv[2]).Pool(1) as pool:\n"
        "        print(json.dumps(pool.apply(probe.refused_by, [('127.0.0.1', int(sys.argv[1]))])))\n",
        encoding="utf-8",
    )
    assert refused_by(run(gate, sys.executable, str(program), port, method)) == "PolicyDenied"


def test_pytest(gate: Served, port: str, probe: str, tmp_path: Path) -> None:
    """Tests under a pytest that was started so go out through the gate, and pytest says no word about it."""
    (tmp_path / "test_it.py").write_text(
        f"import probe\ndef test_it():\n    assert probe.refused_by(('127.0.0.1', {port})) == 'PolicyDenied'\n"
    )
    options = ["-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", ".", "--noconftest"]
    done = run(gate, sys.executable, "-m", "pytest", *options, "test_it.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "warning" not in done.stdout


def test_uv_run(gate: Served, port: str, probe: str, tmp_path: Path) -> None:
    """A program that ``uv run`` starts in an environment that it makes goes out through the gate."""
    uv = shutil.which("uv") or shutil.which("uv", path=os.path.dirname(sys.executable))
    if uv is None:
        pytest.skip("uv is not installed; pip install uv")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "it"\nversion = "1"\nrequires-python = ">=3.9"\n')
    env = environment(UV_CACHE_DIR=str(tmp_path / "cache"), VIRTUAL_ENV=None, UV_NO_CONFIG="1")
    command = [uv, "run", "--quiet", "--offline", "--python", sys.executable, "python", probe, port]
    assert refused_by(run(gate, *command, env=env, cwd=tmp_path)) == "PolicyDenied"
    assert (tmp_path / ".venv").is_dir()


def test_sitecustomize_is_chained(gate: Served, port: str, probe: str, venv: Environment) -> None:
    """An environment's own ``sitecustomize`` runs as it would without us, and is the module of that name."""
    venv.add("sitecustomize.py", "import builtins; builtins.customised = __file__")
    code = PROBE + "assert sys.modules['sitecustomize'].__file__ == customised\nprint(customised, file=sys.stderr)"
    done = run(gate, venv.python, "-c", code, port)
    assert json.loads(done.stdout) == "PolicyDenied"
    assert done.stderr.strip() == str(venv.site / "sitecustomize.py")


def test_sitecustomize_on_pythonpath_is_chained(gate: Served, port: str, probe: str, tmp_path: Path) -> None:
    """A ``sitecustomize`` that PYTHONPATH led to runs, and PYTHONPATH keeps its other folders in ``sys.path``."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text("import sys; sys.customised = __file__", encoding="utf-8")
    env = environment(PYTHONPATH=os.pathsep.join(map(str, folders)))
    code = PROBE + "print(json.dumps([sys.customised, sys.path]))"
    done = run(gate, sys.executable, "-c", code, port, env=env)
    first, second = done.stdout.splitlines()
    customised, path = json.loads(second)
    assert json.loads(first) == "PolicyDenied"
    assert customised == str(folders[0] / "sitecustomize.py")
    native = subprocess.run(
        [sys.executable, "-c", "import json, sys; print(json.dumps(sys.path))"], env=env, capture_output=True, text=True
    )
    assert path == json.loads(native.stdout), "sys.path is what it is without us"


def test_sitecustomize_that_uses_sockets(gate: Served, port: str, probe: str, venv: Environment) -> None:
    """A ``sitecustomize`` that imports ``socket`` gets the client already."""
    venv.add("sitecustomize.py", "import socket; socket.customised = socket.socket")
    code = PROBE + "assert socket.customised is socket.socket"
    assert refused_by(run(gate, venv.python, "-c", code, port)) == "PolicyDenied"


def test_sitecustomize_that_fails(gate: Served, port: str, probe: str, venv: Environment) -> None:
    """A ``sitecustomize`` that raises is complained of as without us, and the program runs with the client."""
    venv.add("sitecustomize.py", "raise ValueError('customised')")
    native = subprocess.run([venv.python, "-c", ""], env=environment(), capture_output=True, text=True)
    done = run(gate, venv.python, probe, port)
    assert json.loads(done.stdout) == "PolicyDenied"
    assert "ValueError: customised" in native.stderr
    assert native.stderr.splitlines()[-1] == done.stderr.splitlines()[-1]


def test_socket_imported_before_us(gate: Served, port: str, probe: str, venv: Environment) -> None:
    """Where a ``.pth`` file has imported ``socket`` before us it is patched in place, and says nothing."""
    venv.add("early.pth", "import socket, sys; sys.early = socket.socket\n")
    code = PROBE + "assert sys.early is socket.socket"
    assert refused_by(run(gate, venv.python, "-c", code, port)) == "PolicyDenied"


def test_what_patching_cannot_reach_is_named(gate: Served, port: str, probe: str, venv: Environment) -> None:
    """A class that was built on the native socket before us is named on stderr; the rest is patched."""
    venv.add("early.py", "import _socket\nclass Own(_socket.socket): pass\n")
    venv.add("early.pth", "import socket, early\n")
    done = run(gate, venv.python, probe, port)
    assert json.loads(done.stdout) == "PolicyDenied"
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("outgate: early.Own was built on the native socket class")


def test_no_bytecode_is_written_for_the_program(gate: Served, port: str, probe: str, tmp_path: Path) -> None:
    """With PYTHONDONTWRITEBYTECODE no file is written for the program's modules, and the program sees its setting."""
    code = "import probe, json, sys; print(json.dumps([sys.dont_write_bytecode, sys.pycache_prefix]))"
    env = environment(PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=str(tmp_path))
    done = run(gate, sys.executable, "-c", code, port, env=env)
    assert json.loads(done.stdout) == [True, None]
    assert files_below(tmp_path) == {"probe.py"}


def test_bytecode_of_the_client_has_a_place(gate: Served, port: str, probe: str, tmp_path: Path) -> None:
    """OUTGATE_PYCACHE takes the client's compiled files where its own folder cannot, and not the program's."""
    cache = tmp_path / "cache"
    env = environment(OUTGATE_PYCACHE=str(cache), PYTHONPATH=str(tmp_path), PYTHONDONTWRITEBYTECODE="1")
    done = run(gate, sys.executable, "-m", "probe", port, env=env)
    assert refused_by(done) == "PolicyDenied"
    compiled = {path.name.split(".")[0] for path in cache.rglob("*.pyc")}
    assert {"standin", "channel", "install"} <= compiled
    assert "probe" not in compiled


def test_a_program_without_sockets_loads_nothing(gate: Served) -> None:
    """A program that does not import ``socket`` has loaded none of outgate but the hook that waits for it."""
    code = "import sys; print([name for name in sys.modules if name.startswith('outgate')])"
    done = run(gate, sys.executable, "-c", code)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("option", ["-P", "-s", "-B", "-u", "-O", "-OO", "-q", "-X utf8", "-W error", "-b"])
def test_options_that_do_no_harm(gate: Served, port: str, probe: str, option: str) -> None:
    """Options of Python other than -I, -E and -S leave the client loaded, warnings as errors among them."""
    assert refused_by(run(gate, sys.executable, *option.split(), probe, port)) == "PolicyDenied"


@pytest.mark.parametrize("option", ["-I", "-E", "-S", "-Es"])
def test_options_that_keep_the_client_out(gate: Served, port: str, probe: str, option: str) -> None:
    """``-I``, ``-E`` and ``-S`` load no client, and what is not fenced is told that it goes round the gate."""
    command = [*OUTGATE, "run", "--unconfined", "--socket", gate.socket, "--", sys.executable, option, probe, port]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert json.loads(done.stdout) == "ConnectionRefusedError"
    assert f"{option} does not load the client; its sockets go round the gate" in done.stderr


def test_a_scrubbed_environment_fails_closed(gate: Served, port: str, probe: str) -> None:
    """A program that throws its environment away loads no client; in the fence it has only an empty network."""
    from outgate.guard import fence

    if not isinstance(fence.probe(), fence.Fence):
        pytest.skip("this host lets this user make no fence")
    with peers.echo() as peer:
        command = [*OUTGATE, "run", "--socket", gate.socket, "--", "env", "-i", sys.executable, probe, str(peer.port)]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
        assert json.loads(done.stdout) == "ConnectionRefusedError", "the fence's loopback is not the host's"
        assert peer.connections == []


def python_of(version: str) -> str:
    """Return an interpreter of that version, or skip."""
    path = interpreter(version)
    if path is None:
        pytest.skip(f"no Python {version} on this machine")
    return path


@pytest.mark.pythons
@pytest.mark.parametrize("version", VERSIONS)
def test_other_pythons(gate: Served, port: str, probe: str, version: str) -> None:
    """Each Python from 3.9 on loads the client, with warnings as errors."""
    assert refused_by(run(gate, python_of(version), "-W", "error", probe, port)) == "PolicyDenied"


@pytest.mark.pythons
@pytest.mark.parametrize("version", VERSIONS)
def test_other_pythons_patched_in_place(gate: Served, port: str, probe: str, tmp_path: Path, version: str) -> None:
    """Each Python from 3.9 on can be patched in place, by ``outgate.install()`` in a program that runs."""
    import outgate

    source = str(Path(outgate.__file__).parents[1])
    code = f"import sys; sys.path.append({source!r})\n{PROBE.partition('if __name__')[0]}\nimport outgate\n"
    code += "assert outgate.install() == []\nprint(json.dumps(refused_by(('127.0.0.1', int(sys.argv[1])))))"
    command = [python_of(version), "-B", "-W", "error", "-c", code, port]
    env = environment(OUTGATE_SOCKET=gate.socket)
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE)
    assert refused_by(done) == "PolicyDenied"


@pytest.mark.pythons
@pytest.mark.parametrize("version", VERSIONS)
def test_libraries_of_other_pythons(gate: Served, probe: str, version: str) -> None:
    """The libraries that build on ``_socket`` import in each Python, and build on the client."""
    code = (
        "import asyncio, ftplib, http.client, imaplib, multiprocessing.connection, poplib, selectors, smtplib, "
        "socketserver, ssl, urllib.request, socket, _socket\n"
        "print(_socket.socket.connect.__module__, issubclass(ssl.SSLSocket, _socket.socket))"
    )
    done = run(gate, python_of(version), "-c", code)
    assert (done.stdout, done.stderr) == ("outgate.client.standin True\n", "")


@pytest.mark.pythons
@pytest.mark.parametrize("version", TOO_OLD)
def test_pythons_that_are_too_old(gate: Served, version: str) -> None:
    """A Python before 3.9 says in one line that its sockets are not the gate's, and runs the program."""
    done = run(gate, python_of(version), "-c", "import socket; print('done')")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert done.stderr == (
        f"outgate: Python {version} is too old for the client (3.9 or newer); "
        "this program's sockets are not the gate's\n"
    )
