"""Know where a UDP socket may send: ask the gate at the first use of a destination, and remember its answer.

What is remembered is the header that leads there (:mod:`outgate.core.formats.frames`). The gate judges every datagram
again, so nothing here decides anything; but a refusal is raised by the very call that would have sent.
"""

from __future__ import annotations

import errno
import sys
from _socket import gaierror, inet_ntop, inet_pton

from outgate.client import channel, inherit, reclaimed
from outgate.client.address import parse
from outgate.client.calls import c_int, judge, os_error
from outgate.client.constants import AF_INET, MSG_PEEK, SHUT_RD, SHUT_RDWR, SHUT_WR
from outgate.client.standin import native  # these are loaded late, when _socket is our own
from outgate.client.state import State
from outgate.core.formats import frames, messages

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

#: Destinations and sources that a socket remembers; beyond that it begins anew, at the price of a request each.
_MOST = 1024
_MSG_DONTWAIT = 0x40
_NOBODY = (object(), b"")
#: Kept, for sockets that are collected when the interpreter has forgotten its modules.
_MODULE = sys.modules[__name__]


class Datagrams(State):
    """One UDP socket in this process; its fd is one end of a pair whose other end the gate has."""

    __slots__ = (
        *("headers", "is_read_shut", "is_used", "is_write_shut", "last", "look_at", "own", "peer", "peer_header"),
        "sources",
    )

    is_datagram = is_relay = True
    ways = _MODULE

    def __init__(self, id: int, cookie: int, family: int, spawns: int) -> None:
        super().__init__(id, cookie, family, spawns)
        #: Address as the program writes it, if plainly → the header that leads there.
        self.headers: dict[Any, bytes] = {}
        #: The address object that was used last, and its header.
        self.last: tuple[Any, bytes] = _NOBODY
        #: Header → address as the program reads it.
        self.sources: dict[bytes, tuple[Any, ...]] = {}
        self.peer: tuple[Any, ...] | None = None
        self.peer_header = b""
        #: Whether it may have a name of its own by now, and the name.
        self.is_used = False
        self.own: tuple[Any, ...] | None = None
        #: When a send looks for word of an error again (monotonic seconds).
        self.look_at = 0.0
        self.is_read_shut = self.is_write_shut = False


def known_header(state: Datagrams, address: Any) -> bytes | None:
    """Return the header for an address that was used before, or ``None``."""
    if not _is_plain(address):
        return None
    header = state.headers.get(address)
    if header is not None:
        state.last = address, header
    return header


def _is_plain(address: Any) -> bool:
    """Tell whether an address is a (host, port) of the very types, which may be looked up as it is."""
    return type(address) is tuple and len(address) == 2 and type(address[0]) is str and type(address[1]) is int


def forget(state: Datagrams) -> None:
    """Ask again at the next use of a destination."""
    state.headers.clear()
    state.last = _NOBODY


def reach(state: Datagrams, parsed: tuple[str, int, int, int], connect: bool = False) -> tuple[bytes, list[Any]]:
    """Ask the gate for the way to a destination; return its header and the address.

    :raises outgate.errors.PolicyDenied: refused by policy, with reason and cure; it concerns this destination only.
    :raises OSError: what the network says at once.
    """
    host, port, flow, scope = parsed
    request = {"op": messages.REACH, "sock": state.id, "host": host, "port": port}
    if flow or scope:
        request["flow"], request["scope"] = flow, scope
    if connect:
        request["connect"] = True
    reply = ask(request)
    state.is_used = True
    address = reply["addr"]
    return header_of(state.family, address), address


def ask(request: dict[str, Any]) -> dict[str, Any]:
    """Ask the gate about a socket that it made, and return the reply; what the kernel or network said is raised."""
    try:
        reply = channel.request(request, repeat=False)
    except OSError as e:
        if getattr(e, "code", "") != "unknown-descriptor":
            raise
        raise gone() from None
    error = channel.last_error(reply)
    if error is not None:
        raise error
    return reply


def gone(state: State | None = None) -> Exception:
    """Return the error of a socket whose other end has gone: it was reclaimed, or its gate has ended."""
    reason = None if state is None else reclaimed.why(state)
    return reason or channel.unavailable("gate-unavailable", why="the one that made this socket has ended")


def header_of(family: int, address: list[Any]) -> bytes:
    """Return the header of an address as the gate writes it."""
    ip, port, flow, scope = address
    return frames.pack(frames.DATA, inet_pton(family, ip), port, flow, scope)


def header_to(state: Datagrams, address: Any, call: str, *before: Any) -> bytes:
    """Return the header for an address that a program gave to a call, asking the gate about one that is new."""
    parsed = parse(state.family, address, call, *before)
    header, _ = reach(state, parsed)
    if _is_plain(address):
        if len(state.headers) >= _MOST:
            state.headers.clear()
        state.headers[address] = header
    return header


def source_of(state: Datagrams, header: bytes) -> tuple[Any, ...]:
    """Return the address in the header of a datagram, as ``recvfrom`` gives it."""
    _, ip, port, flow, scope = frames.unpack(header)
    text = inet_ntop(state.family, ip)
    source = (text, port) if state.family == AF_INET else (text, port, flow, scope)
    if len(state.sources) >= _MOST:
        state.sources.clear()
    state.sources[header] = source
    return source


