"""Decide which idle sockets of an app may be taken from it (App Engine: "may be reclaimed after 2 minutes")."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Key = TypeVar("Key")

#: Share of the limit of open sockets above which idle ones that a program still holds may be taken.
PRESSURE = 0.8


def is_pressed(opened: int, limit: int) -> bool:
    """Tell whether an app is so near to its limit that idle sockets may be taken from its programs."""
    return opened > PRESSURE * limit


def to_reclaim(idle: Iterable[tuple[Key, float]], timeout: float, opened: int, limit: int) -> list[Key]:
    """Return which sockets to take, longest idle first, until the app is below :data:`PRESSURE` of its limit.

    :param idle: sockets and for how many seconds nothing has moved on each; those with unread bytes left out.
    :param timeout: seconds after which a socket is idle.
    :param opened: how many sockets the app has open.
    :param limit: how many it may have.
    """
    surplus = opened - int(PRESSURE * limit)
    if surplus <= 0:
        return []
    due = sorted(((seconds, key) for key, seconds in idle if seconds >= timeout), key=lambda pair: -pair[0])
    return [key for _, key in due[:surplus]]
