"""Read where a gate listens: paths of Unix sockets, and for metrics an address that only this host reaches."""

from __future__ import annotations

import ipaddress
import os
from typing import Final

from outgate.gate.configuration.places import Place

__all__ = ["MAX_SOCKET_PATH", "metrics", "path"]

#: Bytes of a Unix socket's path (sun_path of unix(7), less its NUL).
MAX_SOCKET_PATH: Final = 107

_EXAMPLE: Final = 'as in "127.0.0.1:9464", "[::1]:9464" or "/run/outgate/metrics.sock"'


def path(place: Place, text: str, folder: str) -> str:
    """Return where a socket is, "" for none; a path that is not absolute starts at the folder of the file.

    :raises ConfigError: no socket can be there.
    """
    if "\0" in text:
        raise place.error("is not a path", "leave the key out for the default")
    text = os.path.join(folder, text) if text else ""
    if len(os.fsencode(text)) > MAX_SOCKET_PATH:
        raise place.error(
            f"{text} is longer than the {MAX_SOCKET_PATH} bytes that a Unix socket's path may have", "shorten it"
        )
    return text


def metrics(place: Place, text: str, folder: str, *, exposed: bool) -> str:
    """Return where metrics are served: ``host:port`` in one spelling, an absolute path, or ``""`` for nowhere.

    :param exposed: whether somebody has said that other hosts may reach it.
    :raises ConfigError: it is no such place, or others reach it and nobody has said so.
    """
    if not text or "/" in text:
        return path(place, text, folder)
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise place.error(f'"{text}" names no address and port', _EXAMPLE)
    if not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise place.error(f'"{port}" is not a port', _EXAMPLE)
    if host == "localhost":
        host = "127.0.0.1"
    bracketed = host.startswith("[") and host.endswith("]")
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        ip = ipaddress.IPv6Address(host[1:-1]) if bracketed else ipaddress.IPv4Address(host)
    except ValueError:
        raise place.error(f'"{host}" is not a numeric address', _EXAMPLE) from None
    # Of mapped addresses Python 3.13 says what of the inner one holds, and those before it that none is loopback.
    is_loopback = ip.is_loopback and getattr(ip, "ipv4_mapped", None) is None
    if not is_loopback and not exposed:
        raise place.error(
            f"{ip} can be reached from other hosts, and metrics have no password",
            "name a loopback address or a path, or write metrics_exposed = true if you mean it",
        )
    return f"[{ip}]:{int(port)}" if bracketed else f"{ip}:{int(port)}"
