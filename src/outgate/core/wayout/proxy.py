"""Read what a proxy is called in the configuration: ``socks5h://proxy.corp:1080``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from outgate.core.address.addresses import parse_numeric
from outgate.core.name.names import canonical

__all__ = ["PORTS", "Credentials", "Proxy", "is_numeric", "parse", "parse_credentials"]

#: Scheme → the port where none is said: IANA's of the service names ``socks``, ``http-alt`` and ``https``.
PORTS: Final = {"socks5": 1080, "socks5h": 1080, "http": 8080, "https": 443}
#: Schemes whose proxy is given the name, where there is one, and looks it up itself.
_BY_NAME: Final = frozenset(("socks5h", "http", "https"))
#: RFC 1929: user and password have a length of one byte each.
_LONGEST: Final = 255
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:(.*)@)?(\[[^\]]*\]|[^:/?#@\[\]]*)(?::([^/?#]*))?(.*)", re.S)


class Credentials(NamedTuple):
    """Who the gate is to a proxy."""

    user: bytes
    password: bytes

    def __repr__(self) -> str:
        return "Credentials(…)"


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that connections leave by.

    :ivar scheme: a key of :data:`PORTS`.
    :ivar host: an address, or a canonical name.
    :ivar port: its port.
    :ivar credentials: ``None`` for none.
    :ivar authorities: certificates as PEM of which one has signed the proxy's, "" for those that the host trusts.
    """

    scheme: str
    host: str
    port: int
    credentials: Credentials | None = field(default=None, repr=False)
    authorities: str = field(default="", repr=False)

    @property
    def is_tls(self) -> bool:
        """Whether it is spoken to by TLS, which the gate then speaks for every connection."""
        return self.scheme == "https"

    @property
    def takes_names(self) -> bool:
        """Whether it is given the name, where one is known, and looks it up itself; else the address."""
        return self.scheme in _BY_NAME

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse(text: str) -> Proxy:
    """Return the proxy that a URL names, without credentials.

    :raises ValueError: it names none; the text is what is wrong, and behind ``"; "`` a way out.
    """
    match = _URL.fullmatch(text)
    if match is None or not text.isprintable() or " " in text:
        raise ValueError('is not the URL of a proxy; as in "socks5h://proxy.corp:1080"')
    scheme, user, host, port, rest = match.groups()
    scheme = scheme.lower()
    if scheme in ("socks4", "socks4a", "socks"):
        raise ValueError(f"{scheme} is not offered, which has no names, no IPv6 and no passwords; use socks5h://")
    if scheme not in PORTS:
        raise ValueError(f'unknown scheme "{scheme}"; one of ' + ", ".join(f"{each}://" for each in PORTS))
    if user is not None:
        raise ValueError(
            "has credentials in it, which everybody sees who sees the configuration; write them into a file: "
            'credentials = "/etc/outgate/proxy.secret"'
        )
    if rest not in ("", "/"):
        raise ValueError(f'"{rest}" behind the port means nothing; leave it out')
    return Proxy(scheme, _host(host), _port(port, scheme))


def is_numeric(host: str) -> bool:
    """Tell whether the host of a :class:`Proxy` is an address."""
    return ":" in host or parse_numeric(host, exact=True) is not None


def _host(text: str) -> str:
    if text.startswith("["):
        number = parse_numeric(text[1:-1], exact=True)
        if number is None or number.version != 6:
            raise ValueError('the brackets hold no IPv6 address; as in "socks5h://[2001:db8::1]:1080"')
        return str(number)
    if not text:
        raise ValueError('says no host; as in "socks5h://proxy.corp:1080"')
    number = parse_numeric(text, exact=True)
    if number is not None:
        return str(number)
    try:
        return canonical(text)
    except ValueError as error:
        raise ValueError(f'"{text}" is no name of a host: {error}') from None


def _port(text: str | None, scheme: str) -> int:
    if not text:
        return PORTS[scheme]
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise ValueError(f'"{text}" is not a port; a number from 1 to 65535')
    return int(text)


def parse_credentials(content: bytes) -> Credentials:
    """Return user and password from what a file holds: one line, ``user:password``, in UTF-8.

    The first colon separates; the user cannot have one (RFC 7617 section 2).

    :raises ValueError: it holds none.
    """
    line, _, rest = content.partition(b"\n")
    line = line.removesuffix(b"\r")
    if rest.strip():
        raise ValueError("holds more than one line; it has one, as in user:password")
    user, colon, password = line.partition(b":")
    if not colon or not user:
        raise ValueError("holds no credentials; write one line, as in user:password")
    if len(user) > _LONGEST or len(password) > _LONGEST:
        raise ValueError(f"user or password is longer than {_LONGEST} bytes, which is all that a proxy can be told")
    if any(byte < 0x20 or byte == 0x7F for byte in line):
        raise ValueError("has control characters, which no proxy can be told")
    return Credentials(user, password)
