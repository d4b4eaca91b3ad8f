"""A fetch is its program's: held to its rights and quotas, seen and ended like its sockets, gone when it is gone."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Union

import msgspec
import pytest

from outgate.core.formats import fetchline, messages
from outgate.gate import wire
from outgate.gate.fetching import fetches, threads
from outgate.lookout import ask
from outgate.testing.running import RunningGate, ThreadGate
from support import peers, web
from support.clocked import Clocked
from support.driven import Driven, Refused
from support.raw import RawChannel

pytestmark = pytest.mark.slow

MIB = 2**20


@contextlib.contextmanager
def fetching(gate: RunningGate | ThreadGate) -> Iterator[Driven]:
    """A program that fetches."""
    with Driven(gate) as driven:
        driven.do("import threading, outgate; from outgate import urlfetch")
        yield driven


def refused(program: Driven, code: str) -> Refused:
    """Return what a line raises."""
    with pytest.raises(Refused) as caught:
        program.do(code)
    return caught.value


def begun(program: Driven, url: str, **options: Any) -> None:
    """Have the program begin to fetch a URL; what comes of it is at its ``end()``."""
    program.begin(f"urlfetch.fetch({url!r}, **{options!r})")


def ended(program: Driven) -> Refused:
    """Return what the fetch that was begun raises."""
    with pytest.raises(Refused) as caught:
        program.end()
    return caught.value


# --- rights -----------------------------------------------------------------------------------------------------------


def test_the_log_has_a_connection_of_a_fetch_like_any_other() -> None:
    """Its decision and its end, joined by the lease, with the program, the bytes and how they went."""
    with web.server({"/": web.ok(b"x" * 1000)}) as server, RunningGate() as gate, fetching(gate) as program:
        program.do(f"urlfetch.fetch({server.url()!r})")
        decision = gate.wait_for(event="decision", port=server.peer.port)
        end = gate.wait_for(event="end", lease=decision["lease"])
        assert (decision["verdict"], decision["path"], decision["program"]) == ("allow", "relay", "-c")
        connection = server.peer.accepted()
        assert (end["sent"], end["received"], end["how"]) == (connection.received, connection.sent, "closed")
        counts = gate.app()
        assert (counts["connects"], counts["ended"], counts["open"], counts["held"]) == (1, 1, 0, 0)


def test_a_denied_redirect_is_in_the_log() -> None:
    """The policy is asked at every connection, and the log has what it said."""
    with (
        web.server({"/": web.redirect("http://10.0.0.1:8080/")}) as server,
        RunningGate() as gate,
        fetching(gate) as program,
    ):
        assert refused(program, f"urlfetch.fetch({server.url()!r})").code == "policy-denied"
        line = gate.wait_for(event="decision", verdict="deny")
        assert (line["host"], line["port"], line["transport"]) == ("10.0.0.1", 8080, "tcp")


def test_names() -> None:
    """A name is looked up by the gate, under the rules for names; any of its addresses may be the one that works."""
    names = {"a.example": ["127.0.0.2", "127.0.0.1"], "evil.example": ["127.0.0.1"]}
    gate = RunningGate(names=names, deny=["evil.example"])
    with web.server({"/": web.ok(b"hello")}) as server, gate, fetching(gate) as program:
        assert program.do(f"urlfetch.fetch({server.url(host='a.example')!r}).content.decode()") == "hello"
        assert server.requests[0]["Host"] == f"a.example:{server.peer.port}"
        why = refused(program, f"urlfetch.fetch({server.url(host='evil.example')!r})")
        assert (why.name, why.code) == ("LookUpDenied", "policy-name-denied")
        assert len(server.requests) == 1


def test_narrowing() -> None:
    """What a program has given up it cannot fetch either."""
    with web.server({"/": web.ok(b"hello")}) as server, RunningGate() as gate, fetching(gate) as program:
        program.do(f"outgate.narrow(deny=['127.0.0.1:{server.peer.port}'])")
        assert refused(program, f"urlfetch.fetch({server.url()!r})").code == "narrowed"
        assert server.requests == []


def test_billing() -> None:
    """An app without it fetches nothing, as it opens nothing."""
    config = f"version = 1\n[apps.free]\nuid = [{os.getuid()}]\nbilling = false\ntrusted = true\n"
    with RunningGate(config=config) as gate, fetching(gate) as program:
        assert refused(program, "urlfetch.fetch('http://127.0.0.1:8080/')").name == "BillingDisabled"


def held(go_on: threading.Event) -> web.Answer:
    """Return an answer that comes when it may."""

    def wait(connection: peers.Connection, request: web.Request) -> None:
        go_on.wait(peers.PATIENCE)
        connection.send(web.ok(b"hello"))

    return wait


def test_draining() -> None:
    """A gate that is being drained opens nothing new, and what is being fetched goes on."""
    go_on = threading.Event()
    with (
        web.server({"/": held(go_on)}) as server,
        RunningGate() as gate,
        fetching(gate) as program,
        fetching(gate) as other,
    ):
        begun(program, server.url(), deadline=30)
        server.peer.accepted()
        ask.request(gate.socket, {"op": messages.DRAIN, "on": True})
        assert refused(other, f"urlfetch.fetch({server.url()!r})").code == "draining"
        go_on.set()
        assert "Answer 200" in program.end()


# --- quotas -----------------------------------------------------------------------------------------------------------


def test_connects_are_counted() -> None:
    """Each connection of a fetch is one, a redirect's as well; above the quota there is none."""
    with (
        web.server({"/": web.redirect("/there"), "/there": web.ok(b"")}) as server,
        Clocked(connect_minute=3) as gate,
        fetching(gate) as program,
    ):
        program.do(f"urlfetch.fetch({server.url()!r})")
        why = refused(program, f"urlfetch.fetch({server.url()!r})")
        assert (why.name, why.errno, why.quota) == ("QuotaExceeded", errno.EDQUOT, "connect.minute")
        assert len(server.requests) == 3


