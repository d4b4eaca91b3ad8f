"""chrony as the time server of the world: it tells the host's own clock, and sets none."""

from __future__ import annotations

from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server


def start(namespace: Namespace, folder: Path, address: str) -> Server:
    """Serve time on port 123 of an address."""
    config = folder / "chrony.conf"
    lines = [
        "local stratum 3",
        f"bindaddress {address}",
        "allow all",
        "cmdport 0",
        "bindcmdaddress /",  # no command socket either
        f"pidfile {folder}/chronyd.pid",
        f"driftfile {folder}/drift",
    ]
    config.write_text("\n".join(lines) + "\n")
    return Server("chronyd", namespace, folder, ["chronyd", "-x", "-d", "-u", "root", "-f", str(config)])


def ask(namespace: Namespace, address: str) -> None:
    """Ask for the time once. Raises ``OSError`` when no answer comes."""
    with namespace.socket(kind=2) as sock:
        sock.settimeout(0.5)
        sock.connect((address, 123))
        sock.send(b"\x23" + bytes(47))  # version 4, a client (RFC 5905)
        sock.recv(100)
