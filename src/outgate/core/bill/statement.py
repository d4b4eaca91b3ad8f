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
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple, Tuple

from outgate.core.bill.labels import split
from outgate.core.bill.prices import Price, Prices
from outgate.core.bill.tally import Account, Counts, Destination
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

#: What lines may be made by that an account says → its name.
OF_ACCOUNT: Final[dict[str, Callable[[Account], str]]] = {
    "app": lambda account: account[0],
    "label": lambda account: account[1],
    "destination": lambda account: str(account[2]),
}
#: All that lines may be made by; the others the calendar says.
GROUPS: Final = ("day", "hour", "month", *OF_ACCOUNT)


def make(used: Iterable[Used], by: Sequence[str], prices: Prices) -> Statement:
    """Return the statement of what was used.

    :param used: in the order of time; those of one stretch of time together.
    :param by: of :data:`GROUPS`.
    """
    moved: dict[_Key, list[int]] = {}
    costs: dict[_Key, Fraction] = {}
    before: dict[tuple[str, str, str], tuple[int, int]] = {}
    known: dict[str, Price] = {}
    kinds = _Kinds(by, prices)
    for (month, period), stretch in groupby(used, itemgetter(0, 1)):
        #: (app, name of the price) → lines, and the bytes sent and received that are of each.
        shares: dict[tuple[str, str], list[tuple[_Key | None, list[int]]]] = {}
        for kind, counts in _add_up(stretch, kinds):
            key = kind.line(period)
            if not kind.price.is_free:
                shares.setdefault((kind.app, kind.price.name), []).append((key, counts))
                known[kind.price.name] = kind.price
            if key is not None:
                row = moved.get(key)
                moved[key] = counts if row is None else [a + b for a, b in zip(row, counts)]
        for (app, price_name), of_lines in shares.items():
            sums = [sum(share[way] for _, share in of_lines) for way in (0, 1)]
            earlier = before.get((month, app, price_name), (0, 0))
            before[month, app, price_name] = earlier[0] + sums[0], earlier[1] + sums[1]
            for way, count in enumerate(sums):
                cost = known[price_name].cost(earlier[way], count, sent=way == 0) if count else _NOTHING
                if cost:
                    for key, share in of_lines:
                        if key is not None:
                            costs[key] = costs.get(key, _NOTHING) + cost * share[way] / count
    keys = sorted(moved)
    amounts, total = round_together([costs.get(key, _NOTHING) for key in keys], prices.digits)
    lines = tuple(Line(key, Counts(*moved[key]), amount) for key, amount in zip(keys, amounts))
    sums = [sum(column) for column in zip(*(line.counts for line in lines))] or [0] * len(Counts._fields)
    return Statement(tuple(by), lines, Line(("total",), Counts(*sums), total), prices.currency)


class _Kind(NamedTuple):
    """What accounts have in common whose bytes may be added up: whose they are, their price, and the line they are in.

    :ivar names: of the line, by the words of ``by``; ``None`` where the calendar says it.
    """

    app: str
    price: Price
    names: tuple[str | None, ...]

    def line(self, period: Period | None) -> _Key | None:
        """Return the line that bytes of a period are in; ``None`` where there is none."""
        if period is None:
            return None
        return tuple([period.name if name is None else name for name in self.names])


class _Kinds(dict[Account, int]):
    """Account → number of its kind. There are few of them, and ten thousands of uses in a year by day."""

    def __init__(self, by: Sequence[str], prices: Prices) -> None:
        super().__init__()
        self._by, self._prices = by, prices
        self._price_of: dict[Destination, Price] = {}
        self._numbers: dict[_Kind, int] = {}
        self.of: list[_Kind] = []

    def __missing__(self, account: Account) -> int:
        app, _, destination = account
        price = self._price_of.get(destination)
        if price is None:
            price = self._price_of[destination] = self._prices.find(destination)
        names = tuple([OF_ACCOUNT[group](account) if group in OF_ACCOUNT else None for group in self._by])
        kind = _Kind(app, price, names)
        number = self._numbers.setdefault(kind, len(self.of))
        if number == len(self.of):
            self.of.append(kind)
        self[account] = number
        return number


def _add_up(stretch: Iterable[Used], kinds: _Kinds) -> list[tuple[_Kind, list[int]]]:
    """Return what each kind has moved in a stretch."""
    sums: dict[int, list[int]] = {}
    for _month, _period, account, (sent, received, wire_sent, wire_received, wire_exact) in stretch:
        number = kinds[account]
        row = sums.get(number)
        if row is None:
            sums[number] = [sent, received, wire_sent, wire_received, wire_exact]
        else:
            row[0] += sent
            row[1] += received
            row[2] += wire_sent
            row[3] += wire_received
            row[4] += wire_exact
    return [(kinds.of[number], row) for number, row in sums.items()]


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
