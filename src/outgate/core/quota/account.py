"""Keep account of one quota of one app: what has been granted in the window that runs, and in those before it.

:meth:`Account.reserve` is the one way to use a quota: it grants what there is, in whole or in part, and has counted it
when it returns. Nobody looks first and counts afterwards, so that what grants can as well be elsewhere, shared by many
gates, and grant in batches.

**Clocks that are set.** What was used stays with the calendar window it was used in, and each account remembers the
last :data:`REMEMBERED` windows in which anything was used. A clock that goes forward begins a new window; one that goes
back finds the earlier window as it was left, and nothing is granted in it a second time; nor is any count lost. Only a
clock that is put back by more than that many used windows finds an empty one: staying shut until a clock is right that
once was decades ahead would be worse.

**A zone that is changed.** Windows of two zones overlap. What was used in those of another zone counts in a window as
well, where any of it may have been used since that window began. So a day in which the zone is changed grants its limit
at most once, by whichever zone's days one counts.
"""

from datetime import tzinfo
from typing import Any, Dict, Final, Iterable, Mapping, NamedTuple, Optional, Tuple

from outgate.core.quota.quotas import WARN, Quota, amount
from outgate.core.quota.windows import window

__all__ = ["FULL", "NEAR", "REMEMBERED", "Account", "Kept", "Standing"]

#: Windows of each kind that are remembered: a month, and three hours of minutes.
REMEMBERED: Final = {"day": 31, "minute": 180}

#: What has been said of a window: nothing, that its share for a warning is used, that all of it is.
NEAR, FULL = 1, 2
#: Share of the limit that a stored count is ahead at least, in thousandths.
_AHEAD: Final = 1000


class Kept(NamedTuple):
    """A window as it is stored.

    :ivar used: at least what was used (:meth:`Account.keep`).
    :ivar said: 0, :data:`NEAR` or :data:`FULL`.
    :ivar last: second after the last use.
    """

    resource: str
    per: str
    start: int
    end: int
    used: int
    said: int
    last: int


class _Past(NamedTuple):
    """A window that does not run: what was used in it alone, what was said of it, and the second after its last use."""

    used: int
    said: int
    last: int


_NOTHING: Final = _Past(0, 0, 0)


class Standing(NamedTuple):
    """How an account stands.

    :ivar resets_in: seconds until the next window.
    :ivar runs_out_in: seconds until it is used up if it goes on as in this window so far; ``None`` if it will not be.
    """

    quota: Quota
    used: int
    start: int
    end: int
    resets_in: float
    runs_out_in: Optional[float]

    @property
    def share(self) -> float:
        """The part of the limit that is used; may be above 1."""
        if self.quota.limit:
            return self.used / self.quota.limit
        return 1.0 if not self.used else 2.0

    @property
    def text(self) -> str:
        """The forecast in words: ``82 % used, resets in 3 h``."""
        text = f"{self.share:.0%}".replace("%", " %") + f" used, resets in {_span(self.resets_in)}"
        if self.runs_out_in is not None and self.used < self.quota.limit:
            text += f", at this pace used up in {_span(self.runs_out_in)}"
        return text

    def facts(self, app: str) -> Mapping[str, Any]:
        """Return the facts of a refusal, as :data:`outgate.errors.TABLE` has them for ``quota-exceeded``."""
        return {
            "app": app,
            "quota": self.quota.name,
            "used": self.used,
            "limit": self.quota.limit,
            "use": self.used_text,
            "retry_after": round(self.resets_in, 3),
            "resets": _span(self.resets_in),
        }

    @property
    def used_text(self) -> str:
        """What is used of how much: ``12.1 GB of 20 GB``."""
        resource, limit = self.quota.resource, self.quota.limit
        return f"{amount(resource, self.used)} of {amount(resource, limit)}"


