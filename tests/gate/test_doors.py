"""The doors of a gate: foreign programs by SOCKS5 and HTTP CONNECT, under the same rules as any program."""

from __future__ import annotations

import gc
import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outgate.cli import proving
from outgate.cli.main import main
from outgate.core.doors.socks import SocksTalk
from outgate.gate.configuration import config
from outgate.gate.doors import handshake
from outgate.gate.doors.handshake import Handshake
from outgate.gate.registry import Lease
from outgate.gate.relay.bridge import Bridge
from outgate.guard import features
from outgate.testing.running import RunningGate, ThreadGate
from support import doors, peers
from support.commands import serving
from support.doors import Doors, answer, greeting, packed, read, request
from support.scraping import Scrape, page
from support.upgrades import Echo
from support.waiting import wait_until

NAMES = {"echo.test": ["127.0.0.1"], "both.test": ["::1", "127.0.0.1"], "private.test": ["10.0.0.1"]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """One gate with doors for all tests of the module; at their end it must have had no fault."""
    with doors.running(tmp_path_factory.mktemp("doors"), names=NAMES) as made:
        yield made
        made.gate.wait_for_counts("blog", open=0, held=0, processes=0)
        made.gate.wait_for_counts("shop", open=0, held=0, processes=0)
        text = json.dumps(made.gate.log.all())
        assert not any(token in text for token in made.tokens.values())


@pytest.fixture
def door(shared: Doors) -> Iterator[Doors]:
    """The module's gate, which this test leaves without faults."""
    before = len(shared.gate.faults)
    yield shared
    assert shared.gate.faults[before:] == []


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "echo.test", "both.test"])
@pytest.mark.parametrize("kind", ["socks5", "http"])
def test_a_connection_is_opened_metered_and_logged(door: Doors, host: str, kind: str) -> None:
    """A connection by either door leads there, counts every byte, and has its two lines in the log."""
    with peers.echo() as peer:
        if kind == "socks5":
            sock = door.connect(host, peer.port)
        else:
            sock, said = door.tunnel(host, peer.port)
            assert said == "HTTP/1.1 200 Connection established\r\n\r\n"
        with sock:
            sock.sendall(b"x" * 100_000)
            assert read(sock, 100_000) == b"x" * 100_000
            rows = [row for row in sockets(door) if row["port"] == peer.port]
            assert [(row["app"], row["path"], row["host"]) for row in rows] == [("blog", "relay", host)]
            assert [(row["pid"], row["holders"], row["sent"]) for row in rows] == [(0, [], 100_000)]
        line = door.gate.wait_for(event="end", port=peer.port, sent=100_000, received=100_000)
        assert (line["app"], line["pid"], line["host"], line["how"]) == ("blog", 0, host, "closed")
        assert line["program"] == f"{kind} door from 127.0.0.1"
        (decision,) = [each for each in door.gate.log.all(event="decision") if each["lease"] == line["lease"]]
        assert (decision["verdict"], decision["path"], decision["address"]) == ("allow", "relay", "127.0.0.1")


def sockets(door: Doors) -> list[dict[str, Any]]:
    """Return what ``outgate ps`` shows."""
    from outgate.core.formats import messages
    from outgate.lookout import ask

    answer = ask.request(door.gate.socket, {"op": messages.LIST, "after": -1, "app": "", "holders": True})["answer"]
    rows: list[dict[str, Any]] = answer["sockets"]
    return rows


def test_the_reply_comes_first(door: Doors) -> None:
    """A server that speaks first is heard after the reply of the handshake, and all of it."""
    with peers.source(b"s" * 300_000) as peer:
        with door.connect("127.0.0.1", peer.port) as sock:
            assert len(read(sock, 300_001)) == 300_000
        sock, said = door.tunnel("127.0.0.1", peer.port)
        with sock:
            assert said.startswith("HTTP/1.1 200 ")
            assert len(read(sock, 300_001)) == 300_000


@pytest.mark.parametrize("host", ["127.0.0.1", "both.test"])
@pytest.mark.parametrize("size", [0, 5, 4096, 300_000])
def test_what_is_said_all_at_once_is_read_to_its_end(door: Doors, host: str, size: int) -> None:
    """A client that says everything at once, and that this is all, is answered as any other; nothing is overlooked."""
    with peers.echo() as peer, door.dial("socks5") as sock:
        said = greeting("blog", door.tokens["blog"]) + request(1, host, peer.port)
        sock.sendall(said + b"e" * size)
        sock.shutdown(socket.SHUT_WR)
        assert read(sock, 4) == b"\x05\x02\x01\x00"
        answer(sock)
        assert len(read(sock, size + 1)) == size


