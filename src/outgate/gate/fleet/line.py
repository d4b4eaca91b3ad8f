"""Carry the bytes of a link over a socket: as they are within one gate, with TLS to another.

OpenSSL works on two buffers here (:class:`ssl.MemoryBIO`), which are filled and emptied in large pieces; on a socket
each record of 16 KiB takes it three system calls. The pieces pass through buffers that all lines share
(:class:`~outgate.gate.fleet.ends.Ends`), for nothing lies in those between two steps. What a line keeps is what its
socket has not taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
import ssl
from _socket import MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outgate.gate.fleet.ends import Ends
    from outgate.gate.fleet.link import Link

#: Bytes of the longest record of TLS, opened (RFC 8446 §5.1).
RECORD = 16 * 1024
#: Bytes that are read of a socket at once, and in one turn. OpenSSL's buffer grows to the first, and stays as it is.
PIECE = 128 * 1024
TURN = 512 * 1024
#: Seconds within which the other side has to take what is still to be sent, and to end the connection as well.
LINGER = 30.0

#: Events that are heard of besides: the loop may say but once that a socket has failed, while there is more to read.
_ENDS = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | select.EPOLLET


class Line:
    """A connection that a link goes over, without TLS.

    :param sock: connected, and does not block; the line's from now on.
    :ivar size: bytes that wait to be sent.
    :ivar certificate: what the other side has shown; empty for nothing.
    :ivar peer: where the other side is, for the log.
    """

    def __init__(self, ends: Ends, sock: socket.socket) -> None:
        self.sock = sock
        self.size = 0
        self.certificate: dict[str, Any] = {}
        self.peer = _host(sock)
        self._ends = ends
        self._link: Link | None = None
        self._waiting: deque[memoryview] = deque()
        #: Whether there is somebody who takes what comes.
        self._is_wanted = False
        #: Nothing is to be sent any more, and what comes is of no interest; then it is over.
        self._is_closing = self._is_over = False
        #: Why sending has failed. What has come before that is read first.
        self._failure: OSError | None = None
        self._timer: asyncio.TimerHandle | None = None
        ends.lines.add(self)
        ends.loop.add_reader(sock.fileno(), self._read)
        ends.watch(self, _ENDS)

    def begin(self, link: Link) -> None:
        """Give what comes to a link."""
        self._link = link
        self._is_wanted = True
        link.opened(self)

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes, which the caller may change afterwards."""
        if not self._is_closing and not self._is_over:
            self._put(data)

    def close(self) -> None:
        """End it when everything is sent, and the other side has ended it too.

        A socket that is closed while something lies unread in it resets the connection, and what was sent may be lost.
        """
        if not self._is_closing and not self._is_over:
            self._take_leave()
            self._is_closing = self._is_wanted = True
            self._timer = self._ends.loop.call_later(LINGER, self.let_go)
            if not self._waiting:
                self._shut()

    def let_go(self) -> None:
        """End it now."""
        if not self._is_over:
            self._is_over = True
            self._waiting.clear()
            self.size = 0
            if self._timer is not None:
                self._timer.cancel()
            self._ends.lines.remove(self)
            self._ends.unwatch(self)
            self._ends.loop.remove_reader(self.sock.fileno())
            self._ends.loop.remove_writer(self.sock.fileno())
            self.sock.close()

    # --- what the loop calls ------------------------------------------------------------------------------------------

    def note(self, events: int) -> None:
        """Read once more: it has ended, or failed, which libuv may have said with the last of what had come before."""
        self._ends.loop.call_soon(self._read)

    def _read(self) -> None:
        """Read a share."""
        sealed = self._ends.sealed
        left = TURN
        while self._is_wanted and not self._is_over:
            if left <= 0:
                self._ends.loop.call_soon(self._read)
                return
            try:
                count = self.sock.recv_into(sealed, len(sealed), MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                if self._failure is not None:
                    self._end(self._failure)
                return
            except OSError as e:
                self._end(e)
                return
            if not count:
                self._end(self._failure or self._cut_off())
                return
            left -= count
            if not self._is_closing:
                self._came(sealed[:count])
            if count < len(sealed) and self._failure is None:
                return  # without another look: the loop says what comes

    def _flush(self) -> None:
        """Send what waits."""
        while self._waiting:
            piece = self._waiting.popleft()
            taken = self._sent(piece)
            self.size -= taken
            if taken < len(piece):
                self._waiting.appendleft(piece[taken:])
                return
        self._ends.loop.remove_writer(self.sock.fileno())
        if self._is_closing:
            self._shut()
        elif self._link is not None:
            self._link.emptied()

    # --- sending ------------------------------------------------------------------------------------------------------

    def _shut(self) -> None:
        with contextlib.suppress(OSError):  # it has failed meanwhile, as reading it will say
            self.sock.shutdown(SHUT_WR)

    def _put(self, data: bytes | memoryview) -> None:
        """Send bytes, and keep what the socket does not take."""
        if self._waiting:
            taken = 0
        else:
            taken = self._sent(data)
            if taken < len(data):
                self._ends.loop.add_writer(self.sock.fileno(), self._flush)
        if taken < len(data):
            left = memoryview(bytes(data))[taken:]  # bytes are not copied by that
            self._waiting.append(left)
            self.size += len(left)

    def _sent(self, data: bytes | memoryview) -> int:
        """Return how much the socket has taken. Where it has failed nothing is kept any more."""
        if self._failure is not None:
            return len(data)
        try:
            return self.sock.send(data, MSG_DONTWAIT | MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as e:
            self._fail(e)
            return len(data)

    def _fail(self, why: OSError) -> None:
        """Send nothing more, and end it in a moment: who sends just now has other things in hand."""
        self._failure = self._failure or why
        self._ends.loop.call_soon(self._read)

    def _end(self, why: OSError | None) -> None:
        """It has come to its end by itself: say why to whoever has it. ``None``: as it should."""
        link = None if self._is_closing else self._link
        self.let_go()
        if link is not None:
            link.ended("it has closed the link" if why is None else words(why))

    # --- what differs with TLS ----------------------------------------------------------------------------------------

    def _came(self, data: memoryview) -> None:
        """Take what has come; its place is used again afterwards."""
        assert self._link is not None
        self._link.came(data)

    def _cut_off(self) -> OSError | None:
        """Return what is wrong with an end of file here."""
        return None

    def _take_leave(self) -> None:
        """Say that nothing more will be sent."""


class Secure(Line):
    """A connection with TLS, over which a link goes when both sides know each other.

    :param host: whom the other side must be, where it is the one that is connected to.
    """

    def __init__(self, ends: Ends, sock: socket.socket, context: ssl.SSLContext, host: str | None = None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=host is None, server_hostname=host)
        self._shaken: asyncio.Future[None] = ends.loop.create_future()
        super().__init__(ends, sock)

    async def shake(self, limit: float) -> None:
        """Do the handshake within so many seconds.

        :raises OSError: it has failed, and the connection is closed.
        """
        self._is_wanted = True
        self._go_on()
        try:
            async with asyncio.timeout(limit):
                await self._shaken
        except TimeoutError:
            self.let_go()
            why = f"the handshake is taking longer than {limit:g} s"
            raise ConnectionAbortedError(errno.ECONNABORTED, why) from None
        except BaseException:
            self.let_go()
            raise
        self.certificate = self._tls.getpeercert() or {}

    def _go_on(self) -> None:
        """Go on with the handshake."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._push()
        except OSError as e:  # ssl.SSLError, too
            self._push()  # the alert says to the other side what is wrong with it
            self._end(e)
        else:
            self._push()
            # What follows waits for the link.
            self._is_wanted = False
            if not self._shaken.done():
                self._shaken.set_result(None)

    def begin(self, link: Link) -> None:
        """Give what comes to a link, and first what has come with the end of the handshake."""
        super().begin(link)
        self._ends.loop.call_soon(self._open)

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes, which the caller may change afterwards."""
        if not self._is_closing and not self._is_over:
            try:
                self._tls.write(data)
            except OSError as e:  # ssl.SSLError
                self._fail(e)
            self._push()

    def _came(self, data: memoryview) -> None:
        self._incoming.write(data)
        if self._link is None:
            self._go_on()
        else:
            self._open()

    def _open(self) -> None:
        """Give the link what there is of whole records."""
        link, incoming, opened, read = self._link, self._incoming, self._ends.opened, self._tls.read
        assert link is not None
        most = len(opened) - RECORD
        is_all = is_end = False
        why = None
        while not is_all and not self._is_closing and not self._is_over:
            have = 0
            try:
                while have <= most:
                    if not incoming.pending:  # an exception takes longer than all the rest
                        is_all = True
                        break
                    count: int = read(RECORD, opened[have:])  # type: ignore[assignment]  # into a buffer
                    if not count:
                        is_all = is_end = True
                        break
                    have += count
            except ssl.SSLWantReadError:
                is_all = True
            except OSError as e:  # ssl.SSLError
                is_all, is_end, why = True, True, e
            if have:
                link.came(opened[:have])
        if not self._is_closing and not self._is_over:
            self._push()  # an answer to another key of theirs, or an alert
            if is_end:
                if why is None:
                    self._take_leave()
                self._end(why)

    def _push(self) -> None:
        if self._outgoing.pending:
            self._put(self._outgoing.read())

    def _end(self, why: OSError | None) -> None:
        super()._end(why)
        if not self._shaken.done():
            self._shaken.set_exception(why or self._cut_off())

    def _cut_off(self) -> OSError:
        return ConnectionResetError(errno.ECONNRESET, "it has ended the connection without a word")

    def _take_leave(self) -> None:
        with contextlib.suppress(OSError):  # that theirs has not come yet; and it may come no more
            self._tls.unwrap()
        self._push()


def _host(sock: socket.socket) -> str:
    try:
        name = sock.getpeername()
    except OSError:  # it has gone already
        return ""
    return str(name[0]) if isinstance(name, tuple) else ""


def words(error: OSError) -> str:
    """Return why a connection has failed, for the log and for people."""
    said = getattr(error, "verify_message", "") or getattr(error, "reason", None) or error.strerror or str(error)
    return str(said) or type(error).__name__
