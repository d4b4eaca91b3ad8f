"""Ask a SOCKS5 proxy to connect: RFC 1928, with user and password by RFC 1929."""

from __future__ import annotations

import errno
from ipaddress import ip_address
from typing import Final

from outgate.core.wayout.handshake import Failed, Target, printable
from outgate.core.wayout.proxy import Credentials

__all__ = ["Socks5", "request"]

_VERSION: Final = 5
_OPEN, _PASSWORD, _NONE_ACCEPTABLE = 0x00, 0x02, 0xFF
_PASSWORD_VERSION: Final = 1
_CONNECT: Final = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_LENGTHS: Final = {_IPV4: 4, _IPV6: 16}

#: Reply → what the far end is said to have answered (RFC 1928 section 6). TTL expired is EHOSTUNREACH natively
#: (icmp_err_convert in net/ipv4/icmp.c).
_FAR_END: Final = {3: errno.ENETUNREACH, 4: errno.EHOSTUNREACH, 5: errno.ECONNREFUSED, 6: errno.EHOSTUNREACH}
#: Reply → (what the proxy says of itself, errno).
_OWN: Final = {
    1: ("general failure", errno.EHOSTUNREACH),
    2: ("not allowed by its rules", errno.EACCES),
    7: ("it does not connect for others", errno.EOPNOTSUPP),
    8: ("it knows no such kind of address", errno.EAFNOSUPPORT),
}


def request(target: Target) -> bytes:
    """Return the request to connect.

    :raises ValueError: the name is longer than 255 bytes, which the protocol has no room for.
    """
    try:
        packed = ip_address(target.host).packed
        kind = _IPV4 if len(packed) == 4 else _IPV6
    except ValueError:
        name = target.host.encode("ascii")
        if not 0 < len(name) <= 255:
            raise ValueError(f"a name of {len(name)} bytes") from None
        kind, packed = _NAME, bytes([len(name)]) + name
    return bytes((_VERSION, _CONNECT, 0, kind)) + packed + target.port.to_bytes(2, "big")


class Socks5:
    """One handshake, from the greeting to the reply; see :class:`~outgate.core.wayout.handshake.Handshake`.

    :param target: where to.
    :param credentials: offered beside going in without, and the proxy chooses; ``None`` for none.
    :raises ValueError: as :func:`request`.
    """

    def __init__(self, target: Target, credentials: Credentials | None = None) -> None:
        self.is_done = self.has_asked = False
        self._request = request(target)
        self._credentials = credentials
        self._step = self._on_method
        self._read = b""
        methods = (_OPEN, _PASSWORD) if credentials is not None else (_OPEN,)
        self._out = bytes((_VERSION, len(methods), *methods))

    def say(self) -> bytes:
        """Return what is to be sent now."""
        out, self._out = self._out, b""
        return out

    def take(self, seen: bytes) -> int:
        """Take what belongs to the handshake; every message of it says how long it is."""
        taken = 0
        while not self.is_done:
            missing = self._missing()
            if missing:
                piece = seen[taken : taken + missing]
                if not piece:
                    break
                self._read += piece
                taken += len(piece)
                continue
            message, self._read = self._read, b""
            self._step(message)
        return taken

    def _missing(self) -> int:
        """Return how many bytes of the present message have not come; 0 where it is whole."""
        return max(0, self._length(self._read) - len(self._read))

    def _length(self, read: bytes) -> int:
        """Return how long the message is, as far as its first bytes tell."""
        if self._step == self._on_method or self._step == self._on_password:
            return 2
        if len(read) < 5:
            # The first byte alone tells a proxy from what is none, and a reply that fails need not have an address.
            return 1 if not read else 2 if len(read) < 2 else 2 if read[0] != _VERSION or read[1] else 5
        if read[1] or read[0] != _VERSION:
            return 2
        kind = read[3]
        if kind == _NAME:
            return 4 + 1 + read[4] + 2
        return 4 + _LENGTHS[kind] + 2 if kind in _LENGTHS else len(read)

    def _on_method(self, message: bytes) -> None:
        version, method = message
        if version != _VERSION:
            raise Failed(code="via-garbage", facts={"protocol": "SOCKS5", "said": printable(message)})
        if method == _NONE_ACCEPTABLE:
            why = "it takes no one without credentials" if self._credentials is None else "it takes no password"
            raise Failed(code="via-credentials", facts={"why": why})
        if method == _OPEN:
            self._ask()
        elif method == _PASSWORD and self._credentials is not None:
            user, password = self._credentials
            self._out += bytes((_PASSWORD_VERSION, len(user))) + user + bytes((len(password),)) + password
            self._step = self._on_password
        else:
            facts = {"why": f"it wants a kind of authentication that was not offered, number {method}"}
            raise Failed(code="via-credentials", facts=facts)

    def _on_password(self, message: bytes) -> None:
        version, status = message
        if version != _PASSWORD_VERSION and version != _VERSION:  # some answer with the version of the protocol itself
            raise Failed(code="via-garbage", facts={"protocol": "SOCKS5", "said": printable(message)})
        if status:
            raise Failed(code="via-credentials", facts={"why": "it does not accept this user and password"})
        self._ask()

    def _ask(self) -> None:
        self._out += self._request
        self._step = self._on_reply
        self.has_asked = True

    def _on_reply(self, message: bytes) -> None:
        version, reply = message[:2]
        if version != _VERSION:
            raise Failed(code="via-garbage", facts={"protocol": "SOCKS5", "said": printable(message)})
        if reply in _FAR_END:
            raise Failed(_FAR_END[reply])
        if reply:
            why, number = _OWN.get(reply, (f"reply {reply}, which the protocol does not have", errno.EPROTO))
            raise Failed(code="via-refused", facts={"why": why, "errno": number})
        if message[3] not in (_IPV4, _NAME, _IPV6):
            raise Failed(code="via-garbage", facts={"protocol": "SOCKS5", "said": printable(message)})
        self.is_done = True