@pytest.mark.parametrize("pieces", ["whole", "single"])
def test_what_is_sent_behind_the_request_arrives(door: Doors, pieces: str) -> None:
    """Everything that a client says at once, or byte by byte, is read as it is, and what follows is the server's."""
    with peers.echo() as peer, door.dial("socks5") as sock:
        said = greeting("blog", door.tokens["blog"]) + request(1, "127.0.0.1", peer.port) + b"early"
        for piece in [said] if pieces == "whole" else [said[at : at + 1] for at in range(len(said))]:
            sock.sendall(piece)
        assert read(sock, 4) == b"\x05\x02\x01\x00"
        answer(sock)
        assert read(sock, 5) == b"early"
        sock.sendall(b"late")
        assert read(sock, 4) == b"late"


def test_either_side_may_end_its_sending_first(door: Doors) -> None:
    """An end of file goes across either way, and the other way goes on."""
    with peers.echo() as peer, door.connect("127.0.0.1", peer.port) as sock:
        sock.sendall(b"question")
        sock.shutdown(socket.SHUT_WR)
        assert read(sock, 9) == b"question"
    server = socket.create_server(("127.0.0.1", 0))
    with server, door.connect("127.0.0.1", server.getsockname()[1]) as sock:
        there, _ = server.accept()
        with there:
            there.sendall(b"answer")
            there.shutdown(socket.SHUT_WR)
            assert read(sock, 7) == b"answer"
            sock.sendall(b"thanks")
            sock.shutdown(socket.SHUT_WR)
            assert read(there, 7) == b"thanks"


def test_a_reset_is_a_reset_on_the_other_side(door: Doors) -> None:
    """A reset is carried over both ways, and never looks like a good end."""
    abort = struct.pack("ii", 1, 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with door.connect("127.0.0.1", port) as sock:
            there, _ = server.accept()
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abort)
            there.close()
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        sock = door.connect("127.0.0.1", port)
        there, _ = server.accept()
        with there:
            there.settimeout(doors.PATIENCE)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abort)
            sock.close()
            with pytest.raises(ConnectionResetError):
                there.recv(1)


def test_by_ipv6(door: Doors) -> None:
    """A client may come by IPv6 and go by IPv4, and the other way round."""
    with peers.echo() as four, door.greet(family=socket.AF_INET6) as sock:
        sock.sendall(request(1, "127.0.0.1", four.port) + b"over")
        answer(sock)
        assert read(sock, 4) == b"over"
    with peers.echo("::1") as six, door.connect("::1", six.port) as sock:
        sock.sendall(b"back")
        assert read(sock, 4) == b"back"


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("app", "host", "code", "status", "error"),
    [
        ("blog", "10.0.0.1", 2, 403, "http_request_denied"),
        ("blog", "private.test", 2, 403, "http_request_denied"),
        ("shop", "127.0.0.1", 2, 403, "http_request_denied"),
        ("blog", "missing.test", 4, 502, "dns_error"),
        ("blog", "127.0.0.1", 5, 502, "connection_refused"),
    ],
)
def test_a_refusal_says_why(door: Doors, app: str, host: str, code: int, status: int, error: str) -> None:
    """What the policy, the resolver or the network says no to has its number, and by HTTP its sentence."""
    since = len(door.gate.log)
    with peers.refusing() as (_, port):
        with pytest.raises(ConnectionError) as raised:
            door.connect(host, port, app)
        assert raised.value.args == (code,)
        sock, said = door.tunnel(host, port, app)
        sock.close()
    assert said.startswith(f"HTTP/1.1 {status} ")
    assert f"Proxy-Status: outgate; error={error}; details=" in said
    body = said.partition("\r\n\r\n")[2]
    assert host in body
    if status == 403:
        assert ("to permit: " in body) == (app == "blog"), "the other one is told only the kind of rule"
        assert door.gate.wait_for(event="decision", app=app, verdict="deny", since=since)["path"] == "relay"


