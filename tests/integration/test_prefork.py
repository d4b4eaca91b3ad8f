"""A prefork server whose workers open connections: gunicorn, on a listening socket that it inherits."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from outgate.testing.running import RunningGate
from support import peers

PROGRAMS = Path(__file__).parent / "programs"
WORKERS = 3
#: How gunicorn is told to work: whether the application is there before the fork, and how a worker serves.
WAYS = {
    "loaded by each worker": (),
    "loaded before the fork": ("--preload",),
    "with threads": ("--preload", "--threads", "4"),
    "with few requests a worker": ("--preload", "--max-requests", "5"),
}


class Site:
    """gunicorn with the application, and its address."""

    def __init__(self, process: subprocess.Popen[str], address: tuple[str, int]) -> None:
        self.process = process
        self._address = address

    def get(self, path: str) -> tuple[int, str]:
        """Return the pid of the worker that answered a request, and what its connection heard."""
        host, port = self._address
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=20) as reply:
            pid, heard = reply.read().decode().split(" ", 1)
        return int(pid), heard

    def ask(self, count: int) -> set[int]:
        """Make that many requests, several at a time; return the pids of the workers. Each heard its own echo."""
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(self.get, [f"/{number}" for number in range(count)]))
        assert [heard for _, heard in answers] == [f"/{number}" for number in range(count)]
        return {pid for pid, _ in answers}


@contextlib.contextmanager
def site(gate: RunningGate, echo: peers.Peer, *options: str) -> Iterator[Site]:
    """Run gunicorn through a gate for as long as the block lasts; it must end in order."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [
            *(sys.executable, "-m", "gunicorn", "--bind", f"fd://{server.fileno()}", "--workers", str(WORKERS)),
            *("--chdir", str(PROGRAMS), "--log-level", "warning", "--graceful-timeout", "10"),
            *(*options, "prefork_app:application"),
        ]
        environ = {**gate.environ(), "ECHO": f"localhost:{echo.port}", "PYTHONDONTWRITEBYTECODE": "1"}
        with subprocess.Popen(command, env=environ, pass_fds=[server.fileno()], stderr=subprocess.PIPE, text=True) as p:
            try:
                yield Site(p, server.getsockname())
            finally:
                p.terminate()
                _, said = p.communicate(timeout=20)
        assert p.returncode == 0, said
        assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("path", ["direct", "relay"])
@pytest.mark.parametrize("way", WAYS)
def test_workers_open_connections(way: str, path: str) -> None:
    """Workers, however they come to the application, open connections of their own, and nothing is left of any."""
    with RunningGate(path=path) as gate, peers.echo() as echo:
        with site(gate, echo, *WAYS[way]) as served:
            assert os.getpid() not in served.ask(60)
            assert gate.app()["connects"] >= 61
            assert gate.app()["open"] == 0
        gate.wait_for_counts(held=0, open=0, processes=0)
        assert gate.faults == []


@pytest.mark.slow
@pytest.mark.parametrize("path", ["direct", "relay"])
def test_a_worker_that_is_killed_is_replaced(path: str) -> None:
    """After each worker was killed, and after a reload, new ones open connections."""
    with RunningGate(path=path) as gate, peers.echo() as echo:
        with site(gate, echo, "--preload") as served:
            for _ in range(2):
                before = served.ask(30)
                for pid in before:
                    os.kill(pid, signal.SIGKILL)
                assert not before & served.ask(30)
            served.process.send_signal(signal.SIGHUP)
            served.ask(30)
        gate.wait_for_counts(held=0, open=0, processes=0)
        assert gate.faults == []
