"""Make a statement of usage: bytes per line, what they cost, and lines that add up to the total, to the cent.

Tiers count what an app has moved at a price in a calendar month, in the order of time. Within one stretch of time what
bytes cost is shared by the lines they fall into, each byte alike; so the same bytes cost the same however a statement
is divided. Amounts stay exact until the end; then each line is rounded so that the lines' sum is the rounded total
(the method of the largest remainder).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, NamedTuple, Tuple

from outgate.core.bill.labels import split
from outgate.core.bill.prices import Price, Prices
from outgate.core.bill.tally import Account, Counts
from outgate.core.bill.windows import Period

__all__ = ["GROUPS", "Line", "Statement", "Used", "make", "round_together"]


class Used(NamedTuple):
    """What one account has moved in one stretch of time, which lies within a month.

    :ivar month: which month that is.
    :ivar period: the line of the calendar it belongs to; ``None``: it only counts for the tiers.
    """

    month: str
    period: Period | None
    account: Account
    counts: Counts


class Line(NamedTuple):
    """One line: what it is about, the bytes, and what they cost in the currency's smallest unit."""

    key: tuple[str, ...]
    counts: Counts
    amount: Decimal


class Statement(NamedTuple):
    """A whole statement; the lines' sums are its totals."""

    groups: tuple[str, ...]
    lines: tuple[Line, ...]
    total: Line
    currency: str


_Key = Tuple[str, ...]
_NOTHING: Final = Fraction(0)

#: What lines may be made by → what of a use is their name.
GROUPS: Final[dict[str, Callable[[Used], str]]] = {
    "day": lambda used: used.period.name if used.period else "",
    "hour": lambda used: used.period.name if used.period else "",
    "month": lambda used: used.period.name if used.period else "",
    "app": lambda used: used.account[0],
    "label": lambda used: used.account[1],
    "destination": lambda used: str(used.account[2]),
}


def make(used: Iterable[Used], by: Sequence[str], prices: Prices) -> Statement:
    """Return the statement of what was used.

    :param used: in the order of time; those of one stretch of time together.
    :param by: of :data:`GROUPS`.
    """
    moved: dict[_Key, list[int]] = {}
    costs: dict[_Key, Fraction] = {}
    before: dict[tuple[str, str, str], tuple[int, int]] = {}
    known: dict[str, Price] = {}
    found: dict[Any, Price] = {}
    names = [GROUPS[group] for group in by]
    for stretch in _stretches(used):
        month = stretch[0].month
        #: (app, name of the price) → line → bytes sent and received.
        shares: dict[tuple[str, str], dict[_Key | None, list[int]]] = {}
        for each in stretch:  # some ten thousand for a year by day
            app, _, destination = each.account
            sent, received, wire_sent, wire_received = each.counts
            price = found.get(destination)
            if price is None:
                price = found[destination] = prices.find(destination)
                known[price.name] = price
            key = None if each.period is None else tuple([name(each) for name in names])
            by_line = shares.get((app, price.name))
            if by_line is None:
                by_line = shares[app, price.name] = {}
            share = by_line.get(key)
            if share is None:
                share = by_line[key] = [0, 0]
            share[0] += sent
            share[1] += received
            if key is not None:
                row = moved.get(key)
                if row is None:
                    row = moved[key] = [0, 0, 0, 0]
                row[0] += sent
                row[1] += received
                row[2] += wire_sent
                row[3] += wire_received
        for (app, price_name), by_line in shares.items():
            sums = [sum(share[way] for share in by_line.values()) for way in (0, 1)]
            earlier = before.get((month, app, price_name), (0, 0))
            before[month, app, price_name] = earlier[0] + sums[0], earlier[1] + sums[1]
            for way, count in enumerate(sums):
                cost = known[price_name].cost(earlier[way], count, sent=way == 0) if count else _NOTHING
                if cost:
                    for key, share in by_line.items():
                        if key is not None:
                            costs[key] = costs.get(key, _NOTHING) + cost * share[way] / count
    keys = sorted(moved)
    amounts, total = round_together([costs.get(key, _NOTHING) for key in keys], prices.digits)
    lines = tuple(Line(key, Counts(*moved[key]), amount) for key, amount in zip(keys, amounts))
    sums = [sum(column) for column in zip(*(line.counts for line in lines))] or [0, 0, 0, 0]
    return Statement(tuple(by), lines, Line(("total",), Counts(*sums), total), prices.currency)


def _stretches(used: Iterable[Used]) -> Iterable[list[Used]]:
    stretch: list[Used] = []
    for each in used:
        if stretch and (stretch[0].period, stretch[0].month) != (each.period, each.month):
            yield stretch
            stretch = []
        stretch.append(each)
    if stretch:
        yield stretch


def round_together(amounts: Sequence[Fraction], digits: int) -> tuple[list[Decimal], Decimal]:
    """Round amounts so that they add up to their rounded sum, each to less than one unit of the last digit away.

    >>> round_together([Fraction(1, 3)] * 3, 2)
    ([Decimal('0.34'), Decimal('0.33'), Decimal('0.33')], Decimal('1.00'))

    :param digits: behind the point. Halves of the sum are rounded up.
    """
    scaled = [amount * 10**digits for amount in amounts]
    total = int(sum(scaled, Fraction(0)) + Fraction(1, 2))
    units = [int(amount) for amount in scaled]  # none is negative
    order = sorted(range(len(scaled)), key=lambda place: (units[place] - scaled[place], place))
    for place in order[: total - sum(units)]:
        units[place] += 1
    return [Decimal(unit).scaleb(-digits) for unit in units], Decimal(total).scaleb(-digits)


def of_label(used: Iterable[Used], label: str) -> list[Used]:
    """Return those that have a label, as in ``job=17``."""
    return [each for each in used if label in split(each.account[1])]
