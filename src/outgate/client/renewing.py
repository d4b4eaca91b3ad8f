"""Tell the gate which sockets are in use though no byte moves, where it takes those that are idle wherever they are.

Until a gate says that it does, nothing here is loaded, and every method is what it was. Then thin ones come before
those that ask or move something, and each says so at most :data:`~outgate.core.formats.messages.TOUCHES` times within
the idle limit. A call that waits is cut into waits of that length, and says so in between: there is no thread, no end
to forget, and a process that is killed says nothing more. One that cannot be cut, of TLS or with MSG_WAITALL, says when
it begins and ends. Who waits by epoll, in C mostly, need say nothing: the gate sees in /proc what a process has
registered there.
"""

from __future__ import annotations

import select as native_select
import sys
from _socket import timeout as timed_out
from _struct import unpack
from select import POLLIN
from select import poll as native_poll
from time import monotonic

from outgate.client import channel, imports, standin
from outgate.client.calls import judge, os_error
from outgate.client.constants import MSG_PEEK, SO_RCVTIMEO, SOL_SOCKET
from outgate.client.install import replace_in
from outgate.client.relay import moving
from outgate.client.standin import native  # this is loaded late, when _socket is our own
from outgate.client.state import BORN, CONNECTED, table
from outgate.core.formats import messages

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Iterable

    from outgate.client.state import State

_EAGAIN = 11
_MSG_WAITALL = 0x100
#: Calls that wait for bytes, and where their flags stand.
_RECEIVING = {"recv": 1, "recvfrom": 1, "recv_into": 2, "recvfrom_into": 2, "recvmsg": 2, "recvmsg_into": 2}
#: Calls that move bytes, which the kernel's clocks show when they do, or ask for something.
_OTHERS = ("send", "sendall", "sendto", "sendmsg", "getpeername", "getsockname", "setsockopt", "getsockopt", "shutdown")

#: Seconds between two words about one socket, and the longest wait in between; 0 where nobody wants to know.
_every = 0.0
_is_ready = False


def follow(limit: float) -> None:
    """Do as the gate says.

    :param limit: seconds after which it takes a socket that is idle; 0 if it leaves it.
    """
    global _every, _is_ready
    _every = limit / messages.TOUCHES
    if not limit or _is_ready:
        return
    _is_ready = True
    moving.prepare()  # which would put its methods over ours
    for cls in standin.targets:
        for call, place in _RECEIVING.items():
            setattr(cls, call, _receiving(call, getattr(cls, call), place))
        for call in _OTHERS:
            setattr(cls, call, _renewing(getattr(cls, call)))
    _stand_in_for_select()
    imports.after("ssl", _stand_in_for_tls)


def renew(states: Iterable[State]) -> None:
    """Tell the gate that these are in use, but for those of which it knows."""
    now = monotonic()
    due = [state for state in states if now - state.renewed >= _every and _is_used(state)]
    for state in due:
        state.renewed = now
    for start in range(0, len(due), messages.MAX_TOUCHED):
        ids = [state.id for state in due[start : start + messages.MAX_TOUCHED]]
        channel.one_way({"op": messages.TOUCH, "socks": ids})


def _is_used(state: Any) -> bool:
    return bool(state.phase != BORN or (state.is_datagram and state.is_used))


# --- methods of sockets -----------------------------------------------------------------------------------------------


def _renewing(plain: Any) -> Any:
    """Return a method that tells of its call."""

    def method(self: native, *args: Any, **kwargs: Any) -> Any:
        state = table.get(native.fileno(self))
        if state is not None and _every:
            renew((state,))
        return plain(self, *args, **kwargs)

    method.__name__ = method.__qualname__ = plain.__name__
    method.__doc__ = plain.__doc__
    return method


