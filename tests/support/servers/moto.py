"""moto as the S3 of the world: an HTTP server that speaks the protocol, with its buckets in memory."""

from __future__ import annotations

import sys
from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server

PORT = 9000
#: What the client signs its requests with; moto takes any.
ACCESS, SECRET = "AKIAOUTGATE", "not a secret"


def start(namespace: Namespace, folder: Path, address: str) -> Server:
    """Serve on port 9000 of an address."""
    command = [sys.executable, "-m", "moto.server", "-H", address, "-p", str(PORT)]
    # It would take the first label of the host's name for a bucket.
    environ = {"HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"}
    return Server("moto", namespace, folder, command, environ)
