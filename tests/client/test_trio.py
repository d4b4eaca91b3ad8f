"""trio takes methods from the socket class when it is imported, and keeps them: they are ours by then."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import outgate
from outgate.testing.running import RunningGate

pytest.importorskip("trio")

SRC = Path(outgate.__file__).parents[1]
#: Every way in which trio sends and receives datagrams.
PROGRAM = """
import json, sys
import trio
async def main():
    address = ("127.0.0.1", int(sys.argv[1]))
    got = []
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.sendto(b"sendto", address)
        got.append((await sock.recvfrom(100))[0].decode())
        await sock.connect(address)
        await sock.send(b"send")
        got.append((await sock.recv(100)).decode())
        buffer = bytearray(100)
        await sock.send(b"into")
        got.append(buffer[:await sock.recv_into(buffer)].decode())
        await sock.sendmsg([b"send", b"msg"])
        got.append((await sock.recvmsg(100))[0].decode())
    print(json.dumps(got))
trio.run(main)
"""


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_datagrams_of_trio_arrive_whole(path: str) -> None:
    """What trio sends over UDP, connected and not, arrives as it was sent, and what comes back is what it receives."""
    with RunningGate(path=path) as gate, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(20)
        program = gate.program("-c", PROGRAM, str(peer.getsockname()[1]))
        sent = []
        for _ in range(4):
            data, source = peer.recvfrom(100)
            sent.append(data.decode())
            peer.sendto(data, source)
        said, complained = program.communicate(timeout=30)
    assert complained == ""
    assert json.loads(said) == sent == ["sendto", "send", "into", "sendmsg"]


def test_install_says_that_trio_was_first() -> None:
    """Where trio was imported before ``outgate.install()``, what does not work is said."""
    with RunningGate() as gate:
        environ = {**os.environ, "OUTGATE_SOCKET": gate.socket, "PYTHONPATH": str(SRC)}
        code = "import trio, outgate; print(outgate.install())"
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=30)
    assert "trio took native methods" in done.stdout
    assert "RuntimeWarning: outgate: trio took native methods" in done.stderr