def test_bytes_that_run_out_in_the_midst() -> None:
    """Where the quota cuts, the fetch ends with the quota as its reason, and not a byte more has come."""
    with (
        web.server({"/": web.ok(bytes(8 * MIB))}) as server,
        Clocked(bytes_received_day=(MIB, "cut")) as gate,
        fetching(gate) as program,
    ):
        why = refused(program, f"urlfetch.fetch({server.url()!r}, deadline=30)")
        assert (why.name, why.quota) == ("QuotaExceeded", "bytes_received.day")
        assert gate.wait_for(event="end", port=server.peer.port)["how"] == "quota"
        assert gate.used("bytes_received.day") == MIB


def test_bytes_that_are_delayed() -> None:
    """Where it delays, the fetch waits for the next window, within its deadline."""
    with (
        web.server({"/": web.ok(bytes(2 * MIB))}) as server,
        Clocked(bytes_received_minute=MIB) as gate,
        fetching(gate) as program,
    ):
        begun(program, server.url(), deadline=60)
        gate.wait_for_use("bytes_received.minute", lambda used: used == MIB)
        gate.go(60)
        gate.wait_for_use("bytes_received.minute", lambda used: used == MIB)
        gate.go(60)
        assert f"{2 * MIB} bytes" in program.end()


# --- ends -------------------------------------------------------------------------------------------------------------


def test_outgate_kill() -> None:
    """A connection of a fetch is listed with its program, and ends by name; the program is told who did it."""
    with web.server({"/": web.hang}) as server, RunningGate() as gate, fetching(gate) as program:
        begun(program, server.url(), deadline=30)
        server.peer.accepted()
        lease = gate.wait_for(event="decision", port=server.peer.port)["lease"]
        (row,) = ask.request(gate.socket, {"op": messages.LIST})["answer"]["sockets"]
        assert (row["lease"], row["path"], row["program"], row["port"]) == (lease, "relay", "-c", server.peer.port)
        assert ask.request(gate.socket, {"op": messages.KILL, "lease": lease})["answer"]["ok"]
        why = ended(program)
        assert (why.name, why.code) == ("ConnectionCut", "cut")
        assert "the operator" in str(why)


def test_a_program_that_is_killed() -> None:
    """Its fetches end, and their connections."""
    with web.server({"/": web.hang}) as server, RunningGate() as gate:
        with contextlib.suppress(BrokenPipeError), fetching(gate) as program:
            begun(program, server.url(), deadline=60)
            connection = server.peer.accepted()
            program.kill()
            connection.wait()
            gate.wait_for(event="end", port=server.peer.port)
        gate.wait_for_counts(open=0, held=0, processes=0)
        assert gate.faults == []


def test_a_gate_that_is_killed() -> None:
    """The program hears that it has ended; the next one fetches as the first did."""
    answers = {"/": web.hang, "/there": web.ok(b"hello")}
    with web.server(answers) as server, RunningGate() as gate, fetching(gate) as program:
        begun(program, server.url(), deadline=30)
        server.peer.accepted()
        gate.kill()
        why = ended(program)
        assert (why.name, why.errno) == ("GateUnavailable", errno.ENETDOWN)
        assert "it ended during the fetch" in str(why)
        assert refused(program, f"urlfetch.fetch({server.url()!r})").name == "GateUnavailable"
        gate.start()
        assert program.do(f"urlfetch.fetch({server.url('/there')!r}).content.decode()") == "hello"


