"""``outgate serve``: readiness, signals, socket activation, and configurations that cannot be."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import config_text
from outgate.cli.main import main
from support.commands import OUTGATE, PATIENCE, environment, outgate, serving

Capture = pytest.CaptureFixture[str]


def test_ready(tmp_path: Path) -> None:
    """One line on stderr says where the gate listens, for whom, by which policy, and where its log is."""
    with serving(tmp_path) as gate:
        assert gate.said == (
            f"outgate: ready at {tmp_path}/gate.sock, app default, policy built-in default, "
            f"log {tmp_path}/decisions.jsonl\n"
        )
        assert main(["status", "--socket", gate.socket]) == 0


def test_ready_with_a_configuration(tmp_path: Path) -> None:
    """With a configuration the line counts and names its apps, and says which file."""
    file = tmp_path / "outgate.toml"
    file.write_text(config_text(os.getuid()), encoding="utf-8")
    with serving(tmp_path, "--config", str(file)) as gate:
        assert f"3 apps (blog, shop, unpaid), policy {file}, log" in gate.said


def test_warnings_at_the_start(tmp_path: Path) -> None:
    """Warnings about the configuration are said before the gate is ready."""
    file = tmp_path / "outgate.toml"
    file.write_text("version = 1\n", encoding="utf-8")
    with serving(tmp_path, "--config", str(file)) as gate:
        assert gate.said.startswith("outgate: warning: apps: there is no app")
        assert "no apps, policy" in gate.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_clean_end(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end the gate with exit status 0, without a word; its socket is gone, its log complete."""
    with serving(tmp_path) as gate:
        assert gate.stop(number) == (0, "")
        assert not Path(gate.socket).exists()
        assert [line["event"] for line in gate.log()] == ["start", "stop"]


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        yield manager


def _told(manager: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in manager.recv(4096).decode().splitlines())


def test_hangup_reloads(tmp_path: Path, notified: socket.socket) -> None:
    """SIGHUP reads the configuration again, the service manager is told; a bad file is said on stderr and kept out."""
    file = tmp_path / "outgate.toml"
    file.write_text(config_text(os.getuid()), encoding="utf-8")
    env = environment(NOTIFY_SOCKET=notified.getsockname())
    with serving(tmp_path, "--config", str(file), env=env) as gate:
        assert _told(notified)["READY"] == "1"
        gate.process.send_signal(signal.SIGHUP)
        assert _told(notified)["RELOADING"] == "1"
        assert _told(notified)["STATUS"] == "policy 2"
        file.write_text("version = 99\n", encoding="utf-8")
        gate.process.send_signal(signal.SIGHUP)
        assert "99 is newer than this gate reads" in gate.line()
        assert _told(notified)["RELOADING"] == "1"
        assert _told(notified)["STATUS"] == "policy 2"
        assert main(["status", "--socket", gate.socket]) == 0
        gate.stop()
        assert _told(notified)["STOPPING"] == "1"
        assert [line["event"] for line in gate.log()] == ["start", "reload", "reload-failed", "stop"]


def test_a_reload_opens_the_log_again(tmp_path: Path) -> None:
    """After ``outgate reload`` the log is a file of its name again, as after SIGHUP: logrotate needs no more."""
    file = tmp_path / "outgate.toml"
    file.write_text(config_text(os.getuid()), encoding="utf-8")
    with serving(tmp_path, "--config", str(file)) as gate:
        gate.log_path.rename(tmp_path / "decisions.jsonl.1")
        assert main(["reload", "--socket", gate.socket]) == 0
        gate.stop()
        assert [line["event"] for line in gate.log()][-2:] == ["reload", "stop"]


