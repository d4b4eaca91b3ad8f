"""The host's own name servers answer over TCP under policy: whole answers, nothing but questions, nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from outgate.gate.answering import streams
from outgate.gate.configuration import config
from outgate.testing.running import ThreadGate
from support.raw import PATIENCE, RawChannel

#: More than a datagram holds.
MANY = tuple(f"10.0.{number // 250}.{number % 250 + 1}" for number in range(4000))


@functools.cache
def _many(name: dns.name.Name) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(name, 7200, "IN", "A", MANY)


class NameServer:
    """A name server on loopback over TCP, on a port that takes the place of 53.

    ``many`` has 4,000 addresses, ``silent`` gets no answer, at ``end`` it closes; all else has one address.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port = self.listener.getsockname()[1]
        self.asked: list[dns.message.Message] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(EOFError, OSError):
            while True:
                message, _ = dns.query.receive_tcp(sock)
                self.asked.append(message)
                name = message.question[0].name
                first = name.labels[0].decode()
                if first == "end":
                    return
                if first == "silent":
                    continue
                answer = dns.message.make_response(message)
                if first == "many":
                    answer.answer.append(_many(name))
                else:
                    answer.answer.append(dns.rrset.from_text(name, 7200, "IN", "A", "10.0.0.7"))
                forged = dns.message.make_response(message)
                forged.id ^= 1
                dns.query.send_tcp(sock, forged)
                dns.query.send_tcp(sock, answer.to_wire(max_size=65535))

    def stop(self) -> None:
        """End it, if it has not ended."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[NameServer]:
    """A name server that resolv.conf names."""
    made = NameServer()
    _be_the_hosts(made, "127.0.0.1", monkeypatch, tmp_path)
    yield made
    made.stop()


def _be_the_hosts(server: NameServer, address: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    path = folder / "resolv.conf"
    path.write_text(f"nameserver {address}\n")
    monkeypatch.setattr("outgate.gate.datagram.udp.DNS", server.port)
    monkeypatch.setattr("outgate.gate.datagram.udp.RESOLV_CONF", str(path))


def settings(*, deny: tuple[str, ...] = (), except_: tuple[str, ...] = ()) -> config.Settings:
    """Return the default settings with these rules; programs get the kernel's sockets."""
    return config.default_settings(os.getuid(), False, (), deny, except_)


@contextlib.contextmanager
def asking(channel: RawChannel, port: int, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """Give a socket that a program has connected to a name server."""
    ((id, sock),) = channel.new(family=6 if ":" in host else 4)
    with sock:
        reply = channel.connect(id, (host, port))
        assert "addr" in reply, reply
        sock.settimeout(PATIENCE)
        select.select([], [sock], [], PATIENCE)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        yield sock
        channel.ask("close", sock=id)


def ask(sock: socket.socket, name: str, kind: str = "A") -> dns.message.Message:
    """Return the answer to a question."""
    query = dns.message.make_query(name, kind)
    dns.query.send_tcp(sock, query)
    answer, _ = dns.query.receive_tcp(sock)
    assert query.is_response(answer)
    return answer


def test_answers_come_whole_and_are_bound(server: NameServer) -> None:
    """An answer too long for a datagram arrives, its addresses belong to the name; the server saw another number."""
    with ThreadGate(settings(except_=("other.corp:5432",))) as gate, RawChannel(gate.socket) as channel:
        with asking(channel, server.port) as sock:
            query = dns.message.make_query("many.corp", "A", id=77)
            dns.query.send_tcp(sock, query)
            answer, _ = dns.query.receive_tcp(sock)
            assert answer.id == 77
            assert len(answer.answer[0]) == len(MANY)
            assert ask(sock, "other.corp").answer
        app = gate.gate.registry.apps["default"]
        now = gate.gate.loop.time()
        # Of the many this was one of the first: whether their name was displaced there before the other came is a race.
        assert gate.call(lambda: app.bindings.names_for("10.0.0.7", now + 7000))[0] == "other.corp"
        assert [message.id for message in server.asked] != [77, 77]
        line = gate.wait_for(event="end", transport="tcp")
        assert (line["host"], line["port"], line["rule"]) == ("127.0.0.1", server.port, "own name server")
        assert line["received"] > 60000


def test_a_refused_question_goes_nowhere(server: NameServer) -> None:
    """A name that the policy refuses is answered REFUSED, logged with its rule, and never asked for."""
    with ThreadGate(settings(deny=("*.evil.test",))) as gate, RawChannel(gate.socket) as channel:
        with asking(channel, server.port) as sock:
            assert ask(sock, "c2VjcmV0.evil.test", "TXT").rcode() == dns.rcode.REFUSED
            line = gate.wait_for(event="decision", host="c2vjcmv0.evil.test")
            assert (line["verdict"], line["rule"], line["transport"]) == ("deny", "*.evil.test", "tcp")
            assert ask(sock, "7.0.0.10.in-addr.arpa", "PTR").rcode() == dns.rcode.REFUSED
            assert ask(sock, "www.example.com", "AXFR").rcode() == dns.rcode.REFUSED
            assert ask(sock, "www.example.com").answer
        assert [str(message.question[0].name) for message in server.asked] == ["www.example.com."]


def test_an_allowed_name_server_is_asked_under_policy_too(server: NameServer) -> None:
    """A rule that permits the server's address does not lead past the rules for names."""
    permitted = settings(deny=("*.evil.test",), except_=(f"127.0.0.1:{server.port}",))
    with ThreadGate(permitted) as gate, RawChannel(gate.socket) as channel:
        with asking(channel, server.port) as sock:
            assert ask(sock, "x.evil.test").rcode() == dns.rcode.REFUSED
            assert ask(sock, "www.example.com").answer
        assert gate.wait_for(event="end")["rule"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    "rubbish",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("!H", streams.LONGEST + 1),
        b"\0\0",
        b"\0\14" + bytes(2) + b"\x80" + bytes(9),
    ],
    ids=["another protocol", "too long", "empty", "an answer"],
)
def test_what_is_no_question_ends_the_connection(server: NameServer, rubbish: bytes) -> None:
    """Bytes that are no message of DNS do not reach the server: the connection is ended."""
    with ThreadGate(settings()) as gate, RawChannel(gate.socket) as channel:
        with asking(channel, server.port) as sock:
            sock.sendall(rubbish)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(100) == b""
        assert server.asked == []
        assert gate.faults == []


