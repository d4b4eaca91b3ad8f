"""Calendar windows: each moment lies in exactly one, and a day is what lies between two midnights of its zone."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.quota.quotas import DAY, MINUTE, PERS
from outgate.core.quota.windows import HIGHEST, window

ZONES = [
    *("UTC", "Europe/Berlin", "America/Los_Angeles", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"),
    *("America/Sao_Paulo", "America/Havana", "America/St_Johns", "Africa/Monrovia", "Asia/Beirut"),
]
zones = st.sampled_from(ZONES).map(ZoneInfo)
#: The years in which zones have changed their clocks most oddly, and some to come.
moments = st.one_of(st.integers(0, 4_000_000_000), st.floats(0, 4_000_000_000))


def at(zone: str, *when: int) -> float:
    """Return the moment of a local date and time."""
    return datetime(*when, tzinfo=ZoneInfo(zone)).timestamp()


@given(moments, zones, st.sampled_from(PERS))
def test_a_moment_lies_in_its_window(moment: float, zone: ZoneInfo, per: str) -> None:
    """A window begins at or before its moment and ends behind it."""
    start, end = window(per, moment, zone)
    assert start <= moment < end


@given(moments, zones, st.sampled_from(PERS))
def test_windows_follow_upon_one_another(moment: float, zone: ZoneInfo, per: str) -> None:
    """First and last second of a window lie in it, the second behind it in the next, the one before in the last."""
    here = window(per, moment, zone)
    assert window(per, here.start, zone) == window(per, here.end - 1, zone) == here
    assert window(per, here.end, zone).start == here.end
    if here.start > 0:
        assert window(per, here.start - 1, zone).end == here.start


@given(moments, zones)
def test_a_day_is_a_day_long(moment: float, zone: ZoneInfo) -> None:
    """No day is shorter than 22 hours or longer than 26, but for the one that Samoa left out before it."""
    start, end = window(DAY, moment, zone)
    assert 22 * 3600 <= end - start <= 26 * 3600


@given(moments, zones)
def test_a_minute_is_sixty_seconds_of_the_epoch(moment: float, zone: ZoneInfo) -> None:
    """A minute begins at a multiple of 60 in every zone."""
    start, end = window(MINUTE, moment, zone)
    assert (start % 60, end - start) == (0, 60)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("Europe/Berlin", (2026, 7, 1), 24),
        ("America/Los_Angeles", (2026, 3, 8), 23),
        ("America/Los_Angeles", (2026, 11, 1), 25),
        ("America/Los_Angeles", (2026, 11, 2), 24),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        # Midnight is skipped: the day begins at 01:00.
        ("America/Sao_Paulo", (2018, 11, 4), 23),
        ("Asia/Beirut", (2024, 3, 31), 23),
        # The clocks go from midnight back to 23:00: the day before is 25 hours long.
        ("America/Sao_Paulo", (2018, 2, 17), 25),
        # From 01:00 back to midnight, which therefore comes twice: the day begins with the first of them.
        ("America/Havana", (2026, 11, 1), 25),
        # From 00:01 back to 23:01 of the day before: what has begun goes on.
        ("America/St_Johns", (2005, 10, 30), 25),
        # There was no 30 December 2011 in Samoa.
        ("Pacific/Apia", (2011, 12, 29), 24),
        ("Pacific/Apia", (2011, 12, 31), 24),
    ],
)
def test_days_with_a_change(zone: str, day: tuple[int, int, int], hours: float) -> None:
    """A day in which the clocks are changed has the hours it has on the wall."""
    noon = at(zone, *day, 12)
    start, end = window(DAY, noon, ZoneInfo(zone))
    assert (end - start) / 3600 == hours
    local = datetime.fromtimestamp(end, ZoneInfo(zone))
    assert (local.hour, local.minute) in ((0, 0), (1, 0))


def test_both_hours_of_a_change_are_of_one_day() -> None:
    """The hour that comes twice in autumn is of the same window both times, and counted once each."""
    berlin = ZoneInfo("Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=berlin).timestamp()
    second = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=berlin).timestamp()
    assert second - first == 3600
    assert window(DAY, first, berlin) == window(DAY, second, berlin)


def test_app_engines_midnight() -> None:
    """A day in America/Los_Angeles begins at 08:00 UTC in winter, at 07:00 in summer."""
    pacific = ZoneInfo("America/Los_Angeles")
    for month, hour in ((1, 8), (7, 7)):
        start = window(DAY, at("UTC", 2026, month, 15, 18), pacific).start
        assert datetime.fromtimestamp(start, UTC) == datetime(2026, month, 15, hour, tzinfo=UTC)


@pytest.mark.parametrize("moment", [-1.0, -1e18, 1e18, float("inf"), float("-inf")])
@pytest.mark.parametrize("per", PERS)
def test_a_clock_beyond_all_calendars(moment: float, per: str) -> None:
    """What no calendar has is held at the nearest moment that it has."""
    nearest = 0 if moment < 0 else HIGHEST
    assert window(per, moment, ZoneInfo("UTC")) == window(per, nearest, ZoneInfo("UTC"))
