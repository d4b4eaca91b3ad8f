"""Whatever arrives on a channel: the gate answers, or ends that channel with a reason, and serves the next client."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outgate.core.formats import messages
from outgate.gate.kernel import births
from outgate.gate.names import resolver
from outgate.testing.running import RunningGate, ThreadGate
from support import peers
from support.raw import RawChannel


@pytest.fixture
def canary(gate: RunningGate) -> Iterator[RawChannel]:
    """A well-behaved client's channel, which is served before and after whatever the test does."""
    with RawChannel(gate.socket) as channel:
        assert "answer" in channel.ask("stat")
        yield channel
        assert "answer" in channel.ask("stat")


def hello(**changes: Any) -> dict[str, Any]:
    """Return a greeting, with some of it changed."""
    return {"v": [1, 1], "role": "request", "token": "t" * 32, "parents": [], **changes}


#: name → a packet that is no request, and what the reason says.
NO_REQUEST: dict[str, tuple[bytes, str]] = {
    "a zero": (b"\0", "not a request"),
    "text": (b"GET / HTTP/1.1\r\n\r\n", "not a request"),
    "no UTF-8": (b'{"op":"\xff\xfe"}', "not a request"),
    "no object": (b"[]", "not a request"),
    "null": (b"null", "not a request"),
    "cut short": (b'{"op":"stat"', "not a request"),
    "two in one": (b'{"op":"stat"}' * 2, "not a request"),
    "no op": (b"{}", "op"),
    "an unknown op": (b'{"op":"dance"}', "dance"),
    "an op of another type": (b'{"op":7}', "op"),
    "deep lists": (b'{"op":' + b"[" * 60_000, "not a request"),
    "deep objects": (b'{"op":"resolve","call":"x","args":[' + b'{"a":' * 12_000, "not a request"),
    "a number of 5,000 digits": (b'{"op":"close","sock":' + b"9" * 5_000 + b"}", "not a request"),
    "a number beyond floats": (b'{"op":"close","sock":1e999}', "not a request"),
    "a number that is none": (b'{"op":"close","sock":NaN}', "not a request"),
    "65,537 bytes": (b" " * 65_537, "more than 65536 bytes"),
    "200,000 bytes": (b"x" * 200_000, "more than 65536 bytes"),
}


@pytest.mark.parametrize("name", NO_REQUEST)
@pytest.mark.parametrize("greeted", [False, True], ids=["first", "later"])
def test_no_request(gate: RunningGate, canary: RawChannel, name: str, greeted: bool) -> None:
    """A packet that is no request ends its channel with a reason, in the log too, be it the first or a later one."""
    packet, why = NO_REQUEST[name]
    with RawChannel(gate.socket) as channel:
        if greeted:
            channel.ask("stat")
        seen = len(gate.log)
        channel.send(packet)
        reason = channel.refusal()
    assert why in reason
    assert len(reason) < 500
    assert gate.wait_for(lambda line: why in line["reason"], event="channel-ended", since=seen)


