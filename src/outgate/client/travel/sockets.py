"""Pass sockets on: ask the gate for a descriptor of one, and for the socket of a descriptor."""

from __future__ import annotations

import errno
import sys
from posix import close as close_natively

from outgate.client import channel, fetching, packets
from outgate.client.calls import os_error
from outgate.client.closing import forget_stale
from outgate.client.constants import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM
from outgate.client.held import SIG_BLOCK, SIG_SETMASK, sigmask
from outgate.client.inherit import SHARED
from outgate.client.standin import native  # this is loaded late, when _socket is our own
from outgate.client.standin import socket as stand_in
from outgate.client.state import BORN, CONNECTED, CONNECTING, State, by_cookie, table
from outgate.core.formats import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

_REDUCE: Any = object.__reduce__
_PHASES = {"dialled": CONNECTING, "open": CONNECTED}


# --- giving -----------------------------------------------------------------------------------------------------------


def reduce(self: Any, protocol: Any) -> Any:
    """Return what pickle makes a socket of (``object.__reduce_ex__``)."""
    if table.get(native.fileno(self)) is None or type(self).__reduce__ is not _REDUCE:
        # The native words, or what a class of the program's own says.
        return native.__reduce_ex__(self, protocol)
    text = describe(self)
    from outgate.client.travel import opening

    facts = {
        "proto": self.proto,
        "timeout": native.gettimeout(self),
        "closed": bool(getattr(self, "_closed", False)),
    }
    arguments: tuple[Any, ...] = (text, facts)
    cls = _adopted.get(type(self), type(self))
    if cls.__module__ not in ("socket", __name__):
        arguments = (text, facts, cls)
    attributes = _attributes(self, cls)
    return (opening.socket, arguments, attributes) if attributes else (opening.socket, arguments)


def _attributes(self: Any, cls: Any) -> Any:
    """Return what a class of the program's own has put into the object."""
    import socket

    said = getattr(cls, "__getstate__", None)
    if said not in (None, getattr(object, "__getstate__", None), getattr(socket.socket, "__getstate__", None)):
        return self.__getstate__()
    own = dict(getattr(self, "__dict__", None) or {})
    names = {name for kind in cls.__mro__ if kind.__module__ not in ("socket", "_socket") for name in _slots(kind)}
    slots = {name: getattr(self, name) for name in names if hasattr(self, name)}
    return (own or None, slots) if slots else own


def _slots(cls: Any) -> Iterator[str]:
    slots = cls.__dict__.get("__slots__", ())
    for name in (slots,) if isinstance(slots, str) else slots:
        if name not in ("__dict__", "__weakref__"):
            is_private = name.startswith("__") and not name.endswith("__")
            yield f"_{cls.__name__.lstrip('_')}{name}" if is_private else name


def describe(sock: Any) -> str:
    """Return a new descriptor of a socket.

    :raises TypeError: if it is not the gate's, or carries TLS.
    :raises outgate.errors.GateError: what the gate refuses.
    """
    fd = native.fileno(sock)
    state = table.get(fd)
    if state is None:
        raise TypeError("only a socket that leaves through the gate has a descriptor; this one is closed, or not one")
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(sock, ssl.SSLSocket):
        raise TypeError(
            f"cannot pickle {type(sock).__name__!r} object: the keys of its TLS connection exist in this process only; "
            "pass the plain socket on before wrap_socket(), or open the TLS connection where it is used"
        )
    mask = sigmask(SIG_BLOCK, ())
    try:
        return _describe(state, fd)
    finally:
        sigmask(SIG_SETMASK, mask)


def _describe(state: State, fd: int) -> str:
    request = {"op": messages.SHARE, "sock": state.id}
    carrier = channel.post(request)
    try:
        reply, _ = channel.collect(carrier, messages.SHARE, keep=True)
        if reply.get("hand"):
            carrier.send_fd(channel.encode({"op": messages.HAND, "sock": state.id}), fd)
            reply, _ = channel.collect(carrier, messages.HAND, keep=True)
    except packets.Gone:
        channel.forget()
        raise channel.unavailable("gate-unavailable", why="it ended during the request") from None
    channel.give_back(carrier)
    text: str = channel.checked(reply)["descriptor"]
    state.spawns = SHARED
    return text


