"""Say which ports of an address that is not known yet could be reached by the rules about addresses.

A look-up tells a name server what was asked, so a name that no rule could allow is not looked up. Before the answer is
known only this much is certain: an exception for addresses could lift what the name leads to, an allow could permit it
unless every class it reaches into is denied. What is said here is never less than what rules could allow, and may be
more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from outgate.core.address.address_table import PUBLIC
from outgate.core.address.addresses import CLASS_BIT, NetworkSet
from outgate.core.policy.cover import Cover, classes_of
from outgate.core.policy.matching import PortMap, RuleIndex, port_map
from outgate.core.policy.rules import ALL_CLASSES, MAX_PORT, TCP, UDP, Rule

__all__ = ["Reach"]

#: Ports at which something begins and ends in turn: a port is inside where an odd number of them is not above it.
_Toggles = tuple[int, ...]
_TRANSPORTS: Final = (TCP, UDP)


class Reach:
    """The rules of a policy about addresses, seen from a name that has not been looked up.

    :param permits: the exceptions.
    :param refusals: the denials that are enforced.
    :param own: the operator's ranges and the host's addresses.
    """

    __slots__ = ("_allows", "_by_mask", "_denied", "_permits", "_permitted", "_refusals", "turns")

    def __init__(self, permits: RuleIndex, refusals: RuleIndex, allows: RuleIndex, own: NetworkSet) -> None:
        self._permits, self._refusals, self._allows = permits, refusals, allows
        denials = Cover(refusals.rules, own)
        by_mask: dict[int, list[tuple[int, Rule]]] = {}
        for number, rule in enumerate(allows.rules):
            mask = classes_of(rule, own) if rule.pattern is None else 0
            if mask and denials.of(rule) is None:
                by_mask.setdefault(mask, []).append((number, rule))
        self._permitted: dict[int, PortMap] = {}
        self._by_mask: dict[int, tuple[tuple[int, PortMap], ...]] = {}
        self._denied: dict[int, tuple[tuple[int, _Toggles], ...]] = {}
        #: Ports, by transport, at which the answer of :meth:`opener` or :meth:`denial` may turn from no to yes.
        self.turns: dict[int, frozenset[int]] = {}
        lifted = [(number, rule) for number, rule in enumerate(permits.rules) if rule.classes or rule.networks]
        for transport in _TRANSPORTS:
            self._permitted[transport] = _map(lifted, transport, len(permits.rules))
            self._by_mask[transport] = tuple(
                (mask, _map(entries, transport, len(allows.rules))) for mask, entries in by_mask.items()
            )
            self._denied[transport] = _denied(refusals.rules, transport)
            self.turns[transport] = frozenset(self._turns(transport))

    def _turns(self, transport: int) -> Iterable[int]:
        """Keep, of all ports where some rule begins or ends, those where the answer is another than before."""
        edges = {0, *self._permitted[transport].starts}
        edges.update(*(line.starts for _, line in self._by_mask[transport]))
        edges.update(*(toggles for _, toggles in self._denied[transport]))
        before = None
        for port in sorted(edges):
            now = self.opener(transport, port) is not None, self._mask(transport, port) == ALL_CLASSES
            if now != before and port <= MAX_PORT:
                yield port
            before = now

    def opener(self, transport: int, port: int) -> Rule | None:
        """Return the first rule about addresses that could permit some address at a port, or ``None``."""
        starts, firsts = self._permitted[transport]
        number = firsts[bisect_right(starts, port) - 1]
        if number < len(self._permits.rules):
            return self._permits.rules[number]
        best = none = len(self._allows.rules)
        denied = self._mask(transport, port)
        for mask, (starts, firsts) in self._by_mask[transport]:
            if mask & ~denied:
                best = min(best, firsts[bisect_right(starts, port) - 1])
        return None if best == none else self._allows.rules[best]

    def denial(self, transport: int, port: int) -> Rule | None:
        """Return the rule that denies a port of every address, or ``None`` where some could be allowed.

        Where several rules do it together it is the one that denies public addresses, as most names have these.
        """
        if self._mask(transport, port) != ALL_CLASSES:
            return None
        return self._refusals.first(self._refusals.refusing(CLASS_BIT[PUBLIC]), transport, port)

    def _mask(self, transport: int, port: int) -> int:
        """Return the classes that are denied at a port, as bits."""
        mask = 0
        for bits, toggles in self._denied[transport]:
            if bisect_right(toggles, port) & 1:
                mask |= bits
        return mask


def _map(entries: Sequence[tuple[int, Rule]], transport: int, none: int) -> PortMap:
    return port_map([(number, rule.ports) for number, rule in entries if rule.transports & transport], none)


def _denied(rules: Iterable[Rule], transport: int) -> tuple[tuple[int, _Toggles], ...]:
    """Return (classes, the ports they are denied at), classes of the same ports together."""
    ranges: dict[int, list[tuple[int, int]]] = {}
    for rule in rules:
        if rule.classes and rule.transports & transport:
            ranges.setdefault(rule.classes, []).extend(rule.ports)
    together: dict[_Toggles, int] = {}
    for bit in CLASS_BIT.values():
        toggles = _toggles(part for classes, parts in ranges.items() if classes & bit for part in parts)
        together[toggles] = together.get(toggles, 0) | bit
    return tuple((bits, toggles) for toggles, bits in together.items() if toggles)


def _toggles(ranges: Iterable[tuple[int, int]]) -> _Toggles:
    toggles: list[int] = []
    for low, high in sorted(ranges):
        if toggles and low <= toggles[-1]:
            toggles[-1] = max(toggles[-1], high + 1)
        else:
            toggles += (low, high + 1)
    return tuple(toggles)