@pytest.mark.parametrize(
    ("greeting", "why"),
    [
        (None, "the first packet has no hello"),
        ({}, "not a request"),
        (hello(v=[1]), "not a request"),
        (hello(v="1"), "not a request"),
        (hello(role="king"), "role"),
        (hello(token="t"), "token"),
        (hello(token="t" * 65), "token"),
        (hello(token=7), "not a request"),
        (hello(parents=["p" * 32] * 9), "parents"),
        (hello(parents=["p"]), "parents"),
        (hello(program=["x"]), "not a request"),
    ],
)
def test_no_greeting(gate: RunningGate, canary: RawChannel, greeting: object, why: str) -> None:
    """A first packet without a greeting, or with a wrong one, ends the channel with the reason."""
    with RawChannel(gate.socket) as channel:
        channel.send({"op": "stat", "hello": greeting})
        assert why in channel.refusal()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"op": "new", "family": 5, "count": 1}, "family"),
        ({"op": "new", "family": "4", "count": 1}, "family"),
        ({"op": "new", "family": 4, "count": 0}, "count"),
        ({"op": "new", "family": 4, "count": -1}, "count"),
        ({"op": "new", "family": 4, "count": messages.MAX_BORN + 1}, "count"),
        ({"op": "new", "family": 4}, "count"),
        ({"op": "connect", "sock": 1, "host": "x" * 1026, "port": 1}, "host"),
        ({"op": "connect", "sock": 1, "host": "x\0y", "port": 1}, "null"),
        ({"op": "connect", "sock": 1, "host": 7, "port": 1}, "host"),
        ({"op": "connect", "sock": 1, "host": "x", "port": 65536}, "port"),
        ({"op": "connect", "sock": 1, "host": "x", "port": -1}, "port"),
        ({"op": "connect", "sock": 1, "host": "x", "port": 80.5}, "port"),
        ({"op": "connect", "sock": 1, "host": "x", "port": 80, "flow": 1 << 20}, "flow"),
        ({"op": "connect", "sock": 1, "host": "x", "port": 80, "scope": -1}, "scope"),
        ({"op": "connect", "sock": None, "host": "x", "port": 80}, "sock"),
        ({"op": "resolve", "call": "system", "args": ["ls"]}, "look-up"),
        ({"op": "resolve", "call": "getaddrinfo", "args": []}, "getaddrinfo"),
        ({"op": "resolve", "call": "getaddrinfo", "args": [{"a": 1}, [], {}]}, "getaddrinfo"),
        ({"op": "resolve", "call": "getaddrinfo", "args": ["x", "y", 1 << 70]}, "getaddrinfo"),
        ({"op": "resolve", "call": "getaddrinfo", "args": ["127.0.0.1", 1.5]}, "getaddrinfo"),
        ({"op": "resolve", "call": "getaddrinfo", "args": ["127.0.0.1", [80]]}, "getaddrinfo"),
        ({"op": "resolve", "call": "getaddrinfo", "args": "localhost"}, "args"),
        ({"op": "resolve", "call": "getnameinfo", "args": [["127.0.0.1", "80", 1, 1, 1, 1], 0]}, "getnameinfo"),
        ({"op": "resolve", "call": "if_indextoname", "args": ["lo"]}, "if_indextoname"),
        ({"op": "close", "sock": "1"}, "sock"),
        ({"op": "close", "sock": 1, "shared": "yes"}, "shared"),
        ({"op": "why", "host": "x", "port": 80, "transport": "sctp"}, "transport"),
        ({"op": "why", "host": "x", "port": [80]}, "port"),
    ],
    ids=lambda value: json.dumps(value)[7:60] if isinstance(value, dict) else "",
)
def test_wrong_values(gate: RunningGate, canary: RawChannel, changes: dict[str, Any], why: str) -> None:
    """A request with a wrong value ends its channel with a reason that names the field."""
    with RawChannel(gate.socket) as channel:
        channel.ask("stat")
        channel.send(changes)
        assert why in channel.refusal()


def test_the_largest_packet(gate: RunningGate) -> None:
    """A packet of exactly the limit is served."""
    with RawChannel(gate.socket) as channel:
        channel.ask("stat")
        packet = b'{"op":"stat"}'
        channel.send(packet + b" " * (messages.MAX_PACKET - len(packet)))
        reply = channel.receive()
        assert reply is not None
        assert "answer" in reply


def test_empty_packet(gate: RunningGate, canary: RawChannel) -> None:
    """A packet of no bytes, which looks like the end of the channel, is taken for it."""
    with RawChannel(gate.socket) as channel:
        channel.send(b"")
        assert channel.receive() is None


def test_second_hello(gate: RunningGate, canary: RawChannel) -> None:
    """A second hello ends the channel."""
    with RawChannel(gate.socket) as channel:
        channel.ask("stat")
        channel.send({"op": "stat", "hello": hello()})
        assert channel.refusal() == "a second hello"