def _receiving(call: str, plain: Any, place: int) -> Any:
    """Return a method that tells of its call, and tells again while it waits.

    :param place: of its flags among its arguments.
    """

    def method(self: native, *args: Any, **kwargs: Any) -> Any:
        state = table.get(native.fileno(self))
        if state is not None and _every:
            renew((state,))
            flags = args[place] if len(args) > place else kwargs.get("flags", 0)
            if _has_room(args) and isinstance(flags, int) and not flags & ~(MSG_PEEK | _MSG_WAITALL):
                judge(call, *args, **kwargs)  # what C refuses does not wait
                if flags & _MSG_WAITALL and _may_wait_long(native.gettimeout(self)):
                    return _as_one_wait(state, plain, self, *args, **kwargs)
                _await(self, state)
        return plain(self, *args, **kwargs)

    method.__name__ = method.__qualname__ = call
    method.__doc__ = plain.__doc__
    return method


def _may_wait_long(patience: float | None) -> bool:
    return patience is None or patience > _every


def _as_one_wait(state: State, plain: Any, *args: Any, **kwargs: Any) -> Any:
    """Call something that waits, and tell the gate when it begins and ends."""
    message = {"op": messages.TOUCH, "socks": [state.id], "wait": 1}
    channel.one_way(message)
    try:
        return plain(*args, **kwargs)
    finally:
        message["wait"] = -1
        channel.one_way(message)


def _has_room(args: tuple[Any, ...]) -> bool:
    """Tell whether a call would wait at all: without room it does not."""
    first: Any = args[0] if args else 0
    if type(first) is not int:
        try:
            first = len(first)
        except TypeError:
            return False
    return bool(first > 0)


def _await(self: native, state: State) -> None:
    """Wait until there is something to read, if the call that follows would wait long, and tell the gate meanwhile.

    :raises OSError: the time-out is over, or SO_RCVTIMEO (socket(7)).
    """
    if state.is_relay and state.phase != CONNECTED and not state.is_datagram:
        return  # it waits for the connect first
    patience: Any = native.gettimeout(self)
    has_timeout = patience is not None
    if not has_timeout:
        seconds, microseconds = unpack("ll", native.getsockopt(self, SOL_SOCKET, SO_RCVTIMEO, 16))
        patience = seconds + microseconds / 1e6 or None
    if not _may_wait_long(patience):
        return
    if not _is_readable(native.fileno(self), state, patience):
        raise timed_out("timed out") if has_timeout else os_error(_EAGAIN)


def _is_readable(fd: int, state: State, patience: float | None) -> bool:
    """Wait until a socket is readable, for so many seconds at most, and tell the gate meanwhile."""
    waiting = native_poll()
    waiting.register(fd, POLLIN)
    deadline = None if patience is None else monotonic() + patience
    while _every:
        left = _every if deadline is None else min(_every, max(0.0, deadline - monotonic()))
        if waiting.poll(left * 1000):
            return True
        if deadline is not None and monotonic() >= deadline:
            return False
        renew((state,))
    return True  # nobody wants to know any more


# --- select and poll --------------------------------------------------------------------------------------------------


def _in(items: Iterable[Any]) -> Iterable[State]:
    """Give what is ours of fds and objects that have one."""
    for item in items:
        try:
            state = table.get(item if type(item) is int else item.fileno())
        except Exception:  # no file, or closed: C has the words
            continue
        if state is not None:
            yield state


class _Select:
    """``select.select``, which tells of its wait. No function: classes keep it, and would make a method of one."""

    __name__ = __qualname__ = "select"
    __module__ = "select"
    __doc__ = native_select.select.__doc__

    def __init__(self, plain: Any) -> None:
        self._plain = plain

    def __call__(self, *args: Any) -> Any:
        """Wait as C's does."""
        if not _every or not 3 <= len(args) <= 4:
            return self._plain(*args)
        patience = args[3] if len(args) > 3 else None
        if type(patience) not in (int, float, type(None)) or (patience is not None and patience < 0):
            return self._plain(*args)
        lists = [each if type(each) in (list, tuple, set) else _once(each) for each in args[:3]]
        deadline = None if patience is None else monotonic() + patience
        while True:
            for each in lists:
                if type(each) in (list, tuple, set):
                    renew(_in(each))
            left = _every if deadline is None else min(_every, max(0.0, deadline - monotonic()))
            found = self._plain(*lists, left)
            if any(found) or (deadline is not None and monotonic() >= deadline):
                return found


