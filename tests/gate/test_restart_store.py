"""Sockets that no process has outlive their gate: the service manager keeps them, and passes them to the next one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import outgate as package
from support import peers
from support.commands import environment
from support.supervisor import Supervisor

CONFIG = """
version = 1
[apps.web]
uid = [{uid}]
billing = true
trusted = true
except = ["127.0.0.1/32"]
idle_timeout = {idle}
"""
SHARES = """
import outgate, socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(bytes(100))
print(outgate.descriptor(sock), flush=True)
"""
REDEEMS = """
import outgate, sys
with outgate.adopt(sys.argv[1]) as sock:
    sock.sendall(bytes(50))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration."""
    import os

    (tmp_path / "outgate.toml").write_text(CONFIG.format(uid=os.getuid(), idle=120))
    return tmp_path


@pytest.fixture
def service(folder: Path) -> Iterator[Supervisor]:
    """The gate as a service."""
    with Supervisor(folder, "--config", str(folder / "outgate.toml")) as made:
        yield made
        assert ends(made, event="fault") == []


def run(service: Supervisor, code: str, *arguments: object) -> str:
    """Run a program with the client to its end, and return what it printed."""
    autoload = Path(package.__file__).parent / "client" / "autoload"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment(OUTGATE_SOCKET=service.socket, PYTHONPATH=str(autoload)),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ends(service: Supervisor, event: str = "end") -> list[dict[str, Any]]:
    """Return the lines of the log of one kind."""
    lines = [json.loads(text) for text in service.log_path.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def wait_for_end(service: Supervisor, event: str = "end") -> dict[str, Any]:
    """Return the first line of an end, or of another event, waiting for it."""
    deadline = time.monotonic() + 20
    while not (found := ends(service, event)):
        assert time.monotonic() < deadline, service.log_path.read_text()
        time.sleep(0.005)  # a file tells of no change of its own
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_parked_socket_survives(service: Supervisor, number: int) -> None:
    """A socket whose descriptor is out and that no process has goes on after its gate was killed, or told to end."""
    with peers.sink() as peer:
        text = run(service, SHARES, peer.port)
        (name,) = service.wait_for(1)
        began = wait_for_end(service, "decision")
        service.stop(number)
        service.start()
        run(service, REDEEMS, text)
        end = wait_for_end(service)
        assert (end["sent"], end.get("incomplete")) == (150, None)
        assert end["lease"] == began["lease"]
        assert peer.accepted().wait().received == 150
        assert name.startswith("outgate-lease-")
        service.wait_for(0)
        assert len(ends(service)) == 1


@pytest.mark.slow
def test_survives_twice(service: Supervisor) -> None:
    """It survives as many gates as die: what is stored stays stored until a process has it."""
    with peers.sink() as peer:
        text = run(service, SHARES, peer.port)
        for _ in range(2):
            service.wait_for(1)
            service.stop(signal.SIGKILL)
            service.start()
        run(service, REDEEMS, text)
        assert wait_for_end(service)["sent"] == 150


@pytest.mark.slow
def test_nobody_redeems_it(service: Supervisor, folder: Path) -> None:
    """What nobody redeems is reclaimed by the next gate when it has been idle for long enough, and given up."""
    import os

    with peers.sink() as peer:
        run(service, SHARES, peer.port)
        service.wait_for(1)
        service.stop(signal.SIGKILL)
        (folder / "outgate.toml").write_text(CONFIG.format(uid=os.getuid(), idle=1))
        service.start()
        end = wait_for_end(service)
        assert (end["sent"], end["how"]) == (100, "idle")
        service.wait_for(0)
        assert peer.accepted().wait().received == 100


@pytest.mark.slow
def test_what_the_gate_knows_nothing_of_is_given_up(service: Supervisor, folder: Path) -> None:
    """A stored socket that the state file does not name is closed, and the service manager told to close it."""
    with peers.sink() as peer:
        run(service, SHARES, peer.port)
        service.wait_for(1)
        service.stop(signal.SIGKILL)
        for path in (folder / "state").glob("leases-*"):
            path.unlink()
        service.start()
        service.wait_for(0)
        assert peer.accepted().wait().received == 100
