"""Decide which idle sockets of an app may be taken from it (App Engine: "may be reclaimed after 2 minutes")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Key = TypeVar("Key")

#: What an app may say of its idle sockets: taken where it comes near its limit, or wherever they are.
PRESSURE, ALWAYS = "pressure", "always"

#: Share of the limit of open sockets above which idle ones that a program still holds may be taken.
SHARE = 0.8


def is_pressed(opened: int, limit: int) -> bool:
    """Tell whether an app is so near to its limit that idle sockets may be taken from its programs."""
    return opened > SHARE * limit


def to_reclaim(idle: Iterable[tuple[Key, float]], timeout: float, opened: int, limit: int) -> list[Key]:
    """Return which sockets to take, longest idle first, until the app is below :data:`SHARE` of its limit.

    :param idle: sockets and for how many seconds nothing has moved on each; those with unread bytes left out.
    :param timeout: seconds after which a socket is idle.
    :param opened: how many sockets the app has open.
    :param limit: how many it may have.
    """
    surplus = opened - int(SHARE * limit)
    if surplus <= 0:
        return []
    due = sorted(((seconds, key) for key, seconds in idle if seconds >= timeout), key=lambda pair: -pair[0])
    return [key for _, key in due[:surplus]]


def limit_for(timeout: float, told: Iterable[float]) -> float | None:
    """Return after how many seconds a socket is taken where idle ones always are, or ``None`` for not at all.

    Who has it must know, to say that it is in use. What a program was told before the configuration was read again
    holds for its sockets, unless the limit has grown.

    :param timeout: seconds that the configuration says now.
    :param told: the same, as those were told that have it; 0 for one that was told nothing.
    """
    limit = timeout
    for each in told:
        if not each:
            return None
        limit = max(limit, each)
    return limit


def next_look(nearest: float | None, timeout: float) -> float:
    """Return in how many seconds to look again: a socket goes at most a second, or a tenth of its limit, too late.

    :param nearest: seconds until the first of those looked at is due; ``None`` where there is none.
    :param timeout: the shortest limit of any app: what is opened from now on is not due before.
    """
    step = max(0.02, min(1.0, timeout / 10))
    return max(step, min(timeout if nearest is None else nearest, timeout))
