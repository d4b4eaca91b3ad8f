"""Read from a ledger what was used in a stretch of time, and how far that can be relied on."""

from __future__ import annotations

from typing import NamedTuple

from outgate.core.bill.statement import Used
from outgate.core.bill.windows import slices
from outgate.gate.ledger.reading import Extent, Gap, Reader
from outgate.lookout.ledger import Place

__all__ = ["Usage", "read"]


class Usage(NamedTuple):
    """What was used.

    :ivar since: from when on, in seconds since the epoch.
    :ivar until: up to when.
    :ivar extent: how far the ledger goes.
    :ivar gaps: when gates were away between those.
    """

    used: list[Used]
    since: int
    until: int
    extent: Extent
    gaps: list[Gap]


def read(place: Place, since: int | None, until: int | None, by: str = "", app: str = "") -> Usage:
    """Return what was used between two moments, as of one.

    :param since: a beginning of a window; ``None`` for the ledger's first.
    :param until: likewise, itself left out; ``None`` for the end of its last.
    :param by: what the stretch is divided by: ``hour``, ``day``, ``month``, or ``""`` for not at all.
    :param app: only what this one used; ``""`` for all.
    :raises ConfigError: the ledger cannot be read.
    :raises ValueError: a moment is no beginning of a window.
    """
    with Reader.open(place.url) as reader:
        extent = reader.extent()
        begin = extent.first if since is None else since
        end = max(extent.last, begin) if until is None else until
        used = reader.used(slices(begin, end, by, place.zone, tiered=place.prices.are_tiered), app)
        return Usage(used, begin, end, extent, reader.gaps(begin, end))
