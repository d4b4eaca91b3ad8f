"""Keep account of a quota that the gates of a fleet share: grant what this one was given, and ask for more in time.

The pool (Redis) knows of each window what every gate holds, used or not, and gives what is left. A gate says what it
holds, never what has changed: so an answer that is lost, a question that is asked twice, a gate that starts again and a
pool that has lost everything are right again with the next question (:class:`outgate.core.quota.pool.Question`).

**What a gate grants.** What it holds (:attr:`SharedAccount.allotted`). Where it has not enough it is *short*: who asks
waits for the pool's answer and is then decided on again. Where the pool is away it grants its reservation on top, for
each window anew, and says afterwards what it has used; but nothing once the pool has said that nothing is left in this
window. So a limit is exceeded only by gates that cannot ask, each by its reservation at most.

**What it holds ahead.** Twice what it has used in the last second, and no more than its share of what is left: half of
that, divided by the gates. What lies idle beyond that it gives back each second. So the nearer the end, the less lies
anywhere where nobody needs it, and nothing when nothing is left.
"""

from datetime import tzinfo
from typing import Any, Final, Iterable, Mapping, Optional

from outgate.core.quota.account import Account, Kept
from outgate.core.quota.pool import Answer, Pool, Question, reserved
from outgate.core.quota.quotas import MOST, WARN, Quota

__all__ = ["SharedAccount", "ahead_of"]

#: Seconds of use that a gate keeps ahead.
_AHEAD: Final = 2


