"""Idle sockets are taken from an app that is near its limit: the longest idle first, never with unread bytes."""

from __future__ import annotations

import os
from dataclasses import replace
from types import MappingProxyType

import pytest

from gate.test_meter_close import Program
from outgate.gate.configuration import config
from outgate.testing.running import ThreadGate
from support import peers

CODE = """
class Told(Exception): pass
others = [socket.create_connection(s.getpeername()) for _ in range(int(told()) - 1)]
for one in (s, *others):
    one.sendall(b"x")
    one.recv(1)
say(opened=1 + len(others))
told()
ends = []
for one in (s, *others):
    one.settimeout(0.0)
    try:
        ends.append("end" if one.recv(1) == b"" else "bytes")
    except BlockingIOError:
        ends.append("open")
say(ends=ends)
told()
again = []
for one, end in zip((s, *others), ends):
    if end == "end":
        try:
            one.connect(s.getsockname())
        except OSError as e:
            again.append((type(e).__name__, e.errno))
say(again=again)
"""


def gate_with(path: str, open_sockets: int) -> ThreadGate:
    """Return a gate whose app has a small limit, and for which a socket is idle at once."""
    settings = config.default_settings(os.getuid(), dev=True, path=path)
    app = replace(settings.apps["default"], open_sockets=open_sockets, idle_timeout=0)
    return ThreadGate(replace(settings, apps=MappingProxyType({"default": app})))


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_taken_under_pressure(path: str) -> None:
    """Above its share the app loses idle sockets: an end of file, then the reason; down to the share and no further."""
    with gate_with(path, 5) as gate, peers.echo() as peer, Program(gate, peer, CODE) as program:  # type: ignore[arg-type]
        gate.call(gate.gate._idle.stop)  # it looks when it is told to
        program.process.stdin.write("5\n")  # type: ignore[union-attr]
        program.process.stdin.flush()  # type: ignore[union-attr]
        assert program.said() == {"opened": 5}
        gate.call(gate.gate._idle.begin)
        line = gate.log.wait_for(event="end", how="idle")
        assert (line["sent"], line["received"]) == (1, 1)
        gate.stats()
        program.tell()
        ends = program.said()["ends"]
        assert sorted(ends) == ["end", "open", "open", "open", "open"]
        program.tell()
        again = program.said()["again"]
        if path == "direct":
            assert again == [["LeaseReclaimed", 32]]


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_not_below_the_share(path: str) -> None:
    """At its share an app keeps everything, idle or not."""
    with gate_with(path, 5) as gate, peers.echo() as peer, Program(gate, peer, CODE) as program:  # type: ignore[arg-type]
        program.process.stdin.write("4\n")  # type: ignore[union-attr]
        program.process.stdin.flush()  # type: ignore[union-attr]
        assert program.said() == {"opened": 4}
        gate.call(gate.gate._idle.begin)
        gate.stats()
        program.tell()
        assert program.said()["ends"] == ["open"] * 4
        program.tell()
        assert program.said()["again"] == []


UNREAD = """
say(opened=1)
told()
import select
select.select([s], [], [])
say(waiting=True)
told()
say(read=len(s.recv(100)))
"""


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_never_with_unread_bytes(path: str) -> None:
    """A socket in which bytes wait for the program is not taken, however long it is idle."""
    with gate_with(path, 1) as gate, peers.silent() as peer, Program(gate, peer, UNREAD) as program:  # type: ignore[arg-type]
        gate.call(gate.gate._idle.stop)  # it looks when it is told to
        assert program.said() == {"opened": 1}
        peer.accepted().send(b"waiting")
        program.tell()
        assert program.said() == {"waiting": True}
        gate.call(gate.gate._idle.begin)
        gate.stats()
        program.tell()
        assert program.said() == {"read": 7}
