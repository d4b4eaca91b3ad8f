"""Read where a gate listens: paths of Unix sockets, and addresses that only this host reaches."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from typing import Final

from outgate.gate.configuration.places import Place

__all__ = ["MAX_SOCKET_PATH", "doors", "is_loopback", "metrics", "path"]

#: Bytes of a Unix socket's path (sun_path of unix(7), less its NUL).
MAX_SOCKET_PATH: Final = 107

_DOOR: Final = 'as in "127.0.0.1:1080" or "[::1]:1080"'
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
    return _address(
        place,
        text,
        _EXAMPLE,
        "metrics have no password",
        "" if exposed else "name a loopback address or a path, or write metrics_exposed = true if you mean it",
    )


def doors(place: Place, texts: Sequence[str], *, exposed: bool) -> tuple[str, ...]:
    """Return where doors of one kind are, as ``host:port`` in one spelling.

    :param exposed: whether somebody has said that other hosts may reach them.
    :raises ConfigError: as :func:`metrics`, and where one stands there twice.
    """
    found: list[str] = []
    for index, text in enumerate(texts):
        here = place.item(index)
        hint = "" if exposed else "name a loopback address, or write doors_exposed = true if you mean it"
        address = _address(here, text, _DOOR, "what is said at a door is not encrypted", hint)
        if address in found and not address.endswith(":0"):
            raise here.error(f"{address} stands here twice", "take one out")
        found.append(address)
    return tuple(found)


def is_loopback(address: str) -> bool:
    """Tell whether an address that :func:`doors` or :func:`metrics` has returned is this host's alone."""
    return address.startswith(("127.", "[::1]:"))


def _address(place: Place, text: str, example: str, danger: str, cure: str) -> str:
    """Return an address and port in one spelling.

    :param danger: why others are not to reach it.
    :param cure: what to do about an address that they reach; "" where they may.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise place.error(f'"{text}" names no address and port', example)
    if not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise place.error(f'"{port}" is not a port', example)
    if host == "localhost":
        host = "127.0.0.1"
    bracketed = host.startswith("[") and host.endswith("]")
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address
    try:
        ip = ipaddress.IPv6Address(host[1:-1]) if bracketed else ipaddress.IPv4Address(host)
    except ValueError:
        raise place.error(f'"{host}" is not a numeric address', example) from None
    # Of mapped addresses Python 3.13 says what of the inner one holds, and those before it that none is loopback.
    is_loopback = ip.is_loopback and getattr(ip, "ipv4_mapped", None) is None
    if not is_loopback and cure:
        raise place.error(f"{ip} can be reached from other hosts, and {danger}", cure)
    return f"[{ip}]:{int(port)}" if bracketed else f"{ip}:{int(port)}"
