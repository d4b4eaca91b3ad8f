"""Decide how fast sockets may send that the kernel carries, so that a quota is not overrun between two looks at it.

The gate sees what such a socket has sent only when it reads its counter. So in each round all of them together may send
half of what is left; what is left then goes down, and the pace with it, and a burst at the beginning of a window goes
at the speed it would have had. The kernel keeps the pace (SO_MAX_PACING_RATE, socket(7); TCP paces without the fq
scheduler since Linux 4.13).

A pace cannot be nothing, and one that is too low is worse than none: the kernel waits after each packet for as long as
that packet takes at this pace, and looks at a new pace only then. On a path of short round trips a packet is up to 64
KiB (tcp_tso_autosize()). So no pace is lower than one such packet in the time that is left of the window, and where
that would come to little, in less time, so that a limit that is raised is felt soon.
"""

from typing import Final, NamedTuple

__all__ = ["LEAST_CHANGE", "UNPACED", "Pace", "pace"]

#: Bytes of the largest packet that the kernel makes for one socket (GSO_LEGACY_MAX_SIZE).
PACKET: Final = 65536
#: Bytes a second above which a socket is not paced: keeping a pace has its price.
UNPACED: Final = 4_000_000_000
#: Share of what is left that those sockets may send in a second that have just sent, and those that have not.
BUSY_SHARE: Final = 0.4
IDLE_SHARE: Final = 0.1
#: Part of the limit that all the lowest paces of a window together may come to, where that does not make them slower
#: than a packet in the time left.
TRICKLE: Final = 0.02
#: The shortest time for a packet, in seconds.
SHORTEST: Final = 2.0
#: A pace is set anew where it differs by more than this part from the one that is set.
LEAST_CHANGE: Final = 0.1


class Pace(NamedTuple):
    """Bytes a second for each socket that has just sent, and for each that has not; :data:`UNPACED` and above: any."""

    busy: float
    idle: float


def pace(limit: int, left: int, seconds: float, busy: int, idle: int) -> Pace:
    """Return how fast the sockets of an app may send.

    :param limit: bytes of the whole window.
    :param left: bytes that are left of it.
    :param seconds: until the next window.
    :param busy: how many of its sockets have sent since the last look, and ``idle``: how many have not.
    """
    seconds = max(seconds, 1.0)
    sockets = max(busy + idle, 1)
    # How long a packet takes at the lowest pace: with this many sockets, until the window ends, TRICKLE of the limit.
    wait = max(SHORTEST, sockets * PACKET * seconds / max(TRICKLE * limit, 1.0))
    lowest = PACKET / min(wait, seconds)
    return Pace(
        max(left * BUSY_SHARE / max(busy, 1), lowest),
        max(left * IDLE_SHARE / max(idle, 1), lowest),
    )
