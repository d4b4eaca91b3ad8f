"""UDP sockets in the gate: every datagram judged and counted, whoever made it, and nothing piled up."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from outgate.core.formats import frames
from outgate.lookout import ask
from outgate.testing.running import RunningGate, ThreadGate
from support.raw import PATIENCE, RawChannel

pytestmark = pytest.mark.slow

LOOPBACK = socket.inet_aton("127.0.0.1")


class Raw(NamedTuple):
    """A UDP socket as a program has it: the channel it came over, its number, and the program's end."""

    channel: RawChannel
    id: int
    end: socket.socket

    def reach(self, host: str, port: int, **more: Any) -> dict[str, Any]:
        """Ask for the way to a destination and return the reply."""
        return self.channel.ask("reach", sock=self.id, host=host, port=port, **more)


@contextlib.contextmanager
def raw(path: str, family: int = 4) -> Iterator[Raw]:
    """Give a UDP socket of a gate."""
    with RawChannel(path) as channel:
        (id,) = channel.ask("new", family=family, count=1, kind="udp")["ids"]
        with channel.fds.pop() as end:
            end.settimeout(PATIENCE)
            yield Raw(channel, id, end)


@contextlib.contextmanager
def peer() -> Iterator[tuple[socket.socket, int]]:
    """Give a UDP socket on loopback that is nobody's business, and its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind(("127.0.0.1", 0))
        yield sock, sock.getsockname()[1]


def to(port: int, address: bytes = LOOPBACK) -> bytes:
    """Return the header of a datagram."""
    return frames.pack(frames.DATA, address, port)


def test_counts_are_exact_both_ways(gate: RunningGate) -> None:
    """The end in the log has the bytes and datagrams each way, empty ones too, and the first destination."""
    with peer() as (far, port), raw(gate.socket) as mine:
        mine.reach("127.0.0.1", port)
        for size in (0, 1, 1000, 65507):
            mine.end.send(to(port) + bytes(size))
            data, source = far.recvfrom(70000)
            assert len(data) == size
            far.sendto(data[:1000], source)
            mine.end.recv(70000)
    line = gate.wait_for(event="end", port=port)
    assert (line["sent"], line["received"]) == (66508, 2001)
    assert (line["datagrams_sent"], line["datagrams_received"]) == (4, 4)
    assert (line["transport"], line["path"], line["how"], line["address"]) == ("udp", "relay", "closed", "127.0.0.1")
    assert (line["dropped"], line["strangers"]) == (0, 0)
    (decision,) = gate.log.all(event="decision", port=port)
    assert decision["lease"] == line["lease"]
    assert (decision["transport"], decision["path"], decision["verdict"]) == ("udp", "relay", "allow")


def test_a_forged_header_reaches_nothing(gate: RunningGate) -> None:
    """A destination nobody asked about is judged all the same: dropped, logged once, and told once by a frame."""
    with raw(gate.socket) as mine:
        forged = to(4242, socket.inet_aton("10.1.2.3"))
        for _ in range(50):
            mine.end.send(forged + b"secret")
        told = mine.end.recv(100)
        assert told == frames.pack(frames.REFUSED, socket.inet_aton("10.1.2.3"), 4242)
        reply = mine.reach("10.1.2.3", 4242)  # the answer to "why"
        assert reply["error"]["code"] == "policy-denied"
    gate.wait_for(event="decision", port=4242)
    gate.stats()
    assert len(gate.log.all(event="decision", port=4242)) == 1


def test_a_forged_header_to_what_is_allowed_is_a_decision_like_any(gate: RunningGate) -> None:
    """A destination that the policy allows is let in without a request, and stands in the log."""
    with peer() as (far, port), raw(gate.socket) as mine:
        mine.end.send(to(port) + b"hello")
        assert far.recv(100) == b"hello"
        assert gate.wait_for(event="decision", port=port)["verdict"] == "allow"


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        bytes(27),
        bytes(28),
        frames.pack(frames.FAILED, LOOPBACK, 53) + b"x",
        frames.pack(frames.DATA, bytes(16), 53),
        b"\xff" * 60,
    ],
    ids=["one byte", "short", "zeros", "no datagram", "other family", "ones"],
)
def test_what_is_no_frame_is_dropped(gate: RunningGate, packet: bytes) -> None:
    """Packets that are no datagrams of the family go nowhere and harm nothing."""
    with peer() as (far, port), raw(gate.socket) as mine:
        mine.end.send(packet)
        mine.end.send(to(port) + b"after")
        assert far.recv(100) == b"after"
    line = gate.wait_for(event="end", port=port)
    assert (line["datagrams_sent"], line["dropped"]) == (1, 1)


def test_a_packet_longer_than_any_datagram(gate: RunningGate) -> None:
    """A payload that no datagram carries is EMSGSIZE, said by a frame."""
    with peer() as (far, port), raw(gate.socket) as mine:
        mine.end.send(to(port) + bytes(90_000))
        kind, _, _, number, _ = frames.unpack(mine.end.recv(100))
        assert (kind, number) == (frames.FAILED, errno.EMSGSIZE)
        mine.end.send(to(port) + b"after")
        assert far.recv(100) == b"after"


def test_strangers_are_not_heard() -> None:
    """Datagrams from where the socket never sent to are dropped and counted."""
    with RunningGate(dev=False, except_=["127.0.0.1"]) as gate, peer() as (far, port), peer() as (stranger, _):
        with raw(gate.socket) as mine:
            mine.end.send(to(port) + b"hello")
            source = far.recvfrom(100)[1]
            for _ in range(3):
                stranger.sendto(b"psst", source)
            far.sendto(b"answer", source)
            assert mine.end.recv(100) == to(port) + b"answer"
        line = gate.wait_for(event="end", port=port)
        assert (line["strangers"], line["received"]) == (3, 6)


def test_a_reload_counts_for_the_next_datagram() -> None:
    """What a new policy denies is refused at once, on sockets that are open and in both directions."""
    text = """
        version = 1
        [apps.one]
        uid = [{uid}]
        trusted = true
        billing = true
        except = [{rule}]
    """

    def policy(rule: str) -> str:
        return text.format(uid=os.getuid(), rule=rule)

    with RunningGate(config=policy('"udp://127.0.0.1"')) as gate, peer() as (far, port), raw(gate.socket) as mine:
        mine.reach("127.0.0.1", port)
        mine.end.send(to(port) + b"one")
        source = far.recvfrom(100)[1]
        assert gate.reload(policy("")).get("ok")
        mine.end.send(to(port) + b"two")
        assert frames.unpack(mine.end.recv(100))[0] == frames.REFUSED
        assert mine.reach("127.0.0.1", port)["error"]["code"] == "policy-denied"
        far.sendto(b"late", source)
        assert gate.reload(policy('"udp://127.0.0.1"')).get("ok")
        mine.end.send(to(port) + b"three")
        assert far.recv(100) == b"three"
        far.sendto(b"again", source)
        assert mine.end.recv(100).endswith(b"again")
        mine.end.close()
        line = gate.wait_for(event="end", port=port)
        assert (line["datagrams_sent"], line["dropped"], line["strangers"]) == (2, 1, 1)


def test_a_program_that_does_not_read_fills_no_memory_of_the_gate() -> None:
    """What a program leaves unread stays in the kernel: the gate holds one datagram, and goes on where it reads."""
    with ThreadGate() as gate, peer() as (far, port), raw(gate.socket) as mine:
        mine.end.send(to(port) + b"hello")
        source = far.recvfrom(100)[1]
        (made,) = gate.gate.udp.sockets.values()
        number = 0
        while gate.call(lambda: made._held_in) is None:
            for _ in range(100):
                far.sendto(number.to_bytes(4, "big") + bytes(1000), source)
                number += 1
        for _ in range(1000):  # the kernel drops these where its buffer is full
            far.sendto(number.to_bytes(4, "big") + bytes(1000), source)
        got = [mine.end.recv(2000)[28:32] for _ in range(100)]
        assert got == sorted(got)
        mine.end.setblocking(False)
        while gate.call(lambda: made._held_in) is not None:
            with contextlib.suppress(BlockingIOError):
                mine.end.recv(2000)
        mine.end.settimeout(PATIENCE)
        while True:
            far.sendto(b"after", source)
            if mine.end.recv(2000)[28:] == b"after":
                break
        assert gate.faults == []


def test_one_that_floods_does_not_hold_the_others() -> None:
    """While one program floods, another's exchange goes on, datagram by datagram."""
    with contextlib.ExitStack() as stack:
        gate = stack.enter_context(ThreadGate())
        (_, noise), (far, port) = stack.enter_context(peer()), stack.enter_context(peer())
        flooder, mine = stack.enter_context(raw(gate.socket)), stack.enter_context(raw(gate.socket))
        flooder.reach("127.0.0.1", noise)
        mine.reach("127.0.0.1", port)
        flooder.end.setblocking(False)
        for _ in range(50):
            with contextlib.suppress(BlockingIOError):
                while True:
                    flooder.end.send(to(noise) + bytes(1000))
            mine.end.send(to(port) + b"ping")
            data, source = far.recvfrom(100)
            far.sendto(data, source)
            assert mine.end.recv(100)[28:] == b"ping"