def _span(seconds: float) -> str:
    """Return a duration in its largest unit, rounded up: never sooner than it will be."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds > 2 * size:
            return f"{-int(-seconds // size)} {unit}"
    return f"{max(-int(-seconds // 1), 1)} s"


class Account:
    """One quota of one app.

    :ivar quota: what it says now.
    :ivar start: first second of the window that runs.
    :ivar end: first second after it.
    :ivar used: what was granted or counted in it.
    :ivar last: when it was last used, in seconds since 1970; 0: not in this window.
    :ivar limit: the quota's, at hand.
    :ivar is_short: whether what was refused last may be granted by others; of an account of this gate's alone never.
    """

    is_short = False
    __slots__ = (
        *("_carried", "_grown_from", "_has_refused", "_past", "_said", "_stored", "_zone"),
        *("end", "last", "limit", "quota", "start", "used"),
    )

    def __init__(self, quota: Quota, zone: tzinfo, kept: Iterable[Kept] = ()) -> None:
        """Open an account.

        :param zone: whose days count.
        :param kept: its windows as they were stored.
        """
        self._zone = zone
        #: (start, end) → a window that does not run, in the order in which they were used last.
        self._past: Dict[Tuple[int, int], _Past] = {}
        for each in sorted(kept, key=lambda each: each.last):
            self._past[each.start, each.end] = _Past(each.used, each.said, each.last)
        self.start = self.end = 0
        self.used = self._said = 0
        #: What of ``used`` was used in windows of another zone.
        self._carried = 0
        self.last = 0.0
        #: Whether it has refused anything in this window.
        self._has_refused = False
        #: What is stored of the window that runs, and what was used when it was.
        self._stored = self._grown_from = 0
        self.adopt(quota, zone)

    def adopt(self, quota: Quota, zone: tzinfo) -> None:
        """Go on with another limit, or zone; what is used stays, and the limit counts from the next grant on."""
        if zone is not self._zone:
            self._leave()
            self._zone = zone
        self.quota = quota
        self.limit = quota.limit
        while self._said and self.total < self._share(self._said):
            self._said -= 1  # raised: it may say again
            self._has_refused = False

    @property
    def total(self) -> int:
        """What was used of the quota, wherever."""
        return self.used

    # --- using it -----------------------------------------------------------------------------------------------------

    def reserve(self, count: int, now: float) -> int:
        """Use up to ``count``, and return how much: all of it, or what there is, or 0.

        :param now: seconds since 1970.
        """
        if not self.start <= now < self.end:
            self._turn(now)
        left = self.limit - self.used
        if count > left and self.quota.over != WARN:
            if left <= 0:
                self.refuse()
                return 0
            count = left
        self.used += count
        if now > self.last:
            self.last = now
        return count

    def lack(self, count: int, now: float) -> None:
        """Hear of a use that another account has not enough for yet, and that will be tried again."""

    def refuse(self) -> None:
        """Note that something was refused: what is left is of no use to who asks."""
        self._has_refused = True

    def give_back(self, count: int, start: int) -> None:
        """Take back what was reserved and not used.

        :param start: of the window it was reserved in.
        """
        if start == self.start:
            self.used -= count
            return
        for key, past in self._past.items():
            if key[0] == start:
                self._past[key] = past._replace(used=past.used - count)

    def count(self, count: int, now: float) -> None:
        """Count what has been used already, whatever the limit: bytes of sockets that the kernel carries."""
        if not self.start <= now < self.end:
            self._turn(now)
        self.used += count
        if now > self.last:
            self.last = now

    def left(self, now: float) -> int:
        """Return how much of the window that runs is left. To know, not to use: what is used is reserved."""
        if not self.start <= now < self.end:
            self._turn(now)
        left = self.limit - self.used
        return left if left > 0 else 0

    def at_hand(self, now: float) -> int:
        """Return how much of the window :meth:`reserve` would grant at once."""
        return self.left(now)

    def is_spent(self, now: float) -> bool:
        """Tell whether all of the window is used, which is sure."""
        return not self.left(now)

    def news(self, now: float) -> int:
        """Return :data:`NEAR` or :data:`FULL` where that has been reached, once in a window; else 0.

        ``FULL`` also where something was refused.
        """
        self.left(now)
        total = self.total
        if self._has_refused or (total and total >= self.quota.limit):
            reached = FULL
        else:
            reached = NEAR if total and total >= self._share(NEAR) else 0
        if reached <= self._said:
            return 0
        self._said = reached
        return reached

    def standing(self, now: float) -> Standing:
        """Return how it stands, with a forecast."""
        self.left(now)
        moment = min(max(now, self.start), self.end)
        passed, coming = moment - self.start, self.end - moment
        runs_out: Optional[float] = None
        total, limit = self.total, self.quota.limit
        if total and passed and total < limit:
            seconds = (limit - total) * passed / total
            runs_out = seconds if seconds < coming else None
        elif total >= limit:
            runs_out = 0.0
        return Standing(self.quota, total, self.start, self.end, coming, runs_out)

    def facts(self, app: str, now: float) -> Mapping[str, Any]:
        """Return the facts of a refusal; see :meth:`Standing.facts`."""
        return self.standing(now).facts(app)

    # --- from window to window ----------------------------------------------------------------------------------------

    def _turn(self, now: float) -> None:
        """Go to the window that ``now`` lies in: the one known, as it was left, or a new one."""
        self._leave()
        self.start, self.end = key = window(self.quota.per, now, self._zone)
        own = self._past.pop(key, _NOTHING)
        others = [
            past for (start, end), past in self._past.items() if start < self.end and end > self.start < past.last
        ]
        while len(self._past) > REMEMBERED[self.quota.per]:
            del self._past[next(iter(self._past))]
        self._carried = sum(past.used for past in others)
        self.last = own.last
        self.used = own.used + self._carried
        self._said = max([own.said, *(past.said for past in others)])
        self._stored = self._grown_from = own.used

    def _leave(self) -> None:
        """Remember the window that ran, if anything was used in it."""
        if self.last:
            self._past[self.start, self.end] = _Past(self.used - self._carried, self._said, int(self.last) + 1)
        self.start = self.end = 0
        self.used = self._said = self._carried = 0
        self.last = 0.0
        self._has_refused = False

    def _share(self, said: int) -> float:
        return self.quota.limit if said == FULL else self.quota.limit * self.quota.warn_at

    # --- keeping it ---------------------------------------------------------------------------------------------------

    def keep(self, exact: bool = False) -> Optional[Kept]:
        """Return the window that runs as it is to be stored, or ``None``: what is stored will do.

        What is stored is ahead of what was used, by twice what was used since the last time or a thousandth of the
        limit: an end without a word then counts too much rather than too little, as long as use does not more than
        double from one time to the next.

        :param exact: store what was used, for an end that is foreseen.
        """
        if not self.end:
            return None
        own = self.used - self._carried
        grown, self._grown_from = own - self._grown_from, own
        if exact:
            stored = own
        elif grown > 0 or own > self._stored:
            limit = self.quota.limit
            stored = own + max(2 * grown, limit // _AHEAD)
            if own <= limit:
                stored = min(stored, limit)
        else:
            return None
        if stored == self._stored:
            return None
        self._stored = stored
        return Kept(self.quota.resource, self.quota.per, self.start, self.end, stored, self._said, int(self.last) + 1)
