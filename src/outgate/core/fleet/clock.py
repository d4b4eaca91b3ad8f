"""Say when a host's clock is so far off from the one of what its fleet shares that somebody should hear of it."""

from __future__ import annotations

from typing import Final

__all__ = ["SKEW", "is_off"]

#: Seconds that it may differ. Quotas' windows are mixed up by as much; NTP is a thousand times better.
SKEW: Final = 5.0


def is_off(skew: float) -> bool:
    """Whether that is to be said of a clock that is so many seconds ahead, or behind where they are negative."""
    return abs(skew) > SKEW