def test_a_server_that_fails_is_answered_for(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server closes, is silent or is gone, the program hears SERVFAIL and may ask on."""
    monkeypatch.setattr(streams, "LIMIT", 0.2)
    with ThreadGate(settings()) as gate, RawChannel(gate.socket) as channel:
        with asking(channel, server.port) as sock:
            assert ask(sock, "end.test").rcode() == dns.rcode.SERVFAIL
            assert ask(sock, "silent.test").rcode() == dns.rcode.SERVFAIL
            assert ask(sock, "www.example.com").answer
            server.stop()
            assert ask(sock, "www.example.com").rcode() == dns.rcode.SERVFAIL
        assert gate.faults == []


def test_who_asks_nothing_is_not_waited_for(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which no question comes, or half of one, or nobody takes the answer, is ended."""
    monkeypatch.setattr(streams, "IDLE", 0.2)
    with ThreadGate(settings()) as gate, RawChannel(gate.socket) as channel:
        for begin in (b"", b"\0", b"\0\30half"):
            with asking(channel, server.port) as sock:
                sock.sendall(begin)
                assert sock.recv(1) == b""
        with asking(channel, server.port) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            question = dns.message.make_query("many.corp", "A").to_wire()
            sock.sendall((struct.pack("!H", len(question)) + question) * 1000)
            (task,) = gate.call(lambda: gate.gate.answering.tasks)
            ended = asyncio.run_coroutine_threadsafe(asyncio.wait((task,)), gate.gate.loop)
            assert ended.result(PATIENCE) == ({task}, set())


def test_the_oldest_connection_makes_room(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app has so many at a time; one more ends the oldest, and no other."""
    monkeypatch.setattr(streams, "MOST", 3)
    with ThreadGate(settings()) as gate, RawChannel(gate.socket) as channel, contextlib.ExitStack() as stack:
        socks = []
        for _ in range(5):
            socks.append(stack.enter_context(asking(channel, server.port)))
            assert ask(socks[-1], "www.example.com").answer
        assert [sock.recv(1) for sock in socks[:2]] == [b"", b""]
        for sock in socks[2:]:
            assert ask(sock, "www.example.com").answer
        assert len(gate.call(lambda: gate.gate.answering.tasks)) == 3


def test_nobody_else_is_answered(server: NameServer) -> None:
    """Who finds the gate's listener and connects to it by himself is turned away."""
    with ThreadGate(settings()) as gate, RawChannel(gate.socket) as channel, asking(channel, server.port) as sock:
        place = sock.getpeername()
        with socket.create_connection(place, PATIENCE) as stranger:
            stranger.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(1) == b""
        assert ask(sock, "www.example.com").answer


def test_questions_at_once_leave_room_for_others(server: NameServer) -> None:
    """A flood of refused questions on one connection is answered one a turn, each with its own number."""
    refusing = settings(deny=("*.evil.test",))
    with ThreadGate(refusing) as gate, RawChannel(gate.socket) as channel, asking(channel, server.port) as sock:
        queries = [dns.message.make_query(f"n{number}.evil.test", "A", id=number) for number in range(300)]
        sock.sendall(b"".join(struct.pack("!H", len(wire)) + wire for wire in (each.to_wire() for each in queries)))
        answers = [dns.query.receive_tcp(sock)[0] for _ in queries]
        assert [answer.id for answer in answers] == list(range(300))
        assert gate.faults == []


def test_over_ipv6(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server at an IPv6 address, asked from a socket of IPv6."""
    server = NameServer("::1")
    _be_the_hosts(server, "::1", monkeypatch, tmp_path)
    with (
        ThreadGate(settings()) as gate,
        RawChannel(gate.socket) as channel,
        asking(channel, server.port, "::1") as sock,
    ):
        assert ask(sock, "www.example.com").answer
    server.stop()


def test_a_new_policy_lets_questions_be(server: NameServer) -> None:
    """A policy that denies the server's address ends no connection that the gate answers itself."""
    permitted = settings(except_=(f"127.0.0.1:{server.port}",))
    with ThreadGate(permitted) as gate, RawChannel(gate.socket) as channel, asking(channel, server.port) as sock:
        assert ask(sock, "www.example.com").answer
        finished = threading.Event()
        gate.call(lambda: gate.gate.adopt(settings(deny=("*.evil.test",))))
        gate.call(lambda: gate.gate.rejudging.begin(lambda counts: finished.set()))
        assert finished.wait(PATIENCE)
        assert ask(sock, "x.evil.test").rcode() == dns.rcode.REFUSED
        assert ask(sock, "www.example.com").answer
