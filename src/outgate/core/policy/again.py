"""Judge a connection again that was opened under an earlier policy, or may be under a later one.

The question is always the same: would this very connect be let through now? So it is put as it was put then, with the
host that was asked for, the address that was dialled, and the name that opened it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple, Optional

from outgate.core.name import names
from outgate.core.policy.decide import (
    ALLOW,
    REPORT,
    Ask,
    Decision,
    Policy,
    Transport,
    could_resolve,
    decide,
    lets_through,
)

__all__ = ["Again", "Opened", "Question", "again", "is_overruled"]

#: The facts of an opening over TCP that a decision depends on: (host, port) asked for, address, name; see
#: :class:`Opened`.
Question = tuple[tuple[str, int], str, str]


class Opened(NamedTuple):
    """The facts of an opening, as a lease or the decision log has them.

    :ivar host: what the program asked for, as it wrote it.
    :ivar address: that was dialled; ``""`` where a name was refused before it was looked up.
    :ivar name: the canonical name that it was judged as: asked for, or bound to the address; ``""`` for none.
    :ivar scope: the interface of a link-local address.
    """

    transport: Transport
    host: str
    address: str
    port: int
    name: str = ""
    scope: int = 0


def again(policy: Policy, opened: Opened, bound: tuple[str, ...] = ()) -> Decision:
    """Return the decision that a policy makes on a connection that was opened.

    One that was asked for by name is judged as that name, and whether the name may be looked up comes first, as it did
    then. One by address is judged with the name that opened it, and those that are bound to it now. Narrowings are left
    out: a program cannot take them back, so what they let through once they still do.

    :param policy: the app's.
    :param bound: canonical names that the app's look-ups bind to the address now.
    :raises ValueError: the address is none.
    """
    name = opened.name
    if name and is_asked_by(opened.host, name):
        before = could_resolve(policy, name, opened.transport, opened.port)
        if before.denied or not opened.address:
            return before
        decision = decide(policy, _ask(policy, opened, name))
        if before.verdict == REPORT and decision.verdict == ALLOW:
            return before._replace(address_class=decision.address_class)
        return decision
    return decide(policy, _ask(policy, opened, None, bound))


def _passes(policy: Policy, opened: Opened, bound: tuple[str, ...]) -> bool:
    """Tell whether :func:`again` allows, with the same arguments."""
    name = opened.name
    if name and is_asked_by(opened.host, name):
        if could_resolve(policy, name, opened.transport, opened.port).verdict != ALLOW:
            return False
        return not opened.address or lets_through(policy, _ask(policy, opened, name))
    return lets_through(policy, _ask(policy, opened, None, bound))


def _ask(policy: Policy, opened: Opened, name: str | None, bound: tuple[str, ...] = ()) -> Ask:
    """Return the question that was put then, by name, or by address with the name that opened it."""
    if name is None and opened.name and opened.name not in bound:
        bound = (opened.name, *bound)
    return Ask(policy.app, opened.transport, opened.host, opened.address, opened.port, name, opened.scope, bound)


class Again(dict[Question, Optional[Decision]]):
    """What one policy says of connections over TCP, each question judged once: many connections are few questions.

    Asked as a dict is, ``found[question]``. The answer is that of :func:`again`, or ``None`` where it lets through
    without a word, for that is most of them and the same for all. It holds as of when the question was first put, so
    an object is for one round.

    :param bound: returns the canonical names that are bound to an address now.
    """

    __slots__ = ("_bound", "_policy")

    def __init__(self, policy: Policy, bound: Callable[[str], tuple[str, ...]]) -> None:
        super().__init__()
        self._policy = policy
        self._bound = bound

    def __missing__(self, question: Question) -> Decision | None:
        (host, port), address, name = question
        opened = Opened("tcp", host, address, port, name)
        bound = self._bound(address)
        # Most are let through, and to find that alone is a third of the work.
        answer = self[question] = None if _passes(self._policy, opened, bound) else again(self._policy, opened, bound)
        return answer


def is_overruled(before: str, now: str) -> bool:
    """Tell whether a verdict is worse than the one before: denied, or reported where it was allowed.

    >>> is_overruled("allow", "report"), is_overruled("report", "report"), is_overruled("deny", "allow")
    (True, False, False)
    """
    return _RANK[now] > _RANK[before]


#: How far a verdict is from letting through without a word.
_RANK: Final = {"allow": 0, "report": 1, "deny": 2}


@lru_cache(maxsize=4096)
def is_asked_by(host: str, name: str) -> bool:
    """Tell whether a host that was asked for is this name, and not an address that the name was bound to."""
    try:
        return names.canonical(host) == name
    except ValueError:
        return False
