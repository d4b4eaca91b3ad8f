"""Quotas of bytes and datagrams: the relay stops to the byte, the kernel is paced and shut, a cut is loud."""

from __future__ import annotations

import errno
import socket

import pytest

from outgate.gate.kernel import pacing
from support import peers
from support.clocked import Clocked, refused
from support.driven import Driven

pytestmark = pytest.mark.slow

PATHS = pytest.mark.parametrize("path", ["direct", "relay"])
#: Bytes that a direct socket may send above its quota: what waits in the kernel, and two packets (docs/quotas.md).
OVERSHOOT = 3 * 65536
#: Sends until nothing goes for half a second, or an error comes, and returns how much went and the error.
SEND = """
def flood(sock, most, piece=65536):
    sock.settimeout(0.5)
    sent = 0
    try:
        while sent < most:
            sent += sock.send(bytes(min(piece, most - sent)))
    except OSError as e:
        return [sent, type(e).__name__]
    return [sent, ""]
"""
#: Receives until nothing comes for half a second, or the end.
RECEIVE = """
def drain(sock, most):
    sock.settimeout(0.5)
    got = 0
    try:
        while got < most and (data := sock.recv(min(65536, most - got))):
            got += len(data)
    except OSError as e:
        return [got, type(e).__name__]
    return [got, "" if got == most else "end"]
"""


def opened(program: Driven, port: int, name: str = "s") -> None:
    """Have the program open a connection under a name."""
    program.do(SEND)
    program.do(RECEIVE)
    program.do(f"{name} = socket.create_connection(('127.0.0.1', {port}))")


# --- the relay --------------------------------------------------------------------------------------------------------


def test_a_relayed_socket_stops_at_the_byte_and_goes_on_with_the_next_minute() -> None:
    """What goes out in a minute is the limit and not a byte more; with the next one the rest follows, in order."""
    with peers.sink() as peer, Clocked("relay", bytes_sent_minute=100_000) as gate, Driven(gate) as program:
        opened(program, peer.port)
        connection = peer.accepted()
        program.do("s.sendall(bytes(70_000))")
        assert gate.wait_for_use("bytes_sent.minute", lambda used: used == 70_000)
        program.do("t = socket.create_connection(s.getpeername())")
        program.do("t.sendall(b'x' * 70_000)")
        gate.wait_for_use("bytes_sent.minute", lambda used: used == 100_000)
        line = gate.wait_for(event="quota-exceeded")
        assert (line["quota"], line["over"], line["used"]) == ("bytes_sent.minute", "delay", 100_000)
        assert program.do("s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)") == 0
        gate.go(60)
        gate.wait_for_use("bytes_sent.minute", lambda used: used == 40_000)
        program.do("s.close(); t.close()")
        other = peer.accepted()
        assert connection.wait().received + other.wait().received == 140_000
        assert connection.saw_end
        assert other.saw_end


def test_a_relayed_socket_receives_no_byte_more() -> None:
    """What comes in waits as well; the far end is held back, and nothing is lost."""
    data = bytes(range(256)) * 2000
    with peers.source(data) as peer, Clocked("relay", bytes_received_minute=200_000) as gate, Driven(gate) as program:
        opened(program, peer.port)
        assert program.do(f"drain(s, {len(data)})") == [200_000, "TimeoutError"]
        gate.go(60)
        assert program.do("drain(s, 200_000)") == [200_000, ""]
        gate.go(60)
        assert program.do(f"drain(s, {len(data)})") == [len(data) - 400_000, "end"]


def test_a_raised_quota_lets_a_relayed_socket_go_at_once() -> None:
    """A reload that raises the limit moves what waits without waiting for a look."""
    with peers.sink() as peer, Clocked("relay", bytes_sent_minute=1000) as gate, Driven(gate) as program:
        opened(program, peer.port)
        program.do("s.sendall(bytes(5000))")
        gate.wait_for_use("bytes_sent.minute", lambda used: used == 1000)
        gate.reload(bytes_sent_minute=4000)
        gate.wait_for_use("bytes_sent.minute", lambda used: used == 4000)
        gate.reload()
        program.do("s.close()")
        assert peer.accepted().wait().received == 5000


