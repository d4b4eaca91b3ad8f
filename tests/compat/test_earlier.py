"""What earlier releases said and kept is understood by this one; what a later one has kept is refused, and stays."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from compat.record import CONFIG, KEEPING, KEPT, LEDGER, PRINTED, run_program
from outgate.core.formats import messages
from outgate.errors import ConfigError
from outgate.gate import wire
from outgate.gate.configuration.ledgers import file_url
from outgate.gate.configuration.settings import GateSettings
from outgate.gate.ledger import spool
from outgate.gate.restart import records, starting
from outgate.gate.takeover.state import OLDEST, VERSION, GateState
from outgate.testing.running import RunningGate
from support import peers
from support.commands import outgate
from support.recorded import RecordedGate, RecordedProgram, load, with_port

HERE = Path(__file__).parent
RELEASES = sorted(path.name for path in HERE.iterdir() if (path / "conversation-direct.json").exists())
PATHS = ("direct", "relay")


def test_the_two_before_are_served() -> None:
    """The channel speaks its version and the two before, as far as there were any."""
    assert max(1, messages.VERSION - 2) >= messages.OLDEST


@pytest.mark.parametrize(
    ("oldest", "newest", "version"),
    [(1, 1, 1), (1, 2, 1), (1, 99, 1), (2, 3, 0), (0, 0, 0), (0, 1, 1), (2, 1, 0)],
)
def test_agreed(oldest: int, newest: int, version: int) -> None:
    """Both sides take the newest version that they have in common, and none is 0."""
    assert (messages.VERSION, messages.agreed(oldest, newest)) == (1, version)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("release", RELEASES)
def test_what_a_program_said(release: str, path: str) -> None:
    """Every packet of a program of that release is a request still, and each of its fields says what it said."""
    said = json.loads((HERE / release / f"conversation-{path}.json").read_text())
    packets = [with_port(message, 443) for channel in said for who, message, _ in channel if who == "program"]
    assert {"hello", "new", "connect", "share", "close"} <= {each["op"] for each in packets}
    for packet in packets:
        again = json.loads(wire.encode(wire.decode(json.dumps(packet).encode())))  # type: ignore[arg-type]
        hello = packet.pop("hello", None)
        assert {key: again[key] for key in packet} == packet
        if hello is not None:
            assert {key: again["hello"][key] for key in hello} == hello
            assert messages.agreed(*hello["v"])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("release", RELEASES)
def test_a_program_of_then(release: str, path: str) -> None:
    """A gate of today answers a program of that release with all that the gate of then did, and bills it the same."""
    with peers.echo() as peer, RunningGate(config=CONFIG.format(uid=os.getuid(), path=path)) as gate:
        said = load(HERE / release / f"conversation-{path}.json", peer.port)
        program = RecordedProgram(gate.socket, said)
        assert program.differences == []
        assert program.echoed == [b"one", b"two"]
        end = gate.wait_for(event="end", port=peer.port)
        assert (end["sent"], end["received"], end["path"]) == (6, 6, path)
        assert gate.faults == []


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("release", RELEASES)
def test_a_gate_of_then(release: str, path: str, tmp_path: Path) -> None:
    """A program of today asks a gate of that release nothing that it does not know, and its answers are enough."""
    with peers.echo() as peer:
        said = load(HERE / release / f"conversation-{path}.json", peer.port)
        with RecordedGate(str(tmp_path / "gate.sock"), said, peer.port) as gate:
            printed = run_program(str(tmp_path / "gate.sock"), peer.port)
            assert gate.unknown == []
        assert printed == PRINTED
        assert peer.accepted().wait().received == 6


@pytest.mark.parametrize("release", RELEASES)
def test_what_a_gate_kept(release: str) -> None:
    """What a gate of that release wrote down of an open connection is read, with its bytes."""
    past = records.replay((HERE / release / "leases").read_bytes())
    assert (past.problem, past.damaged, past.newer) == ("", 0, 0)
    assert [each.known.app for each in past.left.values()] == ["blog"]


def test_connections_of_a_newer_gate() -> None:
    """A file of a newer gate is told from a damaged one, whatever else is in it."""
    text = b'["gate",2,{"form":"of which nothing is known"}]'
    past = records.replay(b"%08x %b\n" % (zlib.crc32(text), text))
    assert (past.newer, past.problem) == (2, "it is of version 2, not 1")
    assert records.replay(b"%08x %b\n" % (zlib.crc32(text) ^ 1, text)).newer == 0


def test_a_spool_of_a_newer_gate(tmp_path: Path) -> None:
    """A newer gate's spool is refused by name and stays as it is; one that is damaged is no newer one."""
    path = tmp_path / "ledger-later.spool"
    path.write_text(json.dumps({"version": 99, "form": "of which nothing is known"}))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"ledger-later\.spool is of version 99, newer than this outgate"):
        spool.load(str(path))
    assert path.read_bytes() == before
    path.write_text('{"version": "99"}')
    with pytest.raises(ValueError, match="is damaged"):
        spool.load(str(path))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("release", RELEASES)
