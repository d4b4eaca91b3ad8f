"""Send and receive datagrams through the gate, with the header of each packet where no program sees it.

A UDP socket is one end of a Unix pair, so waiting, time-outs, non-blocking mode, ``poll`` and event loops are the
kernel's. The methods here put a header before what is sent and take it off what is received, by scatter and gather.

:mod:`outgate.client.relay.udp` has the class.
"""

from __future__ import annotations

import errno
import sys
from _operator import index
from fcntl import ioctl
from termios import FIONREAD
from time import monotonic

from outgate.client.calls import c_int, judge, os_error, refusal
from outgate.client.constants import MSG_PEEK
from outgate.client.options import freeze_ancillary, judge_message
from outgate.client.relay import destinations
from outgate.client.relay.destinations import Datagrams, gone, header_to, raise_for, source_of, surface
from outgate.client.standin import native  # these are loaded late, when _socket is our own
from outgate.client.state import table
from outgate.core.formats import frames

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

_SIZE = frames.SIZE
_DATA = frames.DATA
_MSG_DONTWAIT, _MSG_TRUNC, _MSG_CTRUNC, _MSG_MORE, _MSG_ERRQUEUE = 0x40, 0x20, 0x08, 0x8000, 0x2000
_MSG_OOB, _MSG_DONTROUTE = 0x1, 0x4
#: Flags of a send that need a word; the others are the kernel's.
_LOOKED_AT = _MSG_OOB | _MSG_DONTROUTE | _MSG_MORE
#: No payload as long as this is too long.
_SAFE = 65507
#: Up to here a copy costs less than a gather.
_SHORT = 4096
_NOTHING = bytes(4)
#: Seconds between two looks for word of an error before a send.
LOOK_AGAIN = 0.0005


# --- sending ----------------------------------------------------------------------------------------------------------


def sendto(self: native, *args: Any) -> int:
    """Send a datagram; the first to a destination asks the gate for the way there.

    :raises outgate.errors.PolicyDenied: refused by policy, with reason and cure; the socket goes on.
    """
    state: Any = table.get(native.fileno(self))
    if state is None:
        return native.sendto(self, *args)
    if len(args) == 2:
        data, address = args
        flags = 0
    elif len(args) == 3:
        data, flags, address = args
    else:
        judge("sendto", *args)  # C has the words
        raise TypeError(f"sendto() takes 2 or 3 arguments ({len(args)} given)")
    last, header = state.last
    if address is not last:  # else it is the very object: its parts are plain, and cannot have changed
        header = destinations.known_header(state, address)
        if header is None:
            judge("send", data, flags)
            header = header_to(state, address, "sendto", b"")
    sys.audit("socket.sendto", self, address)
    return _send(self, state, header, data, flags)


def send(self: native, *args: Any) -> int:
    """Send a datagram to the address the socket is connected to."""
    state: Any = table.get(native.fileno(self))
    if state is None:
        return native.send(self, *args)
    if not 1 <= len(args) <= 2:
        judge("send", *args)
    return _send(self, state, state.peer_header or _peer_header(state, "send", args), *args)


def sendall(self: native, *args: Any) -> None:
    """Send a datagram as :func:`send` does: it goes as a whole or not at all."""
    state: Any = table.get(native.fileno(self))
    if state is None:
        return native.sendall(self, *args)
    if not 1 <= len(args) <= 2:
        judge("sendall", *args)
    _send(self, state, state.peer_header or _peer_header(state, "sendall", args), *args)
    return None


def _peer_header(state: Datagrams, call: str, args: tuple[Any, ...]) -> bytes:
    judge(call, *args)
    try:
        destinations.getpeername(state)
    except OSError as e:
        if e.errno != errno.ENOTCONN:
            raise
        raise os_error(errno.EDESTADDRREQ) from None
    return state.peer_header


def _send(self: native, state: Datagrams, header: bytes, data: Any, flags: Any = 0) -> int:
    if type(data) is not bytes or type(flags) is not int or flags & _LOOKED_AT or len(data) > _SAFE:
        data, flags = _look_at(header, data, flags)
    if state.is_write_shut:
        raise os_error(errno.EPIPE)
    # What the network said of an earlier datagram is raised here: of a connected socket's natively too. Nearly always
    # nothing waits to be read; and looking costs a quarter of a send, so a flood of others does not look each time.
    if state.peer_header or monotonic() >= state.look_at:
        state.look_at = monotonic() + LOOK_AGAIN
        if ioctl(native.fileno(self), FIONREAD, _NOTHING) != _NOTHING:
            destinations.surface_first(self, state)
    try:
        if len(data) < _SHORT and type(data) is bytes:
            sent: int = native.send(self, header + data, flags)
        else:
            sent = native.sendmsg(self, (header, data), (), flags)
    except (BrokenPipeError, ConnectionError) as e:
        raise gone(state) from e
    return sent - _SIZE


