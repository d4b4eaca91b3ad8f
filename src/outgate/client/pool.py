"""Keep a few sockets ready that the gate made, so that ``socket()`` needs no round trip.

They are parked at high fd numbers; :func:`take` gives each out under the lowest free one, as the kernel would. The
next batch is asked for before the last is used up, and its reply is read when it is needed.
"""

from __future__ import annotations

import errno
import os
import sys
from _socket import AF_INET, AF_INET6, SOCK_STREAM, SOL_SOCKET
from _socket import socket as _native

from outgate.client import channel, packets
from outgate.core import messages


class Parked:
    """A born socket that nobody uses yet."""

    __slots__ = ("cookie", "fd", "id")

    def __init__(self, fd: int, id: int, cookie: int) -> None:
        self.fd = fd
        self.id = id
        self.cookie = cookie


_parked: dict[int, list[Parked]] = {AF_INET: [], AF_INET6: []}
_owed: dict[int, packets.Channel] = {}
SO_COOKIE = 57
_WIRE_FAMILY = {AF_INET: 4, AF_INET6: 6}
#: Ask for more when this few are left: the answer is there before they are used up.
_LOW = 2


def take(family: int) -> Parked:
    """Return a born socket of the family; its fd still is the parked one.

    :raises OSError: EMFILE if this process has no fd left.
    :raises outgate.errors.GateError: if the gate gives this app no sockets, with the reason.
    """
    parked = _parked[family]
    if len(parked) <= _LOW:
        if not parked:
            _refill(family)
        elif family in _owed:
            _receive_owed(family, wait=False)
        else:
            _owed[family] = _post(family)
    while True:
        try:
            return parked.pop()
        except IndexError:  # other threads took them
            _refill(family)


def _post(family: int) -> packets.Channel:
    count = messages.POOL - len(_parked[family])
    return channel.post({"op": messages.NEW, "family": _WIRE_FAMILY[family], "count": count})


def _refill(family: int) -> None:
    for _ in range(3):
        try:
            owed = _owed.pop(family, None) or _post(family)
            _receive(family, owed, wait=True)
        except packets.Gone:
            channel.forget()
        else:
            return
    from outgate import errors

    raise errors.build("gate-unavailable", {"path": channel.process().path, "why": "it ends every channel"})


def _receive_owed(family: int, wait: bool) -> None:
    owed = _owed.pop(family, None)
    if owed is None:
        return
    try:
        _receive(family, owed, wait)
    except BlockingIOError:
        _owed[family] = owed
    except packets.Gone:
        pass  # found again, and said, when the pool is empty


def _receive(family: int, owed: packets.Channel, wait: bool) -> None:
    before = packets.block_signals()
    try:
        reply, fds = channel.collect(owed, messages.NEW, wait)
        ids, cookies = reply.get("ids", ()), reply.get("cookies", ())
        for fd, id, cookie in zip(fds, ids, cookies):
            _parked[family].append(Parked(packets.park_fd(fd), id, cookie))
    finally:
        packets.unblock_signals(before)
    channel.checked(reply)
    for id in ids[len(fds) :]:  # cut off by this process's fd limit (MSG_CTRUNC); the gate still has them
        channel.one_way({"op": messages.CLOSE, "sock": id, "shared": False})
    if not fds:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def discard(parked: Parked) -> None:
    """Close a parked socket, unless the program has its number by now (``closerange``) for something of its own."""
    try:
        sock = _native(AF_INET, SOCK_STREAM, 0, parked.fd)
    except OSError:
        return
    try:
        ours = sock.getsockopt(SOL_SOCKET, SO_COOKIE, 8) == parked.cookie.to_bytes(8, sys.byteorder)
    except OSError:
        ours = False
    sock.detach()
    if ours:
        os.close(parked.fd)


def _drop() -> None:
    for parked in _parked.values():
        while parked:
            discard(parked.pop())
    while _owed:
        _owed.popitem()[1].drop()


channel.on_lost.append(_drop)
