"""Give uvloop's event loop methods that make their sockets through the gate.

libuv makes, connects and looks up in C, behind the stand-in. The methods here look up as :mod:`socket` does, connect a
socket of the program's own class without blocking, and hand it over to uvloop by ``sock=``; from there on libuv reads,
writes and does TLS natively. What they accept and raise is what uvloop's own methods accept and raise.

libuv closes fds in C. What it was handed is an object of ours, which it tells when it has closed.
"""

from __future__ import annotations

import os
import socket
import sys
from _socket import AI_NUMERICHOST, EAI_NONAME, NI_NAMEREQD, NI_NUMERICHOST, SO_ERROR, SOL_SOCKET

from outgate.client import channel, endpoints
from outgate.client.calls import refusal
from outgate.client.closing import closed_elsewhere
from outgate.client.state import CONNECTED, table

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from outgate.client.state import State

#: uvloop's own class, built in C.
_native: Any = None


def stand_in(module: ModuleType) -> None:
    """Put our methods into uvloop's class, in ``uvloop.loop``, for everything that is built on it.

    Where the program had imported uvloop before, loops that exist get them too; their connections stay as they are.
    """
    global _native
    if _native is not None:
        return
    _native = module.Loop
    package = sys.modules.get("uvloop")
    ready = getattr(package, "Loop", None)
    if ready is None:  # it is built on module.Loop as soon as this import is done
        module.Loop = type("Loop", (_native,), {"__module__": "uvloop.loop", "__doc__": _native.__doc__, **METHODS})  # type: ignore[attr-defined]
        return
    for name, method in METHODS.items():
        setattr(ready, name, method)


# --- names ------------------------------------------------------------------------------------------------------------


async def getaddrinfo(
    self: Any, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[Any]:
    """Look up a host and port, in a thread of the loop's executor unless the host is a number."""
    try:
        return list(
            await _native.getaddrinfo(
                self, host, port, family=family, type=type, proto=proto, flags=flags | AI_NUMERICHOST
            )
        )
    except socket.gaierror as e:
        if e.errno != EAI_NONAME or flags & AI_NUMERICHOST or host is None:
            raise
    found = await self.run_in_executor(None, socket.getaddrinfo, host, port, family, type, proto, flags)
    return list(found)


async def getnameinfo(self: Any, sockaddr: Any, flags: int = 0) -> Any:
    """Look up the names of a socket address."""
    # Judges the address, and asks nobody; that a name is required would make it fail.
    numeric = await _native.getnameinfo(self, sockaddr, (flags & ~NI_NAMEREQD) | NI_NUMERICHOST)
    if flags & NI_NUMERICHOST:
        return numeric
    return await self.run_in_executor(None, socket.getnameinfo, sockaddr, flags)


# --- connections ------------------------------------------------------------------------------------------------------


async def create_connection(
    self: Any,
    protocol_factory: Any,
    host: Any = None,
    port: Any = None,
    *,
    ssl: Any = None,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    sock: Any = None,
    local_addr: Any = None,
    server_hostname: Any = None,
    ssl_handshake_timeout: Any = None,
    ssl_shutdown_timeout: Any = None,
) -> Any:
    """Connect to a host and port, one address after the other, and return (transport, protocol).

    :raises outgate.errors.PolicyDenied: refused by policy, with reason and cure. Where several addresses failed
        differently, the ``OSError`` that names them all has the first as its cause.
    """
    options = {"server_hostname": server_hostname, "ssl_handshake_timeout": ssl_handshake_timeout}
    options["ssl_shutdown_timeout"] = ssl_shutdown_timeout
    options = {name: value for name, value in options.items() if value is not None}
    if sock is not None or (host is None and port is None):
        if host is None and port is None and is_ours(sock):
            return await _hand_over(self, protocol_factory, sock, ssl, options)
        return await _native.create_connection(self, protocol_factory, host, port, ssl=ssl, sock=sock, **options)
    _judge_tls(host, ssl, options)
    if ssl:
        options.setdefault("server_hostname", host)
    remote = await self.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, proto=proto, flags=flags)
    if not remote:
        raise OSError("getaddrinfo() returned empty list")
    local = None
    if local_addr is not None:
        local = await _local(self, local_addr, family, socket.SOCK_STREAM, proto, flags)
    sock = await _connect_to_one(self, remote, local)
    try:
        return await _hand_over(self, protocol_factory, sock, ssl, options)
    except BaseException:
        sock.close()  # unless uvloop has: then it is detached
        raise


