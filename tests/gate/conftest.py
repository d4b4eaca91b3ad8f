"""A running gate for the tests of one module, and a check that none of them made it fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from outgate.testing.running import RunningGate


@pytest.fixture(scope="module")
def shared_gate() -> Iterator[RunningGate]:
    """One gate with the development policy for all tests of a module; at their end it must have had no fault."""
    with RunningGate() as gate:
        yield gate
        assert gate.faults == []
        assert gate.stop() == 0, gate.stderr()


@pytest.fixture
def gate(shared_gate: RunningGate) -> Iterator[RunningGate]:
    """The module's gate, which this test leaves without faults."""
    before = len(shared_gate.faults)
    yield shared_gate
    assert shared_gate.faults[before:] == []