def test_destinations_are_bounded() -> None:
    """A program that sends everywhere has the latest destinations in the gate's tables, and no more."""
    with ThreadGate() as gate, peer() as (far, port), raw(gate.socket) as mine:
        (made,) = gate.gate.udp.sockets.values()
        for number in range(3000):
            mine.end.send(to(1 + number, socket.inet_aton("127.0.0.1")) + b"x")
        mine.end.send(to(port) + b"last")
        assert far.recv(100) == b"last"
        assert len(made.destinations) == 1024
        assert len(made.destinations.sources) == 1024


def test_fds_in_a_datagram_do_not_arrive(gate: RunningGate) -> None:
    """A program cannot hand the gate descriptors beside a datagram: the kernel refuses, or the socket ends."""
    with peer() as (far, port), raw(gate.socket) as mine, socket.socket() as gift:
        mine.end.send(to(port) + b"one")
        assert far.recv(100) == b"one"
        refused = 0
        try:
            socket.send_fds(mine.end, [to(port) + b"two"], [gift.fileno()])
        except OSError as e:
            refused = e.errno or 0
        assert refused == errno.EPERM or mine.end.recv(100) == b""


def test_it_ends_with_its_last_holder(gate: RunningGate) -> None:
    """A duplicate keeps it open; when that closes it ends, and its last datagrams have gone out."""
    with peer() as (far, port), raw(gate.socket) as mine:
        copy = mine.end.dup()
        mine.end.close()
        for _ in range(20):
            copy.send(to(port) + b"x")
        copy.close()
        line = gate.wait_for(event="end", port=port)
        assert line["datagrams_sent"] == 20
        assert [far.recv(10) for _ in range(20)] == [b"x"] * 20


