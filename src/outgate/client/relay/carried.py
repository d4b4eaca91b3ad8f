"""Stand in for a TCP socket whose bytes the gate carries: the program holds one end of a pair of Unix sockets.

What the pair cannot know is asked of the gate: how a connect has ended, and both addresses.
"""

from __future__ import annotations

import errno
import os
import sys
from _socket import timeout as timed_out
from _struct import unpack
from _thread import RLock
from posix import dup2 as duplicate_natively  # os.dup2 looks for the program's sockets
from select import POLLIN, POLLOUT, poll

from outgate.client import channel, inherit, reclaimed, standin
from outgate.client.address import parse
from outgate.client.calls import judge, os_error
from outgate.client.constants import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    SO_ERROR,
    SO_RCVTIMEO,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_SNDBUF,
    SO_SNDTIMEO,
    SOCK_STREAM,
    SOL_SOCKET,
)
from outgate.client.relay import destinations, moving
from outgate.client.standin import native  # this is loaded late, when _socket is our own
from outgate.client.state import BORN, CONNECTED, CONNECTING, State, by_cookie, table
from outgate.core.formats import messages

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any, Callable

    from outgate.client.address import Address

_MARGIN = 4096
#: Options of the socket outside by which bind(2) goes, the last for IPv6.
_FOR_BIND = ((SOL_SOCKET, SO_REUSEPORT), (IPPROTO_IPV6, IPV6_V6ONLY))
#: Kept, for sockets that are collected when the interpreter has forgotten its modules.
_MODULE = sys.modules[__name__]


class Carried(State):
    """One relayed TCP socket of this process."""

    __slots__ = ("boot", "error", "lock", "own", "why")

    is_relay = True
    ways = calls = _MODULE

    def __init__(self, id: int, cookie: int, family: int, spawns: int) -> None:
        super().__init__(id, cookie, family, spawns)
        #: Its address outside, as soon as it has been asked for of a connected one.
        self.own: tuple[Any, ...] | None = None
        #: How a connect has failed, until the program has been told.
        self.error = 0
        #: The refusal behind that, where the gate has one: its way out did not work.
        self.why: dict[str, Any] | None = None
        #: Held by who begins a connect.
        self.lock = RLock()
        #: Which gate has made it.
        self.boot = channel.process().boot


def connect(state: Carried, self: native, address: Any) -> None:
    """Connect through the gate, which dials outside and carries the bytes from then on.

    :raises outgate.errors.PolicyDenied: refused by policy, with reason and cure; nothing was sent.
    :raises OSError: what the network said.
    """
    parsed = parse(state.family, address, "connect")
    sys.audit("socket.connect", self, address)
    reclaimed.check(self, state)
    number = _connect(state, self, parsed, standin.begin)
    if number == errno.EAGAIN:
        raise timed_out("timed out")
    if number:
        raise _failure(state, number)


def _failure(state: Carried, number: int) -> Exception:
    """Return the error of a connect that has failed: the refusal where there is one, told once, else the network's."""
    why, state.why = state.why, None
    if why is None:
        return os_error(number)
    from outgate import errors

    return errors.build(why["code"], why["facts"])


def connect_ex(state: Carried, self: native, address: Any) -> int:
    """Connect as :func:`connect` does, and return the errno instead of raising it; EAGAIN is a time-out."""
    parsed = parse(state.family, address, "connect_ex")
    sys.audit("socket.connect", self, address)
    return reclaimed.check_ex(self, state) or _connect(state, self, parsed, standin.begin_ex)


def _connect(state: Carried, self: native, address: Address, begin: Callable[[State, Address], int]) -> int:
    with state.lock:  # two fills at once, and one of them would be sent
        if state.phase == BORN:
            number = _look(state, claim=True)  # a child, or the parent, may have connected it, or be about to
            if number not in (0, errno.EINPROGRESS):
                state.error = 0
                return number
        is_first = state.phase == BORN
        if is_first:
            state.why = None
            _fill(self)
            number = begin(state, address)
            if number != errno.EINPROGRESS:
                return number
    if state.phase == CONNECTED:
        return errno.EISCONN
    timeout = native.gettimeout(self)
    if timeout == 0 and is_first:
        return errno.EINPROGRESS
    # A second connect waits for what the first has begun, unless the program has set a time-out (tcp(7), and C).
    if (is_first or timeout is None) and not _is_ready(self, POLLOUT):
        if timeout is not None:
            return errno.EAGAIN
        return errno.EINPROGRESS if is_first else errno.EALREADY
    if state.phase == BORN:
        return errno.ECONNABORTED  # another thread has heard why
    number = harvest(state)
    return errno.EALREADY if number == errno.EINPROGRESS else number


