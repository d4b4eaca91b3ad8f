"""Answer for the TCP sockets of guarded programs: their birth, and their connects.

:meth:`Tcp.connect` is the one to read first. The gate decides and dials on its duplicate of the same open file; the
guard never dials. It *harvests*: a connect(2) to an address that nobody can connect to, a multicast one, tells how a
dial in progress has ended, changes the socket's state as the program's own connect would, and where there is no dial in
progress fails without a packet (``tcp_v4_connect``, ``tcp_v6_connect``: ENETUNREACH).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
import sys
import time
from _socket import AF_INET, AF_INET6, IPPROTO_TCP, SOL_SOCKET, inet_ntop
from _socket import socket as native
from collections.abc import Callable
from typing import Any

from outgate.core.formats import messages
from outgate.core.guard import filter as rules
from outgate.core.guard import sockaddr
from outgate.guard.supervision.closes import Closes, Given
from outgate.guard.supervision.member import Member
from outgate.guard.supervision.notify import Call, Gone, Listener
from outgate.guard.supervision.tree import Tree
from outgate.guard.supervision.waiting import Wait, Waiting

_SO_COOKIE, _SO_SNDTIMEO, _TCP_INFO = 57, 21, 11
_TIMEVAL = struct.Struct("@ll")
_NOWHERE: dict[int, tuple[Any, ...]] = {AF_INET: ("224.0.0.1", 9), AF_INET6: ("ff02::1", 9, 0, 0)}
#: What a connect there says where no dial is in progress: of any socket, and of one that the gate has sealed.
_NOT_DIALLED = (-errno.ENETUNREACH, -errno.EPERM)
#: The state of a socket that has no connection (``TCP_CLOSE``).
_CLOSE = 7

#: Not dialled, or the failure of its dial was said; dialled, and how that ends was not said yet; its success was said.
FRESH, DIALLED, JOINED = range(3)


class Held:
    """A socket that a program has from the gate.

    :ivar member: the process that it was made for.
    """

    __slots__ = ("id", "member", "phase")

    def __init__(self, member: Member, id: int) -> None:
        self.member = member
        self.id = id
        self.phase = FRESH


class Tcp:
    """The TCP sockets of one tree.

    :param waits: called before we wait for the far end.
    """

    def __init__(
        self, listener: Listener, tree: Tree, waiting: Waiting, closes: Closes, waits: Callable[[], None]
    ) -> None:
        self._listener = listener
        self._tree = tree
        self._waiting = waiting
        self._closes = closes
        self._waits = waits
        self._held: dict[int, Held] = {}

    # --- birth --------------------------------------------------------------------------------------------------------

    def socket(self, call: Call, process: int) -> int | None:
        """Give a thread a socket that the gate made. Raises :class:`Refused`, :class:`Gone`, ``OSError``."""
        member = self._tree.member(process)
        version = 4 if call.integer(0) == rules.INET else 6
        kind = call.integer(1)
        born = member.take(version)
        try:
            if kind & rules.NONBLOCK:
                fcntl.fcntl(born.fd, fcntl.F_SETFL, fcntl.fcntl(born.fd, fcntl.F_GETFL) | os.O_NONBLOCK)
            self._held[born.cookie] = Held(member, born.id)
            number = self._listener.give(call.id, born.fd, os.O_CLOEXEC if kind & rules.CLOEXEC else 0)
        except (Gone, OSError):
            self._forget(born.cookie)
            os.close(born.fd)
            member.closed(born.id)
            raise
        os.close(born.fd)
        place = f"/proc/{process}/fd/{number}"
        self._closes.add(Given(member, born.id, born.cookie, place, born.link, self._forget))
        member.refill(version)
        return None

    def _forget(self, cookie: int) -> None:
        self._held.pop(cookie, None)  # whoever still has it in another place is asked about by its cookie

    # --- connect ------------------------------------------------------------------------------------------------------

    def connect(self, call: Call, process: int, sock: native, raw: bytes) -> int | None:
        """Answer a connect: have the gate dial, or say what has become of its dial.

        :param sock: a duplicate of the program's.
        :param raw: the address as it was in memory when it was read, once.
        :returns: the answer, ``None`` where it is given later; the duplicate is not the caller's any more then.
        """
        cookie = int.from_bytes(sock.getsockopt(SOL_SOCKET, _SO_COOKIE, 8), sys.byteorder)
        held = self._held.get(cookie)
        has_connection = _state(sock) != _CLOSE
        family = sockaddr.family_of(raw)
        if family == sockaddr.UNSPECIFIED:  # a disconnect: the kernel would forget what it has counted
            return -errno.EACCES if has_connection or (held is not None and held.phase == DIALLED) else 0
        if has_connection or (held is not None and held.phase == DIALLED):
            return self._await(call, sock, held)
        if held is None:
            number = harvest(sock)  # of a client of the gate's in the program, which asked and dialled by itself
            if number not in _NOT_DIALLED:
                return number
            held = self._adopt(self._tree.member(process), cookie)
        if family != sock.family:
            return -(errno.EINVAL if len(raw) < 16 else errno.EAFNOSUPPORT)
        target = sockaddr.inet(raw) if family == AF_INET else sockaddr.inet6(raw)
        owner = held.member
        if owner.has_ended:
            held = self._adopt(self._tree.member(process), cookie)
        return self._dial(call, sock, held, target)

    def _dial(self, call: Call, sock: native, held: Held, target: sockaddr.Inet) -> int | None:
        host = inet_ntop(AF_INET if len(target.packed) == 4 else AF_INET6, target.packed)
        request = {"op": messages.CONNECT, "sock": held.id, "host": host, "port": target.port}
        if target.flow or target.scope:
            request["flow"], request["scope"] = target.flow, target.scope
        reply = held.member.request(request)
        if "errno" in reply:
            return -int(reply["errno"])
        held.phase = DIALLED
        if reply["connected"]:
            return self._ended(sock, held)
        if _is_nonblocking(sock):
            return -errno.EINPROGRESS
        return self._await(call, sock, held)

    def _await(self, call: Call, sock: native, held: Held | None) -> int | None:
        """Say how a dial has ended; of a blocking socket when it has."""
        if _is_nonblocking(sock) or _state(sock) not in _HANDSHAKE:
            return self._ended(sock, held)
        self._waits()
        if _is_writable(sock, _SOON):
            return self._ended(sock, held)
        seconds, micros = _TIMEVAL.unpack(sock.getsockopt(SOL_SOCKET, _SO_SNDTIMEO, _TIMEVAL.size))
        limit = seconds + micros / 1e6
        deadline = time.monotonic() + limit if limit else None
        self._waiting.add(Wait(call, sock, deadline, lambda duplicate: self._ended(duplicate, held)))
        return None

    def _ended(self, sock: native, held: Held | None) -> int:
        number = harvest(sock)
        if held is not None and number != -errno.EALREADY:
            held.phase = JOINED if number in (0, -errno.EISCONN) else FRESH
        return number

    def _adopt(self, member: Member, cookie: int) -> Held:
        """Return a socket of the gate's that came to a process unseen by us. Raises :class:`Refused`."""
        reply = member.request({"op": messages.ADOPT, "cookie": cookie})
        held = self._held[cookie] = Held(member, reply["sock"])
        return held


#: Milliseconds in which a near host answers: less than it costs to hand a wait over to another thread.
_SOON = 2
#: States in which a dial is in progress (``TCP_SYN_SENT``, ``TCP_SYN_RECV``).
_HANDSHAKE = (2, 3)


def harvest(sock: native) -> int:
    """Return, as an answer, how a dial has ended: what the program's connect would have returned. Dials nowhere."""
    return -sock.connect_ex(_NOWHERE[sock.family])


def _is_writable(sock: native, milliseconds: int) -> bool:
    waiting = select.poll()
    waiting.register(sock.fileno(), select.POLLOUT)
    return bool(waiting.poll(milliseconds))


def _state(sock: native) -> int:
    return sock.getsockopt(IPPROTO_TCP, _TCP_INFO, 1)[0]


def _is_nonblocking(sock: native) -> bool:
    return bool(fcntl.fcntl(sock.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK)
