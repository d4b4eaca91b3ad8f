"""Stand in for ``_socket.socket``: creation, connect, bind, listen and close are ours, the rest is the kernel's.

:func:`connect` is the one to read first: it is what happens in a program when it connects.

Methods never call one another through ``self``, which ``ssl`` and other libraries override; they share the functions
below, and call the C class explicitly.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from _socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    AI_NUMERICHOST,
    IPPROTO_TCP,
    IPPROTO_UDP,
    SO_LINGER,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    gaierror,
    getaddrinfo,
)
from _socket import close as native_close_fd
from _socket import socket as native
from _socket import timeout as timed_out
from fcntl import F_DUPFD_CLOEXEC, fcntl
from operator import index

from outgate.client import channel, inherit, pool
from outgate.client.address import parse
from outgate.client.held import HANDLED, SIG_BLOCK, SIG_SETMASK, sigmask
from outgate.client.state import BORN, CONNECTED, CONNECTING, State, by_cookie, forget_ghosts, table
from outgate.core import messages

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

    from outgate.client.address import Address

__all__ = ["native", "socket"]

_SO_COOKIE = 57
_MSG_FASTOPEN = 0x20000000
_TYPE_FLAGS = SOCK_NONBLOCK | SOCK_CLOEXEC
_SOCK_RAW, _SOCK_PACKET = 3, 10


def _refuse(code: str, **facts: Any) -> Exception:
    from outgate import errors

    return errors.build(code, facts)


# --- creation ---------------------------------------------------------------------------------------------------------


def _int(value: Any) -> int:
    number = value if type(value) is int else int(index(value))
    if -0x80000000 <= number <= 0x7FFFFFFF:
        return number
    raise OverflowError("out of the range of a C int")


def init(self: native, family: int = -1, type: int = -1, proto: int = -1, fileno: Any = None) -> None:
    """Give the object a socket: one that the gate made, or whatever ``fileno`` is.

    :raises outgate.errors.GateError: for what does not leave through the gate, or an app that gets no sockets.
    """
    if fileno is not None:
        _init_from(self, family, type, proto, fileno)
        return
    try:
        family, type, proto = _int(family), _int(type), _int(proto)
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
        _forget_stale(native.fileno(self))
        return
    sys.audit("socket.__new__", self, family, type, proto)
    if family not in (AF_INET, AF_INET6):
        raise _refuse("family", family=family)
    if kind in (_SOCK_RAW, _SOCK_PACKET):
        raise _refuse("raw")
    if kind == SOCK_DGRAM and proto in (0, IPPROTO_UDP):
        raise _refuse("udp-not-yet")
    if kind != SOCK_STREAM or proto not in (0, IPPROTO_TCP):
        raise _refuse("protocol", type=kind, proto=proto)
    _init_born(self, family, kind, proto)
    if type != -1 and type & SOCK_NONBLOCK:
        native.setblocking(self, False)  # with fileno= C overlooks the flag


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
        is_ours = native.getsockopt(self, SOL_SOCKET, _SO_COOKIE, 8) == parked.cookie.to_bytes(8, sys.byteorder)
    except OSError:
        is_ours = False
    if not is_ours:  # the program has a file of its own there
        native.detach(self)
        if fd != parked.fd:
            os.close(fd)
        return False
    if fd != parked.fd:
        os.close(parked.fd)
    _forget_stale(fd)
    table[fd] = by_cookie[parked.cookie] = State(parked.id, parked.cookie, family, inherit.count)
    return True


def _forget_stale(fd: int) -> None:
    """Let go of a socket that had this number until ``os.close()``, which we do not see, or ``closerange``."""
    stale = table.pop(fd, None)
    if stale is not None:
        _let_go(stale, wait=False)


def _init_from(self: native, family: int, type: int, proto: int, fileno: Any) -> None:
    native.__init__(self, family, type, proto, fileno)
    if type != -1 and _int(type) & SOCK_NONBLOCK:
        native.setblocking(self, False)
    fd = native.fileno(self)
    if self.family not in (AF_INET, AF_INET6):
        return _forget_stale(fd)
    known = table.get(fd)
    if known is None and not by_cookie:
        return
    try:
        cookie = int.from_bytes(native.getsockopt(self, SOL_SOCKET, _SO_COOKIE, 8), sys.byteorder)
    except OSError:
        return
    if known is not None and known.cookie == cookie:
        return  # handed on by detach()
    state = by_cookie.get(cookie)
    if state is not None:  # a dup
        table[fd] = state
        state.fds = max(state.fds, 0) + 1
    else:
        table.pop(fd, None)
    if known is not None:
        _let_go(known, wait=False)


# --- connect ----------------------------------------------------------------------------------------------------------


def connect(self: native, address: Any) -> None:
    """Connect through the gate: ask, then harvest what the kernel says of the dial that the gate began.

    The gate decides, resolves and dials on this very open file; we wait for the outcome natively, so time-outs,
    Ctrl-C and non-blocking programs see what they would see without a gate.

    :raises outgate.errors.PolicyDenied: refused by policy, with reason and cure; nothing was sent.
    :raises OSError: what the network said.
    """
    state = table.get(native.fileno(self))
    if state is None:
        return native.connect(self, address)  # AF_UNIX, or a socket that somebody else made
    parsed = parse(state.family, address, "connect")
    sys.audit("socket.connect", self, address)
    return _connect(self, state, parsed)


def _connect(self: native, state: State, address: Address) -> None:
    if state.phase != BORN:
        return _harvest(self, state)  # a second connect asks the kernel, which knows what became of the first
    host, port, flow, scope = address
    reply = channel.request(
        {"op": messages.CONNECT, "sock": state.id, "host": host, "port": port, "flow": flow, "scope": scope},
        repeat=False,
    )
    refused = channel.last_error(reply)
    if refused is not None:
        raise refused
    ip, port, flow, scope = reply["addr"]
    state.dialled = (ip, port) if state.family == AF_INET else (ip, port, flow, scope)
    if reply["connected"]:
        state.phase = CONNECTED
        return None
    state.phase = CONNECTING
    timeout = native.gettimeout(self)
    if timeout is None:
        return _harvest(self, state)
    if timeout == 0:
        raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))
    _wait_writable(self, timeout)
    return _harvest(self, state)


def connect_ex(self: native, address: Any) -> int:
    """Connect as :func:`connect` does, and return the errno instead of raising it."""
    state = table.get(native.fileno(self))
    if state is None:
        return native.connect_ex(self, address)
    parsed = parse(state.family, address, "connect_ex")
    sys.audit("socket.connect", self, address)
    try:
        _connect(self, state, parsed)
    except gaierror:
        raise  # as natively: a name that cannot be looked up is no errno
    except TimeoutError as e:
        return e.errno or errno.EAGAIN
    except OSError as e:
        if e.errno is None:
            return errno.EAGAIN  # 3.9's socket.timeout is an OSError of its own without a number
        return e.errno
    return 0


def _harvest(self: native, state: State) -> None:
    # By connect(2) and not SO_ERROR, to the address that was dialled: a name would be looked up here, and any other
    # address would be dialled natively if another thread had harvested before.
    assert state.dialled is not None
    try:
        native.connect(self, state.dialled)
    except OSError as e:
        if e.errno == errno.EISCONN:
            state.phase = CONNECTED
        elif e.errno not in (errno.EALREADY, errno.EINPROGRESS, errno.EINTR, None):
            state.phase = BORN  # the next connect asks the gate again
        raise
    state.phase = CONNECTED


def _wait_writable(self: native, timeout: float) -> None:
    poll = select.poll()
    poll.register(native.fileno(self), select.POLLOUT)
    if not poll.poll(timeout * 1000):
        raise timed_out("timed out")


# --- what is refused, at the call and without a packet ----------------------------------------------------------------


def bind(self: native, address: Any) -> None:
    """Bind to the wildcard or loopback with port 0; anything else is for servers.

    :raises outgate.errors.OutboundOnly: for an address or a port (App Engine: no bind to specific ones).
    """
    state = table.get(native.fileno(self))
    if state is None:
        return native.bind(self, address)
    host, port, flow, scope = parse(state.family, address, "bind")
    if not _may_bind(state.family, host) or (port != 0 and not channel.process().dev):
        raise _refuse("bind", host=host, port=port)
    native.bind(self, (host, port) if state.family == AF_INET else (host, port, flow, scope))
    state.bound = True
    return None


def _may_bind(family: int, host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        number: Any = getaddrinfo(host, None, family, SOCK_STREAM, 0, AI_NUMERICHOST)[0][4][0]
    except gaierror:
        return False
    return number in ("0.0.0.0", "::", "::1") or number.startswith(("127.", "::ffff:127."))


def listen(self: native, *backlog: Any) -> None:
    """Refuse to listen, or under ``--dev`` give the lease back and listen natively.

    :raises outgate.errors.OutboundOnly: always, outside ``--dev``.
    """
    fd = native.fileno(self)
    state = table.get(fd)
    if state is not None:
        if not channel.process().dev:
            if backlog:
                _judge("listen", *backlog)
            raise _refuse("listen", call="listen", hint="outgate run --dev lets a program listen on loopback")
        del table[fd]  # the gate's duplicate would keep the port taken after close
        by_cookie.pop(state.cookie, None)
        _let_go(state, wait=True)
    return native.listen(self, *backlog)


def accept(self: native) -> tuple[int, Any]:
    """Refuse to accept on a socket of the gate's; inherited listening sockets are native."""
    if native.fileno(self) in table:
        raise _refuse("listen", call="accept", hint="outgate run --dev lets a program listen on loopback")
    accepted: tuple[int, Any] = native._accept(self)  # type: ignore[attr-defined]
    return accepted


