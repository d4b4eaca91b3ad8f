"""The life of a lease as a table: which event may follow in which state, and where it leads."""

from types import MappingProxyType
from typing import Mapping

# States.
BORN = "born"  #: made by the gate, not connected; no lease yet, only the promise of one
DIALLED = "dialled"  #: the gate has begun a connect, the kernel has not said how it ended
OPEN = "open"  #: connected
FAILED = "failed"  #: the dial failed or the connection was reset; the program may dial again on the same socket
ENDED = "ended"  #: metered for the last time and closed

STATES = (BORN, DIALLED, OPEN, FAILED, ENDED)

# Events.
DIAL = "dial"  #: a connect has begun
CONNECTED = "connected"  #: the kernel says that it has succeeded
RESET = "reset"  #: refused, timed out, or reset after it was connected: the kernel has the socket unconnected again
END = "end"  #: its last holder has closed it or ended, or the gate takes it or goes

EVENTS = (DIAL, CONNECTED, RESET, END)

TRANSITIONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        BORN: {DIAL: DIALLED, END: ENDED},
        DIALLED: {CONNECTED: OPEN, RESET: FAILED, END: ENDED},
        OPEN: {RESET: FAILED, END: ENDED},
        FAILED: {DIAL: DIALLED, END: ENDED},
        ENDED: {},
    }
)


def may_hold(held: int, count: int, limit: int) -> bool:
    """Tell whether an app that holds ``held`` sockets may have ``count`` more under its limit."""
    return held + count <= limit


def share(descriptors: int, apps: int) -> int:
    """Return how many sockets the gate can hold for each of its apps; a quarter is for channels, log and listener.

    :param descriptors: how many file descriptors the gate may have (RLIMIT_NOFILE).
    :param apps: how many apps share them.
    """
    return max(1, (descriptors - descriptors // 4) // max(1, apps))
