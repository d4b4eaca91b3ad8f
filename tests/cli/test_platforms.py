"""What works on macOS and Windows, in interpreters that were made to look like theirs (``support/platforms.py``)."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from core.test_observations import line
from outgate.cli.main import COMMANDS, LINUX_ONLY
from support import platforms
from support.commands import environment

PLATFORMS = {"darwin": "macOS", "win32": "Windows"}

POLICY = """\
version = 1

[gate]
socket = "/run/outgate/gate.sock"

[apps.blog]
uid = [1000]
billing = true
allow = ["93.184.215.14:443", "*.example.com:443"]
"""

EXPECTATIONS = """\
version = 1
policy = "outgate.toml"

[resolve]
"www.example.com" = ["93.184.215.14"]

[[expect]]
app = "blog"
allow = ["www.example.com:443"]
deny = ["10.0.0.5:22"]
"""


def run(platform: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of outgate's there."""
    return subprocess.run(
        [sys.executable, platforms.__file__, platform, *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        cwd=folder,
        env=environment(),
    )


def run_python(platform: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run a line of Python there."""
    folder = Path(platforms.__file__).parent
    begin = f"import sys; sys.path.insert(0, {str(folder)!r}); import platforms; platforms.become({platform!r}); "
    return subprocess.run(
        [sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=60, env=environment()
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration, expectations of it, and a decision log."""
    (tmp_path / "outgate.toml").write_text(POLICY)
    (tmp_path / "policy.test.toml").write_text(EXPECTATIONS)
    (tmp_path / "decisions.jsonl").write_text(json.dumps(line()) + "\n")
    return tmp_path


@pytest.mark.parametrize("platform", PLATFORMS)
def test_it_is_another_system(platform: str) -> None:
    """The interpreter of these tests has nothing of what the other system lacks; otherwise they would show nothing."""
    code = "import importlib.util as u, os, select, _socket; print(sys.platform, *[each for each in "
    code += "('fcntl', 'pwd', 'termios', 'posix') if each in sys.modules], hasattr(os, 'pidfd_open'), "
    code += (
        "hasattr(os, 'fork'), hasattr(select, 'epoll'), hasattr(_socket, 'SO_PEERCRED'), hasattr(_socket, 'AF_UNIX'))"
    )
    said = run_python(platform, code).stdout.split()
    assert said[0] == platform
    here = ["False", "True", "False", "False", "True"] if platform == "darwin" else ["False"] * 5
    assert said[-5:] == here
    assert (said[1:-5] == []) == (platform == "win32")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_import(platform: str) -> None:
    """``import outgate`` works, and so do its errors; what needs a gate says what is missing when it is called."""
    code = "import outgate, outgate.errors\nfor call in (outgate.install, lambda: outgate.adopt('x'), outgate.narrow,"
    code += " lambda: outgate.descriptor(None)):\n"
    code += "    try: call()\n    except outgate.errors.GateUnavailable as e: print(e.code, e.reason)"
    done = run_python(platform, "\n" + code)
    assert done.stdout.splitlines() == [f"not-linux a gate needs Linux, and this is {PLATFORMS[platform]}"] * 4
    assert not done.stderr


@pytest.mark.parametrize("platform", PLATFORMS)
def test_check(platform: str, folder: Path) -> None:
    """``check`` says what a configuration means, as on Linux."""
    done = run(platform, folder, "check", "--json", "outgate.toml")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    values = {each["key"]: each["value"] for each in said["settings"]}
    assert values["gate.socket"] == "/run/outgate/gate.sock"
    assert values["apps.blog.allow"] == ["93.184.215.14:443", "*.example.com:443"]
    assert values["gate.state"] == "/var/lib/outgate" or platform == "darwin"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_check_refuses(platform: str, folder: Path) -> None:
    """A user by name is one of the gate's host, so where there are none ``check`` says to write the number."""
    (folder / "outgate.toml").write_text(POLICY.replace("[1000]", '["no-such-user"]'))
    done = run(platform, folder, "check", "outgate.toml")
    assert done.returncode == 2
    assert "this host has no user 'no-such-user'; make it first, or write its number" in done.stderr


@pytest.mark.parametrize("platform", PLATFORMS)
def test_why(platform: str, folder: Path) -> None:
    """``why --config`` decides; without a configuration it says that no gate is here to be asked."""
    done = run(platform, folder, "why", "--config", "outgate.toml", "93.184.215.14:443")
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "allowed", "")
    assert run(platform, folder, "why", "--config", "outgate.toml", "10.0.0.5:22").returncode == 1
    done = run(platform, folder, "why", "10.0.0.5:22")
    assert done.returncode == 2
    assert f"needs Linux, and this is {PLATFORMS[platform]}; --config FILE decides without one" in done.stderr


@pytest.mark.parametrize("platform", PLATFORMS)
def test_policy(platform: str, folder: Path) -> None:
    """``policy test`` and ``policy diff`` say what they say on Linux."""
    done = run(platform, folder, "policy", "test", "policy.test.toml")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    (folder / "new.toml").write_text(POLICY.replace('"93.184.215.14:443", ', ""))
    done = run(platform, folder, "policy", "diff", "--log", "decisions.jsonl", "outgate.toml", "new.toml")
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("platform", PLATFORMS)
def test_learn(platform: str, folder: Path) -> None:
    """``learn`` makes a policy of a log, to standard output and into a file, once."""
    done = run(platform, folder, "learn", "decisions.jsonl")
    assert done.returncode == 0, done.stderr
    assert "blog" in tomllib.loads(done.stdout)["apps"]
    assert run(platform, folder, "learn", "decisions.jsonl", "--output", "learned.toml").returncode == 0
    assert tomllib.loads((folder / "learned.toml").read_text()) == tomllib.loads(done.stdout)
    assert "is there already" in run(platform, folder, "learn", "decisions.jsonl", "--output", "learned.toml").stderr


@pytest.mark.parametrize("platform", PLATFORMS)
def test_files_of_others(platform: str, folder: Path) -> None:
    """``log FILE`` reads a log, ``token new`` makes a token, and a configuration with it is read."""
    assert "blog" in run(platform, folder, "log", "decisions.jsonl").stdout
    done = run(platform, folder, "token", "new", "token")
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "outgate.toml").write_text(POLICY.replace("uid = [1000]", 'token_file = "token"'))
    done = run(platform, folder, "check", "outgate.toml")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("command", LINUX_ONLY)
def test_what_needs_linux(platform: str, command: str, folder: Path) -> None:
    """A command that needs a gate is a wrong call there: one line says what is missing, and what there is instead."""
    done = run(platform, folder, command, *(["--", "python", "agent.py"] if command == "run" else []))
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"outgate {command}: needs Linux, and this is {PLATFORMS[platform]}: ")
    assert said.endswith("Here there are: " + ", ".join(each for each in COMMANDS if each not in LINUX_ONLY))
