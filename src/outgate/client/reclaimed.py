"""Say that an idle socket was reclaimed, where a call of ours comes upon it: the kernel has an end of file and EPIPE.

Nothing is asked of the gate as long as the socket does not look as if it were over.
"""

from __future__ import annotations

from _socket import socket as native
from select import poll

from outgate.client import channel, inherit
from outgate.client.constants import IPPROTO_TCP
from outgate.client.state import BORN, CONNECTED, table
from outgate.core.formats import messages

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

    from outgate.client.state import State

_TCP_INFO = 11
_TCP_CLOSE = 7
#: States of TCP in which this side has sent its end of file, which it was the gate that did where it reclaimed.
_SHUT = frozenset((4, 5, 6, 9, 11))


def check(self: native, state: State) -> None:
    """Raise the reason if the gate has reclaimed this socket.

    :raises outgate.errors.LeaseReclaimed: it was idle, with for how long.
    """
    if _is_over(self, state):
        error = why(state)
        if error is not None:
            raise error


def check_ex(self: native, state: State) -> int:
    """Return the errno of what :func:`check` raises, and 0 if it raises nothing."""
    error: Any = why(state) if _is_over(self, state) else None
    return error.errno if error is not None else 0


def _is_over(self: native, state: State) -> bool:
    if state.is_relay:
        if state.phase != CONNECTED and not state.is_datagram:
            return False
        waiting = poll()
        waiting.register(native.fileno(self), 0)
        return bool(waiting.poll(0))
    if state.phase == BORN:
        return False
    number = native.getsockopt(self, IPPROTO_TCP, _TCP_INFO, 1)[0]
    return number in _SHUT or (number == _TCP_CLOSE and state.phase == CONNECTED)


def why(state: State) -> Exception | None:
    """Return the reason if the gate has reclaimed this socket, else ``None``: it lives, or nobody can say."""
    from outgate.errors import GateError

    try:
        channel.request({"op": messages.TOUCH, "socks": [state.id]})
    except GateError as e:
        return e if e.code in ("lease-idle", "taken", "cut") else None
    return None


def unless_taken(state: State) -> None:
    """Raise the reason for an end of file if another process has taken the connection for itself alone.

    The kernel tells only one of those that had it of the reset; the others see an end that looks like a good one.

    :raises outgate.errors.ConnectionCut: it was taken.
    """
    if state.spawns != inherit.count:  # nobody else could have passed it on
        error = why(state)
        if error is not None and getattr(error, "code", "") == "taken":
            raise error


def instead_of(error: OSError, self: native) -> BaseException:
    """Return what to raise for an EPIPE: the reason if the gate has reclaimed this socket, else the error itself."""
    state = table.get(native.fileno(self))
    reason = None if state is None or hasattr(error, "code") else why(state)
    return error if reason is None else reason
