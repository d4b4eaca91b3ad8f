"""Count what the gate's records do not hold: decisions, refusals, ends, look-ups, and how long things took.

Always there and never asked whether anybody looks, because that would cost as much as counting. Keys are words that
the gate chose, or names of apps; nothing that a program chose is ever one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from outgate.gate.metrics.histogram import LAG, LOOK_UP, REQUEST, Histogram

if TYPE_CHECKING:
    from outgate.core.policy.decide import Decision

__all__ = ["ANSWERED", "FAILED", "LATE", "MISSING", "REMEMBERED", "Counts", "LookedUp", "ignored"]

# Outcomes of a look-up.
ANSWERED: Final = "answered"  #: by the C library
MISSING: Final = "missing"  #: there is no such name, or it has no such address
FAILED: Final = "failed"  #: the C library said anything else, or too many were waiting
LATE: Final = "late"  #: no answer within the gate's patience
REMEMBERED: Final = "remembered"  #: from what was answered a moment ago

_Key = TypeVar("_Key")


class Counts:
    """The counts of one gate since it started; touched on its loop only.

    :ivar decisions: (app, verdict, transport, kind of rule, class of address, code of the refusal) → how many.
    :ivar refusals: (app, request, code) → replies that refused.
    :ivar ended_leases: (app, transport, how) → leases that ended so.
    :ivar look_ups: (app, outcome) → how many.
    :ivar reloads: outcome → how many.
    :ivar faults: of the gate's own.
    :ivar requests: type of request → seconds from its packet to its reply.
    :ivar dials: outcome → seconds from the dial to its end.
    :ivar look_up_seconds: that the C library took.
    :ivar lag: seconds for which something else held the loop, sampled (:mod:`outgate.gate.metrics.lag`).
    """

    def __init__(self) -> None:
        self.decisions: dict[tuple[str, str, str, str, str, str], int] = {}
        self.refusals: dict[tuple[str, str, str], int] = {}
        self.ended_leases: dict[tuple[str, str, str], int] = {}
        self.look_ups: dict[tuple[str, str], int] = {}
        self.reloads = {"applied": 0, "failed": 0}
        self.faults = 0
        self.requests: dict[type, Histogram] = {}
        self.dials = {"connected": Histogram(LOOK_UP), "failed": Histogram(LOOK_UP)}
        self.look_up_seconds = Histogram(LOOK_UP)
        self.lag = Histogram(LAG)

    def decided(self, app: str, decision: Decision, transport: str) -> None:
        """Count a decision."""
        key = (app, decision.verdict, transport, decision.kind, decision.address_class, decision.code)
        self.decisions[key] = self.decisions.get(key, 0) + 1

    def replied(self, app: str, request: type, seconds: float, reply: dict[str, Any]) -> None:
        """Count a request that was answered.

        :param seconds: from its packet to the reply.
        """
        histogram = self.requests.get(request)
        if histogram is None:
            histogram = self.requests[request] = Histogram(REQUEST)
        histogram.observe(seconds)
        if "error" in reply:
            self.refused(app, request, reply["error"]["code"])

    def refused(self, app: str, request: type, code: str) -> None:
        """Count a refusal.

        :param app: ``""`` where whoever asked is none.
        """
        _add(self.refusals, (app, request.__name__.lower(), code))

    def dialled(self, seconds: float, connected: bool) -> None:
        """Count a dial whose end is known."""
        self.dials["connected" if connected else "failed"].observe(seconds)

    def ended(self, app: str, transport: str, how: str) -> None:
        """Count the end of a lease."""
        _add(self.ended_leases, (app, transport, how))

    def looked_up(self, app: str, outcome: str, seconds: float | None = None) -> None:
        """Count a look-up.

        :param seconds: that the C library took; ``None`` where it was not asked.
        """
        _add(self.look_ups, (app, outcome))
        if seconds is not None:
            self.look_up_seconds.observe(seconds)

    def reloaded(self, applied: bool) -> None:
        """Count a reload."""
        self.reloads["applied" if applied else "failed"] += 1


#: Takes (app, outcome, seconds) of a look-up.
LookedUp = Callable[[str, str, "float | None"], None]


def ignored(app: str, outcome: str, seconds: float | None = None) -> None:
    """Count a look-up nowhere."""


def _add(counts: dict[_Key, int], key: _Key) -> None:
    counts[key] = counts.get(key, 0) + 1
