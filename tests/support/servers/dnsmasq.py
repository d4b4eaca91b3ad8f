"""dnsmasq as the name server of the world: one zone, no other server behind it."""

from __future__ import annotations

from pathlib import Path

from support import dns
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
    """Ask for a name's A record once. Raises ``OSError`` when no answer comes, or the name is not known."""
    if dns.ask(namespace, address, name)[3] & 15:
        raise OSError(f"the name server does not know {name}")
