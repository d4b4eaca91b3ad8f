"""Redis, or what speaks like it, at an address of the world: in memory only, with a password."""

from __future__ import annotations

from pathlib import Path

from support.keyvalue import SERVERS
from support.namespaces import Namespace
from support.servers.process import Server

PASSWORD = "open sesame"


def start(namespace: Namespace, folder: Path, address: str) -> Server:
    """Serve on port 6379 of an address."""
    config = folder / "redis.conf"
    config.write_text(
        f'bind {address}\nport 6379\nrequirepass "{PASSWORD}"\nsave ""\nappendonly no\ndaemonize no\ndir {folder}\n'
    )
    return Server("redis", namespace, folder, [SERVERS[0], str(config)])
