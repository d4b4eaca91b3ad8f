"""Look names up through the gate, with the arguments judged by C first.

A fenced program has neither name servers nor interfaces of its own. Numeric hosts are no look-up: C answers them here,
and the policy judges them at connect.
"""

from __future__ import annotations

import _socket
import errno

from outgate.client import channel
from outgate.core import messages

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

_AI_NUMERICHOST = _socket.AI_NUMERICHOST
_NI_NUMERICHOST = _socket.NI_NUMERICHOST
_EAI_NONAME = _socket.EAI_NONAME

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
}


def _ask(call: str, *args: Any) -> Any:
    reply = channel.request({"op": messages.RESOLVE, "call": call, "args": list(args)})
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
    if host is None:
        return list(native(None, port, family, type, proto, flags))
    try:
        return list(native(host, port, family, type, proto, flags | _AI_NUMERICHOST))
    except _socket.gaierror as e:
        if e.errno != _EAI_NONAME or flags & _AI_NUMERICHOST:
            raise
    name = _ascii(host)
    service = port.decode("ascii", "replace") if isinstance(port, bytes) else port
    answer = _ask("getaddrinfo", name, service, int(family), int(type), int(proto), int(flags))
    return [(f, t, p, canon, tuple(address)) for f, t, p, canon, address in answer]


def gethostbyname(hostname: Any) -> str:
    """Return the first IPv4 address of a name."""
    if _is_local(hostname):
        return str(_native["gethostbyname"](hostname))
    return str(_ask("gethostbyname_ex", _ascii(hostname))[2][0])


def gethostbyname_ex(hostname: Any) -> tuple[str, list[str], list[str]]:
    """Return (name, aliases, IPv4 addresses) of a name."""
    if _is_local(hostname):
        return tuple(_native["gethostbyname_ex"](hostname))
    name, aliases, addresses = _ask("gethostbyname_ex", _ascii(hostname))
    return name, list(aliases), list(addresses)


def gethostbyaddr(host: Any) -> tuple[str, list[str], list[str]]:
    """Return (name, aliases, addresses) of an address or name."""
    if not isinstance(host, (str, bytes, bytearray)):
        return tuple(_native["gethostbyaddr"](host))
    name, aliases, addresses = _ask("gethostbyaddr", _ascii(host))
    return name, list(aliases), list(addresses)


def getnameinfo(sockaddr: Any, flags: Any) -> tuple[str, str]:
    """Return (host, service) of a socket address."""
    numeric = _native["getnameinfo"](sockaddr, flags | _NI_NUMERICHOST)  # judges the arguments, asks nobody
    if flags & _NI_NUMERICHOST:
        return (str(numeric[0]), str(numeric[1]))
    host, service = _ask("getnameinfo", [numeric[0], *sockaddr[1:]], int(flags))
    return host, service


def if_nametoindex(name: Any) -> int:
    """Return the index of a network interface of the gate's host."""
    try:
        return int(_native["if_nametoindex"](name))  # lo is the same everywhere; also judges the argument
    except OSError as e:
        if isinstance(name, str):
            return int(_ask("if_nametoindex", name))
        raise e


def if_indextoname(index: Any) -> str:
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


def _is_local(hostname: Any) -> bool:
    # What C answers without asking anybody, or refuses for its type.
    if not isinstance(hostname, (str, bytes, bytearray)) or hostname in ("", b"", "<broadcast>", b"<broadcast>"):
        return True
    try:
        _native["getaddrinfo"](
            bytes(hostname) if isinstance(hostname, bytearray) else hostname,
            None,
            _socket.AF_INET,
            0,
            0,
            _AI_NUMERICHOST,
        )
    except _socket.gaierror as e:
        return e.errno != _EAI_NONAME
    return True


def _ascii(host: Any) -> str:
    raw = bytes(host) if isinstance(host, (bytes, bytearray)) else str.encode(str.__str__(host), "idna")
    return raw.decode("latin-1")


#: name in ``_socket`` → what stands in for it.
STAND_INS = {name: globals()[name] for name in _native}