def test_a_gate_that_stops() -> None:
    """It ends what is being fetched, and stops."""
    with web.server({"/": web.hang}) as server, RunningGate() as gate, fetching(gate) as program:
        begun(program, server.url(), deadline=30)
        server.peer.accepted()
        assert gate.stop() == 0
        assert ended(program).name in ("GateUnavailable", "ConnectionCut")


@pytest.mark.slow
def test_a_fetch_is_not_idle() -> None:
    """Where idle sockets are always taken, one whose fetch waits for its answer is in use."""
    config = f"""
        version = 1
        [apps.blog]
        uid = [{os.getuid()}]
        billing = true
        trusted = true
        allow = ["*"]
        except = ["loopback"]
        idle_reclaim = "always"
        idle_timeout = 1
    """
    with web.server({"/": web.hang}) as server, RunningGate(config=config) as gate, fetching(gate) as program:
        assert refused(program, f"urlfetch.fetch({server.url()!r}, deadline=3)").name == "DeadlineExceededError"
        assert gate.wait_for(event="end", port=server.peer.port)["how"] == "closed"


# --- many -------------------------------------------------------------------------------------------------------------

FIFTY = """
done, lock = [], threading.Lock()
def one(url):
    try:
        said = urlfetch.fetch(url, deadline=30).content.decode()
    except OSError as e:
        said = type(e).__name__
    with lock:
        done.append(said)
def all_of(url, count):
    threads = [threading.Thread(target=one, args=(url,)) for _ in range(count)]
    for each in threads: each.start()
    for each in threads: each.join()
    return sorted(done)
"""


def test_fifty_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many are at work at one time; the others wait, and all come to their end."""
    monkeypatch.setattr(threads, "AT_ONCE", 5)
    lock = threading.Lock()
    here, most, full = [0], [0], threading.Event()

    def count(connection: peers.Connection, request: web.Request) -> None:
        with lock:
            here[0] += 1
            most[0] = max(most[0], here[0])
            if here[0] == 5:
                full.set()
        full.wait(peers.PATIENCE)
        with lock:
            here[0] -= 1
        connection.send(web.ok(b"hello"))

    with web.server({"/": count}) as server, ThreadGate() as gate, fetching(gate) as program:
        program.do(FIFTY)
        assert program.do(f"all_of({server.url()!r}, 50)") == ["hello"] * 50
        assert most == [5]
        assert gate.faults == []


HURRIED = """
import random
def hurried(url, seed):
    moments = random.Random(seed)
    for _ in range(20):
        try:
            urlfetch.fetch(url, deadline=moments.uniform(0.0005, 0.02))
        except urlfetch.DeadlineExceededError:
            pass
def all_hurried(url):
    threads = [threading.Thread(target=hurried, args=(url, seed)) for seed in range(8)]
    for each in threads: each.start()
    for each in threads: each.join()
"""


def test_deadlines_that_come_at_any_moment() -> None:
    """Whatever a fetch is at when its time is over, also between gate and thread: no socket of it is left."""
    with web.server({"/": web.hang}) as server, ThreadGate() as gate, fetching(gate) as program:
        program.do(HURRIED)
        program.do(f"all_hurried({server.url()!r})")
        gate.wait_for_counts(open=0, held=0)
        for connection in server.peer.connections:
            connection.wait()
        assert gate.faults == []


def test_more_lines_than_an_app_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused, and when another has ended there is room again."""
    monkeypatch.setattr(fetches, "MOST", 1)
    go_on = threading.Event()
    with (
        web.server({"/": held(go_on)}) as server,
        ThreadGate() as gate,
        fetching(gate) as program,
        fetching(gate) as other,
    ):
        begun(program, server.url(), deadline=30)
        server.peer.accepted()
        why = refused(other, f"urlfetch.fetch({server.url()!r})")
        assert (why.name, why.code) == ("TooManyLeases", "fetch-too-many")
        go_on.set()
        assert "Answer 200" in program.end()
        app = gate.gate.registry.apps["default"]
        while gate.call(lambda: gate.gate.fetches.used(app)):
            time.sleep(0.005)  # nobody tells of a count
        assert other.do(f"urlfetch.fetch({server.url()!r}).content.decode()") == "hello"


# --- gates without it, and programs that are none ---------------------------------------------------------------------


