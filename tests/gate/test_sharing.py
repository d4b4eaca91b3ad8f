"""A socket passed on by its descriptor: who may use it, how long it lives, and what is counted, on both paths."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from outgate.gate.configuration import config
from outgate.gate.travel import sharing
from outgate.testing.running import RunningGate, ThreadGate
from support import peers
from support.raw import RawChannel
from support.victims import victim

PATHS = ("direct", "relay")


@pytest.fixture(scope="module", params=PATHS)
def running(request: pytest.FixtureRequest) -> Iterator[RunningGate]:
    """A gate of each path for the tests of this module, which must have had no fault at their end."""
    with RunningGate(path=request.param) as gate:
        yield gate
        assert gate.faults == []
        gate.wait_for_counts(held=0, open=0, processes=0)
        assert gate.stop() == 0, gate.stderr()


@pytest.fixture
def gate(running: RunningGate) -> Iterator[RunningGate]:
    """The module's gate, which this test leaves without a fault and with nothing held."""
    yield running
    assert running.faults == []
    running.wait_for_counts(held=0, open=0)


class Opened:
    """One client with one connected socket.

    :ivar channel: its request channel.
    :ivar id: of its socket.
    :ivar sock: the socket.
    """

    def __init__(self, path: str, peer: peers.Peer) -> None:
        self.channel = RawChannel(path)
        ((self.id, self.sock),) = self.channel.new()
        assert "lease" in self.channel.connect(self.id, peer.address)
        connect(self.sock, peer.address)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
        self.channel.close()

    def share(self) -> str:
        """Return a new descriptor."""
        text: str = self.channel.share(self.id, self.sock)["descriptor"]
        return text

    def close(self) -> None:
        """Close the socket as a client does, and wait for the answer."""
        self.sock.close()
        assert self.channel.ask("close", sock=self.id, shared=True) == {}


@contextlib.contextmanager
def redeemed(channel: RawChannel, text: str) -> Iterator[socket.socket]:
    """Give the socket of a descriptor; it is closed, and the gate told, when the block is left."""
    reply = channel.ask("redeem", descriptor=text)
    assert "error" not in reply, reply
    channel.ask("have", descriptor=text)
    with channel.fds.pop() as sock:
        yield sock
    channel.ask("close", sock=reply["sock"], shared=True)


def connect(sock: socket.socket, address: tuple[str, int]) -> None:
    """Wait until a socket that the gate has dialled is connected."""
    sock.settimeout(20)
    if sock.family == socket.AF_INET:
        sock.connect(address)


def talk(sock: socket.socket, word: bytes) -> None:
    """Send a word to an echo and read it back."""
    sock.settimeout(20)
    sock.sendall(word)
    got = b""
    while len(got) < len(word):
        piece = sock.recv(len(word) - len(got))
        assert piece, "the connection has ended"
        got += piece
    assert got == word


def reset_when_told(connection: peers.Connection) -> None:
    """Be a peer that ends its connection with a reset."""
    connection.take_credit()
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def is_over(sock: socket.socket) -> bool:
    """Tell whether a connection has ended, by an error or an end of file."""
    sock.settimeout(20)
    try:
        return sock.recv(1) == b""
    except OSError as error:
        return not isinstance(error, TimeoutError)


def rows(gate: RunningGate | ThreadGate) -> list[dict[str, Any]]:
    """Return what ``outgate ps`` shows."""
    with RawChannel(gate.socket) as channel:
        answer: list[dict[str, Any]] = channel.ask("list", holders=False)["answer"]["sockets"]
        return answer


def wait_for_tenure(gate: RunningGate | ThreadGate, port: int, tenure: str) -> None:
    """Ask until the socket to this port is had like that."""
    for _ in range(4_000):
        seen = [row["tenure"] for row in rows(gate) if row["port"] == port]
        if seen == [tenure]:
            return
        threading.Event().wait(0.005)  # nobody tells of it
    raise TimeoutError(f"{seen}, not {tenure}")


