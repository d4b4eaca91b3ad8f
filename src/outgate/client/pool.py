"""Keep a few sockets ready that the gate made, so that ``socket()`` needs no round trip.

They are parked at high fd numbers, and given out under the lowest free one, as the kernel would. The next batch is
asked for before the last is used up, and its reply is read when it is needed.
"""

from __future__ import annotations

import errno
import os
import sys
from _socket import socket as _native
from _thread import RLock
from posix import close as close_natively  # os.close looks for the program's sockets

from outgate.client import channel, packets
from outgate.client.constants import AF_INET, AF_INET6, SO_COOKIE, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET
from outgate.client.held import HANDLED, SIG_BLOCK, SIG_SETMASK, sigmask
from outgate.core.formats import messages


class Parked:
    """A born socket that nobody uses yet."""

    __slots__ = ("cookie", "fd", "id", "is_relay")

    def __init__(self, fd: int, id: int, cookie: int, is_relay: bool) -> None:
        self.fd = fd
        self.id = id
        self.cookie = cookie
        #: Whether the gate carries its bytes.
        self.is_relay = is_relay


_parked: dict[int, list[Parked]] = {AF_INET: [], AF_INET6: []}
#: Channels on which a batch is on its way.
_owed: dict[int, list[packets.Channel]] = {AF_INET: [], AF_INET6: []}
_WIRE_FAMILY = {AF_INET: 4, AF_INET6: 6}
#: One refill at a time. Re-entrant: a signal handler may want a socket while its thread waits for one.
_locks = {AF_INET: RLock(), AF_INET6: RLock()}
#: Ask for more when this few are left: the answer is there before they are used up.
_LOW = 2


def prepare(family: int) -> None:
    """See to it that a born socket of the family is there, waiting for the gate if need be.

    A signal handler that raises interrupts only the wait, and the batch is still owed to us afterwards.

    :raises OSError: EMFILE if this process has no fd left.
    :raises outgate.errors.GateError: if the gate gives this app no sockets, with the reason.
    """
    if not channel.is_gate_alive():
        channel.forget()  # what a dead gate made cannot be dialled
    parked, owed = _parked[family], _owed[family]
    if len(parked) > _LOW:
        return
    if parked:  # not urgent: what goes wrong here is found again, and said, when the last one is used up
        if not _locks[family].acquire(False):
            return  # another thread sees to it
        try:
            if not owed:
                _ask(family)
            elif owed[-1].is_ours():
                _take_in(family, owed.pop())
            else:
                owed.pop().drop()
        except (IndexError, OSError, packets.Gone):  # what is said where it matters
            pass
        finally:
            _locks[family].release()
        return
    with _locks[family]:  # one thread asks, the others find what came
        _fill(family)


def _fill(family: int) -> None:
    """Wait until there is a born socket."""
    parked, owed = _parked[family], _owed[family]
    ended = 0
    while not parked:
        try:
            batch = owed.pop()
        except IndexError:
            _ask(family)
            continue
        if not batch.is_ours():  # closerange
            batch.drop()
            continue
        try:
            batch.wait(messages.NEW)
        except BlockingIOError:
            batch.drop()
            raise channel.late(messages.NEW) from None
        except BaseException:
            owed.append(batch)
            raise
        if not _take_in(family, batch):
            ended += 1
            if ended == 3:
                raise channel.unavailable("gate-unavailable", why="it ends every channel")


def take(family: int) -> Parked | None:
    """Return a born socket, its fd still the parked one, or ``None`` if other threads took them all."""
    try:
        return _parked[family].pop()
    except IndexError:
        return None


def _ask(family: int) -> None:
    count = max(1, messages.POOL - len(_parked[family]))
    mask = sigmask(SIG_BLOCK, ())
    try:
        sigmask(SIG_BLOCK, HANDLED)
        _owed[family].append(channel.post({"op": messages.NEW, "family": _WIRE_FAMILY[family], "count": count}))
    finally:
        sigmask(SIG_SETMASK, mask)


def _take_in(family: int, batch: packets.Channel) -> bool:
    """Take in a batch that is owed, or owe it again if it has not come; return whether its gate still lives."""
    mask = sigmask(SIG_BLOCK, ())
    try:
        sigmask(SIG_BLOCK, HANDLED)
        try:
            reply, fds = channel.collect(batch, messages.NEW)
        except BlockingIOError:
            _owed[family].append(batch)
            return True
        except packets.Gone:
            channel.forget()
            return False
        ids = reply.get("ids", ())
        high = packets.high()
        for fd, id, cookie in zip(fds, ids, reply.get("cookies", ())):
            _parked[family].append(Parked(packets.park_fd(fd, high), id, cookie, bool(reply.get("relay"))))
        channel.checked(reply)
        for id in ids[len(fds) :]:  # cut off by this process's fd limit (MSG_CTRUNC); the gate still has them
            channel.one_way({"op": messages.CLOSE, "sock": id, "shared": False})
        if not fds:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return True
    finally:
        sigmask(SIG_SETMASK, mask)


def discard(parked: Parked) -> None:
    """Close a parked socket, unless the program has its number by now (``closerange``) for something of its own."""
    try:
        # With the flag C leaves the file alone; without it, socket.setdefaulttimeout() would make the file, which a
        # forked child shares with its parent's pool, non-blocking.
        sock = _native(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0, parked.fd)
    except OSError:
        return
    try:
        ours = sock.getsockopt(SOL_SOCKET, SO_COOKIE, 8) == parked.cookie.to_bytes(8, sys.byteorder)
    except OSError:
        ours = False
    sock.detach()
    if ours:
        close_natively(parked.fd)


def _drop() -> None:
    for parked in _parked.values():
        while parked:
            discard(parked.pop())
    for owed in _owed.values():
        while owed:
            owed.pop().drop()


def _renew_locks() -> None:
    for family in _locks:
        _locks[family] = RLock()  # another thread of the parent may have held it


channel.on_lost.append(_drop)
channel.on_fork.append(_renew_locks)
