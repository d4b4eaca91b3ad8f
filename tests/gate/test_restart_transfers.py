"""A gate that is killed under a thousand transfers: none breaks, and no byte of a socket still open is missing."""

from __future__ import annotations

import pytest

from outgate.testing.running import RunningGate
from support.echoes import Busy, Echoes

#: A user whose gate may not take duplicates from another user's programs: those give their sockets back themselves.
NOBODY = 65534


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("uid", [None, pytest.param(NOBODY, marks=pytest.mark.integration)], ids=["fetched", "given"])
def test_gate_killed_under_a_thousand_transfers(uid: int | None) -> None:
    """Both ends of 1,000 transfers, and the log, agree to the byte on each of them, though the gate died among them."""
    with RunningGate(uid=uid) as gate, Echoes() as echoes:
        programs = [Busy(gate, echoes.port, 500) for _ in range(2)]
        try:
            gate.kill()
            for program in programs:
                program.lap()
            gate.start()
            returned = gate.wait_for(event="returned")
            assert (returned.get("leases"), returned.get("orphans")) == ((0, 1000) if uid else (1000, 0))
            for program in programs:
                program.lap()
            counts = sorted(each for program in programs for each in program.finish())
        finally:
            for program in programs:
                program.kill()
        assert sorted((sent, received) for received, sent in echoes.wait_for(1000)) == counts
        assert echoes.broken == []
        gate.wait_for(event="end", count=1000)
        ends = gate.log.all(event="end")
        assert sorted((end["sent"], end["received"]) for end in ends) == counts
        assert len({end["lease"] for end in ends}) == 1000
        assert {(end["how"], end.get("incomplete")) for end in ends} == {("closed", None)}
        gate.wait_for_counts(open=0, ended=1000)
        assert gate.faults == []
