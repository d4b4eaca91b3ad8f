"""Stand in for ``_socket.socket``: creation, connect, bind, listen, options and close are ours, the rest the kernel's.

:func:`connect` is the one to read first: it is what happens in a program when it connects.

Methods never call one another through ``self``, which ``ssl`` and other libraries override; they share the functions
below, and call the C class explicitly.
"""

from __future__ import annotations

import errno
import sys
from _socket import gaierror
from _socket import socket as native
from _socket import timeout as timed_out
from fcntl import F_DUPFD_CLOEXEC, fcntl
from posix import close as close_natively  # os.close looks for the program's sockets
from select import POLLOUT, poll

from outgate.client import arriving, channel, inherit, outbound, pool, reclaimed
from outgate.client.address import parse
from outgate.client.calls import c_int, os_error, refusal
from outgate.client.closing import close, finalize, forget_stale
from outgate.client.constants import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    IPPROTO_TCP,
    IPPROTO_UDP,
    SO_COOKIE,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)
from outgate.client.held import HANDLED, SIG_BLOCK, SIG_SETMASK, sigmask
from outgate.client.options import getsockopt, setsockopt
from outgate.client.state import BORN, CONNECTED, CONNECTING, State, by_cookie, table
from outgate.client.travel import hooks
from outgate.core.formats import messages

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

    from outgate.client.address import Address

__all__ = ["native", "socket"]

_TCP_INFO, _TCP_CLOSE = 11, 7
_TYPE_FLAGS = SOCK_NONBLOCK | SOCK_CLOEXEC
_SOCK_RAW, _SOCK_SEQPACKET, _SOCK_PACKET = 3, 5, 10
_KINDS = frozenset(
    ((SOCK_STREAM, 0), (SOCK_STREAM, IPPROTO_TCP), (SOCK_DGRAM, 0), (SOCK_DGRAM, IPPROTO_UDP)),
)


# --- creation ---------------------------------------------------------------------------------------------------------


def init(self: native, family: int = -1, type: int = -1, proto: int = -1, fileno: Any = None) -> None:
    """Give the object a socket: one that the gate made, or whatever ``fileno`` is.

    :raises outgate.errors.GateError: for what does not leave through the gate, or an app that gets no sockets.
    """
    if fileno is not None:
        arriving.init_from(self, family, type, proto, fileno)
        return
    try:
        family, type, proto = c_int(family), c_int(type), c_int(proto)
    except Exception:
        try:
            native.__init__(self, family, type, proto, -1)  # C has the words
        except ValueError:  # and nothing else to say than that no fd is negative
            pass
        raise
    if family == -1:
        family = AF_INET
    kind = SOCK_STREAM if type == -1 else type & ~_TYPE_FLAGS
    if proto == -1:
        proto = 0
    if family == AF_UNIX:
        native.__init__(self, family, type, proto)
        forget_stale(native.fileno(self))
        return
    refused = _refusal(family, kind, proto)
    if refused is not None:
        sys.audit("socket.__new__", self, family, type, proto)  # which C raises for what is not refused
        raise refused
    if kind == SOCK_DGRAM:
        from outgate.client.relay import udp

        udp.init(self, family, proto)
    else:
        _init_born(self, family, kind, proto)
    if type != -1 and type & SOCK_NONBLOCK:
        native.setblocking(self, False)  # with fileno= C overlooks the flag


def _refusal(family: int, kind: int, proto: int) -> Exception | None:
    if family not in (AF_INET, AF_INET6):
        return refusal("family", family=family)
    if kind in (_SOCK_RAW, _SOCK_PACKET):
        return refusal("raw")
    if (kind, proto) not in _KINDS:
        return refusal("protocol", type=kind, proto=proto)
    return None


def _init_born(self: native, family: int, kind: int, proto: int) -> None:
    done = False
    while not done:
        pool.prepare(family)
        mask = sigmask(SIG_BLOCK, ())  # a handler that raises here would lose the fd
        try:
            sigmask(SIG_BLOCK, HANDLED)
            parked = pool.take(family)
            done = parked is not None and _give_out(self, family, kind, proto, parked)
        finally:
            sigmask(SIG_SETMASK, mask)


