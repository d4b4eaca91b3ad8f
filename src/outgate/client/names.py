"""Look names up through the gate, with the arguments judged by C first.

A fenced program has neither name servers nor interfaces of its own. Numeric hosts are no look-up: C answers them here,
and the policy judges them at connect.
"""

from __future__ import annotations

import _socket
import errno
import os
import sys
from _operator import index  # operator itself costs more than this module

from outgate.client import channel
from outgate.client.constants import AF_INET, AI_NUMERICHOST, EAI_NONAME, NI_NAMEREQD, NI_NUMERICHOST
from outgate.core.formats import messages

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any, Callable

#: Those that this interpreter has.
_native: dict[str, Any] = {
    name: getattr(_socket, name)
    for name in (
        "getaddrinfo",
        "gethostbyname",
        "gethostbyname_ex",
        "gethostbyaddr",
        "getnameinfo",
        "if_nametoindex",
        "if_indextoname",
        "if_nameindex",
    )
    if hasattr(_socket, name)
}


def _message(call: str, *args: Any) -> dict[str, Any]:
    return {"op": messages.RESOLVE, "call": call, "args": list(args)}


def _ask(call: str, *args: Any) -> Any:
    reply = channel.request(_message(call, *args))
    error = channel.last_error(reply)
    if error is not None:
        raise error
    return reply["answer"]