def sendto(self: native, *args: Any) -> int:
    """Send natively; MSG_FASTOPEN would connect behind the gate's back and is refused."""
    state = table.get(native.fileno(self))
    if state is not None and len(args) == 3 and args[1] and _has_fast_open(args[1]):
        _judge("send", args[0], args[1])
        parse(state.family, args[2], "sendto", b"")
        raise _refuse("fast-open")
    return native.sendto(self, *args)


def sendmsg(self: native, *args: Any) -> int:
    """Send natively; refuse MSG_FASTOPEN, and notice fds that leave for another process."""
    state = table.get(native.fileno(self))
    if state is not None and 3 <= len(args) <= 4 and args[2] and _has_fast_open(args[2]):
        if len(args) > 3 and args[3] is not None:
            parse(state.family, args[3], "sendmsg", (), (), 0)
        _judge("sendmsg", *args[:3])
        raise _refuse("fast-open")
    sent: int = native.sendmsg(self, *args)
    if len(args) > 1 and args[1]:
        inherit.bump()
    return sent


def setsockopt(self: native, *args: Any) -> None:
    """Set an option natively; close must be exact about SO_LINGER, so remember that it was touched."""
    native.setsockopt(self, *args)
    if args[1] == SO_LINGER and args[0] == SOL_SOCKET:
        state = table.get(native.fileno(self))
        if state is not None:
            state.lingered = True


