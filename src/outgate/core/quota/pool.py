"""Say what gates share of a quota, and how much of it one grants where it cannot ask."""

from typing import Final, Mapping

from outgate.core.quota.quotas import BYTES

__all__ = ["LEAST", "RESERVATION", "reserved"]

#: Share of a limit that a gate may grant beyond what it has been granted, where it cannot ask.
RESERVATION: Final = 0.01
#: The least of that, of calls and datagrams, and of bytes: of a limit of fifty 1 % is nothing.
LEAST: Final[Mapping[str, int]] = {"calls": 10, "bytes": 64 * 1024}


def reserved(resource: str, limit: int, share: float) -> int:
    """Return how much a gate may grant where it cannot ask.

    :param share: of the limit; with 0 it is nothing.
    """
    if not share:
        return 0
    least = LEAST["bytes" if resource in BYTES else "calls"]
    return min(limit, max(least, int(limit * share)))
