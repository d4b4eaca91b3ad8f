"""Bytes are added up in a bounded number of rows, and none is lost on the way."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from outgate.core.bill import tally
from outgate.core.bill.labels import OTHER_LABELS
from outgate.core.bill.steady import Steady
from outgate.core.bill.tally import OTHER, Destination, Tally, merge
from outgate.core.bill.windows import WINDOW


def to(number: int) -> Destination:
    """Return one of many destinations."""
    return Destination("tcp", f"host{number}.example", 443, "93.184.215.14")


def sums(rows: tally.Rows) -> Counter[tuple[int, str]]:
    """Return the bytes sent of every window and app."""
    found: Counter[tuple[int, str]] = Counter()
    for window, of in rows.items():
        for (app, _, _), counts in of.items():
            found[window, app] += counts[0]
    return found


adds = st.tuples(
    st.integers(0, 4 * WINDOW), st.sampled_from("ab"), st.integers(0, 3), st.integers(0, 3), st.integers(1, 99)
)


@given(st.lists(st.one_of(adds, st.none())))
def test_what_is_taken_is_what_was_added(given: list[tuple[int, str, int, int, int] | None]) -> None:
    """However it is taken in between, what was added to each window and app comes out, once."""
    counted, expected, out = Tally(), Counter(), {}
    for each in given:
        if each is None:
            merge(out, counted.take())
            continue
        at, app, label, number, sent = each
        counted.add(at, (app, f"job={label}" if label else "", to(number)), sent, 0, 0, 0)
        expected[at // WINDOW * WINDOW, app] += sent
    merge(out, counted.take())
    assert sums(out) == expected
    assert counted.size == 0


def test_too_many_destinations_become_one() -> None:
    """Above the limit new destinations of the app in that window are booked as others, those known stay themselves."""
    counted = Tally()
    for number in range(tally.MOST_DESTINATIONS + 50):
        counted.add(0, ("scan", "", to(number)), 1, 0, 0, 0)
    counted.add(0, ("scan", "", to(0)), 1, 0, 0, 0)
    counted.add(0, ("quiet", "", to(10**6)), 1, 0, 0, 0)
    rows = counted.take()[0]
    assert rows["scan", "", OTHER][0] == 50
    assert rows["scan", "", to(0)][0] == 2
    assert rows["quiet", "", to(10**6)][0] == 1
    counted.add(0, ("scan", "", to(10**7)), 1, 0, 0, 0)  # the same window, after it was taken
    assert list(counted.take()[0]) == [("scan", "", OTHER)]


def test_too_many_labels_become_one() -> None:
    """Above the limit new sets of labels are booked as others; no label is a set that always fits."""
    counted = Tally()
    for number in range(tally.MOST_LABELS + 7):
        counted.add(0, ("ci", f"job={number}", to(1)), 1, 0, 0, 0)
    counted.add(0, ("ci", "", to(1)), 1, 0, 0, 0)
    rows = counted.take()[0]
    assert rows["ci", OTHER_LABELS, to(1)][0] == 7
    assert rows["ci", "", to(1)][0] == 1


def test_pairs_are_bounded_too() -> None:
    """Labels times destinations of one app end at a limit of their own."""
    counted = Tally()
    for label in range(100):
        for number in range(100):
            counted.add(0, ("ci", f"job={label}", to(number)), 1, 0, 0, 0)
    rows = counted.take()[0]
    assert len(rows) <= tally.MOST_OF_APP + 2
    assert sum(counts[0] for counts in rows.values()) == 10_000


def test_what_waits_for_the_store_is_bounded() -> None:
    """While the store is away for long, only apps and windows make new rows."""
    counted = Tally()
    counted.waiting = tally.MOST_ROWS
    for number in range(100):
        counted.add(0, (f"app{number % 2}", f"job={number}", to(number)), 1, 0, 0, 0)
    assert counted.size == 2


def test_a_step_forward_is_believed_after_a_window() -> None:
    """A clock that is set ahead seals nothing until it has stayed so for a window's length."""
    clock = Steady()
    assert clock.see(10_000, 0) == 9900
    assert clock.see(10_900, 900) == 10_800
    assert clock.see(1_000_000, 1000) == 10_800  # set ahead
    assert clock.see(1_000_500, 1500) == 10_800 + 0 * WINDOW
    assert clock.see(1_000_800, 1800) <= 11_700
    assert clock.see(1_001_900, 2900) == 1_001_700


def test_a_step_back_is_believed_at_once() -> None:
    """A clock that is set back says no more than it shows."""
    clock = Steady()
    clock.see(1_000_000, 0)
    assert clock.see(500_000, 1) == 499_500


@given(st.lists(st.tuples(st.integers(1, 2000), st.integers(-5000, 5000)), max_size=60))
def test_nothing_is_sealed_that_is_still_open(steps: list[tuple[int, int]]) -> None:
    """Whatever is done to the clock, no window is sealed before the clock has passed its end."""
    clock, wall, monotonic = Steady(), 10**6, 0
    for passed, step in steps:
        monotonic += passed
        wall += passed + step
        assert clock.see(wall, monotonic) <= wall
