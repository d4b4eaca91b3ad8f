"""The host's own name servers answer under policy: what is refused goes nowhere, what is answered binds."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from outgate.core.formats import frames
from outgate.gate.configuration import config
from outgate.gate.datagram import nameservers
from outgate.testing.running import ThreadGate
from support.raw import PATIENCE, RawChannel

LOOPBACK = socket.inet_aton("127.0.0.1")


class NameServer:
    """A name server on loopback, on a port that takes the place of 53: it answers every question with one address."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(PATIENCE)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.asked: list[dns.message.Message] = []
        self.sources: list[tuple[str, int]] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                wire, source = self.sock.recvfrom(4096)
            except OSError:
                return
            if not wire:
                return
            message = dns.message.from_wire(wire)
            self.asked.append(message)
            self.sources.append(source)
            answer = dns.message.make_response(message)
            name = message.question[0].name
            answer.answer.append(dns.rrset.from_text(name, 7200, "IN", "A", "10.0.0.7"))
            forged = dns.message.make_response(message)
            forged.id ^= 1
            self.sock.sendto(forged.to_wire(), source)
            self.sock.sendto(answer.to_wire(), source)

    def stop(self) -> None:
        """End it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(PATIENCE)
        self.sock.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[NameServer]:
    """A name server that resolv.conf names."""
    made = NameServer()
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 127.0.0.1\n")
    monkeypatch.setattr("outgate.gate.datagram.udp.DNS", made.port)
    monkeypatch.setattr("outgate.gate.datagram.udp.RESOLV_CONF", str(path))
    yield made
    made.stop()


class Asker:
    """A UDP socket that asks a name server through a gate, which refuses loopback."""

    def __init__(self, channel: RawChannel, port: int) -> None:
        (self.id,) = channel.ask("new", family=4, count=1, kind="udp")["ids"]
        self.channel = channel
        self.end = channel.fds[-1]  # the channel closes it
        self.end.settimeout(PATIENCE)
        self.header = frames.pack(frames.DATA, LOOPBACK, port)

    def ask(self, query: dns.message.Message) -> dns.message.Message:
        """Return the answer to a query."""
        self.end.send(self.header + query.to_wire())
        packet = self.end.recv(70000)
        assert packet[:28] == self.header
        answer = dns.message.from_wire(packet[28:])
        assert query.is_response(answer)
        return answer


def settings(*, deny: tuple[str, ...] = (), except_: tuple[str, ...] = ()) -> config.Settings:
    """Return the default settings with these rules."""
    return config.default_settings(os.getuid(), False, (), deny, except_)


def test_a_question_is_forwarded_and_its_answer_bound(server: NameServer) -> None:
    """A permitted question goes to the server under another number and from another port; the answer comes whole."""
    with ThreadGate(settings(except_=("db.corp:5432",))) as gate, RawChannel(gate.socket) as channel:
        asker = Asker(channel, server.port)
        assert "addr" in channel.ask("reach", sock=asker.id, host="127.0.0.1", port=server.port)
        queries = [dns.message.make_query("db.corp", "A", id=77) for _ in range(8)]
        for query in queries:
            assert [str(record) for record in asker.ask(query).answer[0]] == ["10.0.0.7"]
        assert {message.id for message in server.asked} != {77}
        own = channel.ask("name", sock=asker.id)["own"][1]
        assert own not in {port for _, port in server.sources}
        app = gate.gate.registry.apps["default"]
        now = gate.gate.loop.time()
        assert gate.call(lambda: app.bindings.names_for("10.0.0.7", now)) == ("db.corp",)
        assert gate.call(lambda: app.bindings.names_for("10.0.0.7", now + 7000)) == ("db.corp",)
        # What the program then does by address is judged with the name: permitted on the port of the rule.
        for port, verdict in ((5432, "allow"), (22, "deny")):
            found = channel.ask("why", host="10.0.0.7", port=port)["answer"]
            assert found["verdict"] == verdict
        asker.end.close()
        line = gate.wait_for(event="end", transport="udp")
        assert (line["datagrams_sent"], line["datagrams_received"]) == (8, 8)


def test_a_refused_question_goes_nowhere(server: NameServer) -> None:
    """A name that the policy refuses is answered REFUSED at once, logged with its rule, and never asked for."""
    with ThreadGate(settings(deny=("*.evil.test",))) as gate, RawChannel(gate.socket) as channel:
        asker = Asker(channel, server.port)
        answer = asker.ask(dns.message.make_query("c2VjcmV0.evil.test", "TXT"))
        assert answer.rcode() == dns.rcode.REFUSED
        line = gate.wait_for(event="decision", host="c2vjcmv0.evil.test")
        assert (line["verdict"], line["rule"], line["transport"]) == ("deny", "*.evil.test", "udp")
        assert asker.ask(dns.message.make_query("www.example.com", "A")).answer
        assert [str(message.question[0].name) for message in server.asked] == ["www.example.com."]


def test_a_private_address_is_not_asked_about(server: NameServer) -> None:
    """A question for the name of an address that no rule could allow is refused; of a public one it is asked."""
    with ThreadGate(settings()) as gate, RawChannel(gate.socket) as channel:
        asker = Asker(channel, server.port)
        assert asker.ask(dns.message.make_query("7.0.0.10.in-addr.arpa", "PTR")).rcode() == dns.rcode.REFUSED
        assert asker.ask(dns.message.make_query("8.8.8.8.in-addr.arpa", "PTR")).rcode() == dns.rcode.NOERROR
        assert len(server.asked) == 1


def test_what_is_no_question_is_not_forwarded(server: NameServer) -> None:
    """An update, and bytes that are no message, do not reach the server; it is no way out for other protocols."""
    with ThreadGate(settings()) as gate, RawChannel(gate.socket) as channel:
        asker = Asker(channel, server.port)
        asker.end.send(asker.header + b"not a message of the domain name system")
        asker.end.send(asker.header + b"x")
        update = bytearray(dns.message.make_query("www.example.com", "A", id=5).to_wire())
        update[2] |= 5 << 3
        asker.end.send(asker.header + bytes(update))
        while (answer := asker.end.recv(1000)[28:])[:2] != b"\0\5":
            pass
        assert answer[3] & 15 == dns.rcode.NOTIMP
        assert asker.ask(dns.message.make_query("www.example.com", "A")).answer
        assert len(server.asked) == 1


def test_other_ports_of_a_name_server_are_judged_as_ever(server: NameServer) -> None:
    """The exception is for questions: beside that port the address is as private or loopback as it was."""
    with ThreadGate(settings()) as gate, RawChannel(gate.socket) as channel:
        asker = Asker(channel, server.port)
        reply = channel.ask("reach", sock=asker.id, host="127.0.0.1", port=server.port ^ 1)
        assert reply["error"]["code"] == "policy-denied"


def test_questions_on_their_way_are_bounded(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the most that may wait, the oldest is given up; nothing of it is left when its socket ends."""
    monkeypatch.setattr(nameservers, "WAITING", 4)
    with ThreadGate(settings()) as gate, RawChannel(gate.socket) as channel:
        asker = Asker(channel, server.port)
        gate.gate.udp._forwarding._on_answer = lambda flight: flight.sock.recv(4096)  # nobody answers
        for number in range(20):
            asker.end.send(asker.header + dns.message.make_query(f"n{number}.example.com", "A").to_wire())
        asker.end.send(asker.header + b"\0\7" + b"\x28" + bytes(9))
        asker.end.recv(1000)
        flights = gate.gate.udp._forwarding._flights["default"]
        assert [flight.question.name for flight in gate.call(lambda: list(flights))] == [
            f"n{number}.example.com" for number in range(16, 20)
        ]
        asker.end.close()
        gate.wait_for(event="end", transport="udp")
        assert gate.call(lambda: len(flights)) == 0


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("nameserver 10.0.0.1\n", {"10.0.0.1"}),
        ("# x\nsearch corp\nnameserver\t10.0.0.1 # y\nnameserver fe80::1%eth0\n", {"10.0.0.1", "fe80::1"}),
        ("".join(f"nameserver 10.0.0.{n}\n" for n in range(1, 6)), {"10.0.0.1", "10.0.0.2", "10.0.0.3"}),
        ("", {"127.0.0.1"}),
        (" nameserver\nxnameserver 10.0.0.1\n", {"127.0.0.1"}),
    ],
)
def test_resolv_conf_is_read(text: str, addresses: set[str]) -> None:
    """The first three servers count, without zones and comments; without any it is loopback, as for the C library."""
    assert nameservers.parse(text) == addresses


def test_resolv_conf_is_read_again(tmp_path: Path) -> None:
    """A new file counts within a second, and a file that is gone means loopback."""
    now = 100.0
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 10.0.0.1\n")
    known = nameservers.NameServers(str(path), lambda: now)
    assert "10.0.0.1" in known
    assert "::ffff:10.0.0.1" in known
    (tmp_path / "new").write_text("nameserver 10.0.0.22\n")
    (tmp_path / "new").rename(path)
    assert "10.0.0.22" not in known
    now += 1
    assert "10.0.0.22" in known
    path.unlink()
    now += 1
    assert "10.0.0.22" not in known
    assert "127.0.0.1" in known
