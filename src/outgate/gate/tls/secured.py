"""Speak TLS to a proxy: stand between the relay and the connection that leads there, as the socket it would have had.

OpenSSL works on two buffers here (:class:`ssl.MemoryBIO`) and never on the socket, so that nothing waits. What is
sealed and not yet taken by the socket is at most one piece; a further one is refused as a full socket refuses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import ssl
from _socket import AF_INET, AF_INET6, MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR, SOCK_STREAM
from _socket import socket as native
from typing import Final

from outgate.gate.tls import trust

__all__ = ["Contexts", "Secured", "why"]

#: Bytes that are read from the socket at once, and that are sealed at once.
PIECE: Final = 64 * 1024
#: Seconds for what is sealed when a connection ends to be taken by its socket.
LINGER: Final = 30.0


class Secured:
    """TLS over a connection to a proxy. It is told nothing of events: whoever uses it asks again when they come.

    :param sock: connected; stays its owner's.
    :param context: says whom to trust.
    :param host: of the proxy, which its certificate must name.
    """

    def __init__(self, sock: native, context: ssl.SSLContext, host: str, loop: asyncio.AbstractEventLoop) -> None:
        self._sock = sock
        self._loop = loop
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._ahead = b""  # opened, and not asked for yet
        self._rest = b""  # sealed, and not taken yet
        self._is_writing = self._is_shut = self._is_ending = False
        self._timer: asyncio.TimerHandle | None = None

    def fileno(self) -> int:
        """Return the fd of the socket."""
        return self._sock.fileno()

    def shake(self) -> bool:
        """Go on with the handshake and tell whether it is through.

        :raises OSError: it has failed; :func:`why` says how in words.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                try:
                    self._fill()
                except BlockingIOError:
                    return False
            except ssl.SSLError:
                self._flush()  # the alert says to the proxy what is wrong with it
                raise
            else:
                self._flush()
                return True

    def look(self) -> bytes:
        """Return all that has come and was not taken yet; b"" at its end.

        :raises BlockingIOError: nothing has.
        :raises OSError: it has failed.
        """
        seen = bytearray(self._ahead)
        self._ahead = b""
        view = memoryview(bytearray(PIECE))
        try:
            while len(seen) < PIECE and (count := self.recv_into(view, PIECE)):
                seen += view[:count]
        except OSError:
            if not seen:
                raise
        self._ahead = bytes(seen)
        return self._ahead

    def take(self, count: int) -> None:
        """Take so many bytes of what was looked at."""
        self._ahead = self._ahead[count:]

    def recv_into(self, view: memoryview, size: int, _flags: int = 0) -> int:
        """Receive as a socket that never waits does.

        :raises OSError: BlockingIOError where nothing has come, or it has failed. An end without TLS's own word for it
            is a reset too: something may be missing.
        """
        if self._ahead:
            count = min(size, len(self._ahead))
            view[:count] = self._ahead[:count]
            self._ahead = self._ahead[count:]
            return count
        while True:
            try:
                return self._tls.read(size, view)  # type: ignore[return-value]  # a count, where there is a buffer
            except ssl.SSLWantReadError:
                self._flush()  # an answer to the other side, such as to its new key
                self._fill()
            except ssl.SSLZeroReturnError:
                return 0
            except ssl.SSLError as e:
                raise ConnectionResetError(errno.ECONNRESET, why(e)) from None

    def send(self, data: bytes | memoryview, _flags: int = 0) -> int:
        """Send as a socket that never waits does.

        :raises OSError: BlockingIOError where it takes nothing now, or it has failed.
        """
        self._flush()
        if self._rest:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        try:
            count = self._tls.write(data[:PIECE])
        except ssl.SSLError as e:
            raise ConnectionResetError(errno.ECONNRESET, why(e)) from None
        self._flush()
        return count

    def shutdown(self, _how: int = SHUT_WR) -> None:
        """End the sending: TLS's word for it, then the connection's, behind what is under way."""
        if self._is_shut:
            return
        with contextlib.suppress(ssl.SSLError):
            while data := self._tls.read(PIECE):  # the word makes OpenSSL throw away what it has and was not asked for
                self._ahead += data
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()  # wants the other side's word too, which comes when it does
        self._is_shut = True  # from here on nothing follows
        self._flush()

    def end(self, reset: bool) -> None:
        """Leave the socket, which its owner closes; what is sealed still goes, unless it is to be a reset."""
        if not reset:
            with contextlib.suppress(OSError):
                self.shutdown()
        self._unwatch()
        if reset or not self._rest:
            return
        self._is_ending = True
        family = AF_INET6 if len(self._sock.getsockname()) == 4 else AF_INET
        self._sock = native(family, SOCK_STREAM, 0, os.dup(self._sock.fileno()))
        self._timer = self._loop.call_later(LINGER, self._let_go)
        self._watch()

    def _let_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._unwatch()
        self._rest = b""
        self._sock.close()  # what lies in its queue goes without us

    # --- the socket ---------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        data = self._sock.recv(PIECE, MSG_DONTWAIT)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        """Give the socket what it takes; the rest goes as soon as it takes more. Raises ``OSError``."""
        if self._outgoing.pending:
            self._rest += self._outgoing.read()
        if self._rest:
            try:
                taken = self._sock.send(self._rest, MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                taken = 0
            self._rest = self._rest[taken:]
        if self._rest:
            self._watch()
            return
        self._unwatch()
        if self._is_shut:
            with contextlib.suppress(OSError):  # the other side was quicker
                self._sock.shutdown(SHUT_WR)
            if self._is_ending:
                self._let_go()

    def _watch(self) -> None:
        if not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self._sock.fileno(), self._on_writable)

    def _unwatch(self) -> None:
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._sock.fileno())

    def _on_writable(self) -> None:
        try:
            self._flush()
        except OSError:  # who reads or writes next is told
            self._unwatch()
            self._rest = b""
            if self._is_ending:
                self._let_go()


def why(error: OSError) -> str:
    """Return in a sentence what has gone wrong with TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLEOFError):
        return "it ended the connection in the middle of TLS"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error)


class Contexts:
    """Whom to trust, as TLS takes it: made on a thread, for reading the system's authorities takes 10 ms and more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._number = 0
        self._made: dict[str, asyncio.Future[ssl.SSLContext]] = {}

    async def of(self, authorities: str, number: int) -> ssl.SSLContext:
        """Return the context that trusts these authorities.

        :param authorities: certificates as PEM, "" for those of the host.
        :param number: of the policy in force: a reload reads the host's again.
        :raises OSError: there are none, or they cannot be read.
        """
        if number != self._number:
            self._number = number
            self._made.clear()
        made = self._made.get(authorities)
        if made is None or (made.done() and made.exception() is not None):
            made = self._made[authorities] = self._loop.run_in_executor(None, _context, authorities)
        return await asyncio.shield(made)


def _context(authorities: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authorities) if authorities else trust.make(True)
    context.set_alpn_protocols(["http/1.1"])
    return context
