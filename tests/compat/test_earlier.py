"""What earlier releases said and kept is understood by this one; what a later one has kept is refused, and stays."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from outgate.core.formats import messages
from outgate.errors import ConfigError
from outgate.gate import wire
from outgate.gate.ledger import spool
from outgate.gate.restart import records

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


def _with_port(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_port(each) for key, each in value.items()}
    return 443 if value == "$port" else value


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("release", RELEASES)
def test_what_a_program_said(release: str, path: str) -> None:
    """Every packet of a program of that release is a request still, and each of its fields says what it said."""
    said = json.loads((HERE / release / f"conversation-{path}.json").read_text())
    packets = [_with_port(message) for channel in said for who, message, _ in channel if who == "program"]
    assert {"hello", "new", "connect", "share", "close"} <= {each["op"] for each in packets}
    for packet in packets:
        again = json.loads(wire.encode(wire.decode(json.dumps(packet).encode())))  # type: ignore[arg-type]
        hello = packet.pop("hello", None)
        assert {key: again[key] for key in packet} == packet
        if hello is not None:
            assert {key: again["hello"][key] for key in hello} == hello
            assert messages.agreed(*hello["v"])


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
