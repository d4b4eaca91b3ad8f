"""OpenSSH's server: one Ed25519 host key, and one key that may log in as root of the world's far namespace."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server

#: sshd has this empty folder compiled in; Debian makes it when the service starts (sshd(8)).
_RUN = Path("/run/sshd")

_CONFIG = """\
{listen}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
Subsystem sftp internal-sftp
"""


class OpenSsh(Server):
    """A running sshd and the keys to it; see :func:`start`.

    :ivar host_key: the public host key, as ``known_hosts`` has it.
    :ivar user_key: path of the private key that may log in.
    """

    host_key: str
    user_key: Path


def start(namespace: Namespace, folder: Path, addresses: tuple[str, ...]) -> OpenSsh:
    """Serve on port 22 of these addresses."""
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    listen = "\n".join(f"ListenAddress {address}" for address in addresses)
    (folder / "sshd_config").write_text(_CONFIG.format(listen=listen, folder=folder))
    _RUN.mkdir(mode=0o755, exist_ok=True)
    # -D stays in the foreground, -e logs to standard error; sshd wants its own full path.
    server = OpenSsh("sshd", namespace, folder, ["/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")])
    server.host_key = (folder / "host.pub").read_text().strip()
    server.user_key = folder / "user"
    return server
