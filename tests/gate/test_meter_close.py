"""The meter's last reading: what the program sent and the kernel took, to the byte, however the connection ends."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import textwrap
from typing import Any

import pytest

from outgate.testing.running import RunningGate
from support import peers

pytestmark = pytest.mark.slow

#: What every program here begins with: a connection ``s``, and ways to say and to be told something.
PREAMBLE = """
import json, os, signal, socket, struct, subprocess, sys, threading
def say(**facts):
    os.write(2, json.dumps(facts).encode() + b"\\n")
def told():
    return sys.stdin.readline()
def stuff(s):
    # as much as the kernel takes
    s.setblocking(False)
    accepted = 0
    try:
        while True:
            accepted += s.send(bytes(65536))
    except BlockingIOError:
        return accepted
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
"""


class Program:
    """An unmodified program with the client, connected to a peer; its end is checked when the block is left."""

    def __init__(self, gate: RunningGate, peer: peers.Peer, code: str, status: int = 0) -> None:
        self.process = gate.program("-c", PREAMBLE + textwrap.dedent(code), str(peer.port))
        self._status = status

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *failed: object) -> None:
        try:
            rest = self.process.communicate(timeout=20)[1]
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        if failed[0] is None:
            assert (self.process.returncode, rest) == (self._status, "")

    def said(self) -> dict[str, Any]:
        """Return the next thing it says."""
        assert self.process.stderr is not None
        text = self.process.stderr.readline()
        assert text.startswith("{"), text + self.process.stderr.read()
        return json.loads(text)

    def tell(self) -> None:
        """Let it go on from ``told()``."""
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()


def end_line(gate: RunningGate, peer: peers.Peer) -> dict[str, Any]:
    """Return the line of the end of the only connection to a peer."""
    line = gate.wait_for(event="end", port=peer.port)
    gate.stats()  # whatever the gate did in the same step is logged by now
    assert gate.log.all(event="end", port=peer.port) == [line]
    return line


def bytes_of(line: dict[str, Any]) -> tuple[int, int]:
    """Return (sent, received)."""
    return line["sent"], line["received"]


def test_plain(gate: RunningGate) -> None:
    """Bytes sent and then closed count as the peer received them."""
    with peers.sink() as peer, Program(gate, peer, "s.sendall(bytes(300_000)); s.close()"):
        assert peer.accepted().wait().received == 300_000
        line = end_line(gate, peer)
        assert bytes_of(line) == (300_000, 0)
        assert (line["how"], line["connected"]) == ("closed", True)


def test_nothing_sent(gate: RunningGate) -> None:
    """A connection that carried nothing counts nothing, though SYN and FIN have sequence numbers."""
    with peers.sink() as peer, Program(gate, peer, "s.close()"):
        assert bytes_of(end_line(gate, peer)) == (0, 0)


def test_two_ways(gate: RunningGate) -> None:
    """Bytes both ways at once count exactly in each direction."""
    code = """
        sender = threading.Thread(target=s.sendall, args=(bytes(3_000_000),))
        sender.start()
        left = 3_000_000
        while left:
            left -= len(s.recv(65536))
        sender.join()
        s.close()
    """
    with peers.echo() as peer, Program(gate, peer, code):
        connection = peer.accepted().wait()
        assert (connection.received, connection.sent) == (3_000_000, 3_000_000)
        assert bytes_of(end_line(gate, peer)) == (3_000_000, 3_000_000)


def test_unread_data(gate: RunningGate) -> None:
    """Bytes that the kernel took and the program never read count as received; natively that close is a reset."""
    code = """
        s.sendall(bytes(500))
        s.recv(30_000, socket.MSG_PEEK | socket.MSG_WAITALL)
        s.recv(100)
        s.close()
    """

    def habit(connection: peers.Connection) -> None:
        connection.send(bytes(30_000))
        connection.drain()

    with peers.Peer(habit) as peer, Program(gate, peer, code):
        connection = peer.accepted().wait()
        assert isinstance(connection.error, ConnectionResetError)
        assert bytes_of(end_line(gate, peer)) == (500, 30_000)


def test_peer_closes_first(gate: RunningGate) -> None:
    """The peer's FIN is no byte: what is read up to the end of file is what counts."""
    code = """
        s.sendall(b"GET")
        n = 0
        while data := s.recv(65536):
            n += len(data)
        say(read=n)
        s.close()
    """
    with peers.source(bytes(123_456)) as peer, Program(gate, peer, code) as program:
        assert program.said() == {"read": 123_456}
        assert bytes_of(end_line(gate, peer)) == (3, 123_456)


def test_linger_zero(gate: RunningGate) -> None:
    """SO_LINGER (1, 0) resets the peer when close returns, and what was sent before counts."""
    code = """
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.sendall(bytes(5_000))
        s.close()
        say(closed=True)
        told()
    """
    with peers.sink() as peer, Program(gate, peer, code) as program:
        program.said()
        assert isinstance(peer.accepted().wait().error, ConnectionResetError)
        assert bytes_of(end_line(gate, peer)) == (5_000, 0)
        program.tell()