def _fill(self: native) -> None:
    """Fill our end, so that it is not writable until the gate takes all that out, which is when the dial has ended."""
    waiting = poll()
    waiting.register(native.fileno(self), POLLIN)
    if waiting.poll(0):  # a connect has failed, which made it so
        native.recv(self, _MARGIN, MSG_DONTWAIT)
    # A Unix socket is writable as long as four times what it has in flight fits into its buffer (unix_writable()).
    filled = native.getsockopt(self, SOL_SOCKET, SO_SNDBUF) // 4 + _MARGIN
    try:
        native.send(self, bytes(filled), MSG_DONTWAIT | MSG_NOSIGNAL)
    except OSError:  # full already; or its gate has ended, as will be said when that is asked
        pass


def _is_ready(self: native, event: int) -> bool:
    """Wait for POLLIN or POLLOUT as long as Python's time-out says, else SO_RCVTIMEO or SO_SNDTIMEO (socket(7))."""
    patience = native.gettimeout(self)
    if patience is None:
        option = SO_SNDTIMEO if event == POLLOUT else SO_RCVTIMEO
        seconds, microseconds = unpack("ll", native.getsockopt(self, SOL_SOCKET, option, 16))
        patience = seconds + microseconds / 1e6 or None
    waiting = poll()
    waiting.register(native.fileno(self), event)
    return bool(waiting.poll(None if patience is None else patience * 1000))


def _await(self: native, state: Carried, event: int) -> int:
    """Return how a connect in progress has ended, once the socket is ready.

    :raises OSError: EAGAIN where the socket does not wait, or the time-out.
    """
    timeout = native.gettimeout(self)
    if timeout == 0 or not _is_ready(self, event):
        raise timed_out("timed out") if timeout else os_error(errno.EAGAIN)
    return harvest(state)


def harvest(state: Carried) -> int:
    """Return how the connect has ended, once: 0, EINPROGRESS, or what the network said (the socket is fresh then)."""
    number = _look(state)
    if number != errno.EINPROGRESS:
        state.error = 0
    return number


def _look(state: Carried, claim: bool = False) -> int:
    """Return what :func:`harvest` does, and leave an error where it is.

    :param claim: to fill our end next, which only one of the processes that have the socket may do: the filling of
        another would be sent.
    """
    if state.error or state.phase == CONNECTED or (state.phase == BORN and state.spawns == inherit.count):
        return state.error
    request = {"op": messages.HARVEST, "sock": state.id}
    if claim and state.phase == BORN:
        request["claim"] = True
    reply = _ask(request, state)
    number = int(reply.get("errno", 0))
    if number == 0:
        state.own = _address(state, reply["own"])
        state.dialled = _address(state, reply["peer"])
        state.phase = CONNECTED
    elif number == errno.EINPROGRESS:
        state.phase = CONNECTING  # perhaps by another process that has it too
    elif state.phase == BORN:
        return 0  # as it was
    else:
        state.phase = BORN
        state.error = number
        state.why = reply.get("why")
    return number


def getpeername(state: Carried) -> Any:
    """Return the address outside that it is connected to."""
    _look(state)
    if state.phase != CONNECTED:
        raise os_error(errno.ENOTCONN)
    return state.dialled


def getsockname(state: Carried) -> Any:
    """Return its own address outside."""
    _look(state)
    if state.own is not None and state.phase == CONNECTED:
        return state.own
    own = _address(state, destinations.ask({"op": messages.NAME, "sock": state.id})["own"])
    if state.phase == CONNECTED:
        state.own = own
    return own


def bind(self: native, state: Carried, host: str, port: int) -> None:
    """Bind outside, to a port of the kernel's choice, or under ``--dev`` to any."""
    if port and native.getsockopt(self, SOL_SOCKET, SO_REUSEADDR):  # kept in our end, as no other port depends on it
        request = {"op": messages.OPTION, "sock": state.id, "level": SOL_SOCKET, "number": SO_REUSEADDR, "value": 1}
        destinations.ask(request)
    destinations.ask({"op": messages.BIND, "sock": state.id, "host": host, "port": port})
    state.bound = True


def give_back(self: native, state: Carried) -> None:
    """Put a socket of this process's own in the place of ours, bound to the same address: it is to listen (``--dev``).

    Options do not come along but for those that bind(2) goes by: SO_REUSEADDR, SO_REUSEPORT and IPV6_V6ONLY.
    """
    own = getsockname(state)
    fresh = native(state.family, SOCK_STREAM)
    try:
        fresh.setsockopt(SOL_SOCKET, SO_REUSEADDR, native.getsockopt(self, SOL_SOCKET, SO_REUSEADDR))
        for level, number in _FOR_BIND if state.family == AF_INET6 else _FOR_BIND[:1]:
            request = {"op": messages.OPTION, "sock": state.id, "level": level, "number": number}
            fresh.setsockopt(level, number, destinations.ask(request)["value"])
        _ask({"op": messages.CLOSE, "sock": state.id, "shared": False}, state)
        if state.bound:
            fresh.bind(own)
        duplicate_natively(native.fileno(fresh), native.fileno(self), os.get_inheritable(native.fileno(self)))
        native.settimeout(self, native.gettimeout(self))  # O_NONBLOCK belongs to the file
    finally:
        fresh.close()