def _once(items: Any) -> Any:
    """Return what can be gone through only once as a list; what is none C refuses."""
    try:
        return list(items)
    except TypeError:
        return items


class _Poll:
    """``select.poll``, which tells of its wait."""

    __slots__ = ("_fds", "_plain")

    def __init__(self) -> None:
        self._plain = native_poll()
        self._fds: set[int] = set()

    def register(self, fd: Any, *eventmask: Any) -> None:
        """Register a file."""
        self._plain.register(fd, *eventmask)
        self._fds.add(_number(fd))

    def modify(self, fd: Any, eventmask: Any) -> None:
        """Change what is waited for on a file."""
        self._plain.modify(fd, eventmask)

    def unregister(self, fd: Any) -> None:
        """Remove a file."""
        self._plain.unregister(fd)
        self._fds.discard(_number(fd))

    def poll(self, timeout: Any = None) -> list[tuple[int, int]]:
        """Wait, and return what has happened; the time-out is in milliseconds."""
        if not _every or type(timeout) not in (int, float, type(None)):
            return self._plain.poll(timeout)
        deadline = None if timeout is None or timeout < 0 else monotonic() + timeout / 1000
        while True:
            renew(_in(tuple(self._fds)))
            left = _every if deadline is None else min(_every, max(0.0, deadline - monotonic()))
            found = self._plain.poll(left * 1000)
            if found or (deadline is not None and monotonic() >= deadline):
                return found


_Poll.__name__ = _Poll.__qualname__ = "poll"
_Poll.__module__ = "select"


def _number(fd: Any) -> int:
    return fd if type(fd) is int else int(fd.fileno())


def _stand_in_for_select() -> None:
    """Put ours where modules, and the selectors of the standard library, hold C's."""
    ours = {id(native_select.select): _Select(native_select.select), id(native_select.poll): _Poll}
    native_select.select, native_select.poll = ours.values()  # type: ignore[assignment, misc]
    for module in list(sys.modules.values()):
        replace_in(getattr(module, "__dict__", {}), ours)
    selectors: Any = sys.modules.get("selectors")
    if selectors is not None:
        selectors.SelectSelector._select = native_select.select
        selectors.PollSelector._selector_cls = native_select.poll


# --- TLS --------------------------------------------------------------------------------------------------------------


def _stand_in_for_tls(module: ModuleType) -> None:
    """Have what waits in TLS tell of it: OpenSSL reads the fd itself."""
    cls: Any = module.SSLSocket
    for call in ("read", "do_handshake", "unwrap"):
        setattr(cls, call, _within_tls(call, getattr(cls, call)))


def _within_tls(call: str, plain: Any) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        state = table.get(native.fileno(self))
        if state is None or not _every or self._sslobj is None:
            return plain(self, *args, **kwargs)
        renew((state,))
        if not _may_wait_long(native.gettimeout(self)):
            return plain(self, *args, **kwargs)
        if call == "read":
            if self.pending():
                return plain(self, *args, **kwargs)
            if state.has_read_tls and _is_readable(native.fileno(self), state, 0):
                return plain(self, *args, **kwargs)
            # What lies there at first may be tickets of the session, and the read goes on waiting behind them.
            state.has_read_tls = self.version() is not None
        return _as_one_wait(state, plain, self, *args, **kwargs)

    method.__name__, method.__qualname__, method.__doc__ = call, plain.__qualname__, plain.__doc__
    return method
