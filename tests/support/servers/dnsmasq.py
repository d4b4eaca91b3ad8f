"""dnsmasq as the name server of the world: one zone, no other server behind it."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server


def start(namespace: Namespace, folder: Path, address: str, zone: dict[str, list[str]]) -> Server:
    """Serve a zone on port 53 of an address.

    :param zone: name → its IPv4 and IPv6 addresses.
    """
    lines = [
        "keep-in-foreground",
        "log-facility=-",
        "no-resolv",
        "no-hosts",
        "user=nobody",
        "pid-file=",
        "bind-interfaces",
        f"listen-address={address}",
        "local=/test/",  # unknown names of the zone's top level are answered "no such name" at once
    ]
    lines += [f"host-record={name},{one}" for name, addresses in zone.items() for one in addresses]
    config = folder / "dnsmasq.conf"
    config.write_text("\n".join(lines) + "\n")
    server = Server("dnsmasq", namespace, folder, ["dnsmasq", f"--conf-file={config}"])
    return server


def ask(namespace: Namespace, address: str, name: str) -> None:
    """Ask for a name's A record once. Raises ``OSError`` when no answer comes (RFC 1035, section 4.1)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = struct.pack("!6H", 0x4F47, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)
    with namespace.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect((address, 53))
        sock.send(query)
        answer = sock.recv(512)
    if answer[:2] != query[:2] or answer[3] & 15:
        raise OSError(f"the name server does not know {name}")