def _give_out(self: native, family: int, kind: int, proto: int, parked: pool.Parked) -> bool:
    try:
        fd = fcntl(parked.fd, F_DUPFD_CLOEXEC, 0)
    except OSError as e:
        if e.errno == errno.EBADF:
            return False  # the program closed all fds, ours among them
        fd = parked.fd  # no fd left for a lower number: the parked one serves as well
    try:
        native.__init__(self, family, kind, proto, fd)
        is_ours = native.getsockopt(self, SOL_SOCKET, SO_COOKIE, 8) == parked.cookie.to_bytes(8, sys.byteorder)
    except OSError:
        is_ours = False
    if not is_ours:  # the program has a file of its own there
        native.detach(self)
        if fd != parked.fd:
            close_natively(fd)
        return False
    if fd != parked.fd:
        close_natively(parked.fd)
    forget_stale(fd)
    state = table[fd] = by_cookie[parked.cookie] = _state(parked, family)
    if state.is_relay:
        state.ways.become(self, state)
    return True


def _state(parked: pool.Parked, family: int) -> State:
    if not parked.is_relay:
        return State(parked.id, parked.cookie, family, inherit.count)
    if not _carried:
        from outgate.client.relay.carried import Carried

        _carried.append(Carried)
    made: State = _carried[0](parked.id, parked.cookie, family, inherit.count)
    return made


#: The class of relayed sockets once there is one: finalizers make sockets when nothing can be imported any more.
_carried: list[Any] = []


# --- connect ----------------------------------------------------------------------------------------------------------


def connect(self: native, address: Any, /) -> None:
    """Connect through the gate: ask, then harvest what the kernel says of the dial that the gate began.

    The gate decides, resolves and dials on this very open file; we wait for the outcome natively, so time-outs,
    Ctrl-C and non-blocking programs see what they would see without a gate.

    :raises outgate.errors.PolicyDenied: refused by policy, with reason and cure; nothing was sent.
    :raises OSError: what the network said.
    """
    state = table.get(native.fileno(self))
    if state is None:
        return native.connect(self, address)  # AF_UNIX, or a socket that somebody else made
    if state.is_relay:
        state.ways.connect(state, self, address)
        return None
    parsed = parse(state.family, address, "connect")
    sys.audit("socket.connect", self, address)
    if state.phase != BORN and not _was_cut(self, state):
        reclaimed.check(self, state)
        return _harvest(self, state)  # a second connect asks the kernel, which knows what became of the first
    timeout = native.gettimeout(self)
    number = begin(state, parsed, timeout)
    if number == 0:
        return None
    if number == errno.EAGAIN and timeout:
        raise timed_out("timed out")
    if number != errno.EINPROGRESS or timeout == 0:
        raise os_error(number)
    if timeout is not None and not _is_writable(self, timeout):
        raise timed_out("timed out")
    try:
        return _harvest(self, state)
    except BlockingIOError as e:
        if e.errno != errno.EALREADY:
            raise
    # SO_SNDTIMEO has ended the wait; to the program this was its first connect.
    raise os_error(errno.EINPROGRESS)


def begin(state: State, address: Address, timeout: float | None = None) -> int:
    """Have the gate dial, and return the errno of a non-blocking connect: 0, EINPROGRESS, or what the network said.

    :param timeout: the socket's, where a way out by a proxy has the gate answer late: EAGAIN then. One that does not
        wait waits for that all the same, for it would look connected before it is.
    """
    host, port, flow, scope = address
    request = {"op": messages.CONNECT, "sock": state.id, "host": host, "port": port}
    if flow or scope:
        request["flow"], request["scope"] = flow, scope
    if timeout and channel.process().is_led:
        request["wait"] = timeout
    try:
        reply = channel.request(request, repeat=False)
    except OSError as e:
        if getattr(e, "code", "") != "unknown-descriptor":
            raise
        raise channel.unavailable("gate-unavailable", why="the one that made this socket has ended") from None
    refused = channel.last_error(reply)
    if isinstance(refused, gaierror):
        raise refused
    if refused is not None:
        return refused.errno or errno.EIO
    ip, port, flow, scope = reply["addr"]
    state.dialled = (ip, port) if state.family == AF_INET else (ip, port, flow, scope)
    state.is_led = "via" in reply
    state.phase = CONNECTED if reply["connected"] else CONNECTING
    return 0 if reply["connected"] else errno.EINPROGRESS


