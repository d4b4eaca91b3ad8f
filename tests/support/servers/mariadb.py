"""MariaDB as the other database of the world: one user with a password, over TLS or not."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server, run

USER, PASSWORD, DATABASE = "keeper", "correct horse", "shop"


def start(namespace: Namespace, folder: Path, addresses: tuple[str, ...], certificate: Path, key: Path) -> Server:
    """Make a data folder and serve it on port 3306 of these addresses."""
    data, own_key = folder / "data", folder / "key.pem"
    own_key.write_bytes(key.read_bytes())
    own_key.chmod(0o600)
    setup = folder / "setup.sql"
    setup.write_text(
        f"CREATE DATABASE IF NOT EXISTS {DATABASE};\n"
        f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n"
        f"GRANT ALL ON {DATABASE}.* TO '{USER}'@'%';\n"
    )
    owner = _owner()
    for path in (folder, own_key, setup):
        shutil.chown(path, owner)
    small = ["--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M", "--innodb-flush-log-at-trx-commit=0"]
    # The options that follow --no-defaults keep the host's own configuration out of this.
    made = [
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--skip-name-resolve",
        f"--user={owner}",
        f"--datadir={data}",
    ]
    run(namespace, ["mariadb-install-db", "--no-defaults", *made, *small], {"HOME": str(folder)})
    options = [
        f"--datadir={data}",
        f"--user={owner}",
        f"--bind-address={','.join(addresses)}",
        "--port=3306",
        f"--socket={folder}/mariadb.sock",
        f"--pid-file={folder}/mariadb.pid",
        f"--ssl-cert={certificate}",
        f"--ssl-key={own_key}",
        f"--init-file={setup}",
        "--skip-name-resolve",
        *small,
    ]
    return Server("mariadb", namespace, folder, ["mariadbd", "--no-defaults", *options], {"HOME": str(folder)})


def _owner() -> str:
    """Return a user that is not root, as whom it runs; the package that makes one for it is another one."""
    return "nobody"
