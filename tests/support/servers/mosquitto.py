"""Mosquitto as the message hub of the world: MQTT on 1883, and over TLS on 8883, with a password."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server

USER, PASSWORD = "sensor", "twenty degrees"


def start(namespace: Namespace, folder: Path, addresses: tuple[str, ...], certificate: Path, key: Path) -> Server:
    """Serve on ports 1883 and 8883 of these addresses."""
    users = folder / "users"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(users), USER, PASSWORD], check=True, capture_output=True)
    lines = [
        "user root",  # its own user could not read what lies in this folder
        "allow_anonymous false",
        f"password_file {users}",
        "persistence false",
        *(f"listener 1883 {address}" for address in addresses),
    ]
    for address in addresses:
        lines += [f"listener 8883 {address}", f"certfile {certificate}", f"keyfile {key}"]
    config = folder / "mosquitto.conf"
    config.write_text("\n".join(lines) + "\n")
    return Server("mosquitto", namespace, folder, ["mosquitto", "-c", str(config)])