def _judge_tls(host: Any, ssl: Any, options: dict[str, Any]) -> None:
    """Raise what uvloop raises for arguments of TLS that do not belong together, before anything is looked up."""
    if ssl:
        if not host and "server_hostname" not in options:
            raise ValueError("You must set server_hostname when using ssl without a host")
        return
    for name in options:
        raise ValueError(f"{name} is only meaningful with ssl")


async def _local(self: Any, address: Any, *args: Any) -> list[Any]:
    """Look up where to bind."""
    if not isinstance(address, (tuple, list)) or len(address) != 2:
        raise ValueError("local_addr must be a tuple of host and port")
    family, kind, proto, flags = args
    found = await self.getaddrinfo(*address, family=family, type=kind, proto=proto, flags=flags)
    if not found:
        raise OSError("getaddrinfo() returned empty list for local_addr")
    return list(found)


async def _connect_to_one(self: Any, remote: list[Any], local: list[Any] | None) -> socket.socket:
    """Return a socket that is connected to the first of these addresses that lets itself be reached."""
    errors: list[OSError] = []
    for family, kind, proto, _, address in remote:
        sock = None
        try:
            sock = socket.socket(family, kind, proto)
            sock.setblocking(False)
            if local is not None:
                endpoints.bind(sock, local)
            await _connect(self, sock, address)
            return sock
        except OSError as e:
            if sock is not None:
                sock.close()
            errors.append(e)
        except BaseException:
            if sock is not None:
                sock.close()
            raise
    if len({str(e) for e in errors}) == 1:
        raise errors[0]
    raise OSError("Multiple exceptions: " + ", ".join(map(str, errors))) from errors[0]


async def _connect(self: Any, sock: socket.socket, address: Any) -> None:
    """Connect without blocking. Unlike ``sock_connect`` this keeps the scope of an IPv6 address."""
    try:
        return sock.connect(address)
    except (BlockingIOError, InterruptedError):
        pass
    writable = self.create_future()
    self.add_writer(sock, _wake, writable)
    try:
        await writable
    finally:
        self.remove_writer(sock)
    number = sock.getsockopt(SOL_SOCKET, SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))


def _wake(future: Any) -> None:
    if not future.done():
        future.set_result(None)


# --- handing over -----------------------------------------------------------------------------------------------------


def is_ours(sock: Any) -> bool:
    """Tell whether this is a TCP socket of the gate's, which uvloop may not take as it is."""
    return isinstance(sock, socket.socket) and _state_of(sock) is not None and sock.type == socket.SOCK_STREAM


def _state_of(sock: socket.socket) -> State | None:
    return table.get(sock.fileno())


class _Handed:
    """A connected socket as uvloop takes it, which tells us when libuv has closed it."""

    type = socket.SOCK_STREAM

    def __init__(self, sock: socket.socket, state: State) -> None:
        self._sock = sock
        self._state = state
        self._fd = sock.fileno()
        # libuv reads and writes the fd, whatever it is; what TCP has beside that is not asked of a Unix pair.
        self.family = socket.AF_UNIX if state.is_relay else sock.family

    def fileno(self) -> int:
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)

    def close(self) -> None:
        """Note that the fd is closed: uvloop calls this after libuv has."""
        self._sock.detach()
        closed_elsewhere(self._fd, self._state)

    detach = close

    def __repr__(self) -> str:
        return repr(self._sock)