def ahead_of(rate: int, left: int, gates: int) -> int:
    """Return how much a gate may hold that it does not need yet.

    :param rate: what it has used in the last second.
    :param left: what nobody has used, as far as it is known.
    :param gates: among whom that is.
    """
    return min(_AHEAD * rate, left // (2 * max(gates, 1)))


class SharedAccount(Account):
    """One quota of one app, shared with the other gates of a fleet.

    :ivar limit: up to where a call may use it without a look at anything else.
    :ivar allotted: what the pool has given to this gate in the window that runs.
    :ivar elsewhere: what other gates held of it when the pool last answered.
    :ivar room: what nobody held then.
    :ivar gates: how many gates held anything.
    :ivar is_known: whether the pool has answered in this window.
    :ivar is_short: whether the pool may have what the last :meth:`reserve` did not get.
    """

    __slots__ = (
        *("_is_low", "_is_stated", "_lacking", "_pool", "_rate", "_seen", "_seen_in"),
        *("allotted", "elsewhere", "gates", "is_known", "is_short", "room"),
    )

    def __init__(self, quota: Quota, zone: tzinfo, kept: Iterable[Kept], pool: "Pool[SharedAccount]") -> None:
        """Open an account; the rest as :class:`.Account`.

        :param pool: what it has in common with the others of this gate.
        """
        self._pool = pool
        self.allotted = self.elsewhere = self.room = 0
        self.gates = 1
        self.is_known = self.is_short = False
        #: Whether the pool has been told what is held, as far as that is known.
        self._is_stated = False
        #: What was asked for in vain since the last answer, and whether half of what was at hand is used.
        self._lacking = 0
        self._is_low = False
        #: Use in the last second, and how that is found: what was used at the end of it, in which window.
        self._rate = self._seen = self._seen_in = 0
        super().__init__(quota, zone, kept)

    def adopt(self, quota: Quota, zone: tzinfo) -> None:
        super().adopt(quota, zone)
        self._is_stated = False  # with another limit there is other room
        self.room = max(0, quota.limit - self.elsewhere - max(self.allotted, self.used))
        self._mark()

    @property
    def total(self) -> int:
        """What was used by all gates, as far as it is known."""
        return self.elsewhere + self.used

    @property
    def reservation(self) -> int:
        """What may be granted beyond what was given, where the pool is away."""
        return reserved(self.quota.resource, self.quota.limit, self._pool.share)

    # --- using it -----------------------------------------------------------------------------------------------------

    def reserve(self, count: int, now: float) -> int:
        if not self.start <= now < self.end:
            self._turn(now)
        self.is_short = False
        if self.quota.over != WARN:
            ceiling = self._ceiling()
            left = ceiling - self.used
            if count > left:
                self.is_short = self._wants(count - max(left, 0))
                if left <= 0:
                    self.refuse()
                    return 0
                count = left
            elif self.used + count > self.limit and not self._is_low:
                self._is_low = True
                self._pool.want(self)
            self.limit = ceiling
        self.used += count
        if now > self.last:
            self.last = now
        return count

    def lack(self, count: int, now: float) -> None:
        """Have the pool asked for what is not at hand of a use that another account has not enough for.

        So one question is about all that the use is short of; what is given for nothing goes back with the next second.
        """
        if not self.start <= now < self.end:
            self._turn(now)
        missing = count - max(self._ceiling() - self.used, 0)
        if missing > 0 and self.quota.over != WARN:
            self._wants(missing)

    def _wants(self, count: int) -> bool:
        """Have the pool asked for so much; tell whether it may give any."""
        if not self._may_be_given():
            return False
        self._lacking += count
        self._pool.want(self)
        return True

    def refuse(self) -> None:
        if not self.is_short:
            super().refuse()

    def left(self, now: float) -> int:
        """Return how much of the window may be used here, as far as that is known, and others have no better claim."""
        if not self.start <= now < self.end:
            self._turn(now)
        if self.quota.over == WARN:
            return max(0, self.quota.limit - self.total)
        left = self._ceiling() - self.used
        if not self._pool.is_away:
            left += self.room // self.gates if self.is_known else self.quota.limit - self._ceiling()
        return max(left, 0)

    def at_hand(self, now: float) -> int:
        if not self.start <= now < self.end:
            self._turn(now)
        return max(0, self._ceiling() - self.used)

    def is_spent(self, now: float) -> bool:
        if not self.start <= now < self.end:
            self._turn(now)
        if self.used >= self.quota.limit:
            return True
        return self.is_known and not self.room and self.used >= self.allotted

    def _may_be_given(self) -> bool:
        """Whether the pool can be asked, and may have something."""
        return not self._pool.is_away and self.used < self.quota.limit and (self.room > 0 or not self.is_known)

    def _ceiling(self) -> int:
        """Return up to where this gate may use it; where others have left nothing a reservation is of nothing."""
        if not self._pool.is_away:
            return self.allotted
        return max(self.allotted, min(self.allotted + self.reservation, self.quota.limit - self.elsewhere))

    def _mark(self) -> None:
        """Set the limit that calls go by: where half of what is at hand is used, one of them has more asked for."""
        if self.quota.over == WARN:
            self.limit = MOST
            return
        self.limit = self._ceiling()
        self._is_low = False
        if self._rate and self.room and not self._pool.is_away and self.limit > self.used:
            self.limit -= (self.limit - self.used) // 2

    def _turn(self, now: float) -> None:
        super()._turn(now)
        self.allotted = self.elsewhere = self.room = self._lacking = 0
        self.gates = 1
        self.is_known = self._is_stated = False
        self._mark()

    # --- the pool -----------------------------------------------------------------------------------------------------

    def ask(self, now: float, *, looks: bool = False, states: bool = False) -> Optional[Question]:
        """Return what is to be said and asked, or ``None`` where there is no cause. What it gives back it has no more.

        :param looks: a second has passed: what lies idle is given back.
        :param states: there is cause whatever it is.
        """
        if not self.start <= now < self.end:
            self._turn(now)
        if looks:
            self._look()
        need, self._lacking = self._lacking, 0
        idle = max(0, self.allotted - self.used)
        if self.quota.over == WARN:
            keeps = ahead = need = 0
        else:
            ahead = _AHEAD * self._rate
            keeps = min(idle, ahead_of(self._rate, self.room + idle, self.gates)) if looks else idle
            ahead = max(0, ahead - keeps) if self.room or not self.is_known else 0
        holds = self.used + keeps
        # Where nothing was left others may have given something back since.
        is_news = holds != self.allotted or not self._is_stated or not self.room
        if not (states or need or (self._is_low and ahead) or (looks and (is_news or ahead))):
            return None
        if holds < self.allotted:
            self.allotted = holds
        self._is_stated = self._is_low = False
        self.limit = min(self.limit, self._ceiling()) if self.quota.over != WARN else MOST
        return Question(self.start, self.end, holds, need, ahead, self.quota.limit)

    def _look(self) -> None:
        """See what was used since the last look; in a new window it is taken to go on as before."""
        if self._seen_in == self.start:
            self._rate = max(0, self.used - self._seen)
        else:
            self._rate = max(self._rate, self.used)
        self._seen, self._seen_in = self.used, self.start

    def hear(self, question: Question, answer: Answer) -> None:
        """Go on with what the pool has answered; to a question about an earlier window it is nothing."""
        if question.start != self.start:
            return
        self.allotted = question.holds + answer.granted
        self.elsewhere = max(0, answer.total - self.allotted)
        self.room = max(0, self.quota.limit - answer.total)
        self.gates = max(1, answer.gates)
        self.is_known = self._is_stated = True
        self._lacking = 0  # who waits asks anew
        self.is_short = False
        self._mark()

    def lost(self) -> None:
        """Note that the pool does not answer, or does again: what was said last may not have been heard."""
        self._is_stated = self.is_short = False
        self._lacking = 0
        self._mark()

    def last_word(self) -> Optional[Question]:
        """Return what a gate that ends says of the window: what it has used, and that the rest is others'."""
        if not self.end or not (self.used or self.allotted):
            return None
        return Question(self.start, self.end, self.used, 0, 0, self.quota.limit)

    def facts(self, app: str, now: float) -> Mapping[str, Any]:
        facts = super().facts(app, now)
        if not self._pool.is_away or self.is_spent(now):
            return facts
        why = "fleet.state does not answer, and what this gate may grant meanwhile is used"
        return {**facts, "use": f"{facts['use']} as far as it is known ({why})"}