# --- taking -----------------------------------------------------------------------------------------------------------


def redeem(text: str, proto: int = 0, exclusive: bool = False, cls: Any = None) -> Any:
    """Return the socket of a descriptor, as an object of this process.

    :param cls: the class of the object; that of the :mod:`socket` module unless given.
    :raises outgate.errors.UnknownDescriptor: it was changed, is another app's, or its lease has ended.
    :raises outgate.errors.GateUnavailable: no gate answers.
    :raises OSError: EMFILE if this process has no fd left.
    """
    if type(text) is not str:
        raise TypeError(f"a descriptor is text, not {type(text).__name__}")
    if len(text) > messages.MAX_DESCRIPTOR:
        from outgate import errors

        raise errors.build("unknown-descriptor", {})
    cls = _class_for(cls)
    request = {"op": messages.REDEEM, "descriptor": text.encode("ascii", "replace").decode(), "exclusive": exclusive}
    try:
        return fetching.fetch(request, lambda reply, fds: _take(reply, fds, proto, cls))
    except _NotKept as e:
        # The gate sees that the answer was read, and would take the socket for this process's.
        channel.one_way({"op": messages.HAVE, "descriptor": request["descriptor"], "came": False})
        raise e.reason from None


class _NotKept(Exception):
    """The socket of a descriptor has come, and could not be made an object."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


def _take(reply: dict[str, Any], fds: list[int], proto: int, cls: Any) -> Any:
    if not fds:
        raise _NotKept(os_error(errno.EMFILE))
    fd, cookie = fds[0], reply["cookie"]
    forget_stale(fd)
    state = by_cookie.get(cookie)
    if state is not None:  # of this very process, or redeemed before
        state.fds = max(state.fds, 0) + 1
        state.spawns = SHARED
    else:
        state = by_cookie[cookie] = _state(reply, cookie)
    table[fd] = state
    try:
        made = cls.__new__(cls)
        # Its own __init__ has run when the original was made, as with anything that is pickled; and what that of the
        # stand-in finds out about an fd is known.
        native.__init__(made, state.family, SOCK_DGRAM if state.is_datagram else SOCK_STREAM, proto, fd)
        if hasattr(cls, "makefile"):
            made._io_refs, made._closed = 0, False  # as socket.socket has it, and install._init
        return made
    except BaseException as e:
        forget_stale(fd)
        close_natively(fd)
        raise _NotKept(e) from None


def _state(reply: dict[str, Any], cookie: int) -> State:
    family = AF_INET if reply["family"] == 4 else AF_INET6
    id, kind, address = reply["sock"], reply["kind"], reply.get("addr")
    if kind == "udp":
        from outgate.client.relay import udp

        return udp.redeemed(id, cookie, family, SHARED)
    if kind == "relay":
        from outgate.client.relay.carried import Carried

        state: State = Carried(id, cookie, family, SHARED)
    else:
        state = State(id, cookie, family, SHARED)
    state.phase = _PHASES.get(reply["state"], BORN)
    state.is_led = "via" in reply
    if address is not None:
        state.dialled = (*address[:2],) if family == AF_INET else tuple(address)
    return state


def _class_for(cls: Any) -> Any:
    """Return the class that an object gets for which this one was asked, ``None`` for that of the socket module."""
    import socket

    cls = cls or socket.socket
    if issubclass(cls, stand_in) or any(getattr(kind, "__outgate__", False) for kind in cls.__mro__):
        return cls
    if cls not in _own:
        _own[cls] = _class_of_its_own() if cls is socket.socket else _class_below(cls)
        _adopted[_own[cls]] = cls
    return _own[cls]


#: Native class → the one that takes its place for what is redeemed, and the way back.
_own: dict[Any, Any] = {}
_adopted: dict[Any, Any] = {}


def _class_of_its_own() -> Any:
    """Return a class for the sockets that a program redeems whose other sockets are not the gate's."""
    import socket

    from outgate.client import install

    class Socket(socket.socket):
        """A socket that was redeemed; natively made ones of this program stay native."""

        __slots__ = ()

    install.patch_class(Socket)
    return Socket


def _class_below(cls: Any) -> Any:
    """Return a program's own native class with our methods below its own."""
    return type(cls.__name__, (cls, _class_for(None)), {"__slots__": (), "__module__": cls.__module__})
