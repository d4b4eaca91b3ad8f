"""Answer look-ups from a table, so that a gate under test asks no name server."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

#: What every table has.
LOCAL: Mapping[str, tuple[str, ...]] = {"localhost": ("127.0.0.1", "::1")}


class FixedNames:
    """The look-ups of :data:`outgate.gate.names.resolver.CALLS` over a table of names.

    The C library still judges every argument and answers numeric hosts; it is only kept from asking anybody.

    :param names: name → addresses, in the order of the answer; ``localhost`` is always there.
    """

    def __init__(self, names: Mapping[str, Sequence[str]] | None = None) -> None:
        self._names = {**LOCAL, **{name.lower(): tuple(addresses) for name, addresses in (names or {}).items()}}

    def calls(self) -> dict[str, Callable[..., Any]]:
        """Return what to put into ``resolver.CALLS``."""
        return {
            "getaddrinfo": self.getaddrinfo,
            "gethostbyname_ex": self.gethostbyname_ex,
            "gethostbyaddr": self.gethostbyaddr,
            "getnameinfo": self.getnameinfo,
        }

    def getaddrinfo(
        self, host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """Answer as :func:`socket.getaddrinfo` does. Raises ``gaierror`` for a name that is not in the table."""
        try:
            return socket.getaddrinfo(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
        except socket.gaierror as e:
            if e.errno != socket.EAI_NONAME:
                raise
        found = []
        for address in self._addresses(host):
            if family in (0, socket.AF_INET6 if ":" in address else socket.AF_INET):
                found += socket.getaddrinfo(address, port, family, type, proto, flags | socket.AI_NUMERICHOST)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    def gethostbyname_ex(self, host: Any) -> tuple[str, list[str], list[str]]:
        """Answer as :func:`socket.gethostbyname_ex` does."""
        answer = self.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
        return _text(host), [], [item[4][0] for item in answer]

    def gethostbyaddr(self, host: Any) -> tuple[str, list[str], list[str]]:
        """Answer as :func:`socket.gethostbyaddr` does, for the addresses in the table."""
        address = self.getaddrinfo(host, None, 0, socket.SOCK_STREAM)[0][4][0]
        for name, addresses in self._names.items():
            if address in addresses:
                return name, [], [address]
        raise socket.herror(1, "Unknown host")

    def getnameinfo(self, address: Any, flags: int) -> tuple[str, str]:
        """Answer as :func:`socket.getnameinfo` does with NI_NUMERICHOST."""
        return socket.getnameinfo(tuple(address), flags | socket.NI_NUMERICHOST)

    def _addresses(self, host: Any) -> Iterator[str]:
        yield from self._names.get(_text(host).lower().rstrip("."), ())


def _text(host: Any) -> str:
    return bytes(host).decode("latin-1") if isinstance(host, (bytes, bytearray)) else str(host)