@pytest.mark.parametrize(
    "login", [("blog", "wrong" * 8), ("shop", ""), ("nobody", ""), ("local", "wrong" * 8), ("", "")]
)
def test_whoever_is_no_app_gets_nothing(door: Doors, login: tuple[str, str]) -> None:
    """A wrong token, another app's, an app that has none: one answer to all, and a line without what was said."""
    name, token = login[0], login[1] or door.tokens["blog"]
    since = len(door.gate.log)
    with door.dial("socks5") as sock:
        sock.sendall(greeting(name, token))
        assert read(sock, 5) == b"\x05\x02\x01\x01"
    line = door.gate.wait_for(event="wrong-token", since=since)
    assert line["door"] == "socks5"
    assert line["peer"].startswith("127.0.0.1:")
    assert door.gate.app("blog")["open"] == 0


def test_bind_is_refused(door: Doors) -> None:
    """Sockets are outbound only: BIND is a command that is not supported."""
    with door.greet() as sock:
        sock.sendall(request(2, "127.0.0.1", 80))
        with pytest.raises(ConnectionError, match="7"):
            answer(sock)


def test_a_refused_client_reads_its_answer(door: Doors) -> None:
    """What a client has sent behind a request that is refused does not take the answer from it."""
    with door.dial("http") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 30_000)
        said = read(sock, 100_000)
        assert said.startswith(b"HTTP/1.1 405 ")
        assert b"socks5h://" in said


def test_quotas_and_limits_hold(tmp_path: Path) -> None:
    """Connects are charged, the limit of open sockets holds, and both say so."""
    keys = "open_sockets = 2\nquotas = { connect = { minute = 3 } }"
    with peers.echo() as peer, doors.running(tmp_path, keys) as made:
        one, two = made.connect("127.0.0.1", peer.port), made.connect("127.0.0.1", peer.port)
        sock, said = made.tunnel("127.0.0.1", peer.port)
        sock.close()
        assert said.startswith("HTTP/1.1 503 ")
        assert "error=connection_limit_reached" in said
        one.close()
        made.gate.wait_for_counts("blog", open=1)
        made.connect("127.0.0.1", peer.port).close()
        made.gate.wait_for_counts("blog", open=1)
        sock, said = made.tunnel("127.0.0.1", peer.port)
        sock.close()
        assert said.startswith("HTTP/1.1 429 ")
        assert "\r\nRetry-After: " in said
        two.close()
        assert made.gate.faults == []


def test_an_operator_kills_it(door: Doors, capsys: pytest.CaptureFixture[str]) -> None:
    """``outgate kill`` resets a door's connection as any other, and the log says so."""
    with peers.echo() as peer, door.connect("127.0.0.1", peer.port) as sock:
        (row,) = [row for row in sockets(door) if row["port"] == peer.port]
        assert main(["kill", "--socket", door.gate.socket, row["lease"]]) == 0
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert door.gate.wait_for(event="end", lease=row["lease"])["how"] == "killed"


def test_a_drained_gate_opens_nothing(tmp_path: Path) -> None:
    """While the gate drains, what is open goes on, and what is asked for anew is told that it drains."""
    with peers.echo() as peer, doors.running(tmp_path) as made, made.connect("127.0.0.1", peer.port) as sock:
        assert main(["drain", "--socket", made.gate.socket, "--timeout", "0", "--json"]) == 1
        other, said = made.tunnel("127.0.0.1", peer.port)
        other.close()
        assert said.startswith("HTTP/1.1 503 ")
        sock.sendall(b"on")
        assert read(sock, 2) == b"on"
        sock.close()
        made.gate.wait_for(event="stop")


def test_a_new_policy_cuts_what_it_denies(tmp_path: Path) -> None:
    """A reload that takes an exception away resets the connection that was open by it."""
    with peers.echo() as peer, doors.running(tmp_path) as made, made.connect("127.0.0.1", peer.port) as sock:
        text = doors.configuration(tmp_path).replace('except = ["127.0.0.1", "::1"]', "")
        assert made.gate.reload(text)["ok"]
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert made.gate.wait_for(event="overruled", how="cut")["host"] == "127.0.0.1"


def test_nothing_of_a_connection_waits_for_the_garbage_collector(tmp_path: Path) -> None:
    """A handshake is gone while what it led to lasts, and of that nothing is left when it has ended."""
    file = tmp_path / "outgate.toml"
    file.write_text(doors.configuration(tmp_path))
    with ThreadGate(config.load(str(file))) as gate, peers.echo() as peer:
        made = of(gate, tmp_path)
        gc.collect()
        before = {id(each) for each in _alive(Bridge, Handshake, Lease, SocksTalk)}  # of other tests' gates

        def alive(*kinds: type) -> int:
            return sum(id(each) not in before for each in _alive(*kinds))

        gc.disable()
        try:
            with made.connect("127.0.0.1", peer.port) as sock:
                sock.sendall(b"x")
                assert read(sock, 1) == b"x"
                assert alive(Handshake, SocksTalk) == 0
                assert alive(Bridge, Lease) == 2
            gate.wait_for_counts("blog", open=0, held=0)
            wait_until(lambda: not alive(Bridge, Lease))
        finally:
            gc.enable()


