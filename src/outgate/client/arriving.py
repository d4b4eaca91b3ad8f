"""Make objects of sockets that exist: handed on, duplicates, inherited, or come from another process."""

from __future__ import annotations

import errno
import sys
from _socket import socket as native

from outgate.client import channel, inherit
from outgate.client.calls import c_int
from outgate.client.closing import forget_stale, let_go
from outgate.client.constants import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    IPPROTO_TCP,
    SO_ACCEPTCONN,
    SO_COOKIE,
    SO_TYPE,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)
from outgate.client.state import State, by_cookie, table
from outgate.core.formats import messages

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

_SOCK_SEQPACKET = 5
#: Set on every socket that a gate makes, and by hardly anybody else.
_TCP_FASTOPEN_NO_COOKIE = 34
#: What no lease has for its number: the gate refuses a connect of it as unknown.
_NO_LEASE = 0


def init_from(self: native, family: int, type: int, proto: int, fileno: Any) -> None:
    """Give the object a socket that exists, and find out whether it is one of the gate's."""
    native.__init__(self, family, type, proto, fileno)
    if type != -1 and c_int(type) & SOCK_NONBLOCK:
        native.setblocking(self, False)
    fd = native.fileno(self)
    if _is_for_datagrams(self, fd):
        from outgate.client.relay import udp

        return udp.init_from(self, fd, proto)
    if self.type != SOCK_STREAM or self.family not in (AF_INET, AF_INET6, AF_UNIX):
        return forget_stale(fd)
    known = table.get(fd)
    try:
        cookie = int.from_bytes(native.getsockopt(self, SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)
    except OSError:
        return
    state = by_cookie.get(cookie)
    if state is None and native.getsockopt(self, SOL_SOCKET, messages.RELAY_MARK):
        from outgate.client.relay import carried

        state = carried.adopt(cookie)
    if state is not None and state.is_relay:
        state.ways.become(self, state)
    elif self.family == AF_UNIX:
        return forget_stale(fd)
    if known is not None and known.cookie == cookie:
        return  # handed on by detach()
    if state is not None:  # a dup
        table[fd] = state
        state.fds = max(state.fds, 0) + 1
    else:
        table.pop(fd, None)
        if not _is_in_use(self):
            _adopt(self, cookie)
    if known is not None:
        let_go(known, wait=False)


def _is_for_datagrams(self: native, fd: int) -> bool:
    """Tell whether an fd may be one end of a pair for UDP: it is of a kind that hardly anything else is."""
    state = table.get(fd)
    if state is not None and state.is_datagram:
        return True
    try:
        return native.getsockopt(self, SOL_SOCKET, SO_TYPE) == _SOCK_SEQPACKET
    except OSError:
        return False


def _is_in_use(self: native) -> bool:
    """Tell whether a socket listens or is connected: nothing is left to ask the gate about it."""
    try:
        if native.getsockopt(self, SOL_SOCKET, SO_ACCEPTCONN):
            return True
        native.getpeername(self)
    except OSError as e:
        return e.errno != errno.ENOTCONN
    return True


def _adopt(self: native, cookie: int) -> None:
    """Ask the gate about an unconnected socket of unknown origin: it may be one of its own, whose connect it judges."""
    from outgate.errors import GateError

    try:
        id = channel.request({"op": messages.ADOPT, "cookie": cookie})["sock"]
    except GateError:
        if not native.getsockopt(self, IPPROTO_TCP, _TCP_FASTOPEN_NO_COOKIE):
            return  # somebody else's: the network it was made in decides what it reaches
        id = _NO_LEASE  # made by a gate, which has let go of it
    fd = native.fileno(self)
    table[fd] = by_cookie[cookie] = State(id, cookie, self.family, inherit.count - 1)
