"""Make UDP sockets: one end of a pair that the gate made, in an object that knows of the headers.

Its methods come to be called by :mod:`outgate.client.relay.moving` and :mod:`outgate.client.outbound`.
"""

from __future__ import annotations

import errno
import sys
from posix import close as close_natively

from outgate.client import channel, fetching, inherit
from outgate.client.calls import os_error
from outgate.client.closing import forget_stale
from outgate.client.constants import AF_INET, AF_INET6, SO_COOKIE, SOCK_DGRAM, SOL_SOCKET
from outgate.client.relay import datagrams, moving
from outgate.client.relay.destinations import Datagrams
from outgate.client.standin import native  # these are loaded late, when _socket is our own
from outgate.client.state import by_cookie, table
from outgate.core.formats import messages

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

_WIRE_FAMILY = {AF_INET: 4, AF_INET6: 6}


Datagrams.calls = datagrams


def init(self: native, family: int, proto: int) -> None:
    """Give the object a UDP socket that the gate makes for it.

    :raises OSError: EMFILE if this process has no fd left.
    :raises outgate.errors.GateError: if the gate gives this app no sockets, with the reason.
    """
    request = {"op": messages.NEW, "family": _WIRE_FAMILY[family], "count": 1, "kind": "udp"}
    fetching.fetch(request, lambda reply, fds: _take(self, family, proto, reply, fds))


def _take(self: native, family: int, proto: int, reply: dict[str, Any], fds: list[int]) -> None:
    if not fds:
        raise os_error(errno.EMFILE)
    fd = fds[0]
    try:
        native.__init__(self, family, SOCK_DGRAM, proto, fd)
    except BaseException:
        close_natively(fd)
        raise
    forget_stale(fd)
    cookie = reply["cookies"][0]
    table[fd] = by_cookie[cookie] = Datagrams(reply["ids"][0], cookie, family, inherit.count)
    moving.prepare()


def redeemed(id: int, cookie: int, family: int, spawns: int) -> Datagrams:
    """Return what is known of a UDP socket that came by its descriptor; its addresses are asked for when they matter.

    :param spawns: what says that others have it too (:mod:`outgate.client.inherit`).
    """
    state = Datagrams(id, cookie, family, spawns)
    state.is_used = True
    moving.prepare()
    return state


def init_from(self: native, fd: int, proto: int) -> None:
    """Give the object a UDP socket that is there: handed on, a duplicate, or come from another process.

    What is not the gate's stays what it is.
    """
    known = table.get(fd)
    try:
        cookie = int.from_bytes(native.getsockopt(self, SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)
    except OSError:
        return
    if known is None or known.cookie != cookie:
        forget_stale(fd)
        state = by_cookie.get(cookie)
        if state is not None:
            state.fds += 1
        else:
            state = _adopt(cookie)
        if state is None:
            return
        by_cookie[cookie] = table[fd] = state
        known = state
    if self.family != known.family or self.type != SOCK_DGRAM:
        timeout = native.gettimeout(self)
        native.detach(self)
        native.__init__(self, known.family, SOCK_DGRAM, max(proto, 0), fd)
        native.settimeout(self, timeout)
    moving.prepare()


def _adopt(cookie: int) -> Datagrams | None:
    from outgate.errors import GateError

    try:
        reply = channel.request({"op": messages.ADOPT, "cookie": cookie})
    except GateError:
        return None
    if reply.get("kind") != "udp":
        return None
    family = AF_INET if reply["family"] == 4 else AF_INET6
    return Datagrams(reply["sock"], cookie, family, inherit.count - 1)
