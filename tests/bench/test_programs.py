"""The programs that are measured, run natively."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

_CLIENT = Path(__file__).parents[2] / "bench" / "programs" / "client.py"
_TARGET = Path(__file__).parents[2] / "bench" / "target.py"


def _run(case: str, **parameters: Any) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(_CLIENT), case, json.dumps(parameters)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def server() -> Iterator[tuple[int, list[int]]]:
    """The port of a listener that takes connections until one says so, and a list with an entry for each."""
    taken: list[int] = []
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:

        def take() -> None:
            while True:
                sock, _ = listener.accept()
                with sock:
                    taken.append(sock.fileno())
                    if sock.recv(1) == b"q":
                        return

        thread = threading.Thread(target=take)
        thread.start()
        yield listener.getsockname()[1], taken
        with socket.create_connection(listener.getsockname()) as last:
            last.sendall(b"q")
        thread.join()


@pytest.mark.parametrize(("processes", "threads"), [(1, 1), (3, 1), (1, 3), (2, 2)])
def test_a_rate_counts_every_open(server, processes, threads):
    """What all processes and threads have opened is what has come, but for one that each opens first."""
    port, taken = server
    figures = _run("rate", ports=[port], seconds=0.1, processes=processes, threads=threads)
    assert figures["errors"] == 0
    assert figures["opens"] > 0
    with socket.create_connection(("127.0.0.1", port)) as sock:  # taken after all of them
        sock.sendall(b"x")
        assert sock.recv(1) == b""
    assert len(taken) == 2 + processes * threads + figures["opens"]


def test_a_refusal_is_timed():
    """An open that is refused takes its time too."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        figures = _run("open_refused", port=sock.getsockname()[1], count=5)
    assert len(figures["open"]) == 5
    assert min(figures["open"]) > 0


def _in_time_wait(port: int) -> int:
    """Return how many connections to a port of the loopback wait (proc(5): state 6 in /proc/net/tcp)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[2:4] == [f"0100007F:{port:04X}", "06"] for line in lines)


def _opened(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.getpeername()


def test_opens_use_up_no_ports(tmp_path):
    """Who has closed a connection to the target has its port back soon, and who has not is not reset."""
    certificate = tmp_path / "certificate.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    command = [sys.executable, str(_TARGET), "127.0.0.1", str(certificate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as target:
        assert target.stdin is not None
        assert target.stdout is not None
        port = json.loads(target.stdout.readline())["open"][0]
        with socket.create_connection(("127.0.0.1", port)) as first:
            for _ in range(1000):
                _opened(port)
            first.setblocking(False)
            with pytest.raises(BlockingIOError):
                first.recv(1)
        assert _in_time_wait(port) < 300
        target.stdin.close()