def code_of(reply: dict[str, Any]) -> str:
    """Return the code of a refusal."""
    code: str = reply["error"]["code"]
    return code


# --- how long it lives ------------------------------------------------------------------------------------------------


def test_both_have_it(gate: RunningGate) -> None:
    """Opener and redeemer both use it, the close of either leaves it to the other, and the last one's is its end."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener, RawChannel(gate.socket) as other:
        talk(opener.sock, b"one")
        sock = other.redeem(opener.share())
        with sock:
            talk(sock, b"three")
            talk(opener.sock, b"seven!!")
            opener.close()
            talk(sock, b"eleven eleven")
            assert gate.log.all(event="end", port=peer.port) == []
        other.ask("close", sock=opener.id, shared=True)
        line = gate.wait_for(event="end", port=peer.port)
        assert (line["sent"], line["received"], line["how"]) == (28, 28, "closed")
        assert peer.accepted().wait().received == 28
        assert len(gate.log.all(event="end", port=peer.port)) == 1
        assert code_of(other.ask("redeem", descriptor="outgate1.x")) == "unknown-descriptor"


def test_the_redeemer_closes_first(gate: RunningGate) -> None:
    """The close of who has redeemed it leaves the opener what it was."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener, RawChannel(gate.socket) as other:
        other.redeem(opener.share()).close()
        other.ask("close", sock=opener.id, shared=True)
        talk(opener.sock, b"still here")
        opener.close()
        line = gate.wait_for(event="end", port=peer.port)
        assert (line["sent"], line["received"]) == (10, 10)


def test_redeemed_after_its_opener_closed(gate: RunningGate) -> None:
    """What its opener has closed waits for who redeems it, with what the peer sends meanwhile."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener, RawChannel(gate.socket) as other:
        text = opener.share()
        opener.sock.sendall(b"left")
        opener.close()
        wait_for_tenure(gate, peer.port, "parked")
        with redeemed(other, text) as sock:
            wait_for_tenure(gate, peer.port, "held")
            sock.settimeout(20)
            assert sock.recv(100, socket.MSG_WAITALL) == b"left" if sock.family == socket.AF_INET else sock.recv(100)
            talk(sock, b"and on")
        other.ask("close", sock=opener.id, shared=True)
        line = gate.wait_for(event="end", port=peer.port)
        assert (line["sent"], line["received"]) == (10, 10)


def test_redeemed_after_its_opener_was_killed(gate: RunningGate) -> None:
    """What a killed process had shared waits for who redeems it; its bytes and the redeemer's are one lease's."""
    with peers.sink() as peer, victim(gate.socket, "shared", peer.address) as opener, RawChannel(gate.socket) as other:
        opener.kill()
        wait_for_tenure(gate, peer.port, "parked")
        with redeemed(other, opener.said["text"]) as sock:
            sock.sendall(b"12345")
        other.close()
        line = gate.wait_for(event="end", port=peer.port)
        assert line["sent"] == 1_234 + 5
        assert peer.accepted().wait().received == 1_239


def test_the_redeemer_is_killed(gate: RunningGate) -> None:
    """A redeemer that is killed leaves it to the opener; one that was the last to have it ends it."""
    with peers.sink() as peer, Opened(gate.socket, peer) as opener:
        with victim(gate.socket, "redeem", token=opener.share()) as other:
            assert "error" not in other.said["reply"]
            other.kill()
        opener.sock.sendall(b"1")
        with victim(gate.socket, "redeem", token=opener.share()) as other:
            opener.close()
            assert gate.log.all(event="end", port=peer.port) == []
            other.kill()
        line = gate.wait_for(event="end", port=peer.port)
        assert line["sent"] == 2 * len("redeemed") + 1


def test_a_chain_of_three(gate: RunningGate) -> None:
    """Each goes on where the last one stopped: a worker shares what it has redeemed."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener:
        text = opener.share()
        opener.close()
        for _ in range(3):
            with RawChannel(gate.socket) as worker, redeemed(worker, text) as sock:
                talk(sock, b"step")
                text = worker.share(opener.id, sock)["descriptor"]
        with RawChannel(gate.socket) as last:
            last.redeem(text).close()
        line = gate.wait_for(event="end", port=peer.port)
        assert (line["sent"], line["received"]) == (12, 12)


