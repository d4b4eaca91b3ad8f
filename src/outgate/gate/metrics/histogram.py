"""Count how long things take, in buckets: a list, a bisection and an addition an observation."""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

__all__ = ["LAG", "LOOK_UP", "REQUEST", "Histogram"]

#: Upper bounds in seconds. A request that waits for nothing takes 10 to 100 µs; one that waits may take its limit.
REQUEST = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Of what goes out to the network and back: from the same rack to a peer that drops every packet.
LOOK_UP = (5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
#: Of a loop that is to be held for 5 ms at most, by timers of a millisecond.
LAG = (2e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """Observations of seconds by size.

    A tenth of the library's own price an observation: there is one writer, the gate's loop, so nothing is locked.

    :param bounds: upper bounds of the buckets in seconds, ascending; each includes its bound, as Prometheus has it.
    :ivar sum: of all observations, in seconds.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Iterable[float]) -> None:
        self.bounds = tuple(bounds)
        #: Observations in each bucket alone; the last is what lies above every bound.
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one; what a stepping clock made negative counts as nothing."""
        if seconds < 0.0:
            seconds = 0.0
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (upper bound, observations up to it), the last ``+Inf``: all."""
        names = [*map(repr, self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))
