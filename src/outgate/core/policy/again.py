"""Judge a connection again that was opened under an earlier policy, or may be under a later one.

The question is always the same: would this very connect be let through now? So it is put as it was put then, with the
host that was asked for, the address that was dialled, and the name that opened it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from outgate.core.name import names
from outgate.core.policy.decide import ALLOW, REPORT, Ask, Decision, Policy, Transport, could_resolve, decide

__all__ = ["Opened", "again", "is_overruled"]


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
        ask = Ask(policy.app, opened.transport, opened.host, opened.address, opened.port, name, opened.scope)
        decision = decide(policy, ask)
        if before.verdict == REPORT and decision.verdict == ALLOW:
            return before._replace(address_class=decision.address_class)
        return decision
    if name and name not in bound:
        bound = (name, *bound)
    ask = Ask(policy.app, opened.transport, opened.host, opened.address, opened.port, None, opened.scope, bound)
    return decide(policy, ask)


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