def _alive(*kinds: type) -> list[object]:
    return [each for each in gc.get_objects() if isinstance(each, kinds)]


# --- clients that mean no good ----------------------------------------------------------------------------------------


@pytest.fixture
def inner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadGate]:
    """A gate on a thread, with short patience, and few handshakes at one time."""
    monkeypatch.setattr(handshake, "TALK_LIMIT", 0.3)
    monkeypatch.setattr(handshake, "LEAVE_LIMIT", 0.3)
    file = tmp_path / "outgate.toml"
    file.write_text(doors.configuration(tmp_path))
    with ThreadGate(config.load(str(file))) as gate:
        gate.gate.doors._most = 4
        yield gate
        assert gate.faults == []


def of(gate: ThreadGate, tmp_path: Path) -> Doors:
    """Return the doors of a gate on a thread."""
    return Doors(gate, {"blog": (tmp_path / "blog.token").read_text().strip()})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "said"),
    [("socks5", b""), ("socks5", b"\x05"), ("socks5", b"\x05\x01\x02\x01\x04bl"), ("http", b""), ("http", b"CONNECT ")],
)
def test_a_slow_client_is_let_go(inner: ThreadGate, tmp_path: Path, kind: str, said: bytes) -> None:
    """Who does not come to an end with its request is closed when its time is up, whatever it has said so far."""
    with of(inner, tmp_path).dial(kind) as sock:
        sock.sendall(said)
        assert read(sock, 100) == (b"\x05\x02" if len(said) > 2 and kind == "socks5" else b"")


def test_a_client_that_does_not_leave_is_let_go(inner: ThreadGate, tmp_path: Path) -> None:
    """Who stays after a refusal, and sends on, is closed."""
    made = of(inner, tmp_path)
    with made.dial("http") as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            sock.sendall(b"x" * 100_000_000)


def test_many_that_only_connect_keep_nobody_out(inner: ThreadGate, tmp_path: Path) -> None:
    """With too many in the middle of their handshake the oldest goes, and who means well gets through."""
    made = of(inner, tmp_path)
    with peers.echo() as peer:
        idle = [made.dial("socks5") for _ in range(12)]
        with made.connect("127.0.0.1", peer.port) as sock:
            sock.sendall(b"through")
            assert read(sock, 7) == b"through"
        for each in idle:
            assert each.recv(1) == b""
            each.close()
        (door,) = [each for each in made.all() if each["address"].startswith("127") and each["evicted"]]
        assert door["evicted"] >= 8


def test_what_is_counted_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Metrics have each door's connections, and refusals by their reason; status and doctor who may use it."""
    text = doors.configuration(tmp_path).replace("[gate]", f'[gate]\nmetrics = "{tmp_path}/metrics"')
    text = text.replace('"[::1]:0"', '"0.0.0.0:0"').replace("[gate]", "[gate]\ndoors_exposed = true")
    with RunningGate(config=text) as gate, peers.echo() as peer:
        made = Doors(gate, {app: (tmp_path / f"{app}.token").read_text().strip() for app in ("blog", "shop")})
        made.connect("127.0.0.1", peer.port).close()
        for app, said in (("blog", b"wrong"), ("shop", b"wrong")):
            with made.dial("socks5") as sock:
                sock.sendall(greeting(app, said.decode() * 8))
                read(sock, 9)
        with pytest.raises(ConnectionError):
            made.connect("10.0.0.1", 80, "shop")
        made.tunnel("10.0.0.1", 80)[0].close()
        with made.dial("http") as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            read(sock, 9999)
        seen = Scrape(page(gate.wait_for(event="metrics")["address"]))
        near, other, tunnel = ({"door": each["kind"], "address": each["address"]} for each in made.all())
        assert [seen.value("outgate_door_listening", **each) for each in (near, other, tunnel)] == [1, 1, 1]
        assert [seen.value("outgate_door_connections_total", **each) for each in (near, other, tunnel)] == [4, 0, 2]
        reasons = ("wrong-token", "no-request", "policy-denied")
        found = [
            [seen.value("outgate_door_refusals_total", **each, reason=why) for why in reasons]
            for each in (near, tunnel)
        ]
        assert found == [[2, None, 1], [None, 1, 1]]
        assert main(["status", "--socket", gate.socket]) == 0
        shown = [line.split(None, 1)[1] for line in capsys.readouterr().out.splitlines() if line.startswith("door")]
        assert shown == [
            f"socks5 at {near['address']} (loopback), for apps blog, shop: 4 connections, 2 refused",
            f"socks5 at {other['address']} (NOT loopback), for apps blog, shop: 0 connections, 0 refused",
            f"http at {tunnel['address']} (loopback), for apps blog, shop: 2 connections, 1 refused",
        ]
        checks = list(proving.of_doors(proving.look_for_gate(gate.socket)))
        assert [(each.name, each.state) for each in checks] == [
            *(("door", features.OK), ("door", features.WARN), ("door", features.OK)),
        ]
        assert checks[1].found == shown[1].removesuffix(": 0 connections, 0 refused")


