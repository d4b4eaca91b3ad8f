"""Quotas hold in a real gate: refusals with their reason, windows that turn, one app's never another's."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from outgate.testing.running import RunningGate
from support import peers
from support.clocked import Clocked, refused
from support.driven import Driven

PATHS = pytest.mark.parametrize("path", ["direct", "relay"])


@pytest.fixture
def peer() -> Iterator[peers.Peer]:
    """A peer that echoes."""
    with peers.echo() as found:
        yield found


# --- what is counted in calls -----------------------------------------------------------------------------------------


@PATHS
def test_connects_above_the_quota_are_refused_until_the_next_minute(path: str, peer: peers.Peer) -> None:
    """The refusal is an OSError with EDQUOT that names quota, use and reset; with the next minute there are more."""
    open_one = f"s = socket.create_connection(('127.0.0.1', {peer.port}))"
    with Clocked(path, connect_minute=2) as gate, Driven(gate) as program:
        program.do(open_one)
        program.do(open_one)
        why = refused(program, open_one)
        assert (why.name, why.errno, why.code) == ("QuotaExceeded", errno.EDQUOT, "quota-exceeded")
        assert (why.quota, why.retry_after) == ("connect.minute", 30.0)
        assert "quota connect.minute of app 'default' is used up: 2 of 2; it resets in 30 s; wait until then" in str(
            why
        )
        gate.go(29)
        refused(program, open_one)
        gate.go(2)
        program.do(open_one)
        assert gate.used("connect.minute") == 1


@PATHS
def test_a_socket_is_created_once(path: str, peer: peers.Peer) -> None:
    """A socket that is dialled again after a refused connection counts as one that is put to use, and two connects."""
    with (
        peers.refusing() as (_, closed),
        Clocked(path, create_minute=5, connect_minute=5) as gate,
        Driven(gate) as program,
    ):
        program.do("s = socket.socket()")
        assert (gate.used("create.minute"), gate.used("connect.minute")) == (0, 0), "taking one is silent"
        assert refused(program, f"s.connect(('127.0.0.1', {closed}))").errno == errno.ECONNREFUSED
        program.do(f"s.connect(('127.0.0.1', {peer.port}))")
        assert (gate.used("create.minute"), gate.used("connect.minute")) == (1, 2)
        program.do("u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
        program.do("u.sendto(b'x', ('127.0.0.1', 9)); u.sendto(b'y', ('127.0.0.1', 9))")
        assert (gate.used("create.minute"), gate.used("connect.minute")) == (2, 2)


@PATHS
def test_binds_are_counted(path: str, peer: peers.Peer) -> None:
    """A bound socket counts as a bind: when it is bound where the gate binds it, else when it is connected."""
    with Clocked(path, bind_minute=1) as gate, Driven(gate) as program:
        program.do("s = socket.socket(); s.bind(('', 0))")
        if path == "direct":
            program.do(f"s.connect(('127.0.0.1', {peer.port}))")
        assert gate.used("bind.minute") == 1
        program.do("t = socket.socket()")
        if path == "direct":
            program.do("t.bind(('', 0))")
        why = refused(program, f"t.connect(('127.0.0.1', {peer.port}))" if path == "direct" else "t.bind(('', 0))")
        assert why.quota == "bind.minute"


def test_look_ups_above_the_quota_are_refused() -> None:
    """A refused look-up is an OSError with EDQUOT, and a gaierror: some programs take nothing else for an answer."""
    with Clocked(look_ups_minute=2) as gate, Driven(gate) as program:
        for _ in range(2):
            program.do("len(socket.getaddrinfo('localhost', 80))")
        why = refused(program, "socket.getaddrinfo('localhost', 80)")
        assert (why.name, why.errno, why.quota) == ("LookUpsExceeded", errno.EDQUOT, "look_ups.minute")
        assert {"QuotaExceeded", "gaierror", "OSError"} <= set(why.kinds)
        assert program.do("len(socket.getaddrinfo('127.0.0.1', 80))"), "a number asks nobody"
        gate.go(60)
        program.do("socket.getaddrinfo('localhost', 80)")


def test_a_quota_that_warns_lets_everything_through(peer: peers.Peer) -> None:
    """With over = "warn" nothing is refused, and the log has one line at the share and one at the limit."""
    open_one = f"s = socket.create_connection(('127.0.0.1', {peer.port}))"
    with Clocked(connect_minute=(5, "warn")) as gate, Driven(gate) as program:
        for number in range(1, 8):
            program.do(open_one)
            gate.go(0)
            assert gate.used("connect.minute") == number
        line = gate.wait_for(event="quota-warning")
        assert (line["quota"], line["used"], line["limit"], line["over"]) == ("connect.minute", 4, 5, "warn")
        assert gate.wait_for(event="quota-exceeded")["used"] == 5
        assert len(gate.log.all(event="quota-warning")) == len(gate.log.all(event="quota-exceeded")) == 1


@PATHS
def test_one_apps_quota_never_touches_another(path: str, peer: peers.Peer, tmp_path: Path) -> None:
    """When one app has used up its connects and its bytes, another's go on as if nothing were."""
    sockets = {name: str(tmp_path / f"{name}.sock") for name in ("one", "other")}
    text = "version = 1\n" + "".join(
        f"[apps.{name}]\nsocket = {json.dumps(sockets[name])}\nbilling = true\ntrusted = true\npath = '{path}'\n"
        "except = ['127.0.0.1']\n"
        "[apps.%s.quotas]\nconnect = { minute = 3 }\nbytes_sent = { minute = 1000, over = 'cut' }\n" % name
        for name in sockets
    )
    with RunningGate(config=text) as gate:
        with Driven(gate, sockets["one"]) as one, Driven(gate, sockets["other"]) as other:
            for program in (one, other):
                program.do(f"s = socket.create_connection(('127.0.0.1', {peer.port}))")
                program.do(f"t = socket.create_connection(('127.0.0.1', {peer.port}))")
            one.do(f"u = socket.create_connection(('127.0.0.1', {peer.port}))")
            assert refused(one, f"socket.create_connection(('127.0.0.1', {peer.port}))").quota == "connect.minute"
            one.do("s.sendall(bytes(1001))")
            assert gate.wait_for(event="end", app="one", how="quota")["port"] == peer.port
            other.do("s.sendall(bytes(900))")
            assert other.do("len(s.recv(900, socket.MSG_WAITALL))") == 900
            assert refused(one, f"socket.create_connection(('127.0.0.1', {peer.port}))").quota == "bytes_sent.minute"
            other.do(f"u = socket.create_connection(('127.0.0.1', {peer.port}))")
        assert gate.log.all(event="end", app="other", how="quota") == []
        assert gate.faults == []


def test_billing_off_refuses_sockets_and_look_ups() -> None:
    """An app without billing gets no socket of either kind and no look-up, and is told what to do."""
    text = f"version = 1\n[apps.blog]\nuid = [{os.getuid()}]\nbilling = false\ntrusted = true\npath = '%s'\n"
    for path in ("direct", "relay"):
        with RunningGate(config=text % path) as gate, Driven(gate) as program:
            for code in (
                "socket.socket()",
                "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
                "socket.getaddrinfo('localhost', 80)",
                "socket.gethostbyname('localhost')",
            ):
                why = refused(program, code)
                assert (why.name, why.errno) == ("BillingDisabled", errno.EACCES)
                assert "app 'blog' has no billing, and sockets are for paid apps" in str(why)
                assert "to permit: billing = true under [apps.blog]" in str(why)
            gate.reload((text % path).replace("false", "true"))
            program.do("socket.socket(); socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
