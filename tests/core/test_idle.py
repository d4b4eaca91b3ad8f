"""Which idle sockets are taken: only above the share, only as many as needed, the longest idle first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core import idle


@pytest.mark.parametrize(
    ("opened", "limit", "pressed"), [(80, 100, False), (81, 100, True), (0, 1, False), (1, 1, True), (4, 5, False)]
)
def test_pressure_begins_above_its_share(opened: int, limit: int, pressed: bool) -> None:
    """An app is pressed above four fifths of its limit, and not at them."""
    assert idle.is_pressed(opened, limit) is pressed


def test_longest_idle_first_and_no_more_than_needed() -> None:
    """Of what is due the longest idle goes, until the app is at its share."""
    seen = [("a", 200.0), ("b", 500.0), ("c", 119.0), ("d", 300.0)]
    assert idle.to_reclaim(seen, 120, 10, 10) == ["b", "d"]


def test_nothing_where_nothing_presses() -> None:
    """Below its share an app keeps what is idle, for however long."""
    assert idle.to_reclaim([("a", 1e9)], 120, 8, 10) == []


@given(st.lists(st.floats(0, 1000), max_size=30), st.integers(1, 500), st.integers(0, 60), st.integers(1, 60))
def test_only_what_is_due_and_only_the_surplus(seconds: list[float], timeout: int, more: int, limit: int) -> None:
    """Whatever is open, what is taken is due, each once, longer idle than what stays, and no more than the surplus."""
    opened = len(seconds) + more
    taken = idle.to_reclaim(list(enumerate(seconds)), timeout, opened, limit)
    assert len(set(taken)) == len(taken) <= max(0, opened - int(idle.SHARE * limit))
    assert all(seconds[key] >= timeout for key in taken)
    stays = [s for key, s in enumerate(seconds) if key not in taken and s >= timeout]
    if stays and taken:
        assert min(seconds[key] for key in taken) >= max(stays)


@pytest.mark.parametrize(
    ("timeout", "told", "limit"),
    [
        (120, (), 120),
        (120, (120,), 120),
        (60, (120, 60), 120),
        (120, (60,), 120),
        (120, (0,), None),
        (120, (120, 0), None),
    ],
)
def test_who_has_it_must_know(timeout: float, told: tuple[float, ...], limit: float | None) -> None:
    """The longest limit that anybody was told holds, and nothing is taken of who was told none."""
    assert idle.limit_for(timeout, told) == limit


@given(st.none() | st.floats(-1000, 1000), st.floats(0.1, 1000))
def test_the_next_look_is_in_time(nearest: float | None, timeout: float) -> None:
    """A look comes at most a second, or a tenth of the limit, after a socket is due, and never in a tight loop."""
    seconds = idle.next_look(nearest, timeout)
    step = min(1.0, timeout / 10)
    assert 0.01 <= seconds <= max(timeout, 0.02)
    assert seconds <= max(timeout if nearest is None else nearest, 0.0) + max(step, 0.02)


@given(st.floats(1, 1000), st.floats(1, 1000))
def test_what_is_opened_after_a_look_is_not_due_before_the_next(timeout: float, nearest: float) -> None:
    """The next look is never later than a socket could be due that is opened just now."""
    assert idle.next_look(nearest, timeout) <= timeout
