"""Speak SOCKS5 as its server: RFC 1928 with the username and password of RFC 1929, and the header of a UDP datagram.

Only the method "username/password" is offered, since without credentials nobody is an app. BIND is refused: sockets are
outbound only.
"""

from __future__ import annotations

import functools
import ipaddress
from typing import Final, NamedTuple, Optional

from outgate.core.doors.failures import ADDRESS_TYPE_NOT_SUPPORTED, COMMAND_NOT_SUPPORTED, GENERAL, Failure
from outgate.core.doors.talk import CONNECT, UDP, Event, Login, Malformed, Talk, Wanted, host_of

__all__ = ["Datagram", "SocksTalk", "datagram", "header"]

VERSION: Final = 5
#: Version of the negotiation of RFC 1929.
_LOGIN_VERSION: Final = 1
#: Methods: username and password; none acceptable.
_PASSWORD, _NO_METHOD = 2, 0xFF
_CONNECT, _BIND, _ASSOCIATE = 1, 2, 3
_IPV4, _NAME, _IPV6 = 1, 3, 4
_LENGTH: Final = {_IPV4: 4, _IPV6: 16}
_FAMILY: Final = {_IPV4: 4, _NAME: 0, _IPV6: 6}

#: The answers that most get: say who you are; you are that.
_USE_PASSWORD: Final = bytes((VERSION, _PASSWORD))
_WELCOME: Final = bytes((_LOGIN_VERSION, 0))
#: What a client of SOCKS4 is told: rejected, in its own protocol.
_NOT_SOCKS4: Final = b"\x00\x5b" + bytes(6)
_NOT_HTTP: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This is outgate's SOCKS5 door. Use a URL that begins with socks5h://, or the port of the HTTP CONNECT door.\n"
)


class SocksTalk(Talk):
    """One talk of SOCKS5: methods, then credentials, then the request."""

    name = "socks5"

    def __init__(self) -> None:
        super().__init__()
        self._step = SocksTalk._methods

    def _methods(self) -> Optional[Event]:
        data = self._in
        if not data:
            return None
        if data[0] != VERSION:
            if data[0] == 4:
                raise Malformed("SOCKS4", _NOT_SOCKS4)
            raise Malformed("not SOCKS5", _NOT_HTTP if chr(data[0]).isalpha() and data[0] < 128 else b"")
        if len(data) < 2 or len(data) < 2 + data[1]:
            return None
        methods = self._take(2 + data[1])[2:]
        if _PASSWORD not in methods:
            raise Malformed("no credentials offered", bytes((VERSION, _NO_METHOD)))
        self.out += _USE_PASSWORD
        self._step = SocksTalk._login
        return self._login()

    def _login(self) -> Optional[Event]:
        data = self._in
        if not data:
            return None
        if data[0] != _LOGIN_VERSION:
            raise Malformed("not the version of RFC 1929", bytes((_LOGIN_VERSION, 1)))
        if len(data) < 2:
            return None
        end = 2 + data[1]
        if len(data) <= end or len(data) < end + 1 + data[end]:
            return None
        taken = self._take(end + 1 + data[end])
        self._step = SocksTalk._wait
        # What is no text is nobody's name or token either, and stays so: surrogates are no character of any.
        name = taken[2:end].decode("utf-8", "surrogateescape")
        return Login(name, taken[end + 1 :].decode("utf-8", "surrogateescape"))

    def _wait(self) -> Optional[Event]:
        return None  # for the answer to the credentials

    def welcome(self) -> None:
        self.out += _WELCOME
        self._step = SocksTalk._request

    def reject(self) -> None:
        self.out += bytes((_LOGIN_VERSION, 1))

    def _request(self) -> Optional[Event]:
        data = self._in
        if not data:
            return None
        if data[0] != VERSION:
            raise Malformed("a request of another version", _reply(GENERAL))
        if len(data) < 5:
            return None
        found = _address(data, 3)
        if found is None:
            return None
        host, port, end = found
        kind, command = data[3], self._take(end)[1]
        self._step = SocksTalk._wait
        if command == _CONNECT:
            return Wanted(CONNECT, host, port, _FAMILY[kind])
        if command == _ASSOCIATE:
            return Wanted(UDP, host, port, _FAMILY[kind])
        what = "BIND: sockets are outbound only" if command == _BIND else f"command {command}"
        raise Malformed(what, _reply(COMMAND_NOT_SUPPORTED))

    def opened(self, address: str, port: int) -> None:
        self.out += _reply(0, address, port)

    def failed(self, failure: Failure) -> None:
        self.out += _reply(failure.socks)


def _address(data: bytes, start: int) -> Optional[tuple[str, int, int]]:
    """Return (host, port, end) of the address that begins with its type at ``start``; ``None`` where more must come.

    :raises Malformed: it is none.
    """
    if len(data) < start + 2:
        return None
    kind = data[start]
    if kind == _NAME:
        begin, end = start + 2, start + 2 + data[start + 1]
    elif kind in _LENGTH:
        begin, end = start + 1, start + 1 + _LENGTH[kind]
    else:
        raise Malformed(f"address type {kind}", _reply(ADDRESS_TYPE_NOT_SUPPORTED))
    if len(data) < end + 2:
        return None
    raw = data[begin:end]
    if kind == _NAME:
        try:
            host = host_of(raw)
        except ValueError as e:
            raise Malformed(f"not a host: {e}", _reply(GENERAL)) from None
    else:
        host = "{}.{}.{}.{}".format(*raw) if kind == _IPV4 else str(ipaddress.IPv6Address(raw))
    return host, int.from_bytes(data[end : end + 2], "big"), end + 2


def _packed(address: str, port: int) -> bytes:
    """Return an address with its type and port."""
    return _numbered(address) + port.to_bytes(2, "big")


@functools.lru_cache(maxsize=64)  # most are of the host's own
def _numbered(address: str) -> bytes:
    """Return an address with its type.

    :param address: numeric; a scope is left out, since SOCKS5 has no room for one.
    """
    if ":" not in address:
        return bytes((_IPV4, *map(int, address.split("."))))
    return bytes((_IPV6,)) + ipaddress.IPv6Address(address.partition("%")[0]).packed


def _reply(code: int, address: str = "0.0.0.0", port: int = 0) -> bytes:
    return bytes((VERSION, code, 0)) + _packed(address, port)


# --- datagrams (RFC 1928 §7) ------------------------------------------------------------------------------------------


class Datagram(NamedTuple):
    """What a client sends, or gets, by way of a door.

    :ivar target: the bytes that say where to, as they stand in it: a name in tables.
    :ivar start: where its payload begins.
    """

    target: bytes
    host: str
    port: int
    start: int


def datagram(packet: bytes) -> Optional[Datagram]:
    """Return what a packet of a client says, or ``None`` where it is not well formed, or a fragment.

    A server that does not put fragments together must drop them (RFC 1928 §7).
    """
    if len(packet) < 4 or packet[:3] != b"\0\0\0":
        return None
    try:
        found = _address(packet, 3)
    except Malformed:
        return None
    if found is None:
        return None
    host, port, start = found
    return Datagram(packet[3:start], host, port, start)


def header(address: str, port: int) -> bytes:
    """Return what stands before a datagram from this address."""
    return b"\0\0\0" + _packed(address, port)