def test_log_on_standard_output(tmp_path: Path) -> None:
    """``--log -`` writes the decision log to standard output."""
    command = [*OUTGATE, "serve", "--socket", str(tmp_path / "s"), "--log", "-"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    assert process.stderr is not None
    assert "log standard output" in process.stderr.readline()
    process.terminate()
    output, _ = process.communicate(timeout=PATIENCE)
    assert [word in line for word, line in zip(("start", "stop"), output.splitlines(), strict=True)] == [True, True]


def test_relative_paths(tmp_path: Path) -> None:
    """Paths on the command line start at the working directory."""
    command = [*OUTGATE, "serve", "--socket", "s", "--log", "l"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert f"ready at {tmp_path}/s," in said
    assert f"log {tmp_path}/l" in said
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


#: Listens, and becomes ``outgate serve`` with the socket as fd 3, as a service manager does it.
ACTIVATE = """
import os, socket, sys
path, kind, *command = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX, getattr(socket, kind))
listener.bind(path)
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(command[0], command)
"""


def test_the_ledger_lies_where_the_state_does(tmp_path: Path) -> None:
    """With ``--state`` a ledger whose place the file does not say lies in that folder, and a reload finds no change."""
    config = tmp_path / "outgate.toml"
    app = f"[apps.blog]\nuid = [{os.getuid()}]\nbilling = true\ntrusted = true\n"
    config.write_text(f'version = 1\n[gate]\nstate = "{tmp_path}/configured"\n[ledger]\n{app}')
    with serving(tmp_path, "--config", str(config)) as gate:
        assert (tmp_path / "state" / "ledger.sqlite").exists()
        assert not (tmp_path / "configured").exists()
        done = outgate("reload", "--json", "--socket", gate.socket)
        assert json.loads(done.stdout)["warnings"] == []
        used = outgate("usage", "--json", "--socket", gate.socket)
        assert json.loads(used.stdout)["ok"] is True


def test_socket_activation(tmp_path: Path) -> None:
    """A listening socket that was handed over is used in place of the configured one, and is there afterwards."""
    path = tmp_path / "activated"
    command = [sys.executable, "-c", ACTIVATE, str(path), "SOCK_SEQPACKET", *OUTGATE, "serve", "--log", tmp_path / "l"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
    assert process.stderr is not None
    assert f"ready at {path} (handed over)" in process.stderr.readline()
    assert main(["status", "--socket", str(path)]) == 0
    process.terminate()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert path.exists()


def test_the_wrong_socket_is_handed_over(tmp_path: Path) -> None:
    """A stream socket, which does not keep packets apart, is refused with what to write in the unit."""
    command = [sys.executable, "-c", ACTIVATE, str(tmp_path / "s"), "SOCK_STREAM", *OUTGATE, "serve"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=PATIENCE)
    assert done.returncode == 2
    assert "write ListenSequentialPacket=" in done.stderr


def test_one_gate_a_socket(tmp_path: Path) -> None:
    """A second gate at the same socket ends with exit status 2 and leaves the first alone."""
    with serving(tmp_path) as gate:
        done = outgate("serve", "--socket", gate.socket, "--log", tmp_path / "other")
        assert done.returncode == 2
        assert f"a gate is already listening at {gate.socket}" in done.stderr
        assert main(["status", "--socket", gate.socket]) == 0


def test_a_dead_gates_socket_is_replaced(tmp_path: Path) -> None:
    """The socket that a killed gate has left is no obstacle to the next."""
    with serving(tmp_path) as gate:
        assert gate.stop(signal.SIGKILL)[0] == -signal.SIGKILL
        assert Path(gate.socket).exists()
    with serving(tmp_path) as gate:
        assert main(["status", "--socket", gate.socket]) == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "version: missing"),
        ("version = 1\n[apps.a]\n", "billing"),
        ("version = 1\n[apps.a]\nbilling = true\nallow = ['10.0.0.0/99']\n", "apps.a.allow[0]"),
        ("version = \n", "line 1"),
        ("version = 1\n[gate]\nsocket = 7\n", "gate.socket"),
    ],
)
def test_wrong_configurations(tmp_path: Path, text: str, sentence: str) -> None:
    """A file that cannot be used ends the start with exit status 2 and one line: file, place and a way out."""
    file = tmp_path / "outgate.toml"
    file.write_text(text, encoding="utf-8")
    done = outgate("serve", "--config", file, "--socket", tmp_path / "s", "--log", tmp_path / "l")
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    """A log that cannot be opened is exit status 2, and no socket is left behind."""
    done = outgate("serve", "--socket", tmp_path / "s", "--log", "/proc/nowhere/log")
    assert done.returncode == 2
    assert "gate.log: /proc/nowhere/log cannot be opened" in done.stderr
    assert not (tmp_path / "s").exists()


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    """A socket path that the kernel does not take is exit status 2 with the limit."""
    done = outgate("serve", "--socket", tmp_path / ("x" * 120), "--log", tmp_path / "l")
    assert done.returncode == 2
    assert "too long for a Unix socket (107 bytes)" in done.stderr


def test_a_file_in_the_sockets_place(tmp_path: Path) -> None:
    """What is no socket is not removed."""
    path = tmp_path / "precious"
    path.write_text("data", encoding="utf-8")
    done = outgate("serve", "--socket", path, "--log", tmp_path / "l")
    assert done.returncode == 2
    assert "is not a socket" in done.stderr
    assert path.read_text(encoding="utf-8") == "data"


def test_stop_is_heard_by_programs(tmp_path: Path) -> None:
    """A gate that is told to end does so while a channel is open; the program learns of it by its end."""
    with serving(tmp_path) as gate, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(PATIENCE)
        channel.connect(gate.socket)
        assert gate.stop() == (0, "")
        assert channel.recv(1) == b""
