"""Read one destination as people write it: ``[tcp://|udp://]HOST:PORT``, IPv6 in brackets."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

__all__ = ["Destination", "destination", "in_words"]

#: Ports of the URLs that people paste.
_SCHEMES: Final = {"http": 80, "https": 443, "ftp": 21, "ssh": 22, "imap": 143, "imaps": 993, "pop3": 110, "smtp": 25}


class Destination(NamedTuple):
    """Where somebody may want to connect; ``host`` is a name or an address, without brackets."""

    transport: Literal["tcp", "udp"]
    host: str
    port: int


def destination(text: str) -> Destination:
    """Return what a text names; without a scheme it is TCP.

    >>> destination("udp://[2001:db8::7]:53")
    Destination(transport='udp', host='2001:db8::7', port=53)

    :raises ValueError: it names none; the text says what to write.
    """
    scheme, found, rest = text.rpartition("://")
    if not found:
        scheme = "tcp"
    elif scheme not in ("tcp", "udp"):
        host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
        whole = host if re.search(r":\d+\Z", host) else f"{host}:{_SCHEMES.get(scheme, 'PORT')}"
        raise ValueError(f"a URL is not a destination; write {whole}")
    host, colon, port = rest.rpartition(":")
    if not colon or (rest.startswith("[") and rest.endswith("]")):
        raise ValueError(f"a port is required, as rules may name ports; write {rest or 'HOST'}:443 for HTTPS")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host:
            raise ValueError(f"brackets are for IPv6 addresses; write {host}:{port}")
    elif ":" in host:
        raise ValueError(f"IPv6 addresses stand in brackets; write [{rest}]:PORT or [{host}]:{port}")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ValueError(f"{port!r} is not a port: a number from 0 to 65535")
    return Destination("udp" if scheme == "udp" else "tcp", host, int(port))


def in_words(transport: str, host: str, port: int) -> str:
    """Return a destination as rules are written: the scheme, and IPv6 in brackets.

    >>> in_words("udp", "2001:db8::7", 53)
    'udp://[2001:db8::7]:53'
    """
    return f"{transport}://" + (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
