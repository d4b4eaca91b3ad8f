"""Read socket addresses as C's ``getsockaddrarg`` does: the same types accepted, the same errors raised.

Host and port are frozen to exact ``str`` and ``int`` here, once, before anything looks at them: a ``str`` subclass
that shows one text to the check and another to the dial must not exist further in.

What is wrong is left to C to say: its words differ between versions of Python.
"""

from __future__ import annotations

import errno
from _operator import index
from _socket import gaierror
from _socket import getaddrinfo as _native_getaddrinfo
from _socket import socket as _native

from outgate.client.constants import AF_INET, AI_NUMERICHOST, SOCK_STREAM
from outgate.core.formats.messages import MAX_HOST

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

    #: (host, port, flowinfo, scope id)
    Address = tuple[str, int, int, int]


def parse(family: int, address: Any, call: str, *before: Any) -> Address:
    """Return the frozen parts of an AF_INET or AF_INET6 address.

    :param call: the method it was given to, and what that takes ``before`` the address.
    :raises TypeError, OverflowError, OSError: what the C method raises for this address, without a look-up. (A host
        that the ``idna`` codec refuses is a TypeError to C here, where its look-ups raise UnicodeError.)
    """
    if type(address) is tuple and len(address) == 2:
        host, port = address
        if (
            type(host) is str
            and type(port) is int
            and 0 <= port <= 0xFFFF
            and len(host) <= MAX_HOST
            and host.isascii()
            and "\0" not in host
            and host != "<broadcast>"
        ):
            return host, port, 0, 0
    try:
        return _parse(family, address)
    except (_Wrong, TypeError, ValueError, OverflowError) as mine:
        _let_c_refuse(family, address, call, before)
        raise TypeError(f"{call}(): {mine}") from None  # C took it when it looked a second time


class _Wrong(Exception):
    """The address is none; C has the words for it."""


def _parse(family: int, address: Any) -> Address:
    if not isinstance(address, tuple):
        raise _Wrong("address must be tuple")
    items = tuple(tuple.__iter__(address))
    if len(items) != 2 and (family == AF_INET or not 2 < len(items) < 5):
        raise _Wrong("address of a wrong length")
    host, port = freeze_host(items[0]), index(items[1])
    flow = index(items[2]) & 0xFFFFFFFF if len(items) > 2 else 0  # C's format "I" wraps and does not complain
    scope = index(items[3]) & 0xFFFFFFFF if len(items) > 3 else 0
    if not 0 <= port <= 0xFFFF or flow > 0xFFFFF or (host == "<broadcast>" and family != AF_INET):
        raise _Wrong("number out of range")
    if len(host) > MAX_HOST or not host.isascii():
        # No name servers are asked for such a thing. It may be a long-winded number, else C has the error.
        host = str(_native_getaddrinfo(host.encode("latin-1"), None, family, 0, 0, AI_NUMERICHOST)[0][4][0])
    return host, int(port), int(flow), int(scope)


def freeze_host(host: Any) -> str:
    """Return what C's ``idna_converter`` makes of a host: bytes as they are, text encoded unless it is plain ASCII."""
    raw: Any
    if isinstance(host, bytes):
        raw = bytes.__getitem__(host, slice(None))  # not bytes(host), which asks a subclass
    elif isinstance(host, bytearray):
        raw = bytes(bytearray.__getitem__(host, slice(None)))
    elif type(host) is str and host.isascii():
        raw = host.encode("ascii")
    elif isinstance(host, str):
        raw = str.encode(str.__str__(host), "idna")
    else:
        raise _Wrong("str, bytes or bytearray expected")
    if b"\0" in raw:
        raise _Wrong("host name must not contain null character")
    text: str = raw.decode("latin-1")
    return text


_closed: dict[int, _native] = {}


def _let_c_refuse(family: int, address: Any, call: str, before: tuple[Any, ...]) -> None:
    """Give the address to the C method of a closed socket, with a host that C need not look up."""
    if family not in _closed:
        sock = _native(family, SOCK_STREAM)
        sock.close()
        _closed[family] = sock
    if isinstance(address, tuple):
        items = list(tuple.__iter__(address))
        if items and _is_name(items[0]):
            items[0] = "0.0.0.0" if family == AF_INET else "::"
        address = tuple(items)
    try:
        getattr(_native, call)(_closed[family], *before, address)  # connect_ex returns EBADF where the others raise it
    except OSError as e:
        if e.errno != errno.EBADF:
            raise
        return  # C found nothing wrong


def _is_name(host: Any) -> bool:
    try:
        text = freeze_host(host)
    except (_Wrong, ValueError):
        return False
    if text == "" or text == "<broadcast>":
        return False
    try:
        _native_getaddrinfo(text.encode("latin-1"), None, 0, SOCK_STREAM, 0, AI_NUMERICHOST)
    except gaierror:
        return True
    return False
