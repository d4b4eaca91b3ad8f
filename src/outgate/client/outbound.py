"""Refuse what is not an outbound connection, at the call and without a packet."""

from __future__ import annotations

import errno
import sys
from _socket import gaierror, getaddrinfo, inet_ntop, inet_pton
from _socket import socket as native

from outgate.client import channel, inherit, reclaimed
from outgate.client.address import parse
from outgate.client.calls import c_int, judge, os_error, refusal
from outgate.client.closing import let_go
from outgate.client.constants import AF_INET, AI_NUMERICHOST, SOCK_STREAM
from outgate.client.options import freeze_ancillary, judge_message
from outgate.client.state import CONNECTED, by_cookie, table

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

MSG_FASTOPEN = 0x20000000
_WILDCARDS = ("0.0.0.0", "::", "::ffff:0.0.0.0")


def bind(self: native, address: Any, /) -> None:
    """Bind to the wildcard or loopback with port 0; anything else is for servers.

    :raises outgate.errors.OutboundOnly: for an address or a port (App Engine: no bind to specific ones).
    """
    state = table.get(native.fileno(self))
    if state is None:
        return native.bind(self, address)
    host, port, flow, scope = parse(state.family, address, "bind")
    if not _may_bind(state.family, host) or (port != 0 and not channel.process().dev):
        sys.audit("socket.bind", self, address)  # which C raises for what is not refused
        raise refusal("bind-wildcard" if channel.is_to_the_letter() else "bind", host=host, port=port)
    if state.is_relay:
        sys.audit("socket.bind", self, address)
        state.ways.bind(self, state, host, port)
        return None
    native.bind(self, (host, port) if state.family == AF_INET else (host, port, flow, scope))
    state.bound = True
    return None


def _may_bind(family: int, host: str) -> bool:
    if host == "":
        return True
    only_wildcard = channel.is_to_the_letter()
    if host == "localhost":
        return not only_wildcard
    number: str
    try:
        number = inet_ntop(family, inet_pton(family, host))  # audit hooks are told of getaddrinfo, and not of these
    except OSError:
        try:
            number = getaddrinfo(host, None, family, SOCK_STREAM, 0, AI_NUMERICHOST)[0][4][0]  # type: ignore[assignment]
        except gaierror:
            return False
    if number in _WILDCARDS:
        return True
    return not only_wildcard and (number == "::1" or number.startswith(("127.", "::ffff:127.")))


def listen(self: native, *backlog: Any) -> None:
    """Refuse to listen, or under ``--dev`` give the lease back and listen natively.

    :raises outgate.errors.OutboundOnly: always, outside ``--dev``.
    """
    fd = native.fileno(self)
    state = table.get(fd)
    if state is not None:
        if state.is_datagram:
            raise os_error(errno.EOPNOTSUPP)
        if not channel.process().dev:
            if backlog:
                judge("listen", *backlog)
            raise refusal("listen", call="listen", hint="outgate run --dev lets a program listen on loopback")
        del table[fd]  # the gate's duplicate would keep the port taken after close
        by_cookie.pop(state.cookie, None)
        if state.is_relay:
            state.ways.give_back(self, state)
        else:
            let_go(state, wait=True, certainly_last=True)
    return native.listen(self, *backlog)


def accept(self: native) -> tuple[int, Any]:
    """Refuse to accept on a socket of the gate's; inherited listening sockets are native."""
    state = table.get(native.fileno(self))
    if state is not None:
        if state.is_datagram:
            raise os_error(errno.EOPNOTSUPP)
        raise refusal("listen", call="accept", hint="outgate run --dev lets a program listen on loopback")
    accepted: tuple[int, Any] = native._accept(self)  # type: ignore[attr-defined]
    return accepted


