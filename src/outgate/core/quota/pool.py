"""Say what the gates of a fleet have in common of a quota, and how much of it one grants where it cannot ask."""

from typing import Callable, Final, Generic, List, Mapping, NamedTuple, Set, TypeVar

from outgate.core.quota.quotas import BYTES

__all__ = ["LEAST", "RESERVATION", "Answer", "Pool", "Question", "reserved"]

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


class Question(NamedTuple):
    """What a gate says of a window, and asks for in it.

    :ivar start: first second of the window; ``end``: the first after it.
    :ivar holds: what the gate has of it, used or not; what it had beyond that it gives back.
    :ivar need: what is waited for, given as far as there is any.
    :ivar ahead: what it may use soon, of which it gets a share of what is left.
    :ivar limit: the quota's, as this gate has it.
    """

    start: int
    end: int
    holds: int
    need: int
    ahead: int
    limit: int


class Answer(NamedTuple):
    """What comes back.

    :ivar granted: beyond what the gate has said that it holds.
    :ivar total: what all gates hold with that.
    :ivar gates: how many hold anything, or have asked just now.
    """

    granted: int
    total: int
    gates: int


_Account = TypeVar("_Account")


class Pool(Generic[_Account]):
    """What the shared accounts of a gate have in common: whether the pool answers, and who wants to ask it.

    :ivar is_away: whether it does not answer.
    :ivar share: of a limit that may be granted meanwhile.
    :ivar hungry: accounts that want to ask before the next second.
    """

    __slots__ = ("_wake", "hungry", "is_away", "share")

    def __init__(self, share: float, wake: Callable[[], object]) -> None:
        """Begin with a pool that has not answered yet, and is waited for.

        :param wake: called when somebody wants to ask; it must not ask there and then.
        """
        self._wake = wake
        self.is_away = False
        self.share = share
        self.hungry: Set[_Account] = set()

    def want(self, account: _Account) -> None:
        """Have an account asked about soon."""
        if not self.hungry:
            self._wake()
        self.hungry.add(account)

    def take_hungry(self) -> List[_Account]:
        """Return who wants to ask, and begin anew."""
        found = list(self.hungry)
        self.hungry.clear()
        return found
