"""Know the calendar window that a moment lies in: the day of a zone, or the minute.

A day is whatever lies between two midnights of the zone: 23 or 25 hours where the clocks are changed. Where midnight is
skipped (a zone that changes at 00:00) the day begins with its first moment; where it comes twice, with the first of the
two; so windows follow upon one another without a gap, and each moment lies in exactly one.
"""

from datetime import date, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from outgate.core.quota.quotas import MINUTE

__all__ = ["HIGHEST", "Window", "window"]

#: Moments are held within 1970 and the year 3000: what a clock says beyond is no calendar's.
HIGHEST: Final = 32_503_680_000
_MINUTE: Final = 60
_ONE_DAY: Final = timedelta(days=1)


class Window(NamedTuple):
    """Seconds since 1970: from ``start`` up to, and not with, ``end``."""

    start: int
    end: int


def window(per: str, moment: float, zone: tzinfo) -> Window:
    """Return the window of a kind that a moment lies in.

    :param per: :data:`~outgate.core.quota.quotas.DAY` or ``MINUTE``. Minutes are the same in every zone: offsets are
        whole minutes since Liberia's of 1972.
    :param moment: seconds since 1970.
    :param zone: whose midnights count; a :class:`zoneinfo.ZoneInfo`.
    """
    moment = min(max(moment, 0), HIGHEST)
    if per == MINUTE:
        start = int(moment) // _MINUTE * _MINUTE
        return Window(start, start + _MINUTE)
    day = datetime.fromtimestamp(moment, zone).date()
    # A clock that is put back over midnight shows the day before once more: that is still the day that has begun.
    if moment >= _begin(day + _ONE_DAY, zone):
        day += _ONE_DAY
    start, end = _begin(day, zone), _begin(day + _ONE_DAY, zone)
    return Window(start, end)


def _begin(day: date, zone: tzinfo) -> int:
    """Return the first moment of a day. A midnight that is skipped reads with the offset before: the change itself."""
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