def shutdown(self: native, state: Carried, *args: Any) -> None:
    """Shut down one way or both; the gate carries that over."""
    _look(state)
    if state.phase != CONNECTED:
        judge("shutdown", *args)
        raise os_error(errno.ENOTCONN)
    return native.shutdown(self, *args)


def pending_error(self: native, state: Carried) -> int:
    """Return the errno that waits in the socket, and take it out; 0 for none (SO_ERROR)."""
    if state.phase == CONNECTED:
        return int(native.getsockopt(self, SOL_SOCKET, SO_ERROR))
    number = harvest(state)
    return 0 if number == errno.EINPROGRESS else number


# --- moving bytes -----------------------------------------------------------------------------------------------------


def _receiving(call: str) -> Any:
    plain = getattr(native, call)

    def method(self: native, *args: Any, **kwargs: Any) -> Any:
        state: Any = table[native.fileno(self)]
        if state.phase != CONNECTED:
            judge(call, *args, **kwargs)
            number = harvest(state)
            if number == errno.EINPROGRESS:
                number = _await(self, state, POLLIN)
            if state.phase == BORN:
                raise os_error(number or errno.ENOTCONN)
        return plain(self, *args, **kwargs)

    return method


def _sending(call: str) -> Any:
    plain = getattr(native, call)

    def method(self: native, *args: Any, **kwargs: Any) -> Any:
        await_sending(self, table[native.fileno(self)], call, args)
        return plain(self, *args, **kwargs)

    return method


def await_sending(self: native, state: Any, call: str, args: tuple[Any, ...]) -> None:
    """Wait until the socket is connected, as a send does (tcp(7)); our end of the pair would take bytes before.

    :raises OSError: EAGAIN where the socket does not wait, EPIPE where nothing has begun to connect it.
    """
    if state.phase == CONNECTED:
        return
    judge(call, *args)
    number = harvest(state)
    if number == errno.EINPROGRESS:
        number = _await(self, state, POLLOUT)
    if number or state.phase == BORN:
        raise os_error(number or errno.EPIPE)


recv, recv_into = _receiving("recv"), _receiving("recv_into")
recvfrom, recvfrom_into = _receiving("recvfrom"), _receiving("recvfrom_into")
recvmsg, recvmsg_into = _receiving("recvmsg"), _receiving("recvmsg_into")
send, sendall = _sending("send"), _sending("sendall")


def become(self: native, state: Carried) -> None:
    """Give an object the family that it stands for, and see to it that its methods know of it."""
    if self.family == AF_UNIX:  # made of a bare fd
        fd, timeout = native.fileno(self), native.gettimeout(self)
        native.detach(self)
        native.__init__(self, state.family, SOCK_STREAM, 0, fd)
        native.settimeout(self, timeout)
    moving.prepare()


def adopt(cookie: int) -> Carried | None:
    """Ask the gate about a socket that came to this process in some way we did not see, and enter it if it is one.

    No fd is counted yet.
    """
    from outgate.errors import GateError

    try:
        reply = channel.request({"op": messages.ADOPT, "cookie": cookie})
    except GateError:
        return None
    if reply.get("kind") != "relay":
        return None
    family = AF_INET if reply["family"] == 4 else AF_INET6
    state = by_cookie[cookie] = Carried(reply["sock"], cookie, family, inherit.count - 1)
    state.fds = 0
    return state


def _address(state: Carried, address: list[Any]) -> tuple[Any, ...]:
    ip, port, flow, scope = address
    return (ip, port) if state.family == AF_INET else (ip, port, flow, scope)


def _ask(request: dict[str, Any], state: Carried) -> dict[str, Any]:
    """Ask the gate; where it knows the socket no more, that was reset, or another gate has made it."""
    try:
        return channel.request(request, repeat=False)
    except OSError as e:
        if getattr(e, "code", "") != "unknown-descriptor":
            raise
        if state.boot == channel.process().boot:
            return {"errno": errno.ECONNRESET}
        raise destinations.gone() from None


def _renew_locks() -> None:
    for state in by_cookie.values():
        if isinstance(state, Carried):
            state.lock = RLock()  # another thread of the parent may have held it


channel.on_fork.append(_renew_locks)