@pytest.mark.parametrize("op", [messages.NEW, messages.CONNECT, messages.RESOLVE, messages.WHY, messages.STAT])
def test_request_on_an_anchor(gate: RunningGate, canary: RawChannel, op: str) -> None:
    """An anchor carries no request that has an answer."""
    fields = {"family": 4, "count": 1, "sock": 1, "host": "x", "port": 1, "call": "getaddrinfo", "args": []}
    with RawChannel(gate.socket, role="anchor") as anchor:
        anchor.post("hello")
        anchor.post(op, **fields)
        assert anchor.refusal() == "an anchor carries one-way packets only"


def test_one_bad_channel_leaves_the_others_of_its_process(gate: RunningGate) -> None:
    """When a channel is ended for what it said, its process keeps its other channels, its sockets and connections."""
    with peers.echo() as peer, RawChannel(gate.socket) as good:
        ((id, sock),) = good.new()
        with sock:
            with RawChannel(gate.socket, token=good.token) as bad:
                bad.ask("stat")
                bad.send(b"garbage")
                assert bad.refusal()
            assert "lease" in good.connect(id, peer.address)
            sock.connect(peer.address)
            sock.sendall(b"still here")
            assert sock.recv(10, socket.MSG_WAITALL) == b"still here"


@pytest.mark.parametrize(
    ("versions", "refused"),
    [([1, 1], False), ([0, 9], False), ([2, 3], True), ([0, 0], True), ([-5, -1], True), ([1 << 60, 1 << 61], True)],
)
def test_versions(gate: RunningGate, canary: RawChannel, versions: list[int], refused: bool) -> None:
    """A client without a version in common is refused by name; one whose range has ours in it is served."""
    with RawChannel(gate.socket) as channel:
        channel.send({"op": "stat", "hello": hello(v=versions)})
        reply = channel.receive()
        assert reply is not None
        if refused:
            assert reply["error"]["code"] == "version"
            assert channel.receive() is None
        else:
            assert reply["hello"]["v"] == 1


# --- many packets, and none -------------------------------------------------------------------------------------------


def test_flood_without_reading(gate: RunningGate, canary: RawChannel) -> None:
    """A client that sends requests and reads no reply loses that channel, and the log says why."""
    with RawChannel(gate.socket) as channel:
        channel.ask("stat")
        seen = len(gate.log)

        def flood() -> None:
            for _ in range(100_000):
                channel.post("stat")

        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            flood()
        # By its reason: a line of another test's channel may still be under way.
        assert gate.wait_for(event="channel-ended", reason="replies are not read", since=seen)


def test_flood_on_an_anchor(gate: RunningGate, canary: RawChannel) -> None:
    """Thousands of one-way packets for sockets that never were are read, and change nothing for others meanwhile."""
    with RawChannel(gate.socket, role="anchor") as anchor:
        anchor.post("hello")
        for number in range(5_000):
            anchor.post("close", sock=number, shared=bool(number & 1))
            if number % 1_000 == 0:
                assert "answer" in canary.ask("stat")
        assert anchor.finish() == []


def test_unread_sockets(gate: RunningGate, canary: RawChannel) -> None:
    """A second batch of sockets on a channel whose first has not been read is refused, so that none pile up."""
    with RawChannel(gate.socket) as channel:
        channel.ask("stat")
        seen = len(gate.log)
        channel.post("new", family=4, count=8)
        channel.post("new", family=4, count=8)
        gate.wait_for(lambda line: "born sockets asked for" in line["reason"], event="channel-ended", since=seen)
        assert "born sockets asked for" in channel.refusal()


def test_many_channels_at_once(gate: RunningGate, canary: RawChannel) -> None:
    """Hundreds of channels that say nothing do not keep the next one out."""
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(RawChannel(gate.socket))
        assert "answer" in stack.enter_context(RawChannel(gate.socket)).ask("stat")


