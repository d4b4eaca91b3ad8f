"""Answer the calls of a guarded tree: one method a system call.

What is behind a pointer is read once, and judged and carried out from that copy; what a number of a file stands for is
taken once, as a duplicate. Only then is it asked whether the caller still is who it was, and from there on nothing that
the program changes changes what is done.
"""

from __future__ import annotations

import contextlib
import errno
from _socket import AF_INET, AF_INET6, AF_UNIX, SOCK_STREAM, inet_ntop
from _socket import socket as native
from collections.abc import Callable

from outgate.core.guard import sockaddr
from outgate.core.guard.syscalls import Arch
from outgate.guard.supervision import tasks
from outgate.guard.supervision.member import Refused
from outgate.guard.supervision.notify import Call, Gone, Listener
from outgate.guard.supervision.tcp import Tcp
from outgate.guard.supervision.tree import Tree
from outgate.guard.supervision.udp import Udp
from outgate.guard.supervision.unixsockets import UnixSockets


class Answers:
    """What answers each call."""

    def __init__(
        self,
        arch: Arch,
        listener: Listener,
        threads: tasks.Threads,
        tree: Tree,
        tcp: Tcp,
        udp: Udp | None,
        paths: UnixSockets,
    ) -> None:
        self._listener = listener
        self._threads = threads
        self._tree = tree
        self._tcp = tcp
        self._udp = udp
        self._paths = paths
        names: dict[str, Callable[[Call], int | None]] = {
            "socket": self._socket,
            "connect": self._connect,
            "bind": self._bind,
            "listen": self._listen,
        }
        self._by_number = {arch.numbers[name]: answer for name, answer in names.items()}

    def answer(self, call: Call) -> None:
        """Answer a call, now or later."""
        try:
            value = self._by_number[call.number](call)
        except Refused as e:
            value = -e.number
        except sockaddr.Short:
            value = -errno.EINVAL
        except Gone:
            return
        except OSError as e:
            value = -(e.errno or errno.EIO)
        if value is not None:
            self._listener.answer(call.id, value)

    def _socket(self, call: Call) -> int | None:
        process = self._threads.process(call.thread)
        self._still_waits(call)
        return self._tcp.socket(call, process)

    def _connect(self, call: Call) -> int | None:
        sock, raw = self._take(call)
        value: int | None = 0
        try:
            if sock.family == AF_UNIX:
                if sockaddr.family_of(raw) != AF_UNIX:
                    return -errno.EINVAL
                value = self._paths.connect(call.thread, sock, sockaddr.unix(raw))
            elif sock.type == SOCK_STREAM:
                value = self._tcp.connect(call, self._threads.process(call.thread), sock, raw)
            elif self._udp is not None:
                value = self._udp.connect(self._threads.process(call.thread), sock, raw)
            else:
                value = -errno.ENETUNREACH
        finally:
            if value is not None:
                sock.close()
        return value

    def _bind(self, call: Call) -> int:
        sock, raw = self._take(call)
        with contextlib.closing(sock):
            if sock.family == AF_UNIX:
                return _bind_unix(sock, raw)
            if sock.family not in (AF_INET, AF_INET6):
                return -errno.EACCES
            address = sockaddr.inet(raw) if sock.family == AF_INET else sockaddr.inet6(raw)
            if not sockaddr.may_bind(address):
                self._refuse(call, sock, "bind", inet_ntop(sock.family, address.packed), address.port)
                return -errno.EACCES
            try:
                sock.bind((inet_ntop(sock.family, address.packed), 0))
            except PermissionError:  # sealed: the gate alone may bind it, and does when it dials
                return 0
            return 0

    def _listen(self, call: Call) -> int:
        with contextlib.closing(self._threads.socket(call.thread, call.integer(0))) as sock:
            self._still_waits(call)
            if sock.family != AF_UNIX:
                self._refuse(call, sock, "listen")
                return -errno.EACCES
            sock.listen(call.integer(1))
            return 0

    def _refuse(self, call: Call, sock: native, what: str, host: str = "", port: int = 0) -> None:
        """Have the gate remember what the program is told nothing about but its errno."""
        member = self._tree.member(self._threads.process(call.thread))
        member.refused(what, "tcp" if sock.type == SOCK_STREAM else "udp", host, port)

    def _take(self, call: Call) -> tuple[native, bytes]:
        """Return a duplicate of a call's socket, and the address that it points to. Raises ``OSError``, ``Gone``."""
        sock = self._threads.socket(call.thread, call.integer(0))
        try:
            size = call.integer(2)
            if not 0 <= size <= sockaddr.LARGEST:
                raise OSError(errno.EINVAL, "the length of an address")
            raw = tasks.read(call.thread, call.arguments[1], size) if size else b""
            self._still_waits(call)
        except BaseException:
            sock.close()
            raise
        return sock, raw

    def _still_waits(self, call: Call) -> None:
        """Raise :class:`Gone` unless what was taken is of who made the call: its thread lived when we looked."""
        if not self._listener.is_valid(call.id):
            raise Gone


def _bind_unix(sock: native, raw: bytes) -> int:
    """Bind to a name of the program's own network. A path could be found by a helper outside, and files be passed."""
    if sockaddr.family_of(raw) != AF_UNIX:
        return -errno.EINVAL
    address = sockaddr.unix(raw)
    if address.abstract is None:
        return -errno.EACCES
    sock.bind(b"\0" + address.abstract if address.abstract else b"")
    return 0
