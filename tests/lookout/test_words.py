"""Figures are said as people read them."""

from __future__ import annotations

import pytest

from outgate.lookout.words import clock, counted, quantity, shared, span


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (9_994, "9.99 kB"), (9_996, "10.0 kB"),
     (123_456, "123 kB"), (999_499, "999 kB"), (999_500, "1.00 MB"), (20e9, "20.0 GB"), (3.2e18, "3200 PB")],
)  # fmt: skip
def test_quantities(value: float | None, text: str) -> None:
    """Bytes are said in at most four digits, with the unit that fits."""
    assert quantity(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (7384, "2 h 3 min"),
        (86400, "1 d"),
        (90061, "1 d 1 h"),
        (86401, "1 d"),
    ],
)
def test_span(seconds: float, text: str) -> None:
    """A duration is said in its two largest neighbouring units."""
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 processes"), (1, "1 process"), (2, "2 processes"), (1200, "1,200 processes")]
)
def test_counted(number: int, text: str) -> None:
    """One thing is one, and everything else is several."""
    assert counted(number, "process", "processes") == text
    assert counted(number, "line") == text.replace("processes", "lines").replace("process", "line")


@pytest.mark.parametrize(
    ("answers", "away", "text"),
    [
        (True, None, "redis://state answers"),
        (False, None, "redis://state has not answered yet"),
        (False, 61.0, "redis://state is away for 1 min 1 s: no\\nroute; quotas go on from reservations"),
    ],
)
def test_what_a_fleet_shares(answers: bool, away: float | None, text: str) -> None:
    """It is said whether it answers, since when it does not, and why, in nothing that a terminal obeys."""
    assert shared({"url": "redis://state", "answers": answers, "away": away, "why": "no\nroute"}) == text


@pytest.mark.parametrize(
    ("skew", "text"), [(0.0, ""), (4.9, ""), (-5.0, ""), (12.3, "12 s ahead of"), (-90.0, "1 min 30 s behind")]
)
def test_a_clock(skew: float, text: str) -> None:
    """It is said how far and which way a clock is off, and nothing of one that is right enough."""
    assert clock(skew) == text
