"""Decide how many lines of a log one app may fill: a token bucket each, and the count of what did not go in.

A program that asks for denied destinations in a loop makes a line each time. Beyond a rate its lines are folded: they
are counted by kind, and a line now and then says how many there were. What is folded is missing in the log alone.

Pure: time comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["BURST", "INTERVAL", "Folded", "Folding"]

#: How many seconds' worth of lines an app may have at once, after it was quiet.
BURST: Final = 10
#: Seconds between two lines that say what was folded of one app.
INTERVAL: Final = 1.0


class Folded(NamedTuple):
    """What was folded of one app.

    :ivar counts: kind of line → how many.
    :ivar seconds: since the first of them.
    """

    app: str
    counts: Mapping[str, int]
    seconds: float


class _Bucket:
    __slots__ = ("at", "folded", "since", "tokens")

    def __init__(self, tokens: float, now: float) -> None:
        self.tokens = tokens
        self.at = now
        #: What is to be told, and since when there is something.
        self.folded: dict[str, int] = {}
        self.since = 0.0


class Folding:
    """The buckets of all apps.

    :param rate: lines a second that each app may have; 0 for any number.
    :ivar total: how many lines have been folded since the start.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.total = 0
        self._buckets: dict[str, _Bucket] = {}
        #: Apps with something to tell, and when.
        self._due: dict[str, float] = {}

    def admits(self, app: str, kind: str, now: float) -> tuple[bool, bool]:
        """Tell whether a line goes into the log; if not it is counted, and the second says if it is the first of some.

        :param now: seconds of a clock that does not go back.
        """
        rate = self.rate
        if not rate:
            return True, False
        bucket = self._buckets.get(app)
        if bucket is None:
            bucket = self._buckets[app] = _Bucket(rate * BURST, now)
        elif now > bucket.at:
            tokens, most = bucket.tokens + (now - bucket.at) * rate, rate * BURST
            bucket.tokens = tokens if tokens < most else most
            bucket.at = now
        if bucket.tokens >= 1.0:
            bucket.tokens -= 1.0
            return True, False
        is_first = not bucket.folded
        if is_first:
            bucket.since = now
            self._due[app] = now + INTERVAL
        bucket.folded[kind] = bucket.folded.get(kind, 0) + 1
        self.total += 1
        return False, is_first

    def wait(self, now: float) -> float | None:
        """Return in how many seconds there is something to tell; ``None`` where nothing is folded."""
        return max(0.0, min(self._due.values()) - now) if self._due else None

    def take(self, now: float, everything: bool = False) -> list[Folded]:
        """Return what is to be told now, and forget it.

        :param everything: also what is not due yet: the log ends.
        """
        apps = [app for app, due in self._due.items() if everything or due <= now]
        found = []
        for app in apps:
            del self._due[app]
            bucket = self._buckets[app]
            found.append(Folded(app, bucket.folded, now - bucket.since))
            bucket.folded = {}
        return found
