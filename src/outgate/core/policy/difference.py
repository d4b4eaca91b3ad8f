"""Say which connections one policy lets through and another does not.

Each connection is judged twice as what it was, under the policies before and after (:mod:`outgate.core.policy.again`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Union

from outgate.core.policy.again import Opened, again, is_overruled
from outgate.core.policy.decide import Policy, could_allow, could_resolve
from outgate.core.policy.decision import DENY

__all__ = ["DIRECTIONS", "Change", "Judgement", "Withheld", "compare"]

#: What may become of a connection, the worst first: what is refused now, what would be but for report mode, what is not
#: any more.
NEWLY_DENIED: Final = "newly-denied"
NEWLY_REPORTED: Final = "newly-reported"
NEWLY_ALLOWED: Final = "newly-allowed"
DIRECTIONS: Final = (NEWLY_DENIED, NEWLY_REPORTED, NEWLY_ALLOWED)


class Withheld(NamedTuple):
    """An app that gets no sockets at all, or is not there.

    :ivar rule: what decides, as in ``billing``.
    :ivar reason: why, in a sentence.
    :ivar cure: what would permit it, ``""`` for nothing.
    """

    rule: str
    reason: str
    cure: str = ""


class Judgement(NamedTuple):
    """What one side says of a connection; the fields are those of a decision."""

    verdict: str
    rule: str
    place: str = ""
    reason: str = ""
    cure: str = ""


class Change(NamedTuple):
    """One destination whose verdict changes.

    :ivar direction: one of :data:`DIRECTIONS`.
    :ivar times: how many connections and attempts there were.
    :ivar last: time of the latest, as the log has it.
    """

    direction: str
    app: str
    opened: Opened
    times: int
    last: str
    before: Judgement
    after: Judgement


#: A policy, or why there is none.
Side = Union[Policy, Withheld]


def compare(
    before: Mapping[str, Side], after: Mapping[str, Side], seen: Iterable[tuple[str, Opened, int, str]]
) -> list[Change]:
    """Return the changes, those that are newly denied first, and of each direction the most frequent first.

    :param before: app → its policy; an app that is not there gets nothing.
    :param seen: (app, what was opened, how often, when last).
    """
    changes = []
    for app, opened, count, last in seen:
        old, new = _judge(before, app, opened), _judge(after, app, opened)
        direction = _direction(old.verdict, new.verdict)
        if direction:
            changes.append(Change(direction, app, opened, count, last, old, new))
    changes.sort(key=lambda each: (DIRECTIONS.index(each.direction), -each.times, each.app, each.opened))
    return changes


def _direction(before: str, after: str) -> str:
    if before == after:
        return ""
    if after == DENY:
        return NEWLY_DENIED
    return NEWLY_REPORTED if is_overruled(before, after) else NEWLY_ALLOWED


def _judge(side: Mapping[str, Side], app: str, opened: Opened) -> Judgement:
    policy = side.get(app)
    if policy is None:
        return Judgement(DENY, "no app", "", f"there is no app {app!r}", f"to permit: an app {app!r}")
    if isinstance(policy, Withheld):
        return Judgement(DENY, policy.rule, "", policy.reason, policy.cure)
    if not opened.port:  # a look-up
        decision = could_resolve(policy, opened.name)
        if opened.address and not decision.denied:
            decision = could_allow(policy, None, opened.address, host=opened.host, name=opened.name or None)
    elif opened.address:
        decision = again(policy, opened)
    else:  # refused by its name alone: how it would have gone on is not known
        decision = could_resolve(policy, opened.name, opened.transport, opened.port)
    return Judgement(decision.verdict, decision.rule, decision.place, decision.reason, decision.cure or "")