def test_a_gate_without_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install; its sockets work."""
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "outgate.gate.fetching.web", raising=False)
    monkeypatch.delitem(sys.modules, "outgate.gate.fetching.failing", raising=False)
    with peers.echo() as peer, ThreadGate() as gate, fetching(gate) as program:
        why = refused(program, "urlfetch.fetch('http://127.0.0.1:8080/')")
        assert (why.name, why.code) == ("URLFetchError", "fetch-missing")
        assert "pip install 'outgate[urlfetch]'" in str(why)
        program.do(f"socket.create_connection(('127.0.0.1', {peer.port})).close()")
    monkeypatch.undo()
    importlib.import_module("outgate.gate.fetching.web")


def test_a_gate_starts_without_it() -> None:
    """Nothing that only fetches need is loaded with a gate, nor with the client."""
    code = "import sys, outgate, outgate.client.install, outgate.gate.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"httpx", "httpcore", "anyio", "h11", "outgate.urlfetch"} & set(done.stdout.split())


def test_an_older_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not know the request is named as what it is."""
    known = [each for each in wire.Request.__args__ if each is not wire.Fetch]
    monkeypatch.setattr(wire, "_decoder", msgspec.json.Decoder(Union[tuple(known)]))
    with ThreadGate() as gate, fetching(gate) as program:
        why = refused(program, "urlfetch.fetch('http://127.0.0.1:8080/')")
        assert (why.name, why.code) == ("GateUnavailable", "fetch-unknown")
        assert "upgrade the gate" in str(why)


def line_of(channel: RawChannel) -> socket.socket:
    """Return a line, as a client has it."""
    assert "error" not in channel.ask("fetch")
    sock = channel.fds.pop()
    sock.settimeout(peers.PATIENCE)
    return sock


def text(**fields: Any) -> bytes:
    """Return the frame of a text."""
    return fetchline.frame(fetchline.TEXT, json.dumps(fields).encode())


ASKED = {"url": "http://127.0.0.1:8080/", "method": "GET", "headers": [], "size": 0}


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\xff\xff\xff\xff",
        fetchline.frame(fetchline.BYTES, b"{}"),
        fetchline.frame(fetchline.TEXT, b"\xff\xfe"),
        fetchline.frame(fetchline.TEXT, b"[" * 60_000),
        text(),
        text(**{**ASKED, "size": -1}),
        text(**{**ASKED, "size": "1"}),
        text(**{**ASKED, "deadline": 0}),
        text(**{**ASKED, "deadline": "soon"}),
        text(**{**ASKED, "headers": {"a": "b"}}),
        text(**{**ASKED, "headers": [["a"]]}),
        text(**ASKED)[:-1],
    ],
)
def test_what_is_no_text(said: bytes) -> None:
    """Whatever stands on a line in place of what a client writes: it ends, and nothing else does."""
    with ThreadGate() as gate:
        with RawChannel(gate.socket) as channel, line_of(channel) as line:
            line.sendall(said)
            line.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                assert line.recv(100) == b""
            assert "error" not in channel.ask("stat")
        assert gate.faults == []


def test_who_speaks_out_of_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that nobody has asked for end the fetch."""
    with web.server({"/": web.hang}) as server, ThreadGate() as gate, RawChannel(gate.socket) as channel:
        with line_of(channel) as line:
            line.sendall(text(**{**ASKED, "url": server.url(), "deadline": 60}))
            connection = server.peer.accepted()
            line.sendall(b"more")
            connection.wait()
        assert gate.faults == []


def test_who_does_not_read() -> None:
    """A program that reads nothing of its answer holds back the server, and its deadline comes all the same."""
    # More than the kernel may take in for a connection (tcp_rmem, tcp_wmem: 32 MiB and 4 where they are large).
    with web.server({"/": web.ok(bytes(96 * MIB))}) as server, ThreadGate() as gate, RawChannel(gate.socket) as channel:
        with line_of(channel) as line:
            line.sendall(text(**{**ASKED, "url": server.url(), "deadline": 0.5}))
            connection = server.peer.accepted().wait()
            assert connection.sent < 64 * MIB
            gate.wait_for(event="end", port=server.peer.port)
        assert gate.faults == []


def test_fds_on_a_line() -> None:
    """They are closed, or refused by the kernel, and end the fetch at most."""
    with ThreadGate() as gate, RawChannel(gate.socket) as channel, line_of(channel) as line:
        with contextlib.suppress(OSError), socket.socket() as other:
            socket.send_fds(line, [text(**ASKED)], [other.fileno()])
        line.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while line.recv(1000):
                pass
        assert gate.faults == []