def test_a_quota_that_comes_with_a_reload_counts_from_then_on() -> None:
    """What a relayed socket moved before there was a quota is not counted in it, and what it moves after is."""
    with peers.sink() as peer, Clocked("relay") as gate, Driven(gate) as program:
        opened(program, peer.port)
        program.do("s.sendall(bytes(5000))")
        connection = peer.accepted()
        while gate.app()["sent"] < 5000:
            gate.read()
        gate.reload(bytes_sent_minute=1000)
        program.do("s.sendall(bytes(400))")
        gate.wait_for_use("bytes_sent.minute", lambda used: used == 400)
        gate.read()
        assert gate.used("bytes_sent.minute") == 400
        program.do("s.close()")
        assert connection.wait().received == 5400


# --- either path ------------------------------------------------------------------------------------------------------


@PATHS
def test_a_cut_is_loud(path: str) -> None:
    """When a quota that cuts is used up the program and its peer get a reset, and new connections the reason."""
    limit = 300_000
    with (
        peers.sink() as peer,
        Clocked(path, bytes_sent_day=limit) as gate,
        Driven(gate) as program,
    ):
        opened(program, peer.port)
        program.begin("flood(s, 5_000_000)")
        connection = peer.accepted()
        used = gate.wait_for_use("bytes_sent.day", lambda used: used >= limit)
        line = gate.wait_for(event="end", how="quota")
        sent, error = program.end()
        assert error in ("ConnectionResetError", "BrokenPipeError")
        assert sent >= limit
        assert isinstance(connection.wait().error, ConnectionResetError)
        assert not connection.saw_end, "it must not look like a success"
        if path == "relay":
            assert (used, line["sent"]) == (limit, limit)
        else:
            assert used == line["sent"] <= limit + OVERSHOOT
        why = refused(program, f"socket.create_connection(('127.0.0.1', {peer.port}))")
        assert (why.quota, why.retry_after, why.errno) == ("bytes_sent.day", 43170.0, errno.EDQUOT)
        gate.go(43170)
        opened(program, peer.port, "t")
        assert program.do("flood(t, 1000)") == [1000, ""]


@PATHS
def test_every_byte_is_counted_once(path: str) -> None:
    """After the socket has ended the quotas have what the log's line of its end has, both ways."""
    with (
        peers.echo() as peer,
        Clocked(path, bytes_sent_day=10**9, bytes_received_day=10**9) as gate,
        Driven(gate) as program,
    ):
        opened(program, peer.port)
        program.do("s.sendall(bytes(50_000))")
        assert program.do("drain(s, 50_000)") == [50_000, ""]
        gate.read()
        gate.read()
        program.do("s.sendall(bytes(7)); s.close()")
        line = gate.wait_for(event="end")
        assert gate.used("bytes_sent.day") == line["sent"] == 50_007
        assert gate.used("bytes_received.day") == line["received"]


# --- the direct path --------------------------------------------------------------------------------------------------


def pace_of(gate: Clocked) -> int | None:
    """Return the pace of the only open socket."""
    return gate.call(lambda: pacing.paced(next(iter(gate.gate.registry.leases[id].sock for id in _open(gate)))))


def _open(gate: Clocked) -> list[int]:
    return [id for id, lease in gate.gate.registry.leases.items() if lease.state == "open"]


