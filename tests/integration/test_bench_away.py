"""The network with a delay that the benchmark measures over, in a namespace of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

_PROGRAM = """
import socket
import subprocess
from bench import away

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
away.begin(0.002)
with socket.create_server(("0.0.0.0", 0)) as server:
    with socket.create_connection((away.AWAY, server.getsockname()[1]), timeout=10) as near:
        far, address = server.accept()
        with far:
            near.sendall(b"x" * 100_000)
            near.shutdown(socket.SHUT_WR)
            got = b"".join(iter(lambda: far.recv(65536), b""))
            print(address[0] == away.AWAY, near.getpeername()[0] == away.AWAY, got == b"x" * 100_000)
"""


def test_who_listens_here_is_found_far_away():
    """A connection to the far address reaches the listener at this end, from the far address, with every byte."""
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", _PROGRAM],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True True True\n", "")
