"""Read prices: by destination in the policy's grammar, in tiers of a calendar month, exact to the last digit.

Amounts are :class:`fractions.Fraction` from here to the last line of a bill; nothing is ever a binary float.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final, NamedTuple

from outgate.core import units
from outgate.core.address import addresses
from outgate.core.address.addresses import Network, NetworkSet
from outgate.core.bill.tally import OTHER, Destination
from outgate.core.policy.matching import PERMIT, RuleIndex
from outgate.core.policy.rules import TRANSPORT_BIT, Rule, config_error, parse_rule

__all__ = ["FREE", "PLACE", "Price", "Prices", "Tier", "read"]

PLACE: Final = "ledger.prices"

#: Digits behind the point of currencies that have not two (ISO 4217).
_DIGITS: Final = {
    **dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
_CURRENCY: Final = re.compile(r"([A-Z]{3})?\Z")
_RULE_KEYS: Final = ("to", "sent", "received", "tiers")
_TIER_KEYS: Final = ("above", "sent", "received")


class Tier(NamedTuple):
    """From how many bytes in a month on, what one byte costs each way."""

    above: int
    sent: Fraction
    received: Fraction


class Price(NamedTuple):
    """What bytes to some destinations cost.

    :ivar name: the rule, as written.
    :ivar tiers: in rising order, the first from 0 on. Bytes sent and received are counted each by itself.
    """

    name: str
    tiers: tuple[Tier, ...]

    @property
    def is_free(self) -> bool:
        """Whether bytes cost nothing, however many."""
        return not any(tier.sent or tier.received for tier in self.tiers)

    def cost(self, before: int, count: int, *, sent: bool) -> Fraction:
        """Return what bytes cost.

        :param before: how many the app has moved so, at this price, in the month.
        :param count: how many more there are.
        :param sent: which way.
        """
        total = Fraction(0)
        for number, tier in enumerate(self.tiers):
            above = self.tiers[number + 1].above if number + 1 < len(self.tiers) else before + count
            share = min(before + count, above) - max(before, tier.above)
            rate = tier.sent if sent else tier.received
            if share > 0 and rate:
                total += share * rate
        return total


#: Where no price is set.
FREE: Final = Price("", (Tier(0, Fraction(0), Fraction(0)),))


@dataclass(frozen=True)
class Prices:
    """All prices, and which of them is a destination's: the first whose rule matches.

    :ivar currency: ISO 4217, "" where nothing has a price.
    :ivar unit: what the configuration's prices are for, as in ``GB``.
    """

    currency: str
    unit: str
    rules: tuple[Price, ...]
    _index: RuleIndex
    _own: NetworkSet

    @property
    def digits(self) -> int:
        """How many digits behind the point a bill has."""
        return _DIGITS.get(self.currency, 2)

    @property
    def are_tiered(self) -> bool:
        """Whether what was moved earlier in a month matters to any of them."""
        return any(len(price.tiers) > 1 for price in self.rules)

    def find(self, destination: Destination) -> Price:
        """Return the price of a destination. The sum of :data:`OTHER` has the price of the rule ``*``, if there is."""
        if destination == OTHER or not destination.transport:
            return next((price for price in self.rules if price.name == "*"), FREE)
        judged = addresses.judge(destination.address, self._own)
        buckets = (*self._index.matching(judged), *self._index.naming(destination.host))
        rule = self._index.first(buckets, TRANSPORT_BIT[destination.transport], destination.port)
        return FREE if rule is None else self.rules[self._index.rules.index(rule)]


def read(
    table: Mapping[str, Any], groups: Mapping[str, tuple[Network, ...]] | None = None, own: Sequence[str] = ()
) -> Prices:
    """Return the prices that ``[ledger.prices]`` sets.

    :param groups: the operator's groups, as :func:`outgate.core.policy.rules.parse_groups` returns them.
    :param own: ranges of class ``own``.
    :raises ConfigError: with the place, what is wrong, and a hint.
    """
    _check_keys(PLACE, table, ("currency", "per", "rules"))
    currency, unit = table.get("currency", ""), table.get("per", "GB")
    if not isinstance(currency, str) or not _CURRENCY.match(currency):
        raise config_error(f"{PLACE}.currency", f"{currency!r} is not a currency", 'three capitals, as in "EUR"')
    if unit not in units.BYTES:
        raise config_error(f"{PLACE}.per", f"{unit!r} is not a unit of bytes", "one of " + ", ".join(units.BYTES))
    entries = table.get("rules", [])
    if not isinstance(entries, list):
        raise config_error(f"{PLACE}.rules", "prices are a list", 'as in [{ to = "*", sent = "0.12" }]')
    if entries and not currency:
        raise config_error(f"{PLACE}.currency", "missing: a price is one of some currency", 'as in currency = "EUR"')
    rules: list[Rule] = []
    prices: list[Price] = []
    for number, entry in enumerate(entries):
        place = f"{PLACE}.rules[{number}]"
        if not isinstance(entry, Mapping) or not isinstance(entry.get("to"), str):
            raise config_error(place, "a price says for where it is", 'as in { to = "*", sent = "0.12" }')
        _check_keys(place, entry, _RULE_KEYS)
        rule = parse_rule(entry["to"], f"{place}.to", groups)
        if rule.text in [price.name for price in prices]:
            raise config_error(f"{place}.to", f'"{rule.text}" has a price already', "the first that matches counts")
        rules.append(rule)
        prices.append(Price(rule.text, _tiers(place, entry, units.BYTES[unit])))
    return Prices(currency, unit, tuple(prices), RuleIndex(rules, PERMIT), NetworkSet(own))


def _tiers(place: str, entry: Mapping[str, Any], unit: int) -> tuple[Tier, ...]:
    """Return the tiers of one price; each goes on with what the one below it says where it says nothing."""
    sent, received = (_per_byte(f"{place}.{key}", entry, key, unit) for key in ("sent", "received"))
    tiers = [Tier(0, sent, received)]
    given = entry.get("tiers", [])
    if not isinstance(given, list):
        raise config_error(f"{place}.tiers", "tiers are a list", 'as in [{ above = 1000, sent = "0.09" }]')
    for number, tier in enumerate(given):
        here = f"{place}.tiers[{number}]"
        if not isinstance(tier, Mapping):
            raise config_error(here, "a tier is a table", 'as in { above = 1000, sent = "0.09" }')
        _check_keys(here, tier, _TIER_KEYS)
        above = _number(f"{here}.above", tier.get("above")) * unit
        if above.denominator != 1 or above <= tiers[-1].above:
            raise config_error(f"{here}.above", "tiers rise from one to the next", "in whole bytes of the month")
        last = tiers[-1]
        sent = _per_byte(f"{here}.sent", tier, "sent", unit) if "sent" in tier else last.sent
        received = _per_byte(f"{here}.received", tier, "received", unit) if "received" in tier else last.received
        tiers.append(Tier(int(above), sent, received))
    return tuple(tiers)


def _per_byte(place: str, table: Mapping[str, Any], key: str, unit: int) -> Fraction:
    return _number(place, table.get(key, 0)) / unit


def _number(place: str, value: Any) -> Fraction:
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite() and 0 <= number <= 10**12 and number.as_tuple().exponent >= -12:  # type: ignore[operator]
            return Fraction(number)
    hint = f'write it in quotes, as in "{value}": a float is not exact' if isinstance(value, float) else 'as in "0.12"'
    raise config_error(place, f"{value!r} is not an amount", hint)


def _check_keys(place: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise config_error(f"{place}.{key}", "unknown key", "known are " + ", ".join(known))
