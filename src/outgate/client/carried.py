"""Stand in for a TCP socket whose bytes the gate carries: the program holds one end of a pair of Unix sockets.

What the pair cannot know is asked of the gate: how a connect has ended, and both addresses.
"""

from __future__ import annotations

import errno
import os
import sys
from _socket import (
    AF_INET,
    AF_UNIX,
    MSG_DONTWAIT,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_SNDBUF,
    SO_SNDTIMEO,
    SOCK_STREAM,
    SOL_SOCKET,
)
from _socket import timeout as timed_out
from _struct import unpack
from posix import dup2 as duplicate_natively  # os.dup2 looks for the program's sockets
from select import POLLOUT, poll

from outgate.client import channel, classes, destinations, inherit, standin
from outgate.client.address import parse
from outgate.client.calls import judge
from outgate.client.standin import native  # this is loaded late, when _socket is our own
from outgate.client.state import BORN, CONNECTED, CONNECTING, State, table
from outgate.core import messages

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

_MARGIN = 4096
#: Kept, for sockets that are collected when the interpreter has forgotten its modules.
_MODULE = sys.modules[__name__]


class Carried(State):
    """One relayed TCP socket of this process."""

    __slots__ = ("own",)

    is_relay = True

    def __init__(self, id: int, cookie: int, family: int, spawns: int) -> None:
        super().__init__(id, cookie, family, spawns)
        #: Its address outside, as soon as it has been asked for of a connected one.
        self.own: tuple[Any, ...] | None = None

    def ways(self) -> Any:
        """Return this module."""
        return _MODULE


def connect(state: Carried, self: native, address: Any) -> None:
    """Connect through the gate, which dials outside and carries the bytes from then on.

    :raises outgate.errors.PolicyDenied: refused by policy, with reason and cure; nothing was sent.
    :raises OSError: what the network said.
    """
    parsed = parse(state.family, address, "connect")
    sys.audit("socket.connect", self, address)
    if state.phase == CONNECTED:
        raise _error(errno.EISCONN)
    if state.phase == BORN:
        number = standin.begin(state, parsed, _fill(self))
        if number == 0:
            return
        timeout = native.gettimeout(self)
        if number != errno.EINPROGRESS or timeout == 0:
            raise _error(number)
        if not _is_writable(self, _patience(self)):
            raise timed_out("timed out") if timeout is not None else _error(errno.EINPROGRESS)
    number = harvest(state)
    if number:
        raise _error(errno.EALREADY if number == errno.EINPROGRESS else number)


def connect_ex(state: Carried, self: native, address: Any) -> int:
    """Connect as :func:`connect` does, and return the errno instead of raising it."""
    parsed = parse(state.family, address, "connect_ex")
    sys.audit("socket.connect", self, address)
    if state.phase == CONNECTED:
        return errno.EISCONN
    if state.phase == BORN:
        number = standin.begin_ex(state, parsed, _fill(self))
        if number != errno.EINPROGRESS:
            return number
        timeout = native.gettimeout(self)
        if timeout == 0:
            return number
        if not _is_writable(self, _patience(self)):
            return errno.EAGAIN if timeout is not None else errno.EINPROGRESS  # as C does
    number = harvest(state)
    return errno.EALREADY if number == errno.EINPROGRESS else number


def _fill(self: native) -> int:
    """Fill our end, so that it is not writable until the gate takes that out, which is when the dial has ended."""
    # A Unix socket is writable as long as four times what it has in flight fits into its buffer (unix_writable()).
    filled = native.getsockopt(self, SOL_SOCKET, SO_SNDBUF) // 4 + _MARGIN
    try:
        return int(native.send(self, bytes(filled), MSG_DONTWAIT))
    except BlockingIOError:  # full already
        return 0


def _patience(self: native) -> float | None:
    """Return for how many seconds a connect waits: Python's time-out, else SO_SNDTIMEO (socket(7)), else for ever."""
    timeout = native.gettimeout(self)
    if timeout is not None:
        return timeout
    seconds, microseconds = unpack("ll", native.getsockopt(self, SOL_SOCKET, SO_SNDTIMEO, 16))
    return seconds + microseconds / 1e6 or None


def _is_writable(self: native, timeout: float | None) -> bool:
    waiting = poll()
    waiting.register(native.fileno(self), POLLOUT)
    return bool(waiting.poll(None if timeout is None else timeout * 1000))


def harvest(state: Carried) -> int:
    """Return how the connect has ended: 0, EINPROGRESS, or what the network said, which makes the socket fresh."""
    if state.phase == CONNECTED or (state.phase == BORN and state.spawns == inherit.count):
        return 0
    reply = _ask({"op": messages.HARVEST, "sock": state.id})
    number = reply.get("errno", 0)
    if number == 0:
        state.phase = CONNECTED
        state.own = _address(state, reply["own"])
        state.dialled = _address(state, reply["peer"])
    elif number != errno.EINPROGRESS:
        state.phase = BORN
    elif state.phase == BORN:
        state.phase = CONNECTING  # by another process that has it too
    return int(number)


