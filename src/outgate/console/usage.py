"""Show what one app has used over time and where it went, from a ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from outgate.console import charts
from outgate.core.bill import statement
from outgate.core.bill.tally import Counts
from outgate.core.bill.windows import HOUR, WINDOW, periods, start_of
from outgate.errors import ConfigError
from outgate.lookout import usage as reading
from outgate.lookout.ledger import Place
from outgate.lookout.words import printable, quantity

__all__ = ["RANGES", "Span", "Usage", "look"]

#: Destinations that are listed one by one.
_LISTED: Final = 15
_NOTHING: Final = Counts(0, 0, 0, 0)


class Span(NamedTuple):
    """A stretch of time up to now: what it is called, by what it is divided, and into how many of these."""

    words: str
    by: str
    parts: int


#: Word in an address → stretch.
RANGES: Final[Mapping[str, Span]] = {
    "day": Span("24 hours", "hour", 24),
    "week": Span("7 days", "day", 7),
    "month": Span("30 days", "day", 30),
}


class Row(NamedTuple):
    """What went to one destination; ``part`` is of all bytes, from 0 to 1."""

    destination: str
    sent: str
    received: str
    part: float
    amount: str


class Usage(NamedTuple):
    """The chart and the table.

    :ivar others: how many destinations are not listed.
    :ivar gaps: a sentence for each time that a gate was away.
    :ivar final: up to when all is final.
    """

    chart: charts.Chart
    rows: tuple[Row, ...]
    others: int
    sent: str
    received: str
    amount: str
    currency: str
    final: str
    gaps: tuple[str, ...]


def begin(now: float, span: Span, place: Place) -> int:
    """Return when the stretch began: with an hour, or with a day of the ledger's zone."""
    local = datetime.fromtimestamp(now, place.zone)
    if span.by == "hour":
        return start_of(now, HOUR) - (span.parts - 1) * HOUR
    first = local.date() - timedelta(days=span.parts - 1)
    return int(datetime(first.year, first.month, first.day, tzinfo=place.zone).timestamp())


def look(place: Place, app: str, span: Span, now: float) -> Usage:
    """Read the ledger and return what to show.

    :raises ConfigError: it cannot be read.
    """
    since, until = begin(now, span, place), start_of(now) + WINDOW
    try:
        found = reading.read(place, since, until, span.by, app)
        names = periods(since, until, span.by, place.zone)
    except ValueError as error:  # the zone's hours are no whole windows
        raise ConfigError(str(error)) from None
    by_time = {line.key[0]: line.counts for line in statement.make(found.used, (span.by,), place.prices).lines}
    counts = [(each.name, by_time.get(each.name, _NOTHING)) for each in names]
    bars = [(name, count.sent, count.received) for name, count in counts]
    made = statement.make(found.used, ("destination",), place.prices)
    ranked = sorted(made.lines, key=lambda line: (-(line.counts.sent + line.counts.received), line.key))
    whole = made.total.counts.sent + made.total.counts.received
    rows = tuple(
        Row(
            printable(line.key[0]),
            quantity(line.counts.sent),
            quantity(line.counts.received),
            round((line.counts.sent + line.counts.received) / whole, 4) if whole else 0.0,
            f"{line.amount:,}",
        )
        for line in ranked[:_LISTED]
    )
    return Usage(
        charts.bars(bars),
        rows,
        max(0, len(ranked) - _LISTED),
        quantity(made.total.counts.sent),
        quantity(made.total.counts.received),
        f"{made.total.amount:,}",
        made.currency,
        place.stamp(found.extent.sealed) if found.extent.sealed else "",
        tuple(
            f"gate {printable(gap.gate)} was away ({gap.how}) from {place.stamp(gap.since)} to "
            f"{place.stamp(gap.until)}, with {gap.sockets} sockets open"
            for gap in found.gaps
        ),
    )