def test_limits(gate: RunningGate) -> None:
    """UDP sockets count as held from birth and as open from their first destination, against the app's limit."""
    with RunningGate(open_sockets=2) as small, peer() as (_, port), contextlib.ExitStack() as stack:
        held = [stack.enter_context(raw(small.socket)) for _ in range(3)]
        assert "addr" in held[0].reach("127.0.0.1", port)
        assert "addr" in held[1].reach("127.0.0.1", port)
        assert held[2].reach("127.0.0.1", port)["error"]["code"] == "too-many-leases"
        held[2].end.send(to(port) + b"forged")
        held[0].end.close()
        small.wait_for(event="end", port=port)
        assert "addr" in held[2].reach("127.0.0.1", port)


def test_a_gate_that_drains_lets_none_begin() -> None:
    """While a gate drains, a socket that was made before and not used yet may not be, by a request nor without one."""
    with RunningGate() as gate, peer() as (far, port), raw(gate.socket) as used, raw(gate.socket) as fresh:
        assert "addr" in used.reach("127.0.0.1", port)
        assert ask.request(gate.socket, {"op": "drain", "on": True})["answer"]["draining"]
        assert fresh.reach("127.0.0.1", port)["error"]["code"] == "draining"
        fresh.end.send(to(port) + b"unasked")
        gate.wait_for_counts(open=1)
        used.end.send(to(port) + b"used")
        assert far.recv(100) == b"used"
        ask.request(gate.socket, {"op": "drain", "on": False})
        fresh.end.send(to(port) + b"now")
        assert far.recv(100) == b"now"


def test_unknown_and_foreign_sockets_look_alike(gate: RunningGate) -> None:
    """Another process's socket, and one that never was, are the same refusal in every request."""
    with raw(gate.socket) as mine, RawChannel(gate.socket) as other:
        for id in (mine.id, 1):
            for op, fields in (
                ("reach", {"host": "127.0.0.1", "port": 1}),
                ("name", {}),
                ("bind", {"host": ""}),
                ("option", {"level": 1, "number": 8}),
            ):
                assert other.ask(op, sock=id, **fields)["error"]["code"] == "unknown-descriptor"


def test_options_are_judged_in_the_gate(gate: RunningGate) -> None:
    """A client that asks by itself sets no option that the table refuses, and the kernel's answer comes back."""
    with raw(gate.socket) as mine:

        def ask(level: int, number: int, **more: Any) -> dict[str, Any]:
            return mine.channel.ask("option", sock=mine.id, level=level, number=number, **more)

        assert ask(socket.SOL_SOCKET, 36, value=1)["error"]["code"] == "option-denied"  # SO_MARK
        assert ask(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, value="00" * 8)["error"]["code"] == "option-denied"
        assert ask(socket.IPPROTO_IP, socket.IP_TTL, value=77) == {}
        assert ask(socket.IPPROTO_IP, socket.IP_TTL) == {"value": 77}
        assert ask(socket.IPPROTO_IP, socket.IP_TTL, value=4000) == {"errno": errno.EINVAL}
        assert ask(socket.IPPROTO_IP, socket.IP_TTL, value="zz") == {"errno": errno.EINVAL}


@pytest.mark.parametrize("address", [("10.0.0.1", 0), ("127.0.0.1", 5353), ("nowhere.test", 0), ("224.0.0.1", 0)])
def test_bind_elsewhere_is_refused(address: tuple[str, int]) -> None:
    """The gate itself refuses to bind to an address or a port, whatever the client lets pass."""
    with RunningGate(dev=False) as gate, raw(gate.socket) as mine:
        reply = mine.channel.ask("bind", sock=mine.id, host=address[0], port=address[1])
        assert reply["error"]["code"] == "bind"


def test_gate_ends(gate: RunningGate) -> None:
    """With its gate a socket ends: the log has its counts, and the program's end is at its end."""
    with RunningGate() as own, peer() as (far, port), raw(own.socket) as mine:
        mine.end.send(to(port) + b"x")
        assert far.recv(10) == b"x"
        own.stop()
        assert own.log.all(event="end", port=port)[0]["how"] == "gate-ended"
        with contextlib.suppress(ConnectionResetError):
            assert mine.end.recv(10) == b""