def test_what_a_gate_handed_over(release: str, path: str) -> None:
    """What a gate of that release handed to the next one is read by this one, every value of it."""
    text = (HERE / release / f"takeover-{path}.json").read_text()
    state = msgspec.json.decode(text, type=GateState)
    assert OLDEST <= state.version <= VERSION
    _assert_holds(json.loads(text), json.loads(msgspec.json.encode(state)))
    (app,) = state.apps.values()
    assert app.sent == sum(sum(lease.noted[:1]) for lease in state.leases) + sum(
        each.noted[0] for each in state.datagrams
    )
    assert len(state.loans) == 1
    assert [each.sent for each in state.datagrams] == [4]


def _assert_holds(then: Any, now: Any) -> None:
    """See that every value is there again; a tuple that has grown begins as it was."""
    if isinstance(then, dict):
        for key, value in then.items():
            _assert_holds(value, now[key])
    elif isinstance(then, list):
        for before, after in zip(then, now, strict=False):
            _assert_holds(before, after)
        assert len(now) >= len(then)
    else:
        assert then == now


def _lay_out(release: str, state: Path, socket: str) -> None:
    """Put what a gate of that release has kept where one of today will find it."""
    state.mkdir()
    for name in ("ledger", "quotas"):
        with contextlib.closing(sqlite3.connect(state / f"{name}.sqlite")) as db:
            db.executescript((HERE / release / f"{name}.sql").read_text())
    text = (HERE / release / "ledger.spool").read_text()
    (state / "ledger-then.spool").write_text(text.replace(LEDGER, file_url(str(state / "ledger.sqlite"))))
    leases = Path(starting.path_of(GateSettings(socket, 0o600, "-", state=str(state))))
    leases.touch(0o600)
    leases.write_bytes((HERE / release / "leases").read_bytes())


def _sum(database: Path, question: str) -> int:
    with contextlib.closing(sqlite3.connect(database)) as db:
        (found,) = db.execute(question).fetchone()
        return int(found)


@pytest.mark.parametrize("release", RELEASES)
def test_a_ledger_of_then(release: str, tmp_path: Path) -> None:
    """The bill that a release's own ``usage`` made of its ledger is the bill that today's makes of it."""
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db:
        db.executescript((HERE / release / "ledger.sql").read_text())
    said = outgate("usage", "--json", "--by", "app,destination", "--ledger", tmp_path / "ledger.sqlite")
    then, now = json.loads((HERE / release / "usage.json").read_text()), json.loads(said.stdout)
    assert _part(now, then) == then
    assert then["total"]["sent"] == KEPT - 6


def _part(now: Any, then: Any) -> Any:
    """Return what there was then of what there is now: a release may add keys."""
    if isinstance(then, dict):
        return {key: _part(now[key], value) for key, value in then.items()}
    if isinstance(then, list):
        return [*map(_part, now, then), *now[len(then) :]]
    return now


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_everything_that_was_kept(release: str, tmp_path: Path) -> None:
    """A gate of today goes on with ledger, spool, quotas and connections of that release: no byte is lost or twice."""
    gate = RunningGate(config="")
    state = Path(gate.folder, "state")
    gate.write_config(KEEPING.format(uid=os.getuid(), folder=state))
    _lay_out(release, state, gate.socket)
    used = "SELECT sum(used) FROM windows WHERE resource = 'bytes_sent' AND per = 'day'"
    before = _sum(state / "quotas.sqlite", used)
    assert before >= KEPT  # a gate that dies has counted what it had reserved
    with peers.echo() as peer, gate:
        gate.wait_for(event="ledger-spool-taken")
        ended = gate.wait_for(event="end")
        assert (ended["sent"], ended["received"], ended["incomplete"]) == (1000, 1000, True)
        run_program(gate.socket, peer.port)
        gate.wait_for(event="end", port=peer.port)
        gate.stop()
        assert gate.faults == []
        booked = "SELECT (SELECT sum(sent) FROM drafts) + (SELECT ifnull(sum(sent), 0) FROM windows)"
        assert _sum(state / "ledger.sqlite", booked) == KEPT + 6
        assert _sum(state / "quotas.sqlite", used) == before + 6
        assert list(state.glob("*.spool*")) == []
