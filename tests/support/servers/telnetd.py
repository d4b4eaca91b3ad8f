"""inetd and GNU telnetd as the terminal server of the world: a login, a line, and the terminal's type."""

from __future__ import annotations

from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server

USER, PASSWORD = "operator", "let me type"

# What telnetd runs instead of login(1), which would ask for accounts of this host.
_LOGIN = f"""\
#!/bin/sh
printf 'login: '
read name
stty -echo
printf 'Password: '
read password
stty echo
echo
if [ "$name:$password" != "{USER}:{PASSWORD}" ]; then echo 'Login incorrect'; exit 1; fi
echo "Welcome $name, your terminal is $(tty | cut -d/ -f2)"
while printf '$ ' && read line; do
    case "$line" in
        exit) echo goodbye; read line; exit 0 ;;
        count) seq 1 2000 | wc -c ;;
        *) echo "you said $line" ;;
    esac
done
"""


def start(namespace: Namespace, folder: Path, addresses: tuple[str, ...]) -> Server:
    """Serve on port 23 of these addresses."""
    login = folder / "login"
    login.write_text(_LOGIN)
    login.chmod(0o755)
    config = folder / "inetd.conf"
    config.write_text(
        "".join(
            f"{address}:23 stream {'tcp6' if ':' in address else 'tcp4'} "
            f"nowait root /usr/sbin/telnetd telnetd -E {login}\n"
            for address in addresses
        )
    )
    # -d keeps it in the foreground; --pidfile without a name makes none (inetutils-inetd(8)).
    return Server("inetd", namespace, folder, ["inetutils-inetd", "-d", f"--pidfile={folder}/inetd.pid", str(config)])