def test_positive_linger_with_unsent_data(gate: RunningGate) -> None:
    """A positive linger with megabytes unsent holds neither the gate nor the count: both go on while nobody reads."""
    code = """
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3000))
        accepted = stuff(s)
        s.close()
        say(accepted=accepted)
    """
    with peers.slow() as peer, Program(gate, peer, code) as program:
        connection = peer.accepted()
        accepted = program.said()["accepted"]
        assert bytes_of(end_line(gate, peer)) == (accepted, 0)
        assert connection.received == 0
        connection.allow(accepted + 1)
        assert connection.wait().received == accepted


def test_half_close(gate: RunningGate) -> None:
    """After shutdown(SHUT_WR) and the peer's own end the state is CLOSE, and neither FIN counts."""
    code = """
        s.sendall(bytes(1_000))
        s.shutdown(socket.SHUT_WR)
        n = 0
        while data := s.recv(65536):
            n += len(data)
        say(read=n)
        s.close()
    """

    def habit(connection: peers.Connection) -> None:
        connection.drain()
        connection.send(bytes(2_000))

    with peers.Peer(habit) as peer, Program(gate, peer, code) as program:
        assert program.said() == {"read": 2_000}
        assert bytes_of(end_line(gate, peer)) == (1_000, 2_000)


def test_half_close_then_close_at_once(gate: RunningGate) -> None:
    """A FIN that still stands behind unsent data in the queue is no byte."""
    code = """
        accepted = stuff(s)
        s.shutdown(socket.SHUT_WR)
        s.close()
        say(accepted=accepted)
    """
    with peers.slow() as peer, Program(gate, peer, code) as program:
        connection = peer.accepted()
        accepted = program.said()["accepted"]
        assert bytes_of(end_line(gate, peer)) == (accepted, 0)
        connection.allow(accepted + 1)
        assert connection.wait().received == accepted


def test_socket_dup(gate: RunningGate) -> None:
    """Duplicates by socket.dup() are one lease, which ends with the last of them."""
    code = """
        a = s.dup()
        b = a.dup()
        s.sendall(bytes(10))
        s.close()
        b.sendall(bytes(200))
        b.close()
        a.sendall(bytes(3_000))
        say(one_left=True)
        told()
        a.close()
    """
    with peers.sink() as peer, Program(gate, peer, code) as program:
        connection = peer.accepted()
        program.said()
        gate.stats()
        assert gate.log.all(event="end", port=peer.port) == []
        program.tell()
        assert connection.wait().received == 3_210
        assert bytes_of(end_line(gate, peer)) == (3_210, 0)


def test_os_dup(gate: RunningGate) -> None:
    """A duplicate by os.dup() that outlives the socket is metered to its own end, which os.close() does not tell."""
    code = """
        fd = os.dup(s.fileno())
        s.sendall(bytes(10))
        s.close()
        os.write(fd, bytes(4_000))
        os.close(fd)
        told()
    """
    with peers.sink() as peer, Program(gate, peer, code) as program:
        assert peer.accepted().wait().received == 4_010
        assert bytes_of(end_line(gate, peer)) == (4_010, 0)
        program.tell()


def test_fork(gate: RunningGate) -> None:
    """What a forked child sends after its parent has closed counts, in one line."""
    code = """
        s.sendall(bytes(1_000))
        read, write = os.pipe()
        if os.fork() == 0:
            os.read(read, 1)
            s.sendall(bytes(20_000))
            s.close()
            os._exit(0)
        s.close()
        os.write(write, b"x")
        os.wait()
    """
    with peers.sink() as peer, Program(gate, peer, code):
        assert peer.accepted().wait().received == 21_000
        assert bytes_of(end_line(gate, peer)) == (21_000, 0)


def test_parent_outlives_child(gate: RunningGate) -> None:
    """A forked child that ends without a word does not end what its parent still uses."""
    code = """
        if os.fork() == 0:
            s.sendall(bytes(20_000))
            os._exit(0)
        os.wait()
        s.sendall(bytes(1_000))
        s.close()
    """
    with peers.sink() as peer, Program(gate, peer, code):
        assert peer.accepted().wait().received == 21_000
        assert bytes_of(end_line(gate, peer)) == (21_000, 0)


def test_child_inherits_it_as_stdout(gate: RunningGate) -> None:
    """A command that got the socket as its standard output is metered to its end, past its parent's close and end."""
    code = """
        s.sendall(bytes(10))
        child = subprocess.Popen(
            [sys.executable, "-IS", "-c", "import os; os.read(0, 1); os.write(1, bytes(5_000))"],
            stdin=subprocess.PIPE, stdout=s,
        )
        s.close()
        say(closed=True)
        told()
        child.stdin.write(b"x")
        child.stdin.flush()
        os._exit(0)
    """
    with peers.sink() as peer, Program(gate, peer, code) as program:
        connection = peer.accepted()
        program.said()
        gate.stats()
        assert gate.log.all(event="end", port=peer.port) == []
        program.tell()
        assert connection.wait().received == 5_010
        assert bytes_of(end_line(gate, peer)) == (5_010, 0)


