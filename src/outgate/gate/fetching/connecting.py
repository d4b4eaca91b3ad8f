"""Make the connections of a fetch: sockets of the process that asked, as if it had connected them itself.

The gate asks its own handlers what a program would ask: RESOLVE, then CONNECT of each address in turn. So a connection
is judged, charged, dialled, metered, logged, cut and ended by the very functions that see to a program's, and each
redirect is as well. It is always a relayed socket: the gate reads and writes what would be the program's end.

What asks is on the gate's loop, and what reads and writes on the loop of the app's thread (:mod:`.threads`).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import httpcore
from anyio import BrokenResourceError, EndOfStream
from anyio.abc import ByteStream
from anyio.streams.tls import TLSAttribute, TLSStream

from outgate.core import lease as life
from outgate.gate import wire
from outgate.gate.asking import ask
from outgate.gate.judging import may_hold
from outgate.gate.names.resolver import numbers
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate.registry import Lease, Process
    from outgate.gate.server import Gate

#: Bytes of one read.
PIECE = 64 * 1024

_T = TypeVar("_T")


class Refused(Exception):
    """The gate has refused something, as it would have refused it to the program."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


class LookUpFailed(Exception):
    """A name could not be looked up, says the C library."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, text)
        self.number = number
        self.text = text


class Connections(httpcore.AsyncNetworkBackend):
    """The connections of one fetch.

    :ivar is_ended: whether a server has ended the last connection.
    """

    def __init__(self, gate: Gate, process: Process) -> None:
        self._gate = gate
        self._process = process
        self._socks: list[socket.socket] = []
        self._is_closed = False
        self.is_ended = False
        #: Of the last connection: its lease, and why it is over, as the log has it, "" while it is not.
        self._lease = 0
        self._how = ""

    async def _on_gate(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the gate's loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._gate.loop))

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's, here and below; a fetch has a deadline as a whole
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve → decide → dial, as a program's ``create_connection`` does: each address, until one is connected.

        :raises Refused: what the gate refuses of it; by policy only where no address could be connected.
        :raises LookUpFailed: the C library's own answer.
        :raises httpcore.ConnectError: what the network said of the last address.
        """
        sock = await self._on_gate(self._connected(host, port))
        self.is_ended = False
        return _Stream(self, sock)

    # --- on the gate's loop -------------------------------------------------------------------------------------------

    async def _connected(self, host: str, port: int) -> socket.socket:
        failed: Exception = httpcore.ConnectError(errno.EHOSTUNREACH)
        for family, address in await self._addresses(host, port):
            try:
                return await self._connect(family, address)
            except (httpcore.ConnectError, Refused) as e:
                failed = e
        raise failed

    async def _addresses(self, host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
        """Return family (4 or 6) and address of each that a host has; a number is no look-up."""
        known = numbers(host)
        if known:
            return [(6 if ":" in address else 4, (address, port)) for address in known]
        reply = await self._ask(wire.Resolve("getaddrinfo", [host, port, 0, int(socket.SOCK_STREAM)]))
        if "answer" not in reply:
            raise LookUpFailed(reply["errno"], reply["text"])
        return [(6 if family == socket.AF_INET6 else 4, address) for family, _, _, _, address in reply["answer"]]

    async def _connect(self, family: int, address: tuple[Any, ...]) -> socket.socket:
        gate, process = self._gate, self._process
        if self._is_closed:  # cancelled on the thread before this began here
            raise httpcore.ConnectError(errno.ECANCELED)
        refused = may_hold(gate, process, 1)
        if refused is not None:
            raise Refused(refused)
        try:
            lease, theirs = gate.relaying.make_pair(process, family)
        except OSError as e:
            raise Refused(refusal("gate-sockets", errno=e.errno)) from None
        sock = socket.socket(fileno=theirs.detach())
        sock.setblocking(False)
        self._socks.append(sock)
        try:
            await self._dial(lease, address)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _dial(self, lease: Lease, address: tuple[Any, ...]) -> None:
        side = lease.side
        assert side is not None, "it is relayed"
        over = asyncio.Event()
        self._how, self._lease = "", lease.id

        def told(how: str) -> None:
            if self._lease == lease.id:
                self._how = how
            over.set()

        side.told = told
        flow, scope = (*address[2:4], 0, 0)[:2]
        reply = await self._ask(wire.Connect(lease.id, address[0], address[1], flow, scope))
        if "errno" in reply:
            raise httpcore.ConnectError(reply["errno"])
        await over.wait()
        if lease.state != life.OPEN and side.why is not None:
            raise Refused({"error": side.why})
        if lease.state != life.OPEN:
            raise httpcore.ConnectError(side.errno or errno.ECONNRESET)
        self._gate.waits.note(
            self._process, lease.id, 1
        )  # all the time: as long as a fetch lasts, its socket is in use

    async def _ask(self, request: wire.Request) -> Reply:
        reply = await ask(self._gate, self._process, request)
        if "error" in reply:
            raise Refused(reply)
        return reply

    async def _why_over(self) -> Reply | None:
        gate, how = self._gate, self._how
        if how == "quota":
            return gate.quotas.spent(self._process.app) or refusal("cut", by="a quota", why="its bytes were used up")
        if how == "killed":
            return refusal("cut", by="the operator", why="outgate kill")
        if how in ("", "closed", "reset", "failed"):
            return None
        known = gate.ending.missing(self._process, self._lease)
        return known if known["error"]["code"] != "unknown-descriptor" else refusal("cut", by="the gate", why=how)

    # --- on the thread's ----------------------------------------------------------------------------------------------

    async def taken(self) -> Reply | None:
        """Return why the gate itself has ended the last connection, or ``None`` where it has not."""
        return await self._on_gate(self._why_over())

    def close(self) -> None:
        """End all connections that are still there, and that which is being made."""
        if self._gate.loop.is_running():
            self._gate.loop.call_soon_threadsafe(self._close)
        else:  # the gate ends
            self._close()

    def _close(self) -> None:
        self._is_closed = True
        for sock in self._socks:
            sock.close()

    async def sleep(self, seconds: float) -> None:
        """Wait between attempts; httpcore is told to make none."""
        await asyncio.sleep(seconds)


class _Socket(ByteStream):
    """The gate's end of a relayed socket, as anyio reads and writes it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    async def receive(self, max_bytes: int = PIECE) -> bytes:
        """Return some bytes. Raises ``EndOfStream``, or ``BrokenResourceError`` where the connection has failed."""
        try:
            data = await self._loop.sock_recv(self._sock, max_bytes)
        except OSError as e:
            raise BrokenResourceError from e
        if not data:
            raise EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Send bytes, as fast as they are taken. Raises ``BrokenResourceError``."""
        try:
            await self._loop.sock_sendall(self._sock, item)
        except OSError as e:
            raise BrokenResourceError from e

    async def send_eof(self) -> None:
        """Say that nothing more is sent."""
        self._sock.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        """Close."""
        self._sock.close()


class _Stream(httpcore.AsyncNetworkStream):
    """One connection, as httpcore reads and writes it.

    TLS is anyio's, over bytes that are asked for: uvloop's own loses the last of an answer where its reader is slower
    than the server, and takes what a server says before the handshake for no part of it.
    """

    def __init__(self, of: Connections, sock: socket.socket) -> None:
        self._of = of
        self._sock = sock
        self._stream: ByteStream = _Socket(sock)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Return bytes of the server's, b"" at its end; other fetches have their turn before."""
        await asyncio.sleep(0)
        self._of.is_ended = True
        try:
            data = await self._stream.receive(min(max_bytes, PIECE))
        except EndOfStream:
            return b""
        except (BrokenResourceError, ssl.SSLError) as e:
            raise httpcore.ReadError(str(e)) from e
        self._of.is_ended = False
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Send bytes, as fast as the server takes them."""
        try:
            await self._stream.send(buffer)
        except (BrokenResourceError, ssl.SSLError) as e:
            raise httpcore.WriteError(str(e)) from e

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """Go on with TLS.

        :raises ssl.SSLError: the handshake has failed; ``SSLCertVerificationError`` where the certificate is not good.
        """
        try:
            self._stream = await TLSStream.wrap(
                self._stream, hostname=server_hostname, ssl_context=ssl_context, standard_compatible=False
            )
        except (BrokenResourceError, EndOfStream) as e:
            raise httpcore.ReadError("the server has ended the TLS handshake") from e
        return self

    def get_extra_info(self, info: str) -> Any:
        """Return what httpcore asks for: the TLS object, to see which protocol was agreed on."""
        return self._stream.extra(TLSAttribute.ssl_object, None) if info == "ssl_object" else None

    async def aclose(self) -> None:
        """End the connection."""
        self.close()

    def close(self) -> None:
        """End the connection at once: an answer is whole by its own framing, so a last word of TLS adds nothing."""
        self._sock.close()


def text_of(error: httpcore.ConnectError) -> tuple[int, str]:
    """Return number and text of what the network said of a connect."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else errno.ECONNREFUSED
    return number, os.strerror(number)