def test_one_redeemed_twice_does_not_count_for_another(gate: RunningGate) -> None:
    """A task that is tried again leaves the descriptor of another task what it was."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener:
        first, second = opener.share(), opener.share()
        opener.close()
        for _ in range(3):
            with RawChannel(gate.socket) as worker, redeemed(worker, first) as sock:
                talk(sock, b"try")
        wait_for_tenure(gate, peer.port, "parked")
        with RawChannel(gate.socket) as worker, redeemed(worker, second) as sock:
            talk(sock, b"other")
        line = gate.wait_for(event="end", port=peer.port)
        assert line["sent"] == 14


def test_shared_and_closed_by_all_after_it_was_redeemed(gate: RunningGate) -> None:
    """With nothing owed any more, the descriptor of what its last holder has closed is an unknown one."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener, RawChannel(gate.socket) as other:
        text = opener.share()
        other.redeem(text).close()
        other.ask("close", sock=opener.id, shared=True)
        opener.close()
        gate.wait_for(event="end", port=peer.port)
        assert code_of(other.ask("redeem", descriptor=text)) == "unknown-descriptor"


def test_reset_by_the_peer_while_parked(gate: RunningGate) -> None:
    """What the peer resets while nobody has it is redeemed as a reset connection, or is unknown by then."""
    with peers.Peer(reset_when_told) as peer, Opened(gate.socket, peer) as opener, RawChannel(gate.socket) as other:
        text = opener.share()
        opener.close()
        wait_for_tenure(gate, peer.port, "parked")
        connection = peer.accepted()
        connection.allow(1)
        connection.wait()
        reply = other.ask("redeem", descriptor=text)
        if "error" in reply:
            assert code_of(reply) == "unknown-descriptor"
        else:
            other.ask("have", descriptor=text)
            assert is_over(other.fds[0])
        other.close()
        gate.wait_for(event="end", port=peer.port)


def test_shared_before_it_is_connected(gate: RunningGate) -> None:
    """A socket that is no lease yet is passed on too, and dialled by who redeems it."""
    with peers.echo() as peer, RawChannel(gate.socket) as opener, RawChannel(gate.socket) as other:
        ((id, born),) = opener.new()
        text = opener.share(id, born)["descriptor"]
        with born, redeemed(other, text) as sock:
            assert "lease" in other.connect(id, peer.address)
            connect(sock, peer.address)
            talk(sock, b"hello")
        opener.close()
        other.close()
        assert gate.wait_for(event="end", port=peer.port)["sent"] == 5


# --- what nobody redeems ----------------------------------------------------------------------------------------------


def impatient(path: str) -> ThreadGate:
    """Return a gate for which what nobody has is idle at once."""
    settings = config.default_settings(os.getuid(), dev=True, path=path)
    app = replace(settings.apps["default"], idle_timeout=0)
    return ThreadGate(replace(settings, apps=MappingProxyType({"default": app})))


@pytest.mark.parametrize("path", PATHS)
def test_nobody_redeems_it(path: str) -> None:
    """What is shared, closed and not redeemed within the idle limit is ended cleanly, and its descriptor unknown."""
    with impatient(path) as gate, peers.sink() as peer, Opened(gate.socket, peer) as opener:
        opener.sock.sendall(b"last words")
        text = opener.share()
        opener.close()
        wait_for_tenure(gate, peer.port, "parked")
        gate.call(gate.gate.sharing.begin)
        line = gate.wait_for(event="end", port=peer.port)
        assert (line["how"], line["sent"]) == ("idle", 10)
        connection = peer.accepted().wait()
        assert (connection.received, connection.error) == (10, None)
        assert code_of(opener.channel.ask("redeem", descriptor=text)) == "unknown-descriptor"
        gate.wait_for_counts(held=0, open=0)
        assert gate.call(lambda: len(gate.gate.sharing.loans)) == 0


