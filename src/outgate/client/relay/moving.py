"""Put methods of ours before C's ``recv`` and ``send`` as soon as the process has a relayed socket.

Until then they are C's own, at C's speed. They are put into the class, and not into a class of its own for each such
socket: libraries compare the type of what they are given with ``socket.socket``, and call methods by the class.
"""

from __future__ import annotations

import errno
import os
from select import POLLOUT, poll

from outgate.client import standin
from outgate.client.calls import os_error
from outgate.client.outbound import carrying
from outgate.client.state import BORN, CONNECTED, table

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any, Callable

_CALLS = ("recv", "recv_into", "send", "sendall")
_is_ready = False


def prepare() -> None:
    """See to it that the methods of all sockets know of relayed ones."""
    global _is_ready
    if not _is_ready:
        _is_ready = True
        for call in _CALLS:
            method = carrying(call)
            for cls in standin.targets:
                setattr(cls, call, method)
        if hasattr(os, "sendfile"):
            os.sendfile = _sendfile(os.sendfile)


def _sendfile(native: Callable[..., int]) -> Callable[..., int]:
    """Return an ``os.sendfile``, which ``socket.sendfile`` calls, that puts nothing into a pair before its time."""

    def sendfile(out_fd: Any, *args: Any, **kwargs: Any) -> int:
        state: Any = table.get(out_fd) if isinstance(out_fd, int) else None
        if state is not None and state.is_relay and state.phase != CONNECTED:
            _await_sending(out_fd, state)
        return native(out_fd, *args, **kwargs)

    sendfile.__name__ = sendfile.__qualname__ = "sendfile"
    sendfile.__doc__ = native.__doc__
    return sendfile


def _await_sending(fd: int, state: Any) -> None:
    """Wait until a socket is connected, if it waits at all, as a send does (tcp(7)).

    :raises OSError: EAGAIN, EPIPE or how the connect has ended; EINVAL for UDP, where a header would be missing: who
        gets that from sendfile(2) reads and sends.
    """
    if state.is_datagram:
        raise os_error(errno.EINVAL)
    number = state.ways.harvest(state)
    if number == errno.EINPROGRESS and os.get_blocking(fd):
        waiting = poll()
        waiting.register(fd, POLLOUT)
        waiting.poll()
        number = state.ways.harvest(state)
    if number or state.phase == BORN:
        raise os_error({0: errno.EPIPE, errno.EINPROGRESS: errno.EAGAIN}.get(number, number))