@pytest.mark.slow
def test_a_direct_socket_is_paced_and_let_go() -> None:
    """The kernel keeps a socket to less than is left, and a limit that is raised lets it go."""
    limit = 8_000_000
    with peers.sink() as peer, Clocked("direct", bytes_sent_minute=limit) as gate, Driven(gate) as program:
        opened(program, peer.port)
        first = pace_of(gate)
        assert first is not None
        assert first <= limit // 10, "from the first byte on"
        program.do("s.settimeout(60)")
        program.begin("s.sendall(bytes(20_000_000))")
        gate.wait_for_use("bytes_sent.minute", lambda used: used > 100_000)
        busy = pace_of(gate)
        assert busy is not None
        assert busy > first, "who sends gets the larger share"
        used = gate.wait_for_use("bytes_sent.minute", lambda used: used > limit // 2)
        last = pace_of(gate)
        assert last is not None
        assert last <= (limit - used) // 2
        gate.reload(bytes_sent_minute=10**13)
        assert pace_of(gate) is None
        program.end()
        gate.wait_for_use("bytes_sent.minute", lambda used: used == 20_000_000)


def test_what_a_direct_socket_receives_is_held_back() -> None:
    """When the minute's bytes are used up the window is shut, so the far end stops; with the next minute it goes on."""
    data = bytes(30_000_000)
    with (
        peers.source(data) as peer,
        Clocked("direct", bytes_received_minute=1_000_000) as gate,
        Driven(gate) as program,
    ):
        opened(program, peer.port)
        assert program.do("drain(s, 2_000_000)") == [2_000_000, ""]
        gate.wait_for_use("bytes_received.minute", lambda used: used >= 2_000_000)
        assert gate.call(lambda: pacing.held(gate.gate.registry.leases[_open(gate)[0]].sock))
        gate.reload(bytes_received_minute=10**12)
        assert not gate.call(lambda: pacing.held(gate.gate.registry.leases[_open(gate)[0]].sock))
        assert program.do(f"drain(s, {len(data)})") == [len(data) - 2_000_000, "end"]


def test_no_quota_no_pace() -> None:
    """A socket of an app without quotas of bytes, or with one far above any line, is not touched."""
    for limits in ({}, {"connect_minute": 5}, {"bytes_received_day": 10**9}, {"bytes_sent_day": (5, "warn")}):
        with peers.sink() as peer, Clocked("direct", **limits) as gate, Driven(gate) as program:
            opened(program, peer.port)
            gate.read()
            assert pace_of(gate) is None


def test_the_pace_ends_with_the_gate() -> None:
    """A program whose gate has ended sends as fast as it likes."""
    with peers.sink() as peer, socket.socket() as probe:
        with Clocked("direct", bytes_sent_minute=1000) as gate, Driven(gate) as program:
            opened(program, peer.port)
            pace = pace_of(gate)
            assert pace is not None
            gate.call(gate.gate.quotas.let_go)
            assert pace_of(gate) is None
        pacing.pace(probe, 5)
        assert pacing.paced(probe) == 5
        pacing.pace(probe, None)
        assert pacing.paced(probe) is None


# --- datagrams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "went", "quota"),
    [
        ({"send_minute": 3}, 3, "send.minute"),
        ({"bytes_sent_minute": 350}, 3, "bytes_sent.minute"),
        ({"bytes_sent_day": 250}, 2, "bytes_sent.day"),
    ],
)
def test_datagrams_above_the_quota_do_not_go(limits: dict[str, int], went: int, quota: str) -> None:
    """Those within it arrive, one above is dropped, and the next call that sends is told why until the window turns."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer, Clocked("relay", **limits) as gate:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10)
        with Driven(gate) as program:
            program.do("u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); import select")
            program.do(f"u.connect({peer.getsockname()!r})")
            for _ in range(went):
                assert program.do("u.send(bytes(100))") == 100
                assert len(peer.recv(1000)) == 100
            assert program.do("u.send(bytes(100))") == 100, "the gate drops it, and says so"
            program.do("select.select([u], [], [], 10)[0] and None")
            why = refused(program, "u.send(bytes(100))")
            assert (why.name, why.errno, why.quota) == ("QuotaExceeded", errno.EDQUOT, quota)
            gate.go(86400)
            assert program.do("u.send(b'again')") == 5
            assert peer.recv(1000) == b"again"


def test_datagrams_that_come_above_the_quota_are_lost() -> None:
    """A program is given as many bytes and datagrams as its quotas have; the rest is lost, as in a full buffer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer, Clocked("relay", receive_minute=2) as gate:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(10)
        with Driven(gate) as program:
            program.do("u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.settimeout(10)")
            program.do(f"u.sendto(b'go', {peer.getsockname()!r})")
            _, address = peer.recvfrom(100)
            for number in range(4):
                peer.sendto(b"%d" % number, address)
            assert [program.do("u.recv(100).decode()") for _ in range(2)] == ["0", "1"]
            gate.wait_for(event="quota-exceeded", quota="receive.minute") if gate.go(0) is None else None
            gate.go(60)
            peer.sendto(b"new", address)
            assert program.do("u.recv(100).decode()") == "new"


def test_relayed_tcp_and_datagrams_share_a_quota() -> None:
    """What a relayed socket has reserved and not used is there for datagrams, and the sum is the limit."""
    with (
        peers.sink() as peer,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
        Clocked("relay", bytes_sent_minute=1000) as gate,
        Driven(gate) as program,
    ):
        other.bind(("127.0.0.1", 0))
        other.settimeout(10)
        opened(program, peer.port)
        program.do("s.sendall(bytes(300))")
        gate.wait_for_use("bytes_sent.minute", lambda used: used == 300)
        program.do("u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
        program.do(f"u.sendto(bytes(600), {other.getsockname()!r})")
        assert len(other.recv(1000)) == 600
        assert gate.used("bytes_sent.minute") == 900
        program.do("s.sendall(bytes(200))")
        assert gate.wait_for_use("bytes_sent.minute", lambda used: used == 1000)
