"""PostgreSQL as the database of the world: one user with a password, over TLS or not."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server, run

USER, PASSWORD = "reporter", "swordfish"


def programs() -> Path | None:
    """Return the folder of the newest server's programs, or ``None``; Debian keeps one a version, off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


def start(namespace: Namespace, folder: Path, address: str, certificate: Path, key: Path) -> Server:
    """Make a database cluster and serve it on port 5432 of an address."""
    bin = programs()
    data, password, own_key = folder / "data", folder / "password", folder / "key.pem"
    password.write_text(PASSWORD + "\n")
    own_key.write_bytes(key.read_bytes())
    own_key.chmod(0o600)  # the server refuses a key that others may read
    for path in (folder, password, own_key):
        shutil.chown(path, "postgres", "postgres")
    # The server refuses to run as root. Its locale is that of any Debian.
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    environ = {"HOME": str(folder), "TZ": "UTC"}
    options = ["--no-sync", "--no-locale", "-E", "UTF8", "-A", "scram-sha-256", "-U", USER, f"--pwfile={password}"]
    run(namespace, [*as_postgres, f"{bin}/initdb", "-D", str(data), *options], environ)
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all 0.0.0.0/0 scram-sha-256\n")
    settings = {
        "listen_addresses": address,
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_cert_file": str(certificate),
        "ssl_key_file": str(own_key),
        "fsync": "off",
        "shared_buffers": "1MB",
        "max_wal_senders": "0",
        "autovacuum": "off",
    }
    words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    # SIGINT is its "fast" end: without waiting for clients (postgres(1)).
    command = [*as_postgres, f"{bin}/postgres", "-D", str(data), *words]
    return Server("postgres", namespace, folder, command, environ, signal.SIGINT)
