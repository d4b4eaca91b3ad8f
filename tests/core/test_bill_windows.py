"""Windows divide every calendar: days of 23 and 25 hours, half-hour zones, and reports read from the fewest sums."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.bill.windows import DAY, HOUR, WINDOW, cover, moment, periods, slices, start_of

YEAR = range(
    int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2027, 1, 1, tzinfo=UTC).timestamp()), WINDOW
)
aligned = st.integers(YEAR.start // WINDOW, YEAR.stop // WINDOW).map(lambda number: number * WINDOW)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham"]
zones = st.sampled_from([zoneinfo.ZoneInfo(name) for name in ZONES])


def test_every_zone_is_a_whole_number_of_windows_from_utc() -> None:
    """No zone that tzdata knows has, from now to 2037, an offset that a window does not divide."""
    moments = [datetime(year, month, 1, tzinfo=UTC) for year in range(2026, 2038) for month in (1, 4, 7, 10)]
    odd = {
        name
        for name in zoneinfo.available_timezones()
        for when in moments
        if when.astimezone(zoneinfo.ZoneInfo(name)).utcoffset() % timedelta(seconds=WINDOW)  # type: ignore[operator]
    }
    assert odd == set()


@given(aligned, aligned)
def test_a_cover_is_the_stretch_itself(one: int, other: int) -> None:
    """Spans follow one another without a hole, each aligned with its unit, and days only stand between hours."""
    since, until = sorted((one, other))
    spans = cover(since, until)
    assert [span.since for span in spans] == [since, *(span.until for span in spans[:-1])] if spans else since == until
    assert all(span.since % span.unit == span.until % span.unit == 0 and span.since < span.until for span in spans)
    assert len(spans) <= 5
    if until - since >= 2 * DAY:
        assert max(span.unit for span in spans) == DAY


def test_a_cover_of_a_half_window_is_refused() -> None:
    """A stretch that begins within a window cannot be read, and is refused with the moment."""
    with pytest.raises(ValueError, match="1970-01-01T00:00:01"):
        cover(1, DAY)


@given(aligned, st.integers(0, 20 * 96), zones, st.sampled_from(["hour", "day", "month", ""]))
def test_periods_divide_the_stretch(since: int, count: int, zone: zoneinfo.ZoneInfo, by: str) -> None:
    """The periods of any calendar follow one another from the first moment to the last, each named once."""
    until = since + count * WINDOW
    found = periods(since, until, by, zone)
    assert [period.since for period in found] == [since, *(period.until for period in found[:-1])][: len(found)]
    assert (found[-1].until if found else since) == until
    assert len({period.name for period in found}) == len(found)
    for period in found:
        local = datetime.fromtimestamp(period.since, zone)
        last = datetime.fromtimestamp(period.until - 1, zone)
        if by == "day":
            assert local.date() == last.date() == datetime.fromisoformat(period.name).date()
        elif by == "hour":
            assert (local.date(), local.hour, local.utcoffset()) == (last.date(), last.hour, last.utcoffset())
        elif by == "month":
            assert f"{local:%Y-%m}" == f"{last:%Y-%m}" == period.name


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_days_have_the_hours_that_they_have(day: str, hours: int) -> None:
    """In Berlin the day that clocks go forward has 23 hours, the day they go back 25, and no two have one name."""
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    since = moment(day, zone)
    until = int(datetime.fromisoformat(day).replace(tzinfo=zone, hour=0).timestamp()) + hours * HOUR
    assert [period.name for period in periods(since, until, "day", zone)] == [day]
    assert len(periods(since, until, "hour", zone)) == hours


def test_a_day_that_begins_at_one_o_clock() -> None:
    """Where clocks jump over midnight (Cairo in spring) the day begins with the jump, and nothing is lost before it."""
    zone = zoneinfo.ZoneInfo("Africa/Cairo")
    since, until = moment("2026-04-23", zone), moment("2026-04-26", zone)
    days = periods(since, until, "day", zone)
    assert [(day.name, (day.until - day.since) // HOUR) for day in days] == [
        ("2026-04-23", 24),
        ("2026-04-24", 23),
        ("2026-04-25", 24),
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11", 1793491200),
        ("2026-11-01", 1793491200),
        ("2026-11-01T00:15", 1793492100),
        ("2026-11-01T01:00+01:00", 1793491200),
    ],
)
def test_times_are_read(text: str, seconds: int) -> None:
    """A month, a day, a time and a time with an offset are each a moment."""
    assert moment(text, UTC) == seconds


@pytest.mark.parametrize(
    ("text", "why"), [("yesterday", "is not a time"), ("2026-11-01T00:07", "within a window"), ("2026-13", "is not")]
)
def test_other_times_are_refused(text: str, why: str) -> None:
    """What is no time, or no beginning of a window, is refused with what to write."""
    with pytest.raises(ValueError, match=why):
        moment(text, UTC)


@given(aligned, st.integers(1, 200 * 96), zones, st.sampled_from(["day", ""]))
def test_slices_with_tiers_begin_with_the_month(since: int, count: int, zone: zoneinfo.ZoneInfo, by: str) -> None:
    """Each slice lies in one month and one period, and what of the first month came before is read for its tiers."""
    until = since + count * WINDOW
    found = slices(since, until, by, zone, tiered=True)
    ends = [slice.until for slice in found]
    assert [slice.since for slice in found[1:]] == ends[:-1]
    assert ends[-1] == until
    local = datetime.fromtimestamp(found[0].since, zone)
    assert local.day == 1
    assert local.hour == 0
    for slice in found:
        assert f"{datetime.fromtimestamp(slice.since, zone):%Y-%m}" == slice.month
        assert (slice.period is None) == (slice.since < since)


@given(st.floats(0, 4e9))
def test_a_moment_lies_in_its_window(seconds: float) -> None:
    """A window begins no later than what lies in it, and ends after it."""
    assert start_of(seconds) <= seconds < start_of(seconds) + WINDOW
