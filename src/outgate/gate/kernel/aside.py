"""A TCP socket that a program holds which is not trusted: what may wait for its lock is done on a thread of the app.

Whoever holds a socket can keep the kernel's lock on it for as long as he likes (:mod:`.patient`), and nobody can take
it from him, not by SIGKILL. So the loop asks such a socket nothing: it reads what the app's thread was told last, and
what is set, shut down or closed is given to that thread, which does everything in the order it came.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
import time
from _socket import IPPROTO_TCP, SO_LINGER, SO_TYPE, SOL_SOCKET, TCP_WINDOW_CLAMP
from _socket import socket as native
from typing import TYPE_CHECKING, Any, Final

from outgate.gate.kernel import meter, patient, queues
from outgate.gate.kernel.patient import SO_COOKIE, SO_DOMAIN

if TYPE_CHECKING:
    from outgate.gate.kernel.closer import Closer

_SO_MAX_PACING_RATE = 47
#: What the kernel says of a socket without its lock (net/core/sock.c: sk_getsockopt(); tcp.c: do_tcp_getsockopt()).
FREE: Final = frozenset(
    (
        *((SOL_SOCKET, each) for each in (SO_COOKIE, SO_DOMAIN, _SO_MAX_PACING_RATE, SO_LINGER, SO_TYPE)),
        (IPPROTO_TCP, TCP_WINDOW_CLAMP),
    )
)
_INT = struct.Struct("=i")
#: Held while what is to be set is written down or taken, which waits for nothing.
_setting = threading.Lock()


class Aside(native):
    """A socket that the loop may use like any other, and that never waits.

    :ivar seen: when the kernel was last asked about it (monotonic seconds).
    :ivar unread: bytes that had come for the program then, as of :meth:`look_closely`.
    """

    __slots__ = ("_closer", "_info", "_names", "_to_set", "seen", "unread")

    def __init__(self, closer: Closer, family: int, kind: int) -> None:
        """Make a fresh socket.

        :param closer: the thread that waits.
        """
        super().__init__(family, kind)
        self._closer = closer
        self._info = meter.pack(meter.CLOSE, 0, 0)
        self._names: tuple[Any, Any] = (("", 0), None)
        self._to_set: dict[tuple[int, int], bytes] | None = None
        self.seen = time.monotonic()
        self.unread = 0

    # --- what the loop calls ------------------------------------------------------------------------------------------

    def remember(self, state: int, sent: int, received: int) -> None:
        """Say what is known of it before the kernel was asked: bytes, as of :class:`.meter.Reading`."""
        self._info = meter.pack(state, sent, received)

    def getsockopt(self, level: int, optname: int, buflen: int = 0, /) -> Any:
        """Return an option; of TCP_INFO what the last look has found.

        :raises ValueError: this one the kernel would not say without the lock.
        """
        if (level, optname) == (IPPROTO_TCP, meter.TCP_INFO):
            return self._info[:buflen]
        if (level, optname) not in FREE:
            raise ValueError(f"the loop would wait for option {optname} of level {level}")
        return super().getsockopt(level, optname, buflen) if buflen else super().getsockopt(level, optname)

    def setsockopt(self, level: int, optname: int, value: Any, /) -> None:  # type: ignore[override]
        """Have an option set. Of several values for one that wait the last counts, so that few of them do."""
        with _setting:
            is_first = not self._to_set
            self._to_set = self._to_set or {}
            self._to_set[level, optname] = _INT.pack(value) if isinstance(value, int) else bytes(value)
        if is_first:
            self._closer.put(self._set)

    def shutdown(self, how: int, /) -> None:
        """Have it shut down."""
        self._closer.put(lambda: self._shut_down(how))

    def getsockname(self) -> Any:
        """Return its own address, as the last close look has found it."""
        return self._names[0]

    def getpeername(self) -> Any:
        """Return the far end's. Raises ``OSError`` where the last close look has found none."""
        if self._names[1] is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._names[1]

    def close(self) -> None:
        """Have it closed, after what was to be done with it before."""
        self._closer.put(self)  # whose close_now() closes it by C's own method

    # --- what the app's thread calls ----------------------------------------------------------------------------------

    def look(self) -> None:
        """Ask the kernel for its meter. Where the socket is gone, what was read before stays."""
        with contextlib.suppress(OSError):
            self._info = patient.option(self.fileno(), IPPROTO_TCP, meter.TCP_INFO, meter.SIZE)
        self.seen = time.monotonic()

    def look_closely(self) -> None:
        """Ask for its addresses as well, and for what the program has not read."""
        self.look()
        with contextlib.suppress(OSError):
            self.unread = queues.unread(self.fileno())
        with contextlib.suppress(OSError):
            self._names = super().getsockname(), None
            self._names = self._names[0], super().getpeername()

    def _set(self) -> None:
        with _setting:
            to_set, self._to_set = self._to_set, None
        for (level, number), value in (to_set or {}).items():
            with contextlib.suppress(OSError):  # its own end will say
                patient.set_option(self.fileno(), level, number, value)

    def _shut_down(self, how: int) -> None:
        with contextlib.suppress(OSError):  # reset meanwhile
            super().shutdown(how)