def test_stuck_peer(gate: RunningGate) -> None:
    """Megabytes that a peer never reads count as sent: it is what the kernel accepted from the program."""
    with peers.silent() as peer, Program(gate, peer, "say(accepted=stuff(s)); s.close()") as program:
        accepted = program.said()["accepted"]
        assert accepted > 1_000_000
        assert bytes_of(end_line(gate, peer)) == (accepted, 0)


def test_killed_right_after_send(gate: RunningGate) -> None:
    """SIGKILL right after send() loses no byte of the count."""
    code = "s.sendall(bytes(200_000)); os.kill(os.getpid(), signal.SIGKILL)"
    with peers.sink() as peer, Program(gate, peer, code, status=-9):
        assert peer.accepted().wait().received == 200_000
        line = end_line(gate, peer)
        assert bytes_of(line) == (200_000, 0)
        assert line["how"] == "process-ended"


def test_killed_with_a_stuck_peer(gate: RunningGate) -> None:
    """SIGKILL with megabytes in the queue counts them all."""
    code = "say(accepted=stuff(s)); os.kill(os.getpid(), signal.SIGKILL)"
    with peers.silent() as peer, Program(gate, peer, code, status=-9) as program:
        accepted = program.said()["accepted"]
        assert bytes_of(end_line(gate, peer)) == (accepted, 0)


@pytest.mark.parametrize("read", [True, False], ids=["noticed", "unnoticed"])
def test_peer_resets(gate: RunningGate, read: bool) -> None:
    """After a reset with nothing in the queue the counts are those of before it."""
    code = f"""
        s.sendall(bytes(1_000))
        s.recv(50, socket.MSG_WAITALL)
        say(ready=True)
        told()
        try:
            {"s.recv(1)" if read else "pass"}
        except ConnectionResetError:
            pass
        s.close()
    """

    def habit(connection: peers.Connection) -> None:
        connection.receive(1_000)
        connection.send(bytes(50))
        connection.take_credit()
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with peers.Peer(habit) as peer, Program(gate, peer, code) as program:
        connection = peer.accepted()
        program.said()
        connection.allow(1)
        connection.wait()
        program.tell()
        assert bytes_of(end_line(gate, peer)) == (1_000, 50)


def test_peer_resets_with_data_queued(gate: RunningGate) -> None:
    """After a reset with megabytes in the queue they all count: the program was told that they were taken."""
    code = """
        say(accepted=stuff(s))
        s.setblocking(True)
        try:
            s.recv(1)
        except ConnectionResetError:
            say(reset=True)
        s.close()
    """

    def habit(connection: peers.Connection) -> None:
        connection.take_credit()
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with peers.Peer(habit) as peer, Program(gate, peer, code) as program:
        accepted = program.said()["accepted"]
        peer.accepted().allow(1)
        assert program.said() == {"reset": True}
        assert bytes_of(end_line(gate, peer)) == (accepted, 0)


def test_reset_after_the_peers_end(gate: RunningGate) -> None:
    """A reset that answers data sent after the peer's FIN leaves sent exact, and received at most one off."""
    code = """
        s.recv(100, socket.MSG_WAITALL)
        assert s.recv(1) == b""
        s.sendall(bytes(70))
        try:
            while True:
                s.sendall(b"x")
                say(more=1)
                told()
        except BrokenPipeError:
            say(more=0)
        s.close()
    """
    with peers.Peer(lambda connection: connection.send(bytes(100))) as peer, Program(gate, peer, code) as program:
        more = 0
        while program.said()["more"]:
            more += 1
            program.tell()
        sent, received = bytes_of(end_line(gate, peer))
        assert sent == 70 + more
        assert received in (100, 101)


def test_refused_connection(gate: RunningGate) -> None:
    """A dial that is refused has a line of its own, with no byte and not connected."""
    code = "import socket, sys\nsocket.socket().connect_ex(('127.0.0.1', int(sys.argv[1])))"
    with peers.refusing() as (_, port):
        process = gate.program("-c", code, str(port))
        assert process.communicate() == ("", "")
        line = gate.wait_for(event="end", port=port)
        assert bytes_of(line) == (0, 0)
        assert (line["how"], line["connected"]) == ("failed", False)


def test_every_lease_has_ended(gate: RunningGate) -> None:
    """After all of them nothing is held or open, and the app's bytes are the sum of its lines."""
    counts = gate.wait_for_counts(held=0, open=0)
    lines = gate.log.all(event="end")
    assert counts["ended"] == len(lines) == len({line["lease"] for line in lines})
    assert counts["sent"] == sum(line["sent"] for line in lines)
    assert counts["received"] == sum(line["received"] for line in lines)
    decided = {line["lease"] for line in gate.log.all(event="decision", verdict="allow")}
    assert decided == {line["lease"] for line in lines}
