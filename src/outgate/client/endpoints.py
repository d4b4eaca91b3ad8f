"""Make transports for datagrams on an event loop that cannot make its own of the gate's sockets.

libuv speaks to a UDP socket itself; ours are pairs with a header before each datagram. So this transport waits by
``add_reader`` and ``add_writer``, and sends and receives by the socket's methods, as asyncio's own does. What it
accepts and how it reports is uvloop's.
"""

from __future__ import annotations

import asyncio
import socket
import warnings
from collections import deque

from outgate.client.state import table

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

#: Bytes in the buffer above which a protocol is told to pause, and below which to go on: uvloop's.
_HIGH, _LOW = 64 * 1024, 16 * 1024
#: More than a datagram can have.
_LARGEST = 64 * 1024
#: Destinations that a transport remembers to be numbers.
_MOST = 1024
_unset = object()


def is_ours(sock: Any) -> bool:
    """Tell whether this is a UDP socket of the gate's."""
    state = table.get(sock.fileno()) if isinstance(sock, socket.socket) else None
    return state is not None and state.is_datagram


def make(
    local: list[Any] | None,
    remote: list[Any] | None,
    family: int,
    proto: int,
    *,
    reuse_address: Any = _unset,
    reuse_port: Any = None,
    allow_broadcast: Any = None,
) -> tuple[socket.socket, Any]:
    """Return a UDP socket for these addresses, bound and connected as they say, and the address of its peer.

    :raises outgate.errors.GateError: an option, an address to bind or a peer that the policy refuses.
    """
    if reuse_address is not _unset:
        if reuse_address:
            raise ValueError(
                "Passing `reuse_address=True` is no longer supported, as the usage of SO_REUSEPORT in UDP poses a "
                "significant security concern."
            )
        warnings.warn("The *reuse_address* parameter has been deprecated as of 0.15.", DeprecationWarning, stacklevel=3)
    first = (local or remote or [(family,)])[0]
    if first[0] not in (socket.AF_INET, socket.AF_INET6):
        raise ValueError("unexpected address family")
    sock = socket.socket(first[0], socket.SOCK_DGRAM, proto)
    try:
        sock.setblocking(False)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if local:
            try:
                bind(sock, local)
            except OSError as e:
                raise OSError(f"could not bind to local_addr {local[0][4]}") from e
        peer = None
        if remote:
            peer = next((address for each, _, _, _, address in remote if each == sock.family), None)
            if peer is None:
                raise OSError(f"could not bind to remote_addr {remote[0][4]}")
            sock.connect(peer)
        if allow_broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    except BaseException:
        sock.close()
        raise
    return sock, peer


def bind(sock: socket.socket, local: list[Any]) -> None:
    """Bind a socket to the first of these addresses of its family that it may have.

    :raises OSError: what was wrong with the last of them.
    """
    failed = OSError(f"no matching local address with family={sock.family!r} found")
    for family, _, _, _, address in local:
        if family == sock.family:
            try:
                return sock.bind(address)
            except OSError as e:
                failed = e
    raise failed


async def open(loop: Any, protocol_factory: Any, sock: socket.socket, peer: Any) -> tuple[Endpoint, Any]:
    """Return a transport on a socket, which owns it from here on, and its protocol, which has been told."""
    try:
        protocol = protocol_factory()
    except BaseException:
        sock.close()
        raise
    endpoint = Endpoint(loop, sock, protocol, peer)
    made = loop.create_future()
    loop.call_soon(endpoint.begin, made)
    try:
        await made
    except BaseException:
        endpoint.abort()
        raise
    return endpoint, protocol