def test_silent_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that says nothing is ended at its limit, with the reason; one that has said hello may be silent."""
    monkeypatch.setattr(messages, "HELLO_LIMIT", 0.5)
    with ThreadGate() as gate, RawChannel(gate.socket) as polite, RawChannel(gate.socket) as silent:
        polite.ask("stat")
        assert silent.refusal() == "no hello within 0.5 s"
        assert "answer" in polite.ask("stat")


# --- what takes time --------------------------------------------------------------------------------------------------


class SlowNames:
    """A resolver that answers when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = threading.Event()
        self.answer = threading.Event()
        monkeypatch.setitem(resolver.CALLS, "getaddrinfo", self._getaddrinfo)

    def _getaddrinfo(self, host: Any, port: Any, *args: Any) -> list[Any]:
        self.asked.set()
        assert self.answer.wait(20)
        return socket.getaddrinfo("127.0.0.1", port, *args)


@pytest.fixture
def slow_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowNames]:
    """A gate's resolver made slow."""
    names = SlowNames(monkeypatch)
    yield names
    names.answer.set()


def test_request_before_the_reply(slow_names: SlowNames) -> None:
    """A second request while the first is at work ends the channel; the first one's answer is then nobody's."""
    with ThreadGate() as gate, RawChannel(gate.socket) as channel, RawChannel(gate.socket) as other:
        channel.post("resolve", call="getaddrinfo", args=["slow.test", 80])
        assert slow_names.asked.wait(20)
        channel.post("stat")
        assert channel.refusal() == "a request before the reply to the last"
        slow_names.answer.set()
        assert "answer" in other.ask("resolve", call="getaddrinfo", args=["slow.test", 80])
        assert gate.faults == []


def test_closed_while_its_name_is_looked_up(slow_names: SlowNames) -> None:
    """A socket that is closed while its host is looked up is dialled no more."""
    with ThreadGate() as gate, peers.sink() as peer, RawChannel(gate.socket) as channel:
        ((id, sock),) = channel.new()
        channel.post("connect", sock=id, host="slow.test", port=peer.port)
        assert slow_names.asked.wait(20)
        with RawChannel(gate.socket, token=channel.token) as second:
            sock.close()
            assert "error" not in second.ask("close", sock=id, shared=False)
        slow_names.answer.set()
        reply = channel.receive()
        assert reply is not None
        assert reply["error"]["code"] == "unknown-descriptor"
        assert peer.connections == []
        assert gate.faults == []


def test_two_connects_on_one_socket(slow_names: SlowNames) -> None:
    """Of two connects that wait for the same name on one socket one dials, and the other is told as natively."""
    with ThreadGate() as gate, peers.sink() as peer, RawChannel(gate.socket) as first:
        ((id, sock),) = first.new()
        with sock, RawChannel(gate.socket, token=first.token) as second:
            first.post("connect", sock=id, host="slow.test", port=peer.port)
            second.post("connect", sock=id, host="slow.test", port=peer.port)
            assert slow_names.asked.wait(20)
            slow_names.answer.set()
            replies = [first.receive(), second.receive()]
            assert sum(reply is not None and "lease" in reply for reply in replies) == 1
            assert sum(reply is not None and "errno" in reply for reply in replies) == 1
            peer.accepted()
            assert gate.faults == []
            assert gate.app()["open"] == 1


def test_gone_while_its_name_is_looked_up(slow_names: SlowNames) -> None:
    """A dial for a client that has let go of the channel meanwhile, and lives, is in the log, and ends with it."""
    with ThreadGate() as gate, peers.sink() as peer:
        channel = RawChannel(gate.socket)
        ((id, sock),) = channel.new()
        channel.post("connect", sock=id, host="slow.test", port=peer.port)
        assert slow_names.asked.wait(20)
        with sock, held_elsewhere(sock):  # this process is the gate's: what it holds is not seen to be held
            channel.close()
            slow_names.answer.set()
            lease = gate.wait_for(event="decision", port=peer.port)["lease"]
            peer.accepted()
        assert gate.wait_for(event="end", port=peer.port)["lease"] == lease
        assert gate.faults == []