def _look_at(header: bytes, data: Any, flags: Any) -> tuple[Any, int]:
    """Judge what is not plain: return the data and flags as they are sent."""
    judge("send", data, flags)
    flags = c_int(flags)
    view = memoryview(data)
    _judge_flags(flags)
    if view.nbytes > frames.largest(header):
        raise os_error(errno.EMSGSIZE)
    return view, flags


def _judge_flags(flags: int) -> None:
    if flags & _MSG_OOB:
        raise os_error(errno.EOPNOTSUPP)
    if flags & (_MSG_DONTROUTE | _MSG_MORE):
        from outgate.core.options import may_send

        refused = may_send(flags, is_udp=True, is_relay=True)
        if refused is not None:
            raise refusal(refused.code, **refused.facts)
        raise refusal("flag", flag="MSG_MORE", why="it would make one datagram of several, after they were judged")


def sendmsg(self: native, *args: Any) -> int:
    """Send a datagram from several buffers. Ancillary data does not pass the relay, and is refused."""
    state: Any = table.get(native.fileno(self))
    if state is None:
        return native.sendmsg(self, *args)
    if not 1 <= len(args) <= 4:
        judge("sendmsg", *args)
    try:
        buffers = list(args[0])
    except TypeError:
        judge_message(state.family, args)
        raise
    args, refused = freeze_ancillary(state.family, (buffers, *args[1:]))
    judge_message(state.family, args)
    _, ancillary, flags, address = args + ((), 0, None)[len(args) - 1 :]
    if refused is None and ancillary:
        refused = destinations.refuse_ancillary(*ancillary[0][:2])
    if refused is not None:
        raise refusal(refused.code, **refused.facts)
    flags = c_int(flags)
    _judge_flags(flags)
    if address is None:
        header = state.peer_header or _peer_header(state, "sendmsg", (buffers,))
    else:
        header = destinations.known_header(state, address) or header_to(state, address, "sendmsg", (), (), 0)
    sys.audit("socket.sendmsg", self, address)
    return _send(self, state, header, b"".join(buffers), flags)


# --- receiving --------------------------------------------------------------------------------------------------------


def recv(self: native, *args: Any) -> bytes:
    """Receive one datagram; what is longer than the buffer is cut off, as natively."""
    state: Any = table.get(native.fileno(self))
    if state is None:
        return native.recv(self, *args)
    size, flags = _sizes("recv", args)
    if not size:  # C does nothing then
        return native.recv(self, 0, flags)
    return _receive(self, state, size, flags)[_SIZE:]


def recvfrom(self: native, *args: Any) -> tuple[bytes, Any]:
    """Receive one datagram and where it comes from."""
    state: Any = table.get(native.fileno(self))
    if state is None:
        return native.recvfrom(self, *args)
    size, flags = _sizes("recvfrom", args)
    data = _receive(self, state, size, flags)
    return data[_SIZE:], _source(state, data[:_SIZE])


def _sizes(call: str, args: tuple[Any, ...]) -> tuple[int, int]:
    """Return size and flags, or raise what C raises for such arguments."""
    if len(args) == 1:
        size = args[0]
        if type(size) is int and 0 <= size <= 0x7FFFFFFF:
            return size, 0
    judge(call, *args)
    size, flags = index(args[0]), c_int(args[1]) if len(args) > 1 else 0
    _judge_queue(flags)
    return size, flags


def _judge_queue(flags: int) -> None:
    if flags & _MSG_ERRQUEUE:  # nothing is ever in it: what would ask for that is refused
        raise os_error(errno.EAGAIN)


def _source(state: Datagrams, header: bytes) -> Any:
    if not header:
        return None  # the end of a direction that the program itself has shut
    return state.sources.get(header) or source_of(state, header)


def _receive(self: native, state: Datagrams, size: int, flags: int) -> bytes:
    """Return the next packet that is a datagram, header and payload; nothing after shutdown. Errors are raised."""
    while True:
        try:
            packet = native.recv(self, _SIZE + size, flags)
        except ConnectionResetError as e:
            raise gone(state) from e
        if packet and packet[0] == _DATA:
            return packet
        if not packet:
            return _end(state)
        _raise(self, state, packet[:_SIZE], flags)