def _has_fast_open(flags: Any) -> bool:
    try:
        return bool(_int(flags) & _MSG_FASTOPEN)
    except Exception:  # whatever __index__ raised: C meets it too
        return False


def _judge(call: str, *args: Any) -> None:
    """Let C refuse what is wrong with arguments, on a socket without an fd: nothing can come of it."""
    sock = native(AF_UNIX)
    sock.close()
    try:
        getattr(native, call)(sock, *args)
    except OSError as e:
        if e.errno != errno.EBADF:
            raise


# --- close ------------------------------------------------------------------------------------------------------------


def close(self: native) -> None:
    """Close natively, and tell the gate, whose duplicate would keep the connection open."""
    fd = native.fileno(self)
    state = table.get(fd)
    if state is None:
        return native.close(self)
    # Natively the port is free, the reset is out, and epoll has forgotten the fd when close() returns; with a
    # duplicate in the gate that holds only after the gate has closed too.
    wait = state.bound or state.lingered or (native.gettimeout(self) == 0 and "select" in sys.modules)
    held = state.fds
    try:
        table.pop(fd, None)
        native.close(self)
        _let_go(state, wait)
    except BaseException:  # a signal handler raised, at any of these steps
        if native.fileno(self) >= 0:
            table[fd] = state
        else:
            _let_go_again(state, held)
        raise
    return None


def close_fd(fd: Any) -> None:
    """Close an fd (``socket.close``), which may be one of ours."""
    state = table.pop(fd, None) if isinstance(fd, int) else None
    if state is None:
        return native_close_fd(fd)
    held = state.fds
    try:
        native_close_fd(fd)
        _let_go(state, wait=state.bound or state.lingered)
    except BaseException:
        _let_go_again(state, held)
        raise


def finalize(self: native) -> None:
    """Warn and close as C does when the last reference goes, then tell the gate."""
    fd = native.fileno(self)
    state = table.pop(fd, None) if fd >= 0 else None
    if state is None:
        native.__del__(self)  # type: ignore[attr-defined]
        return
    held = state.fds
    try:
        native.__del__(self)  # type: ignore[attr-defined]
        _let_go(state, wait=False)
    except BaseException:
        _let_go_again(state, held)
        raise


def _let_go(state: State, wait: bool) -> None:
    state.fds -= 1
    if state.fds > 0:
        return
    if state.phase == BORN:
        forget_ghosts()
    else:
        by_cookie.pop(state.cookie, None)
    message = _goodbye(state)
    if not wait:
        channel.one_way(message)
        return
    from outgate.errors import GateError

    try:
        channel.request(message)
    except GateError:
        pass  # a gate that has ended holds no duplicate either


def _let_go_again(state: State, held: int) -> None:
    """Do what :func:`_let_go` was interrupted in, which may have been anywhere: telling the gate twice does no harm.

    :param held: how many fds there were before.
    """
    state.fds = held - 1
    if state.fds <= 0:
        channel.one_way(_goodbye(state))


def _goodbye(state: State) -> dict[str, Any]:
    return {"op": messages.CLOSE, "sock": state.id, "shared": state.spawns != inherit.count}


class socket(native):
    """A socket of the gate's: the C class with creation, connect, bind, listen and close replaced."""

    __slots__ = ()

    __init__ = init
    connect = connect
    connect_ex = connect_ex
    bind = bind
    listen = listen
    _accept = accept
    sendto = sendto
    sendmsg = sendmsg
    setsockopt = setsockopt
    close = close
    __del__ = finalize


socket.__module__ = "_socket"
