"""Threads of the gate that take turns with its loop: for a while, and for good."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from outgate.gate import turns


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    """An interpreter that takes turns as it does by itself."""
    before = sys.getswitchinterval()
    monkeypatch.setattr(turns, "_is_for_good", False)
    sys.setswitchinterval(0.005)
    yield sys.getswitchinterval()
    sys.setswitchinterval(before)


def test_turns_for_a_while(usual: float) -> None:
    """Behind the block it is as it was."""
    with turns.taking_turns():
        assert sys.getswitchinterval() == turns.SWITCH
    assert sys.getswitchinterval() == usual


def test_turns_for_good_begin_meanwhile() -> None:
    """The first fetch while a configuration is read: what it has asked for outlives the reading."""
    with turns.taking_turns():
        turns.take_turns()
    assert sys.getswitchinterval() == turns.SWITCH