@contextlib.contextmanager
def held_elsewhere(sock: socket.socket) -> Iterator[None]:
    """Have another process hold a socket as long as the block lasts."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", code], stdin=pipe, stdout=pipe, pass_fds=[sock.fileno()]
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate()


def test_gone_before_the_reply(gate: RunningGate) -> None:
    """A client that is gone when its dial is answered has its decision in the log, and its end."""
    with peers.sink() as peer:
        channel = RawChannel(gate.socket)
        ((id, sock),) = channel.new()
        sock.close()
        channel.sock.shutdown(socket.SHUT_RD)  # so that the answer finds nobody
        channel.post("connect", sock=id, host="127.0.0.1", port=peer.port)
        lease = gate.wait_for(event="decision", port=peer.port)["lease"]
        channel.close()
        assert gate.wait_for(event="end", port=peer.port)["lease"] == lease


# --- file descriptors that nobody asked for ---------------------------------------------------------------------------


def lingering(peer: peers.Peer) -> socket.socket:
    """Return a connection whose last close waits until the peer has read megabytes, which it does when told."""
    sock = socket.create_connection(peer.address)
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.send(bytes(65536))
    sock.setblocking(True)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3000))
    return sock


def test_stray_fds(gate: RunningGate, canary: RawChannel) -> None:
    """Fds that a client sends are refused by the kernel at the sender, or end the channel; nothing is kept."""
    with RawChannel(gate.socket) as channel, open("/dev/null", "rb") as file:
        channel.ask("stat")
        try:
            channel.send({"op": "stat"}, fds=[file.fileno()] * 3)
        except PermissionError:  # SO_PASSRIGHTS, Linux 6.16
            assert "answer" in channel.ask("stat")
        else:
            assert channel.refusal() == "file descriptors in a request"


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make gates work as on a kernel without SO_PASSRIGHTS."""
    monkeypatch.setattr(births, "take_no_fds", lambda sock: False)


@pytest.mark.usefixtures("old_kernel")
def test_stray_fds_are_closed() -> None:
    """Without SO_PASSRIGHTS every fd of a packet is taken and closed, as many as a packet can carry."""
    with ThreadGate() as gate, RawChannel(gate.socket) as channel, RawChannel(gate.socket) as other:
        channel.ask("stat")
        read, write = socket.socketpair()
        with read:
            with write:
                channel.send({"op": "stat"}, fds=[write.fileno()] * 253)
            assert channel.refusal() == "file descriptors in a request"
            read.settimeout(20)
            assert read.recv(1) == b""  # all 253 are closed
        assert "answer" in other.ask("stat")


@pytest.mark.usefixtures("old_kernel")
@pytest.mark.parametrize("greeted", [False, True], ids=["ungreeted", "greeted"])
def test_lingering_stray_that_is_read(greeted: bool) -> None:
    """A lingering connection sent to the gate is closed without its linger: no thread waits for its peer."""
    with ThreadGate() as gate, peers.slow() as peer, RawChannel(gate.socket) as channel:
        connection = peer.accepted() if (sock := lingering(peer)) else None
        assert connection is not None
        if greeted:
            channel.ask("stat")
        with sock:
            channel.send({"op": "stat"}, fds=[sock.fileno()])
        assert channel.refusal() == "file descriptors in a request"
        closed = threading.Event()
        gate.call(lambda: gate.gate.reception.stray_closer(channel_uid()).put(closed.set))
        assert closed.wait(20)
        assert connection.received == 0


@pytest.mark.usefixtures("old_kernel")
@pytest.mark.parametrize("greeted", [False, True], ids=["ungreeted", "greeted"])
def test_lingering_stray_that_is_never_read(greeted: bool) -> None:
    """A lingering connection behind a packet that ends its channel holds one closer thread and nobody's request."""
    with ThreadGate() as gate, peers.slow() as peer, RawChannel(gate.socket) as other:
        other.ask("stat")
        channel = RawChannel(gate.socket)
        if greeted:
            channel.ask("stat")
        sock = lingering(peer)
        connection = peer.accepted()
        closed = threading.Event()

        def both() -> None:  # on the loop, so that the gate reads neither before both are there
            channel.send(b"garbage")
            channel.send(b"never read", fds=[sock.fileno()])
            sock.close()

        gate.call(both)
        assert "not a request" in channel.refusal()
        strays = gate.gate.reception.stray_closer(channel_uid())
        closer = gate.gate.registry.apps["default"].closer if greeted else strays
        gate.call(lambda: closer.put(closed.set))
        ((id, born),) = other.new()
        with born:
            assert "lease" in other.connect(id, peer.address)
            assert not closed.is_set()
            assert connection.received == 0
        connection.allow(1 << 30)
        assert closed.wait(20)
        channel.close()