# --- errors that come as packets --------------------------------------------------------------------------------------


def surface(self: native, state: Datagrams) -> None:
    """Take word of an error out of the socket, which is the next packet in it, and raise it if it still holds.

    :raises outgate.errors.PolicyDenied: the policy has changed, and refuses a destination that it had let in.
    :raises OSError: what the network said of a datagram (ICMP).
    """
    header = native.recv(self, frames.SIZE, _MSG_DONTWAIT)
    if len(header) < frames.SIZE:
        raise gone(state)
    raise_for(state, header)


def raise_for(state: Datagrams, header: bytes) -> None:
    """Raise the error that a packet with this header tells of, if it still holds."""
    kind, ip, port, number, scope = frames.unpack(header)
    if kind == frames.FAILED:
        raise os_error(number)
    if kind == frames.REFUSED:
        forget(state)
        reach(state, (inet_ntop(state.family, ip), port, 0, scope))


def surface_first(self: native, state: Datagrams) -> None:
    """Raise the error that the next packet in the socket tells of, if that is what it is."""
    try:
        first = native.recv(self, 1, MSG_PEEK | _MSG_DONTWAIT)
    except BlockingIOError:
        return
    if first and first[0] != frames.DATA:
        surface(self, state)


def pending_error(self: native, state: Datagrams) -> int:
    """Return the errno that waits in the socket, and take it out; 0 for none (SO_ERROR)."""
    try:
        surface_first(self, state)
    except OSError as e:
        return e.errno or errno.EIO
    return 0


# --- connect, bind, names ---------------------------------------------------------------------------------------------


def connect(state: Any, self: native, address: Any) -> None:
    """Connect: from now on datagrams go to that address, and come from it alone.

    :raises outgate.errors.PolicyDenied: refused by policy, with reason and cure.
    """
    parsed = parse(state.family, address, "connect")
    sys.audit("socket.connect", self, address)
    _connect(state, parsed)


def connect_ex(state: Any, self: native, address: Any) -> int:
    """Connect as :func:`connect` does, and return the errno instead of raising it."""
    parsed = parse(state.family, address, "connect_ex")
    sys.audit("socket.connect", self, address)
    from outgate.errors import PolicyDenied

    try:
        _connect(state, parsed)
    except PolicyDenied as e:  # of a name too, which is a gaierror as well
        return e.errno or errno.EIO
    except gaierror:
        raise
    except OSError as e:
        return e.errno or errno.EIO
    return 0


def _connect(state: Datagrams, parsed: tuple[str, int, int, int]) -> None:
    header, (ip, port, flow, scope) = reach(state, parsed, connect=True)
    state.own = None
    state.peer = (ip, port) if state.family == AF_INET else (ip, port, flow, scope)
    state.peer_header = header


def getpeername(state: Datagrams) -> tuple[Any, ...]:
    """Return the address the socket is connected to. Raises ``OSError`` (ENOTCONN) where it is to none."""
    if state.peer is None and state.spawns != inherit.count:
        _names(state)  # another process has it too, and may have connected it
    if state.peer is None or not state.peer[1]:
        raise os_error(errno.ENOTCONN)
    return state.peer


def getsockname(state: Datagrams) -> tuple[Any, ...]:
    """Return the socket's own address; nobody is asked about a socket that has never been used."""
    is_shared = state.spawns != inherit.count
    if (not state.is_used and not is_shared) or sys.is_finalizing():
        return ("0.0.0.0", 0) if state.family == AF_INET else ("::", 0, 0, 0)
    if state.own is None or is_shared:
        _names(state)
    assert state.own is not None
    return state.own


def _names(state: Datagrams) -> None:
    reply = ask({"op": messages.NAME, "sock": state.id})
    size = 2 if state.family == AF_INET else 4
    state.own = tuple(reply["own"][:size])
    peer = reply["peer"]
    if peer is not None:
        state.peer = tuple(peer[:size])
        state.peer_header = header_of(state.family, peer)


def bind(self: native, state: Datagrams, host: str, port: int) -> None:
    """Bind outside, where it may be: the wildcard or loopback, port 0.

    :raises OSError: EINVAL where it is bound already, or was used.
    """
    ask({"op": messages.BIND, "sock": state.id, "host": host, "port": port})
    state.is_used = state.bound = True
    state.own = None


def shutdown(self: native, state: Datagrams, how: Any) -> None:
    """End one direction, or both, of a connected socket. The gate keeps its end: others may hold the socket."""
    judge("shutdown", how)
    way = c_int(how)
    if way not in (SHUT_RD, SHUT_WR, SHUT_RDWR):
        raise os_error(errno.EINVAL)
    if way != SHUT_RD:
        state.is_write_shut = True
    if way != SHUT_WR:
        state.is_read_shut = True
        native.shutdown(self, SHUT_RD)
    if state.peer is None:  # as the kernel: what waits is woken all the same
        raise os_error(errno.ENOTCONN)


def refuse_ancillary(level: int, kind: int) -> Any:
    """Return the refusal of ancillary data that would be permitted on the direct path."""
    from outgate.core.options import Refusal, name_of

    why = "what comes beside a datagram does not pass a relay"
    facts = {"call": "sendmsg", "option": name_of(level, kind), "why": why, "cure": "set it by setsockopt"}
    return Refusal("option", facts)