def getaddrinfo(
    host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> list[tuple[Any, ...]]:
    """Resolve host and port into addrinfo 5-tuples, as :func:`socket.getaddrinfo` of the C module.

    Addresses that the policy forbids are left out; if none is left, :exc:`outgate.errors.PolicyDenied` says why.
    """
    native = _native["getaddrinfo"]
    flags = _c_int(flags, lambda: native(None, 0, family, type, proto, flags))
    if host is None:
        return list(native(None, port, family, type, proto, flags))
    try:
        return list(native(host, port, family, type, proto, flags | AI_NUMERICHOST))
    except _socket.gaierror as e:
        if e.errno != EAI_NONAME or flags & AI_NUMERICHOST:
            raise
        name = _whole(host).partition(b"\0")[0]  # C's own getaddrinfo sees no further either
        if not _is_askable(name):
            raise
    service = bytes.__getitem__(port, slice(None)).decode("latin-1") if isinstance(port, bytes) else port
    answer = _ask("getaddrinfo", name.decode("ascii"), service, index(family), index(type), index(proto), flags)
    return [(f, t, p, canon, tuple(address)) for f, t, p, canon, address in answer]


def gethostbyname(hostname: Any, /) -> str:
    """Return the first IPv4 address of a name."""
    name = _freeze(hostname)
    if _is_local(name):
        return str(_native["gethostbyname"](_as_given(hostname, name)))
    sys.audit("socket.gethostbyname", hostname)
    return str(_ask("gethostbyname_ex", name.decode("ascii"))[2][0])


def gethostbyname_ex(hostname: Any, /) -> tuple[str, list[str], list[str]]:
    """Return (name, aliases, IPv4 addresses) of a name."""
    name = _freeze(hostname)
    if _is_local(name):
        return tuple(_native["gethostbyname_ex"](_as_given(hostname, name)))
    sys.audit("socket.gethostbyname", hostname)
    canonical, aliases, addresses = _ask("gethostbyname_ex", name.decode("ascii"))
    return canonical, list(aliases), list(addresses)


def gethostbyaddr(host: Any, /) -> tuple[str, list[str], list[str]]:
    """Return (name, aliases, addresses) of an address or name."""
    name = _freeze(host)
    if not _is_askable(name):
        return tuple(_native["gethostbyaddr"](_as_given(host, name)))
    sys.audit("socket.gethostbyaddr", host)
    canonical, aliases, addresses = _ask("gethostbyaddr", name.decode("ascii"))
    return canonical, list(aliases), list(addresses)


def getnameinfo(sockaddr: Any, flags: Any, /) -> tuple[str, str]:
    """Return (host, service) of a socket address."""
    native = _native["getnameinfo"]
    flags = _c_int(flags, lambda: native(("127.0.0.1", 0), flags))
    # Judges the address, and asks nobody; that a name is required would make it fail.
    numeric = native(sockaddr, (flags & ~NI_NAMEREQD) | NI_NUMERICHOST if not flags & NI_NUMERICHOST else flags)
    if flags & NI_NUMERICHOST:
        return (str(numeric[0]), str(numeric[1]))
    rest = [index(number) for number in tuple.__getitem__(sockaddr, slice(1, None))]
    host, service = _ask("getnameinfo", [numeric[0], *rest], flags)
    return host, service


def if_nametoindex(name: Any, /) -> int:
    """Return the index of a network interface of the gate's host."""
    try:
        return int(_native["if_nametoindex"](name))  # lo is the same everywhere; also judges the argument
    except OSError as unknown:
        reply = channel.request(_message("if_nametoindex", os.fsencode(name).decode("utf-8", "replace")))
        if "answer" in reply:
            return int(reply["answer"])
        raise unknown


def if_indextoname(index: Any, /) -> str:
    """Return the name of a network interface of the gate's host."""
    try:
        return str(_native["if_indextoname"](index))
    except OSError as e:
        if e.errno in (errno.ENXIO, errno.ENODEV):
            return str(_ask("if_indextoname", int(index)))
        raise


def if_nameindex() -> list[tuple[int, str]]:
    """Return the network interfaces of the gate's host."""
    return [(index, name) for index, name in _ask("if_nameindex")]


def _c_int(value: Any, refused_by_c: Callable[[], Any]) -> int:
    """Return an exact ``int`` in the range of C's, or raise what C raises for it."""
    try:
        number = index(value)
        if -0x80000000 <= number <= 0x7FFFFFFF:
            return int(number)
    except Exception:
        refused_by_c()  # in its own words, which differ between versions, or for another argument before this one
        raise
    refused_by_c()
    raise OverflowError("signed integer out of range")


def _freeze(host: Any) -> Any:
    """Return a host as exact bytes, or as it is if it has a type or a NUL that C refuses.

    Every ``str``, plain ASCII too, passes the ``idna`` codec, as in C.
    """
    if not isinstance(host, (str, bytes, bytearray)):
        return host
    raw = _whole(host)
    return host if b"\0" in raw else raw


def _as_given(host: Any, frozen: Any) -> Any:
    """Return what C may be given: the program's own object, which audit hooks see, where nothing can be behind it."""
    return host if type(host) in (str, bytes) else frozen


def _whole(host: Any) -> bytes:
    if isinstance(host, str):
        return str.encode(str.__str__(host), "idna")
    if isinstance(host, bytes):
        return bytes.__getitem__(host, slice(None))
    return bytes(bytearray.__getitem__(host, slice(None)))


def _is_askable(name: Any) -> bool:
    """Tell whether C would go and ask for this, so that we do; else it answers or refuses by itself."""
    if type(name) is not bytes or b"\0" in name or name == b"" or name == b"<broadcast>":
        return False
    if len(name) > messages.MAX_HOST or not name.isascii():
        _native["getaddrinfo"](name, None, 0, 0, 0, AI_NUMERICHOST)  # the C library's own "not known", if not a number
    return True


def _is_local(name: Any) -> bool:
    """Tell whether C answers or refuses by itself, as all that it does for IPv4: no look-up."""
    if not _is_askable(name):
        return True
    spelling = name.decode("ascii")
    try:  # getaddrinfo would tell audit hooks of a look-up that the program did not ask for
        _socket.inet_pton(AF_INET, spelling)
        return True
    except OSError:
        pass
    try:
        _socket.inet_aton(spelling)  # takes a little more for a number than getaddrinfo does
    except OSError:
        if ":" not in spelling:
            return False
    try:
        _native["getaddrinfo"](name, None, AF_INET, 0, 0, AI_NUMERICHOST)
    except _socket.gaierror as e:
        return e.errno != EAI_NONAME
    return True


#: name in ``_socket`` → what stands in for it.
STAND_INS = {name: globals()[name] for name in _native}
