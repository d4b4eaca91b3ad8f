"""A gate that is cut off from a real Redis while others are not, or starts without: what it grants, and says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.test_fleet_quotas import CONFIGURATION, wait_for_use
from outgate.cli.main import main
from outgate.cli.proving import look_for_gate
from outgate.guard import features
from outgate.testing.running import RunningGate
from support import peers
from support.driven import Driven
from support.keyvalue import SERVERS, Cable, KeyValue
from support.scraping import scrape

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not SERVERS, reason="needs Debian's redis-server"),
]

_LIMIT = 200
#: Connects that a gate may grant where it cannot ask.
_RESERVATION = 10


@pytest.fixture
def state() -> Iterator[KeyValue]:
    """A Redis of the test's own."""
    with KeyValue() as made:
        made.settle()
        yield made


def gate_of(name: str, url: str, metrics: Path) -> RunningGate:
    """Return a gate whose programs have connects to share with others."""
    quotas = f"connect = {{ day = {_LIMIT}, minute = 'unlimited' }}"
    words = {"uid": os.getuid(), "quotas": quotas, "path": "direct", "share": _RESERVATION / _LIMIT}
    text = CONFIGURATION.format(name=name, url=url, **words)
    return RunningGate(config=text.replace("[fleet]", f'[gate]\nmetrics = "{metrics}"\n[fleet]'))


def opened(program: Driven, port: int, count: int = 2 * _LIMIT) -> int:
    """Have a program connect so often, or until it is refused, and return how often it was not."""
    program.do("why = ''")
    program.do(
        f"for count in range({count}):\n"
        f"  try: socket.create_connection(('127.0.0.1', {port}), 15).close()\n"
        "  except OSError as e:\n    why = str(e)\n    break\n"
        "else: count += 1"
    )
    return int(program.do("count"))


def test_a_gate_that_is_cut_off_grants_its_reservation_and_says_so(
    state: KeyValue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on with what it holds and ten more, the other one keeps to the limit, and all is counted afterwards."""
    places = {name: tmp_path / name for name in "ab"}
    with (
        peers.echo() as peer,
        Cable(state) as cable,
        gate_of("a", cable.url, places["a"]) as a,
        gate_of("b", state.url, places["b"]) as b,
        Driven(a) as program,
        Driven(b) as neighbour,
    ):
        total = opened(program, peer.port, 20) + opened(neighbour, peer.port, 30)
        assert total == 50
        assert look_for_gate(a.socket).check.state == features.OK
        cable.is_cut = True
        a.wait_for(event="fleet-state-failed")
        granted = opened(program, peer.port)
        assert _RESERVATION <= granted <= _RESERVATION + 2 * 20  # what it held ahead, too
        assert "as far as it is known (fleet.state does not answer" in program.do("why")
        total += granted + opened(neighbour, peer.port)
        assert f"{_LIMIT} of {_LIMIT}" in neighbour.do("why")
        assert _LIMIT - 2 * 20 <= total <= _LIMIT + _RESERVATION

        check = look_for_gate(a.socket).check
        assert (check.state, "quotas go on from reservations" in check.found) == (features.WARN, True)
        assert main(["fleet", "--socket", a.socket]) == 0
        assert "is away for" in capsys.readouterr().out
        up = {name: scrape(str(place)).value("outgate_fleet_state_up") for name, place in places.items()}
        assert up == {"a": 0, "b": 1}
        assert b.log.all(event="fleet-state-failed") == []

        cable.is_cut = False
        a.wait_for(event="fleet-state-back")
        for gate in (a, b):
            wait_for_use(gate, total)
        # What it had given back when nobody heard of it was nobody's meanwhile.
        total += opened(program, peer.port)
        assert _LIMIT <= total <= _LIMIT + _RESERVATION
        for gate in (a, b):
            wait_for_use(gate, total)
        assert a.faults == b.faults == []


def test_a_gate_that_starts_without_redis_serves(state: KeyValue, tmp_path: Path) -> None:
    """Its first opens are granted from the reservation; when Redis comes it goes on with the quota of all."""
    state.kill()
    with peers.echo() as peer, gate_of("a", state.url, tmp_path / "a") as a, Driven(a) as program:
        a.wait_for(event="fleet-state-failed")
        assert opened(program, peer.port) == _RESERVATION
        state.start()
        a.wait_for(event="fleet-state-back")
        assert opened(program, peer.port) == _LIMIT - _RESERVATION
        wait_for_use(a, _LIMIT)
        assert a.faults == []