class Endpoint(asyncio.DatagramTransport):
    """A transport for datagrams on one of the gate's sockets."""

    def __init__(self, loop: Any, sock: socket.socket, protocol: Any, peer: Any) -> None:
        super().__init__()
        self._loop = loop
        self._sock: socket.socket | None = sock
        self._protocol = protocol
        self._peer = peer
        self._buffer: deque[tuple[bytes, Any]] = deque()
        self._size = 0
        self._high, self._low = _HIGH, _LOW
        self._is_paused = self._is_closing = False
        self._known: set[Any] = set()
        self._names = {"sockname": sock.getsockname, "peername": sock.getpeername}

    def begin(self, made: Any) -> None:
        """Tell the protocol of its transport, then the waiting future of both; called once, by the loop."""
        if self._sock is None or made.done():
            return
        try:
            self._protocol.connection_made(self)
            if self._sock is not None and not self._is_closing:
                self._loop.add_reader(self._sock, self._receive)
        except BaseException as e:
            made.set_exception(e)
        else:
            made.set_result(None)

    # -- receiving ---------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        if self._sock is None:
            return
        try:
            data, address = self._sock.recvfrom(_LARGEST)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as e:
            self._report(e)
        else:
            self._protocol.datagram_received(data, address)

    def _report(self, error: OSError) -> None:
        self._protocol.error_received(error)
        if getattr(error, "code", "") == "gate-unavailable":
            self._end(error)  # nothing will come any more, and the socket would be readable for ever

    # -- sending -----------------------------------------------------------------------------------------------------

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send a datagram, or keep it until the socket takes it; what the network or the policy says of it is reported.

        :raises ValueError: for another address than the peer's, or one that would have to be looked up.
        """
        if not data:
            return
        if self._peer is not None:
            if addr not in (None, self._peer):
                raise ValueError(f"Invalid address: must be None or {self._peer}")
            addr = None
        elif addr is not None:
            self._judge(addr)
        if self._sock is None:
            return
        data = memoryview(data)
        if self._buffer:
            self._keep(bytes(data), addr)
            return
        try:
            self._send(data, addr)
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._sock, self._flush)
            self._keep(bytes(data), addr)
        except OSError as e:
            self._report(e)

    def _judge(self, address: Any) -> None:
        """Raise for an address whose host is a name, as uvloop does: a look-up would hold up the loop."""
        assert self._sock is not None or self._is_closing
        try:
            if address in self._known:
                return
            host = "255.255.255.255" if address[0] == "<broadcast>" else address[0]
            family = socket.AF_UNSPEC if self._sock is None else self._sock.family
            socket.getaddrinfo(host, None, family, socket.SOCK_DGRAM, 0, socket.AI_NUMERICHOST)
        except (OSError, LookupError):
            raise ValueError(f"{address!r}: socket family mismatch or a DNS lookup is required") from None
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known.add(address)

    def _send(self, data: Any, address: Any) -> None:
        assert self._sock is not None
        if address is None:
            self._sock.send(data)
        else:
            self._sock.sendto(data, address)

    def _keep(self, data: bytes, address: Any) -> None:
        self._buffer.append((data, address))
        self._size += len(data)
        if self._size > self._high and not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()

    def _flush(self) -> None:
        while self._buffer and self._sock is not None:
            data, address = self._buffer[0]
            try:
                self._send(data, address)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as e:
                self._report(e)
            if self._buffer:  # else the protocol has aborted
                self._buffer.popleft()
                self._size -= len(data)
        if self._is_paused and self._size <= self._low:
            self._is_paused = False
            self._protocol.resume_writing()
        if not self._buffer and self._sock is not None:
            self._loop.remove_writer(self._sock)
            if self._is_closing:
                self._end(None)

    # -- ending ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take nothing more, and close when what is kept has been sent."""
        if self._is_closing or self._sock is None:
            return
        self._is_closing = True
        self._loop.remove_reader(self._sock)
        if not self._buffer:
            self._end(None)

    def abort(self) -> None:
        """Close now, and forget what is kept."""
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._is_closing = True
        self._buffer.clear()
        self._size = 0
        self._loop.remove_reader(sock)
        self._loop.remove_writer(sock)
        self._loop.call_soon(self._lost, sock, error)

    def _lost(self, sock: socket.socket, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            sock.close()

    def is_closing(self) -> bool:
        """Tell whether it is closed, or about to be."""
        return self._is_closing

    # -- the rest of a transport -------------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the ``socket``, ``sockname`` or ``peername``."""
        if name == "socket" and self._sock is not None:
            return self._sock
        if name in self._names:
            try:
                return self._names[name]()
            except OSError:
                return default
        return default

    def get_protocol(self) -> Any:
        """Return the protocol."""
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """Report to another protocol from now on."""
        self._protocol = protocol

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are kept."""
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return (low, high) in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set at how many kept bytes the protocol pauses and goes on.

        :raises ValueError: unless ``high >= low >= 0``.
        """
        if high is None:
            high = _HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self._sock is None else self._sock!r}>"
