"""Notice that guarded programs have closed sockets, which nobody says.

The gate keeps a duplicate of each, for its meter and so that it can cut it, so the far end learns of a close when the
gate does. The kernel tells nobody of a close; but the guard knows under which number it gave the socket out, and one
look at ``/proc/PID/fd/N`` tells whether it still is there (some 2 µs). Where it is not, the gate looks who else has it.

Looks come soon after the program did something with sockets, and grow rarer up to :data:`RAREST` as nothing happens.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from outgate.guard.supervision.loop import Loop, seconds_until
from outgate.guard.supervision.member import Member

#: Seconds between looks, and what share of the guard's time they may take.
SOONEST, RAREST = 0.02, 0.25
_SHARE = 0.05


class Given(NamedTuple):
    """A socket that a process has got from the gate.

    :ivar place: where it was put: ``/proc/PID/fd/N``.
    :ivar link: what that link says as long as it is there.
    :ivar gone: called with the cookie when it is not.
    """

    member: Member
    id: int
    cookie: int
    place: str
    link: str
    gone: Callable[[int], object]


class Closes:
    """What was given out and not closed yet."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._given: dict[int, Given] = {}
        self._next = 0.0
        self._pause = self._least = SOONEST
        self._has_stirred = False
        loop.look(self.look)

    def add(self, given: Given) -> None:
        """Look for the close of a socket from now on."""
        self._given[given.cookie] = given
        self.stir()

    def stir(self) -> None:
        """Look soon: something is happening. Not at once, which would wake the loop for each of many."""
        self._has_stirred = True
        if self._next - time.monotonic() > self._least or len(self._given) == 1:
            self._next = time.monotonic() + self._least
            self._loop.hurry()

    def look(self) -> float | None:
        """Tell the gate of those that have gone, and return the seconds until the next look."""
        if not self._given:
            return None
        now = time.monotonic()
        if now < self._next:
            return seconds_until(self._next)
        for given in list(self._given.values()):
            if not is_there(given):
                self._given.pop(given.cookie, None)
                given.gone(given.cookie)
                given.member.closed(given.id)
        self._least = max(SOONEST, (time.monotonic() - now) / _SHARE)
        self._pause = SOONEST if self._has_stirred else min(RAREST, self._pause * 1.5)
        self._has_stirred = False
        pause = max(self._pause, self._least)
        self._next = now + pause
        return pause


def is_there(given: Given) -> bool:
    """Tell whether a socket still is where it was put."""
    try:
        return os.readlink(given.place) == given.link
    except OSError:
        return False
