"""Name the gates of a fleet, and know by a certificate which one somebody is."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

#: A label of a host name (RFC 1123), of half its length: it stands in every descriptor.
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
#: What the names of gates end with in certificates. ".internal" is nobody's on the internet (ICANN, 2024).
_DOMAIN: Final = ".gate.outgate.internal"
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")


class Place(NamedTuple):
    """Where a gate is reached: a host, by name or number, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_name(text: str) -> bool:
    """Tell whether a gate may be called so: a-z, 0-9 and hyphens within, at most 32 of them."""
    return _NAME.fullmatch(text) is not None


def host_of(name: str) -> str:
    """Return what a gate's certificate is made out to (a dNSName of its subjectAltName, RFC 5280 §4.2.1.6)."""
    return name + _DOMAIN


def name_of(hosts: Iterable[str]) -> str:
    """Return which gate a certificate is made out to; "" where that is none, or more than one."""
    names = [host.removesuffix(_DOMAIN) for host in hosts if host.endswith(_DOMAIN)]
    return names[0] if len(names) == 1 and is_name(names[0]) else ""


def place(text: str) -> Place:
    """Return where ``HOST:PORT`` or ``[ADDRESS]:PORT`` is.

    :raises ValueError: it is neither; the text says why.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f'"{text}" names no host and port')
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError(f'"{port}" is not a port')
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f'"{text}" is an IPv6 address without brackets')
    if not host or len(host) > 253 or not host.isascii() or not host.isprintable() or set(host) & set(' /@?#"[]\\'):
        raise ValueError(f'"{host}" is not a host')
    return Place(host, int(port))


def advertised(name: str, listen: str, gates: Mapping[str, str]) -> str:
    """Return where others reach a gate (``HOST:PORT``), "" where the configuration does not say.

    :param name: what it is called.
    :param listen: where it listens, which may be at every address of its host; "" for nowhere.
    :param gates: where those are that the configuration lists, by their names.
    """
    at = gates.get(name, listen)
    return "" if not at or place(at).host in ("0.0.0.0", "::") else at


def stranger(name: str, own: str, gates: Collection[str]) -> str:
    """Return why a gate that shows a good certificate is no gate to pass sockets on to, or "".

    :param name: whose certificate it is, "" where it shows none or one that says no name.
    :param own: what this gate is called.
    :param gates: those that the configuration lists.
    """
    if not name:
        return "it shows no certificate of a gate"
    if name == own:
        return "it has this gate's own name: two gates of one fleet may not share one"
    if name not in gates:
        return "the configuration does not list it under fleet.gates"
    return ""
