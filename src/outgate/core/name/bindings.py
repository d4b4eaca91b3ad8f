"""Remember which names an app's look-ups gave an address, so that rules by name hold for a connect to the address.

Most programs look a name up first and then connect to an address (``create_connection``, asyncio, every database
driver), so the gate binds the two: a pair (name, address) holds for ten minutes after the last answer that had it, and
as long as a lease lives that was opened by it. DESIGN says the maximum of ten minutes and the record's TTL; the C
library does not tell the TTL, so it is ten minutes, and :mod:`outgate.gate.names.relearn` asks again where that was too
short. Pairs come from the gate's own resolution only, never from what a program says.

Pure: time comes in as an argument. What is kept is bounded; an app that scans forgets its own pairs and nobody else's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from typing import Final

__all__ = ["ADDRESSES", "LIFETIME", "NAMES", "Bindings"]

#: Seconds that a pair holds after the last answer that had it.
LIFETIME: Final = 600.0
#: Addresses of one app.
ADDRESSES: Final = 2048
#: Names of one address: a CDN has thousands of names on one, but a program asks for a few of them.
NAMES: Final = 8


class _Pair:
    """Until when a name holds for an address, and how many leases that it opened live."""

    __slots__ = ("leases", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.leases = 0


class Bindings:
    """The (name, address) pairs of one app. Names are canonical, addresses as the C library writes them.

    :param addresses: the most addresses that are kept; what was not asked for the longest goes first.
    :param lifetime: seconds that a pair holds.
    """

    __slots__ = ("_addresses", "_lifetime", "_limit")

    def __init__(self, addresses: int = ADDRESSES, lifetime: float = LIFETIME) -> None:
        self._limit = addresses
        self._lifetime = lifetime
        #: Address → its names, the latest last; and so are the addresses.
        self._addresses: OrderedDict[str, dict[str, _Pair]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many pairs are kept, the ones that hold no more among them."""
        return sum(map(len, self._addresses.values()))

    def bind(self, name: str, addresses: Iterable[str], now: float) -> None:
        """Note the answer to a look-up.

        :param addresses: those that the app was given.
        :param now: seconds, of the clock that :meth:`names_for` is asked with.
        """
        for address in addresses:
            self._pair(name, address).until = now + self._lifetime

    def hold(self, name: str, address: str) -> None:
        """Note a lease that the name opened: the pair holds as long as it lives. Only an answer renews its time."""
        self._pair(name, address).leases += 1

    def release(self, name: str, address: str) -> None:
        """Note the end of a lease that :meth:`hold` told of."""
        pair = self._addresses.get(_plain(address), {}).get(name)
        if pair is not None and pair.leases:  # else it was crowded out meanwhile
            pair.leases -= 1

    def names_for(self, address: str, now: float) -> tuple[str, ...]:
        """Return the names that hold for an address, the one that was answered last first."""
        plain = _plain(address)
        names = self._addresses.get(plain)
        if names is None:
            return ()
        found = tuple(name for name, pair in names.items() if now < pair.until or pair.leases)
        if len(found) != len(names):
            for name in names.keys() - found:
                del names[name]
            if not names:
                del self._addresses[plain]
        return found[::-1]

    def recent(self, count: int) -> list[str]:
        """Return the names that were answered last, at most ``count``, the latest first."""
        names = (name for known in reversed(self._addresses.values()) for name in reversed(known))
        return list(dict.fromkeys(islice(names, count * NAMES)))[:count]

    def saved(self) -> list[tuple[str, str, float, int]]:
        """Return all pairs, the oldest first, as (address, name, until, leases), for :meth:`restore`."""
        return [
            (address, name, pair.until, pair.leases)
            for address, names in self._addresses.items()
            for name, pair in names.items()
        ]

    def restore(self, pairs: Iterable[tuple[str, str, float, int]]) -> None:
        """Note what :meth:`saved` has given."""
        for address, name, until, leases in pairs:
            pair = self._pair(name, address)
            pair.until, pair.leases = until, leases

    def _pair(self, name: str, address: str) -> _Pair:
        """Return the pair, made if need be, as the latest of all."""
        plain = _plain(address)
        names = self._addresses.get(plain)
        if names is None:
            if len(self._addresses) >= self._limit:
                self._addresses.popitem(last=False)
            names = self._addresses[plain] = {}
        else:
            self._addresses.move_to_end(plain)
        pair = names.pop(name, None) or _Pair()
        if len(names) >= NAMES:
            del names[next(iter(names))]
        names[name] = pair
        return pair


def _plain(address: str) -> str:
    """Return an IPv4 address for what AI_V4MAPPED makes of one: it is dialled as that, over either family."""
    return address[7:] if address.startswith("::ffff:") and "." in address else address