def begin_ex(state: State, address: Address, timeout: float | None = None) -> int:
    """Have the gate dial as :func:`begin` does, and return the errno of a refusal as well."""
    from outgate.errors import GateError, PolicyDenied

    try:
        return begin(state, address, timeout)
    except PolicyDenied as e:  # of a name too, which is a gaierror as well
        return e.errno or errno.EIO
    except gaierror:
        raise  # as natively: a name that cannot be looked up is no errno
    except GateError as e:
        return e.errno or errno.EIO


def connect_ex(self: native, address: Any, /) -> int:
    """Connect as :func:`connect` does, and return the errno instead of raising it."""
    state = table.get(native.fileno(self))
    if state is None:
        return native.connect_ex(self, address)
    if state.is_relay:
        return int(state.ways.connect_ex(state, self, address))
    parsed = parse(state.family, address, "connect_ex")
    sys.audit("socket.connect", self, address)
    is_first = state.phase == BORN or _was_cut(self, state)
    if is_first:
        timeout = native.gettimeout(self)
        number = begin_ex(state, parsed, timeout)
        if number != errno.EINPROGRESS:
            return number
        if timeout == 0:
            return number
        if timeout is not None and not _is_writable(self, timeout):
            return errno.EAGAIN  # as C does
    elif (number := reclaimed.check_ex(self, state)) != 0:
        return number
    number = native.connect_ex(self, state.dialled)  # type: ignore[arg-type]
    if is_first and number == errno.EALREADY:  # SO_SNDTIMEO, as in connect()
        number = errno.EINPROGRESS
    _note(state, number)
    return number


def _harvest(self: native, state: State) -> None:
    # By connect(2) and not SO_ERROR, to the address that was dialled: a name would be looked up here, and any other
    # address would be dialled natively if another thread had harvested before.
    assert state.dialled is not None
    try:
        native.connect(self, state.dialled)
    except OSError as e:
        _note(state, e.errno)
        raise
    state.phase = CONNECTED


def _was_cut(self: native, state: State) -> bool:
    """Tell whether the gate has reset this connection, and note that it is unconnected: the kernel would dial again."""
    if state.phase != CONNECTED:
        return False
    try:
        native.getpeername(self)
    except OSError as e:
        # So it is after a reset by the peer too; then the kernel says EISCONN, and the gate does.
        if e.errno == errno.ENOTCONN and native.getsockopt(self, IPPROTO_TCP, _TCP_INFO, 1)[0] == _TCP_CLOSE:
            state.phase = BORN
            return True
    return False


def _note(state: State, number: int | None) -> None:
    """Note what the kernel said of a connect in progress; ``None`` is a time-out of Python's own."""
    if number in (0, errno.EISCONN):
        state.phase = CONNECTED
    elif number not in (errno.EALREADY, errno.EINPROGRESS, errno.EINTR, errno.EAGAIN, None):
        state.phase = BORN  # the next connect asks the gate again


def _is_writable(self: native, timeout: float) -> bool:
    waiting = poll()
    waiting.register(native.fileno(self), POLLOUT)
    return bool(waiting.poll(timeout * 1000))


class socket(native):
    """A socket of the gate's: the C class with creation, connect, bind, listen, options and close replaced."""

    __slots__ = ()

    __init__ = init
    connect = connect
    connect_ex = connect_ex
    bind = outbound.bind
    listen = outbound.listen
    _accept = outbound.accept
    sendto = outbound.sendto
    sendmsg = outbound.sendmsg
    recvfrom = outbound.recvfrom
    recvfrom_into = outbound.recvfrom_into
    recvmsg = outbound.recvmsg
    recvmsg_into = outbound.recvmsg_into
    getpeername = outbound.getpeername
    getsockname = outbound.getsockname
    shutdown = outbound.shutdown
    setsockopt = setsockopt
    getsockopt = getsockopt  # type: ignore[assignment]  # typeshed tells int from bytes by the arguments
    close = close
    __del__ = finalize
    __reduce_ex__ = hooks.reduce_socket

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """See to the files of :class:`socket.socket`, the class that the standard library builds on this one."""
        super().__init_subclass__(**kwargs)
        if cls.__module__ == "socket" and "makefile" in cls.__dict__:
            hooks.wrap_makefile(cls)


def _follow_idle_limit(seconds: float) -> None:
    from outgate.client import renewing

    renewing.follow(seconds)


channel.on_idle_limit.append(_follow_idle_limit)
socket.__module__ = "_socket"
#: The classes whose methods are ours: this one, and that of :mod:`socket` where it was patched.
targets: list[Any] = [socket]