def getpeername(state: Carried) -> Any:
    """Return the address outside that it is connected to."""
    harvest(state)
    if state.phase != CONNECTED:
        raise _error(errno.ENOTCONN)
    return state.dialled


def getsockname(state: Carried) -> Any:
    """Return its own address outside."""
    harvest(state)
    if state.own is not None and state.phase == CONNECTED:
        return state.own
    own = _address(state, destinations.ask({"op": messages.NAME, "sock": state.id})["own"])
    if state.phase == CONNECTED:
        state.own = own
    return own


def bind(state: Carried, host: str, port: int) -> None:
    """Bind outside, to a port of the kernel's choice."""
    destinations.ask({"op": messages.BIND, "sock": state.id, "host": host, "port": port})
    state.bound = True


def give_back(self: native, state: Carried) -> None:
    """Put a socket of this process's own in the place of ours, bound to the same address: it is to listen (``--dev``).

    Options other than SO_REUSEADDR and SO_REUSEPORT do not come along.
    """
    own = getsockname(state)
    fresh = native(state.family, SOCK_STREAM)
    try:
        fresh.setsockopt(SOL_SOCKET, SO_REUSEADDR, native.getsockopt(self, SOL_SOCKET, SO_REUSEADDR))
        request = {"op": messages.OPTION, "sock": state.id, "level": SOL_SOCKET, "number": SO_REUSEPORT}
        fresh.setsockopt(SOL_SOCKET, SO_REUSEPORT, destinations.ask(request)["value"])
        _ask({"op": messages.CLOSE, "sock": state.id, "shared": False})
        if state.bound:
            fresh.bind(own)
        duplicate_natively(native.fileno(fresh), native.fileno(self), os.get_inheritable(native.fileno(self)))
        native.settimeout(self, native.gettimeout(self))  # O_NONBLOCK belongs to the file
    finally:
        fresh.close()


def shutdown(self: native, state: Carried, args: tuple[Any, ...]) -> None:
    """Shut down one way or both; the gate carries that over."""
    harvest(state)
    if state.phase != CONNECTED:
        judge("shutdown", *args)
        raise _error(errno.ENOTCONN)
    return native.shutdown(self, *args)


def pending_error(self: native, state: Carried) -> int:
    """Return the errno that waits in the socket, and take it out; 0 for none (SO_ERROR)."""
    if state.phase != CONNECTING:
        return int(native.getsockopt(self, SOL_SOCKET, 4))
    number = harvest(state)
    return 0 if number == errno.EINPROGRESS else number


# --- moving bytes -----------------------------------------------------------------------------------------------------


def _receiving(call: str) -> Any:
    plain = getattr(native, call)

    def method(self: native, *args: Any, **kwargs: Any) -> Any:
        state: Any = table.get(native.fileno(self))
        if state is not None and state.phase == BORN:
            judge(call, *args, **kwargs)
            harvest(state)
            if state.phase == BORN:
                raise _error(errno.ENOTCONN)
        return plain(self, *args, **kwargs)

    method.__name__ = method.__qualname__ = call
    method.__doc__ = plain.__doc__
    return method


def _sending(call: str) -> Any:
    plain = getattr(native, call)

    def method(self: native, *args: Any, **kwargs: Any) -> Any:
        state: Any = table.get(native.fileno(self))
        if state is not None and state.phase != CONNECTED:
            judge(call, *args, **kwargs)
            if harvest(state) == errno.EINPROGRESS:
                if native.gettimeout(self) == 0:
                    raise _error(errno.EAGAIN)
            elif state.phase == BORN:
                raise _error(errno.EPIPE)
        return plain(self, *args, **kwargs)

    method.__name__ = method.__qualname__ = call
    method.__doc__ = plain.__doc__
    return method


class CarriedSocket(standin.socket):
    """A socket of the gate's for TCP whose bytes it carries: a pair takes bytes where TCP has no connection yet."""

    __slots__ = ()

    recv, recv_into = _receiving("recv"), _receiving("recv_into")
    recvfrom, recvfrom_into = _receiving("recvfrom"), _receiving("recvfrom_into")
    recvmsg, recvmsg_into = _receiving("recvmsg"), _receiving("recvmsg_into")
    send, sendall = _sending("send"), _sending("sendall")


def become(self: native, state: Carried) -> None:
    """Give an object the methods of a relayed TCP socket, and the family that it stands for."""
    if self.family == AF_UNIX:  # made of a bare fd
        fd, timeout = native.fileno(self), native.gettimeout(self)
        native.detach(self)
        native.__init__(self, state.family, SOCK_STREAM, 0, fd)
        native.settimeout(self, timeout)
    classes.become(self, CarriedSocket)


def _address(state: Carried, address: list[Any]) -> tuple[Any, ...]:
    ip, port, flow, scope = address
    return (ip, port) if state.family == AF_INET else (ip, port, flow, scope)


def _ask(request: dict[str, Any]) -> dict[str, Any]:
    """Ask the gate; a gate that does not know the socket has ended since it made it."""
    try:
        return channel.request(request, repeat=False)
    except OSError as e:
        if getattr(e, "code", "") != "unknown-descriptor":
            raise
        raise destinations.gone() from None


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