async def _hand_over(self: Any, factory: Any, sock: socket.socket, ssl: Any, options: dict[str, Any]) -> Any:
    """Have uvloop make a transport of a socket."""
    state = _state_of(sock)
    assert state is not None
    if not state.is_relay:
        return await _native.create_connection(self, factory, sock=_Handed(sock, state), ssl=ssl, **options)
    _judge_tls(None, ssl, options)
    if state.phase != CONNECTED:
        sock.getpeername()  # finds out, and raises ENOTCONN
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as libuv is told to for TCP
    made = await _native.create_unix_connection(self, factory, sock=_Handed(sock, state), ssl=ssl, **options)
    _stand_for(made[0].get_extra_info("socket"), sock.family)
    return made


def _stand_for(shown: Any, family: int) -> None:
    """Give what uvloop shows as a transport's socket the family that it stands for."""
    if shown is not None and shown.family != family:
        shown.__init__(family, socket.SOCK_STREAM, 0, shown.fileno())


# --- the rest ---------------------------------------------------------------------------------------------------------


async def create_server(
    self: Any, protocol_factory: Any, host: Any = None, port: Any = None, *, sock: Any = None, **options: Any
) -> Any:
    """Listen natively on a socket that listens already or was inherited, or under ``--dev``; else refuse.

    :raises outgate.errors.OutboundOnly: for anything else.
    """
    if sock is not None:
        if is_ours(sock):
            sock.listen(options.get("backlog", 100))  # gives the lease back, or refuses
        return await _native.create_server(self, protocol_factory, host, port, sock=sock, **options)
    if not _may_listen():
        hint = "outgate run --dev lets a program listen on loopback"
        raise refusal("listen", call="create_server", hint=hint)
    starts = options.pop("start_serving", True)
    server = await _native.create_server(self, protocol_factory, host, port, start_serving=False, **options)
    try:
        for shown in server.sockets:
            _give_back(shown, options.get("backlog", 100))
        if starts:
            await server.start_serving()
    except BaseException:
        server.close()
        raise
    return server


def _give_back(shown: Any, backlog: int) -> None:
    """Give a lease back, as ``listen()`` does, whose socket uvloop made by the stand-in and has bound."""
    if shown.fileno() in table:
        listening = socket.socket(fileno=shown.fileno())
        try:
            listening.listen(backlog)
            _stand_for(shown, listening.family)
        finally:
            listening.detach()


def _may_listen() -> bool:
    if not channel.process().dev:
        socket.socket().close()  # whether it may comes with the first answer
    return channel.process().dev


async def create_datagram_endpoint(
    self: Any,
    protocol_factory: Any,
    local_addr: Any = None,
    remote_addr: Any = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    sock: Any = None,
    **options: Any,
) -> Any:
    """Make a transport for datagrams, and return (transport, protocol)."""
    given = {"local_addr": local_addr, "remote_addr": remote_addr, "family": family, "proto": proto, "flags": flags}
    if sock is not None:
        if not endpoints.is_ours(sock) or any(given.values()) or any(options.values()):
            return await _native.create_datagram_endpoint(self, protocol_factory, sock=sock, **given, **options)
        sock.setblocking(False)
        return await endpoints.open(self, protocol_factory, sock, None)
    local, remote = [
        address and await _datagram_addresses(self, name, address, family, proto, flags)
        for name, address in (("local_addr", local_addr), ("remote_addr", remote_addr))
    ]
    sock, peer = endpoints.make(local, remote, family, proto, **options)
    return await endpoints.open(self, protocol_factory, sock, peer)


async def _datagram_addresses(self: Any, name: str, address: Any, family: int, proto: int, flags: int) -> list[Any]:
    if not isinstance(address, (tuple, list)) or len(address) != 2:
        raise TypeError(f"{name} must be a tuple of (host, port)")
    found = await self.getaddrinfo(*address, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags)
    return list(found)


METHODS = {
    each.__name__: each
    for each in (getaddrinfo, getnameinfo, create_connection, create_server, create_datagram_endpoint)
}