def test_a_client_that_goes_while_it_is_dialled_for(door: Doors) -> None:
    """A client that resets its connection in the midst of a dial leaves nothing behind."""
    with peers.hanging() as (host, port):
        with door.greet() as sock:
            sock.sendall(request(1, host, port))
            door.gate.wait_for_counts("blog", open=1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        door.gate.wait_for_counts("blog", open=0, held=0)


def test_a_dial_that_nobody_answers_ends(inner: ThreadGate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dial has a limit of time, and the client is told."""
    monkeypatch.setattr(handshake, "OPEN_LIMIT", 0.3)
    with peers.hanging() as (host, port):
        with pytest.raises(ConnectionError) as raised:
            of(inner, tmp_path).connect(host, port)
        assert raised.value.args == (6,)
        inner.wait_for_counts("blog", open=0, held=0)


def test_a_client_that_never_reads_holds_back_only_its_own(door: Doors) -> None:
    """A client that reads nothing stops its own server, and another one goes on."""
    flood, peer = peers.source(bytes(50_000_000)), peers.echo()
    with flood, peer, door.connect("127.0.0.1", flood.port), door.connect("127.0.0.1", peer.port) as sock:
        for _ in range(20):
            sock.sendall(b"ping")
            assert read(sock, 4) == b"ping"


# --- datagrams --------------------------------------------------------------------------------------------------------


class Datagrams:
    """A client of UDP ASSOCIATE."""

    def __init__(self, door: Doors, app: str = "blog") -> None:
        self.control = door.greet(app)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(doors.PATIENCE)
        self.control.sendall(request(3, "0.0.0.0", 0))
        self.relay = answer(self.control)

    def __enter__(self) -> Datagrams:
        return self

    def __exit__(self, *_: object) -> None:
        self.control.close()
        self.sock.close()

    def send(self, host: str, port: int, payload: bytes, fragment: int = 0) -> None:
        """Send a datagram by way of the door."""
        self.sock.sendto(bytes((0, 0, fragment)) + packed(host, port) + payload, self.relay)

    def receive(self) -> tuple[bytes, bytes]:
        """Return header and payload of the next that comes."""
        data, source = self.sock.recvfrom(70_000)
        assert source == self.relay
        return data[:10], data[10:]


@pytest.mark.parametrize("host", ["127.0.0.1", "echo.test"])
def test_datagrams_are_carried_metered_and_logged(door: Doors, host: str) -> None:
    """Datagrams to a number or a name come back with the address that they come from, and every one is counted."""
    with Echo() as echo, Datagrams(door) as client:
        for size in (0, 1, 1400, 60_000):
            client.send(host, echo.port, b"d" * size) if size else client.send(host, echo.port, b"-")
            head, payload = client.receive()
            assert head == b"\0\0\0" + packed("127.0.0.1", echo.port)
            assert payload == (b"d" * size or b"-")
        client.control.close()
        line = door.gate.wait_for(event="end", transport="udp", port=echo.port)
        assert (line["app"], line["sent"], line["received"]) == ("blog", 61_402, 61_402)
        assert (line["datagrams_sent"], line["host"]) == (4, host)
    door.gate.wait_for_counts("blog", open=0, held=0, processes=0)


def test_datagrams_that_are_not_carried(door: Doors) -> None:
    """What is denied, a fragment, or no datagram of SOCKS goes nowhere, and what follows is carried."""
    since = len(door.gate.log)
    with Echo() as echo, Datagrams(door) as client:
        client.send("10.0.0.1", 53, b"denied")
        client.send("127.0.0.1", echo.port, b"fragment", fragment=1)
        client.sock.sendto(b"garbage", client.relay)
        client.sock.sendto(b"", client.relay)
        client.send("missing.test", echo.port, b"no such name")
        client.send("127.0.0.1", echo.port, b"good")
        assert client.receive()[1] == b"good"
    assert door.gate.wait_for(event="decision", verdict="deny", since=since)["transport"] == "udp"


def test_datagrams_from_elsewhere_are_dropped(door: Doors) -> None:
    """Once a client has sent, nobody else may send by its way, nor get what comes back."""
    with Echo() as echo, Datagrams(door) as client, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        client.send("127.0.0.1", echo.port, b"mine")
        assert client.receive()[1] == b"mine"
        other.bind(("127.0.0.1", 0))
        other.sendto(b"\0\0\0" + packed("127.0.0.1", echo.port) + b"theirs", client.relay)
        client.send("127.0.0.1", echo.port, b"again")
        assert client.receive()[1] == b"again"
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(100)


def test_a_way_for_datagrams_ends_with_its_sockets(door: Doors) -> None:
    """What an operator kills ends the client's connection too, which is how it learns of that."""
    with Echo() as echo, Datagrams(door) as client:
        client.send("127.0.0.1", echo.port, b"here")
        client.receive()
        (row,) = [row for row in sockets(door) if row["port"] == echo.port]
        assert main(["kill", "--socket", door.gate.socket, row["lease"]]) == 0
        assert client.control.recv(1) == b""


# --- another gate -----------------------------------------------------------------------------------------------------


def test_another_gate_takes_the_doors_over(tmp_path: Path) -> None:
    """Across a takeover a connection by a door goes on, the door is where it was, and bytes are counted once."""
    file = tmp_path / "outgate.toml"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = doors.configuration(tmp_path)
    file.write_text(text.replace('"127.0.0.1:0", "[::1]:0"', f'"127.0.0.1:{port}"').replace("http_connect", "#"))
    options = ("--config", str(file))
    with peers.echo() as peer, serving(tmp_path, *options) as first:
        made = Doors(first, {"blog": (tmp_path / "blog.token").read_text().strip()})  # type: ignore[arg-type]
        until = time.monotonic() + doors.PATIENCE
        while not any(door["listening"] for door in made.all()) and time.monotonic() < until:
            time.sleep(0.01)  # nobody tells: a door is opened as soon as its port is free
        with made.connect("127.0.0.1", peer.port) as sock, made.dial("socks5") as waiting:
            sock.sendall(b"before")
            assert read(sock, 6) == b"before"
            with serving(tmp_path, *options, "--takeover") as second:
                assert first.process.wait(20) == 0
                assert waiting.recv(1) == b""
                made.gate = second  # type: ignore[assignment]
                sock.sendall(b"after")
                assert read(sock, 5) == b"after"
                with made.connect("127.0.0.1", peer.port) as new:
                    new.sendall(b"new")
                    assert read(new, 3) == b"new"
                sock.close()
                second.wait_for_counts("blog", open=0, held=0)
                second.stop()
            ends = [line for line in second.log() if line["event"] == "end"]
            assert sorted((line["sent"], line["received"]) for line in ends) == [(3, 3), (11, 11)]


def test_the_end_of_the_gate_is_a_reset(tmp_path: Path) -> None:
    """A gate that stops resets what it carries, and its doors are closed."""
    with peers.echo() as peer, doors.running(tmp_path) as made:
        address = made.address("socks5")
        with made.connect("127.0.0.1", peer.port) as sock, Datagrams(made) as client:
            assert made.gate.stop() == 0
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
            assert client.control.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


def test_a_door_that_is_taken_is_retried(tmp_path: Path) -> None:
    """Where another process listens at the address the gate serves without that door, says so, and opens it later."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = doors.configuration(tmp_path).replace('"127.0.0.1:0", "[::1]:0"', f'"127.0.0.1:{port}"')
        from outgate.testing.running import RunningGate

        with RunningGate(config=text) as gate:
            assert "in use" in gate.wait_for(event="door-failed")["reason"]
            (door,) = [each for each in gate.stats()["doors"] if each["kind"] == "socks5"]
            assert (door["listening"], door["address"]) == (False, f"127.0.0.1:{port}")
            other.close()
            assert gate.wait_for(event="door", address=f"127.0.0.1:{port}")["door"] == "socks5"
