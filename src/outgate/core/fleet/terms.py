"""How long certificates last, and when the next one is due. Times are Unix seconds."""

from __future__ import annotations

from typing import Final

#: A gate's own: long enough for a weekend on which the gate that issues them is away.
GATE: Final = 7 * 86400
#: The authority's. Whoever wants another begins another fleet.
AUTHORITY: Final = 10 * 365 * 86400
#: Certificates begin so long before they are made: clocks of hosts differ.
SKEW: Final = 3600
#: A join token's, unless its maker says otherwise, and the most that may be said.
TOKEN: Final = 3600
LONGEST_TOKEN: Final = 7 * 86400


def is_due(begins: float, ends: float, now: float) -> bool:
    """Tell whether a certificate should be followed by another: two thirds of its time have passed."""
    return now >= begins + (ends - begins) * 2 / 3


def trouble(begins: float, ends: float, now: float) -> str:
    """Return what is wrong with a certificate's time, or ""."""
    if now >= ends:
        return "has expired"
    if now < begins:
        return "is not valid yet: the clock of this host is wrong, or was that of the gate that issued it"
    return ""