def channel_uid() -> int:
    """Return the uid that the gate sees on channels of this process."""
    return os.geteuid()


# --- anything at all --------------------------------------------------------------------------------------------------

#: What stands for a socket that the channel really has.
MINE = 4_711
_ids = st.just(MINE) | st.integers(-2, 2) | st.integers(-(1 << 70), 1 << 70)
_json = st.recursive(
    st.none() | st.booleans() | _ids | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
_host = (
    st.sampled_from(["localhost", "127.0.0.1", "::1", "0x7f.1", "", "*", "a..b", "x" * 300, "☃.net", "%lo"]) | st.text()
)
_fields: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "hello": {},
    "new": {"family": st.sampled_from([4, 6]), "count": st.integers(1, 8)},
    "connect": {
        "sock": _ids,
        "host": _host,
        "port": st.integers(0, 65535),
        "flow": st.integers(0, 9),
        "scope": st.integers(0, 9),
    },
    "resolve": {
        "call": st.sampled_from([*resolver.CALLS, "exec"]),
        "args": st.lists(_host | _json, max_size=6),
    },
    "close": {"sock": _ids, "shared": st.booleans()},
    "why": {"host": _host, "port": st.integers(0, 65535), "transport": st.sampled_from(["tcp", "udp", "x"])},
    "stat": {},
    "reload": {},
}
_greeting = st.fixed_dictionaries(
    {
        "v": st.lists(_ids, min_size=2, max_size=2) | _json,
        "role": st.sampled_from(["request", "anchor"]) | _json,
        "token": st.sampled_from(["t" * 16, "u" * 64]) | _json,
    },
    optional={"parents": st.lists(st.sampled_from(["t" * 16, "u" * 64]), max_size=9) | _json, "program": _json},
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a packet: a request that may be right, one with a field of another type, or any bytes."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        return json.dumps(draw(_json)).encode()
    op = draw(st.sampled_from(sorted(_fields)))
    message: dict[str, Any] = {"op": op, **{name: draw(field) for name, field in _fields[op].items()}}
    if kind < 5 and message:
        message[draw(st.sampled_from(sorted(message)))] = draw(_json)
    if kind == 9:
        message["hello"] = draw(_greeting)
    return json.dumps(message).encode()


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[RunningGate]:
    """A gate of its own for anything at all, which must end without a fault."""
    with RunningGate(open_sockets=64) as gate:
        yield gate
        assert gate.faults == []
        gate.wait_for_counts(held=0, open=0)
        assert gate.stop() == 0


@given(
    packets=st.lists(requests(), min_size=1, max_size=5),
    role=st.sampled_from(["request", "request", "request", "anchor", None]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_arrives(fuzzed: RunningGate, packets: list[bytes], role: str | None) -> None:
    """Whatever bytes arrive, each packet is answered or the channel is ended with a reason; the gate goes on."""
    with RawChannel(fuzzed.socket, role=role or "request") as channel:
        if role == "request":
            mine = channel.ask("new", family=4, count=1).get("ids", [0])[0]
            packets = [packet.replace(b"%d" % MINE, b"%d" % mine) for packet in packets]
        elif role == "anchor":
            channel.post("hello")
        replies: list[dict[str, Any]] = []
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for packet in packets:
                channel.send(packet)
                if role == "request":
                    reply = channel.receive()
                    if reply is None:
                        assert packet == b""
                        break
                    replies.append(reply)
                    if "end" in reply:
                        break
        replies += channel.finish()
    for reply in replies[:-1]:
        assert "end" not in reply
    if replies and "end" in replies[-1]:
        assert replies[-1]["error"]["code"] in ("gate-refused-channel", "version")
    with RawChannel(fuzzed.socket) as next_client:
        assert "answer" in next_client.ask("stat")
    assert fuzzed.faults == []