def _end(state: Datagrams) -> bytes:
    if state.is_read_shut:
        return b""
    raise gone(state)


def _raise(self: native, state: Datagrams, header: bytes, flags: int) -> None:
    """Raise the error that a packet tells of, unless it holds no more."""
    if flags & MSG_PEEK:
        surface(self, state)  # which takes it out, as the kernel does with an error that it reports
    else:
        raise_for(state, header)


def recv_into(self: native, *args: Any, **kwargs: Any) -> int:
    """Receive one datagram into a buffer and return its length."""
    state: Any = table.get(native.fileno(self))
    if state is None:
        return native.recv_into(self, *args, **kwargs)
    view, flags = _view("recv_into", args, kwargs)
    return _receive_into(self, state, (view,), 0, flags)[0] if view.nbytes else 0  # C does nothing without room


def recvfrom_into(self: native, *args: Any, **kwargs: Any) -> tuple[int, Any]:
    """Receive one datagram into a buffer; return its length and where it comes from."""
    state: Any = table.get(native.fileno(self))
    if state is None:
        return native.recvfrom_into(self, *args, **kwargs)
    view, flags = _view("recvfrom_into", args, kwargs)
    size, header, _, _ = _receive_into(self, state, (view,), 0, flags)
    return size, _source(state, header)


def _view(call: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[memoryview, int]:
    """Return (where the payload goes, flags) of a call that receives into a buffer, or raise what C raises."""
    if not kwargs and len(args) == 1 and type(args[0]) is bytearray:
        return memoryview(args[0]), 0
    judge(call, *args, **kwargs)
    given = {**dict(zip(("buffer", "nbytes", "flags"), args)), **kwargs}
    view = memoryview(given["buffer"])
    if view.nbytes and (view.ndim != 1 or view.format != "B"):
        view = view.cast("B")
    size, flags = index(given.get("nbytes", 0)), c_int(given.get("flags", 0))
    _judge_queue(flags)
    return (view[:size] if size else view), flags


def recvmsg(self: native, *args: Any) -> tuple[bytes, list[Any], int, Any]:
    """Receive one datagram; return it, no ancillary data, flags (MSG_TRUNC) and where it comes from."""
    state: Any = table.get(native.fileno(self))
    if state is None:
        return native.recvmsg(self, *args)
    judge("recvmsg", *args)
    buffer = bytearray(index(args[0]))
    size, header, ancillary, told = _receive_into(self, state, (buffer,), *_room_and_flags(args))
    return bytes(buffer[:size]), ancillary, told, _source(state, header)


def recvmsg_into(self: native, *args: Any) -> tuple[int, list[Any], int, Any]:
    """Receive one datagram into several buffers."""
    state: Any = table.get(native.fileno(self))
    if state is None:
        return native.recvmsg_into(self, *args)
    if not 1 <= len(args) <= 3:
        judge("recvmsg_into", *args)
    try:
        buffers = list(args[0])
    except TypeError:
        judge("recvmsg_into", *args)
        raise
    judge("recvmsg_into", buffers, *args[1:])
    size, header, ancillary, told = _receive_into(self, state, tuple(buffers), *_room_and_flags(args))
    return size, ancillary, told, _source(state, header)


def _room_and_flags(args: tuple[Any, ...]) -> tuple[int, int]:
    room, flags = index(args[1]) if len(args) > 1 else 0, c_int(args[2]) if len(args) > 2 else 0
    _judge_queue(flags)
    return room, flags


def _receive_into(
    self: native, state: Datagrams, buffers: tuple[Any, ...], room: int, flags: int
) -> tuple[int, bytes, list[Any], int]:
    """Receive one datagram into buffers; return (bytes, header, ancillary data, flags of the message)."""
    while True:
        begin = bytearray(_SIZE)
        try:
            size, ancillary, told, _ = native.recvmsg_into(self, (begin, *buffers), room, flags)
        except ConnectionResetError as e:
            raise gone(state) from e
        header = bytes(begin)
        if not size:
            return 0, _end(state), [], 0
        if header[0] == _DATA:
            return size - _SIZE, header, ancillary, told & (_MSG_TRUNC | _MSG_CTRUNC)
        _raise(self, state, header, flags)


# --- names ------------------------------------------------------------------------------------------------------------