def sendto(self: native, *args: Any) -> int:
    """Send natively; MSG_FASTOPEN would connect behind the gate's back and is refused."""
    state = table.get(native.fileno(self))
    if state is not None and state.is_datagram:
        return int(state.calls.sendto(self, *args))
    if state is not None and len(args) == 3 and args[1] and _has_fast_open(args[1]):
        judge("send", args[0], args[1])
        parse(state.family, args[2], "sendto", b"")
        raise refusal("fast-open")
    if state is not None and state.is_relay and len(args) >= 2:
        judge("send", args[0], *args[1:-1])
        parse(state.family, args[-1], "sendto", b"")
        return int(state.calls.send(self, args[0], *args[1:-1]))  # TCP has no use for the address
    try:
        return native.sendto(self, *args)
    except BrokenPipeError as e:
        raise reclaimed.instead_of(e, self) from None


def sendmsg(self: native, *args: Any) -> int:
    """Send natively; refuse MSG_FASTOPEN and what beside the data would move the path, and notice fds that leave.

    :raises outgate.errors.GateError: for ancillary data that the table of options does not permit.
    """
    state = table.get(native.fileno(self))
    if state is not None and state.is_datagram:
        return int(state.calls.sendmsg(self, *args))
    if state is not None:
        args, refused = freeze_ancillary(state.family, args)
        fast_open = 3 <= len(args) <= 4 and args[2] and _has_fast_open(args[2])
        if refused is not None or fast_open:
            judge_message(state.family, args)
            raise refusal("fast-open") if refused is None else refusal(refused.code, **refused.facts)
        if state.is_relay:
            if len(args) == 4:
                judge_message(state.family, args)
                args = args[:3]  # TCP has no use for the address
            state.calls.await_sending(self, state, "sendmsg", args)
    try:
        sent: int = native.sendmsg(self, *args)
    except BrokenPipeError as e:
        raise reclaimed.instead_of(e, self) from None
    if len(args) > 1 and args[1]:
        inherit.bump()
    return sent


def getpeername(self: native) -> Any:
    """Return the address that it is connected to."""
    state = table.get(native.fileno(self))
    if state is not None:
        reclaimed.check(self, state)
        if state.is_relay:
            return state.ways.getpeername(state)
        if state.is_led:
            native.getpeername(self)  # which says where it is not connected any more
            return state.dialled
    return native.getpeername(self)


def getsockname(self: native) -> Any:
    """Return its own address."""
    state = table.get(native.fileno(self))
    if state is not None:
        reclaimed.check(self, state)
        if state.is_relay:
            return state.ways.getsockname(state)
    return native.getsockname(self)


def shutdown(self: native, *args: Any) -> None:
    """Shut down one way, or both."""
    state = table.get(native.fileno(self))
    if state is not None:
        reclaimed.check(self, state)
        if state.is_relay:
            state.ways.shutdown(self, state, *args)
            return None
    return native.shutdown(self, *args)


def carrying(call: str) -> Any:
    """Return a method that moves bytes: C's, but for what is relayed and is for UDP or not connected."""
    plain = getattr(native, call)
    receives = call.startswith("recv")

    def method(self: native, *args: Any, **kwargs: Any) -> Any:
        state = table.get(native.fileno(self))
        try:
            if state is None or state.phase == CONNECTED or not state.is_relay:
                result = plain(self, *args, **kwargs)
            else:
                return getattr(state.calls, call)(self, *args, **kwargs)
        except BrokenPipeError as e:
            raise reclaimed.instead_of(e, self) from None
        except ConnectionResetError as e:
            if state is None or not state.is_relay or state.spawns == inherit.count:
                raise
            raise reclaimed.instead_of(e, self) from None
        if receives and state is not None and state.is_relay and not (result[0] if type(result) is tuple else result):
            reclaimed.unless_taken(state)
        return result

    method.__name__ = method.__qualname__ = call
    method.__doc__ = plain.__doc__
    return method


recvfrom, recvfrom_into = carrying("recvfrom"), carrying("recvfrom_into")
recvmsg, recvmsg_into = carrying("recvmsg"), carrying("recvmsg_into")


def _has_fast_open(flags: Any) -> bool:
    try:
        return bool(c_int(flags) & MSG_FASTOPEN)
    except Exception:  # whatever __index__ raised: C meets it too
        return False
