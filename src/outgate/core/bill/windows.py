"""Divide time into the windows that are sealed, and a calendar's days and hours into windows.

A window is 15 minutes, counted from the epoch. That is the longest that divides the offset of every zone in force
anywhere (Nepal has +05:45, Eucla +08:45, Chatham +12:45), so that a day or an hour of any zone is a whole number of
windows, on days of 23 and 25 hours too. A shorter one would only make more rows: what is not sealed yet is kept as a
draft that is written every few seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Final, NamedTuple

__all__ = ["DAY", "HOUR", "WINDOW", "Period", "Slice", "Span", "cover", "moment", "periods", "slices", "start_of"]

#: Seconds of a window, and of the two sums that are kept of them: hours and days of UTC.
WINDOW: Final = 900
HOUR: Final = 3600
DAY: Final = 86400


class Span(NamedTuple):
    """A stretch of time that is a whole number of windows, hours or days, to be read where their sums are kept."""

    unit: int
    since: int
    until: int


class Period(NamedTuple):
    """One line of a report's calendar: seconds since the epoch, the end excluded, and what people call it."""

    since: int
    until: int
    name: str


class Slice(NamedTuple):
    """A stretch of time whose usage is of one line of the calendar, and of one month.

    :ivar month: which; "" where that does not matter.
    :ivar period: the line; ``None``: what was used then only counts for the month's tiers.
    """

    month: str
    period: Period | None
    since: int
    until: int


def start_of(seconds: float, unit: int = WINDOW) -> int:
    """Return when the window (or other unit) began that a moment lies in."""
    return int(seconds // unit) * unit


def cover(since: int, until: int) -> list[Span]:
    """Return the fewest spans that make up a stretch of whole windows: days in the middle, hours and windows beside.

    :raises ValueError: it does not begin and end with a window.
    """
    _check(since)
    _check(until)
    return list(_cover(since, until, (DAY, HOUR, WINDOW)))


def _cover(since: int, until: int, units: tuple[int, ...]) -> Iterator[Span]:
    if since >= until:
        return
    unit, finer = units[0], units[1:]
    first, last = -(-since // unit) * unit, until // unit * unit
    if first >= last:
        yield from _cover(since, until, finer)
        return
    yield from _cover(since, first, finer)
    yield Span(unit, first, last)
    yield from _cover(last, until, finer)


def periods(since: int, until: int, by: str, zone: tzinfo) -> list[Period]:
    """Return the calendar's periods from ``since`` to ``until``; the first and the last may be cut short.

    :param by: ``hour``, ``day``, ``month``, or ``""`` for the whole as one.
    :param zone: whose calendar. Hours are told apart by their offset, so the one that comes twice is two.
    :raises ValueError: an end is no beginning of a window, or the zone's offset is no multiple of a window.
    """
    _check(since)
    _check(until)
    if by == "":
        return [Period(since, until, "")] if since < until else []
    found: list[Period] = []
    for begin, end, name in _HOW[by](since, until, zone):
        begin, end = max(begin, since), min(end, until)
        if begin < end:
            _check(begin)
            _check(end)
            found.append(Period(begin, end, name))
    return found


def slices(since: int, until: int, by: str, zone: tzinfo, *, tiered: bool) -> list[Slice]:
    """Cut a stretch of time into what is one period's and, where prices have tiers, one month's.

    :param by: as of :func:`periods`.
    :param tiered: whether months matter; then what of the first month lies before ``since`` comes first.
    """
    lines = periods(since, until, by, zone)
    if not tiered:
        return [Slice("", line, line.since, line.until) for line in lines]
    found: list[Slice] = []
    for begin, end, month in _months(since, until, zone):
        if begin < since:
            found.append(Slice(month, None, begin, since))
        found += [
            Slice(month, line, max(line.since, begin), min(line.until, end))
            for line in lines
            if line.since < end and line.until > begin
        ]
    return found


def _check(seconds: int) -> None:
    if seconds % WINDOW:
        when = datetime.fromtimestamp(seconds, timezone.utc).isoformat()
        raise ValueError(f"{when} is not a multiple of {WINDOW // 60} minutes, which is how long a window is")


def _hours(since: int, until: int, zone: tzinfo) -> Iterator[tuple[int, int, str]]:
    begin, key = since, ""
    for start in range(since, until, WINDOW):
        local = datetime.fromtimestamp(start, zone)
        here = f"{local:%Y-%m-%d %H:00}{_offset(local)}"
        if here != key:
            if key:
                yield begin, start, key
            begin, key = start, here
    if key:
        yield begin, until, key


def _days(since: int, until: int, zone: tzinfo) -> Iterator[tuple[int, int, str]]:
    day = datetime.fromtimestamp(since, zone).date()
    begin = _midnight(day, zone)
    while begin < until:
        next_day = day + timedelta(days=1)
        end = _midnight(next_day, zone)
        yield begin, end, day.isoformat()
        day, begin = next_day, end


def _months(since: int, until: int, zone: tzinfo) -> Iterator[tuple[int, int, str]]:
    day = datetime.fromtimestamp(since, zone).date().replace(day=1)
    begin = _midnight(day, zone)
    while begin < until:
        next_month = (day + timedelta(days=32)).replace(day=1)
        end = _midnight(next_month, zone)
        yield begin, end, f"{day:%Y-%m}"
        day, begin = next_month, end


_HOW: Final = {"hour": _hours, "day": _days, "month": _months}


def _midnight(day: date, zone: tzinfo) -> int:
    """Return when a day begins; where clocks jump over midnight that is the moment of the jump (PEP 495, fold=0)."""
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def _offset(local: datetime) -> str:
    return "Z" if local.utcoffset() == timedelta(0) else f"{local:%z}"[:3] + ":" + f"{local:%z}"[3:5]


def moment(text: str, zone: tzinfo) -> int:
    """Return when a month, day or time of a zone's calendar begins, in seconds since the epoch.

    >>> moment("2026-11", timezone.utc)
    1793491200

    :param text: as in ``2026-11``, ``2026-11-23``, ``2026-11-23T14:30`` or, with an offset, ``2026-11-23T14:30+01:00``.
    :raises ValueError: it is none of these, or no beginning of a window; the text says what to write.
    """
    whole = text + "-01" if len(text) == 7 else text
    try:
        when = datetime.fromisoformat(whole.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f"{text!r} is not a time; write 2026-11-23, 2026-11 or 2026-11-23T14:30") from None
    seconds = (when if when.tzinfo is not None else when.replace(tzinfo=zone)).timestamp()
    if seconds % WINDOW:
        raise ValueError(f"{text!r} lies within a window; they begin at :00, :15, :30 and :45")
    return int(seconds)