@pytest.mark.parametrize("path", PATHS)
def test_more_than_one_turn_of_them(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into one turn of the loop is looked at in the next: parked, left behind, idle."""
    monkeypatch.setattr(sharing, "SLICE", 2)
    with impatient(path) as gate, peers.sink() as peer, contextlib.ExitStack() as kept:
        openers = [kept.enter_context(Opened(gate.socket, peer)) for _ in range(3)]
        with RawChannel(gate.socket) as other:
            for opener in openers:
                other.redeem(opener.share()).close()
                opener.share()
                opener.close()
        gate.wait_for_counts(held=3)
        gate.call(gate.gate.sharing.begin)
        for number in range(3):
            assert gate.wait_for(event="end", port=peer.port, count=number + 1)["how"] == "idle"
        gate.wait_for_counts(held=0, open=0)


SHARES_AND_STAYS = """
import outgate, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
text = outgate.descriptor(s)
print(text, flush=True)
sys.stdin.readline()
s.sendall(b"mine")
print(s.recv(4), flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("path", PATHS)
def test_who_shares_and_keeps_it_is_not_reclaimed(path: str) -> None:
    """A program that has shared its socket and still has it keeps it beyond the idle limit, redeemed or not."""
    with impatient(path) as gate, peers.echo() as peer, gate.program("-c", SHARES_AND_STAYS, str(peer.port)) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        program.stdout.readline()
        gate.call(gate.gate.sharing.begin)
        looked = threading.Event()
        gate.gate.looker.put(looked.set)  # behind the look that may have been begun
        assert looked.wait(20)
        gate.stats()  # and behind what the loop makes of it
        assert gate.log.all(event="end") == []
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "b'mine'\n"
        program.communicate("\n", timeout=20)
        wait_for_tenure(gate, peer.port, "parked")
        gate.call(gate.gate.sharing.begin)
        assert gate.wait_for(event="end", port=peer.port)["how"] == "idle"


def memory_of(pid: int) -> int:
    """Return the KiB that a process has resident."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def fds_of(pid: int) -> int:
    """Return how many fds a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def wait_for_fds(gate: RunningGate, most: int) -> None:
    """Wait until the gate has at most so many fds open: what it closes, it closes on threads."""
    for _ in range(4_000):
        if fds_of(gate.pid) <= most:
            return
        threading.Event().wait(0.005)  # nobody tells of it
    raise TimeoutError(f"{fds_of(gate.pid)} fds, not {most}")


@pytest.mark.slow
def test_redeemed_ten_thousand_times(gate: RunningGate) -> None:
    """One descriptor is redeemed 10,000 times while its lease lives; the gate grows by nothing."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener, RawChannel(gate.socket) as other:
        text = opener.share()

        def redeem(times: int) -> None:
            for _ in range(times):
                other.redeem(text).close()
                other.ask("close", sock=opener.id, shared=True)

        redeem(500)
        fds, memory = fds_of(gate.pid), memory_of(gate.pid)
        redeem(9_500)
        with redeemed(other, text) as sock:
            talk(sock, b"the last one")
        wait_for_fds(gate, fds)
        assert memory_of(gate.pid) <= memory + 1_024
        opener.close()
        other.close()
        assert gate.wait_for(event="end", port=peer.port)["sent"] == 12


@pytest.mark.slow
def test_redeemed_by_two_thousand_processes(gate: RunningGate) -> None:
    """Clients that redeem and end are not remembered."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener:
        text = opener.share()

        def redeem(times: int) -> None:
            for _ in range(times):
                with RawChannel(gate.socket) as other:
                    other.redeem(text).close()

        redeem(300)
        gate.wait_for_counts(processes=1)
        memory = memory_of(gate.pid)
        redeem(1_700)
        gate.wait_for_counts(processes=1)
        assert memory_of(gate.pid) <= memory + 1_024
        opener.close()


@pytest.mark.slow
def test_shared_and_never_redeemed(gate: RunningGate) -> None:
    """A program that shares one socket 5,000 times costs the gate one lease, at most one fd more, and no memory."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener, RawChannel(gate.socket) as other:
        opener.share()
        for _ in range(500):
            opener.share()
        fds, memory = fds_of(gate.pid), memory_of(gate.pid)
        texts = [opener.share() for _ in range(4_500)]
        assert fds_of(gate.pid) <= fds
        assert memory_of(gate.pid) <= memory + 1_024
        assert gate.app()["open"] == 1
        for text in texts[-300:]:
            other.redeem(text).close()
        with redeemed(other, texts[0]) as sock:
            talk(sock, b"the first")
        opener.close()
        other.ask("close", sock=opener.id, shared=True)
        other.close()
        assert gate.wait_for(event="end", port=peer.port)["sent"] == 9


# --- at the same time -------------------------------------------------------------------------------------------------


def test_two_redeemers_race(gate: RunningGate) -> None:
    """Of redeemers at the same time each gets it, and it ends when the last of them has closed it."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener:
        text = opener.share()
        opener.close()
        channels = [RawChannel(gate.socket) for _ in range(8)]
        for channel in channels:
            channel.post("redeem", descriptor=text)
        socks = []
        for channel in channels:
            reply = channel.receive()
            assert reply is not None
            assert "error" not in reply
            socks += channel.fds
            channel.fds = []
        for channel in channels:
            channel.ask("have", descriptor=text)
        for number, sock in enumerate(socks):
            talk(sock, b"%d" % number)
        for sock, channel in zip(socks, channels, strict=True):
            assert gate.log.all(event="end", port=peer.port) == []
            sock.close()
            channel.ask("close", sock=opener.id, shared=True)
            channel.close()
        assert gate.wait_for(event="end", port=peer.port)["sent"] == 8


def test_redeemed_while_it_is_closed(gate: RunningGate) -> None:
    """A redeem that crosses the close of the last holder gets a socket that works, or is told that there is none."""
    for _ in range(40):
        with peers.echo() as peer, Opened(gate.socket, peer) as opener, RawChannel(gate.socket) as other:
            text = opener.share()
            other.redeem(text).close()
            other.ask("close", sock=opener.id, shared=True)
            opener.sock.close()
            opener.channel.post("close", sock=opener.id, shared=True)
            reply = other.ask("redeem", descriptor=text)
            opener.channel.receive()
            if "error" in reply:
                assert code_of(reply) == "unknown-descriptor"
            else:
                sock = other.fds.pop()
                other.ask("have", descriptor=text)
                with sock:
                    talk(sock, b"mine")
        line = gate.wait_for(event="end", port=peer.port)
        assert line["sent"] == (0 if "error" in reply else 4)
        assert len(gate.log.all(event="end", port=peer.port)) == 1


def test_redeemed_while_its_opener_dies(gate: RunningGate) -> None:
    """A redeem that crosses the death of the opener gets a socket that works."""
    for _ in range(10):
        with peers.sink() as peer, victim(gate.socket, "shared", peer.address) as opener:
            with RawChannel(gate.socket) as other:
                os.kill(opener.pid, signal.SIGKILL)
                with redeemed(other, opener.said["text"]) as sock:
                    opener.kill()
                    sock.sendall(b"on")
            assert gate.wait_for(event="end", port=peer.port)["sent"] == 1_236


def test_killed_by_the_operator(gate: RunningGate) -> None:
    """A connection that the operator ends is nobody's any more, and no descriptor leads to it."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener, RawChannel(gate.socket) as other:
        text = opener.share()
        sock = other.redeem(text)
        (row,) = (row for row in rows(gate) if row["port"] == peer.port)
        assert other.ask("kill", lease=row["lease"])["answer"]["ok"]
        assert gate.wait_for(event="end", port=peer.port)["how"] == "killed"
        assert isinstance(peer.accepted().wait().error, ConnectionResetError)
        with sock:
            assert is_over(sock)
        reply = other.ask("redeem", descriptor=text)
        assert "error" in reply or reply["state"] == "born"


def test_redeemed_after_a_reload() -> None:
    """A reload of the configuration leaves what is shared what it was."""
    text = f"version = 1\n[apps.default]\nuid = [{os.getuid()}]\nbilling = true\ntrusted = true\n"
    text += 'except = ["127.0.0.1"]\n'
    with RunningGate(config=text) as gate, peers.echo() as peer, Opened(gate.socket, peer) as opener:
        descriptor = opener.share()
        opener.close()
        assert gate.reload(text + "open_sockets = 17\n")["ok"]
        with RawChannel(gate.socket) as other, redeemed(other, descriptor) as sock:
            talk(sock, b"on")


# --- lost on its way --------------------------------------------------------------------------------------------------


def test_the_reply_is_never_read(gate: RunningGate) -> None:
    """A socket in a reply whose channel dies unread is not lost: the next who redeems it gets it."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener:
        text = opener.share()
        opener.close()
        wait_for_tenure(gate, peer.port, "parked")
        fds = fds_of(gate.pid)
        for _ in range(20):
            with RawChannel(gate.socket) as lost:
                lost.ask("stat")
                lost.post("redeem", descriptor=text)
        gate.wait_for_counts(processes=1 if rows(gate) else 0)
        wait_for_tenure(gate, peer.port, "parked")
        wait_for_fds(gate, fds)
        with RawChannel(gate.socket) as other, redeemed(other, text) as sock:
            talk(sock, b"found")
        assert gate.wait_for(event="end", port=peer.port)["sent"] == 5


def test_the_reply_is_read_and_the_fd_is_lost(gate: RunningGate) -> None:
    """A redeemer without room for an fd loses it, and says nothing; the lease is kept, and redeemed once more."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener, RawChannel(gate.socket) as other:
        text = opener.share()
        opener.close()
        wait_for_tenure(gate, peer.port, "parked")
        other.post("redeem", descriptor=text)
        packet, ancillary, flags, _ = other.sock.recvmsg(65_536)  # no room: MSG_CTRUNC
        assert packet
        assert not ancillary
        assert flags & socket.MSG_CTRUNC
        with redeemed(other, text) as sock:
            talk(sock, b"again")
        other.close()
        assert gate.wait_for(event="end", port=peer.port)["sent"] == 5


OUT_OF_FDS = """
import errno, os, outgate, resource, sys
text = sys.argv[1]
try:
    outgate.adopt("outgate1.x")  # the channels are open before the fds run out
except OSError as e:
    assert e.errno == errno.EBADF, e
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    pass
try:
    outgate.adopt(text)
except OSError as e:
    print(errno.errorcode[e.errno], flush=True)
for fd in taken:
    os.close(fd)
with outgate.adopt(text) as sock:
    sock.sendall(b"room again")
    print(sock.recv(100), flush=True)
"""


def test_a_program_without_fds(gate: RunningGate) -> None:
    """A program that has no fd left gets EMFILE, and the socket once it has closed some."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener:
        text = opener.share()
        opener.close()
        wait_for_tenure(gate, peer.port, "parked")
        with gate.program("-c", OUT_OF_FDS, text) as program:
            said, errors = program.communicate(timeout=60)
        assert said.splitlines() == ["EMFILE", "b'room again'"], errors
        assert gate.wait_for(event="end", port=peer.port)["sent"] == 10


def test_asked_while_an_earlier_reply_is_unread(gate: RunningGate) -> None:
    """A redeem behind an unread reply ends its channel, as everything with fds does, and costs nobody the socket."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener:
        text = opener.share()
        opener.close()
        with RawChannel(gate.socket) as hasty:
            hasty.ask("stat")
            hasty.post("stat")
            seen = len(gate.log)
            hasty.post("redeem", descriptor=text)
            gate.wait_for(event="channel-ended", since=seen)
            hasty.refusal()
            assert hasty.fds == []
        with RawChannel(gate.socket) as other, redeemed(other, text) as sock:
            talk(sock, b"mine")


def test_have_without_redeem(gate: RunningGate) -> None:
    """Who says to have what it has not redeemed takes nothing from who will."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener, RawChannel(gate.socket) as liar:
        text = opener.share()
        for _ in range(3):
            assert "error" not in liar.ask("have", descriptor=text)
        opener.close()
        wait_for_tenure(gate, peer.port, "parked")
        assert "error" not in liar.ask("have", descriptor=text)
        with RawChannel(gate.socket) as other, redeemed(other, text) as sock:
            talk(sock, b"mine")


def test_who_has_read_the_answer_has_it(gate: RunningGate) -> None:
    """Nobody need say that a socket has come: the gate sees that the answer was read, and goes by the reader's end."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener:
        text = opener.share()
        opener.close()
        wait_for_tenure(gate, peer.port, "parked")
        with RawChannel(gate.socket) as reader:
            assert "error" not in reader.ask("redeem", descriptor=text)
            wait_for_tenure(gate, peer.port, "held")
            with reader.fds.pop() as sock:
                talk(sock, b"mine")
        gate.wait_for(event="end", port=peer.port)


def test_who_has_not_read_the_answer_has_not(gate: RunningGate) -> None:
    """An answer that lies unread when its process ends has not come: the descriptor is as good as before."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener:
        text = opener.share()
        opener.close()
        wait_for_tenure(gate, peer.port, "parked")
        with RawChannel(gate.socket) as lost:
            lost.ask("stat")
            lost.post("redeem", descriptor=text)
            assert select.select([lost.sock], [], [], peers.PATIENCE)[0]
        with RawChannel(gate.socket) as other, redeemed(other, text) as sock:
            talk(sock, b"mine")


def test_who_could_not_keep_it(gate: RunningGate) -> None:
    """A process that has read the answer, and has no descriptor left for it, leaves the socket to others by saying so.

    On a channel of its own, so that the gate has not heard yet that the answer was read.
    """
    with peers.echo() as peer, Opened(gate.socket, peer) as opener:
        text = opener.share()
        opener.close()
        wait_for_tenure(gate, peer.port, "parked")
        with RawChannel(gate.socket) as full, RawChannel(gate.socket, token=full.token) as second:
            second.ask("stat")
            assert "error" not in full.ask("redeem", descriptor=text)
            second.ask("have", descriptor=text, came=False)
            full.fds.pop().close()
            wait_for_tenure(gate, peer.port, "parked")
            with RawChannel(gate.socket) as other, redeemed(other, text) as sock:
                talk(sock, b"mine")


def test_shared_again_after_it_was_closed(gate: RunningGate) -> None:
    """A process that shares what it has closed makes no fault: another may have it from there."""
    with peers.echo() as peer, Opened(gate.socket, peer) as opener, RawChannel(gate.socket) as other:
        text = opener.share()
        opener.close()
        wait_for_tenure(gate, peer.port, "parked")
        again = opener.channel.ask("share", sock=opener.id)
        other.redeem(text).close()
        if "descriptor" in again:
            with redeemed(other, again["descriptor"]) as sock:
                talk(sock, b"mine")
        other.close()
