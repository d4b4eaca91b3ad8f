"""Proxies as Debian packages them: microsocks and dante for SOCKS5, Squid and tinyproxy for HTTP CONNECT."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server

#: Whom those let in that ask.
USER, PASSWORD = "gate", "opensesame"


def microsocks(namespace: Namespace, folder: Path, address: str, port: int, *, asks: bool = False) -> Server:
    """Serve SOCKS5.

    :param asks: whether it lets nobody in but :data:`USER`.
    """
    words = ["microsocks", "-i", address, "-p", str(port)]
    if asks:
        words += ["-u", USER, "-P", PASSWORD]
    return Server(f"microsocks-{port}", namespace, folder, words)


def dante(namespace: Namespace, folder: Path, address: str, port: int, outside: str) -> Server:
    """Serve SOCKS5.

    :param outside: the interface that it connects from.
    """
    config = folder / "danted.conf"
    config.write_text(
        f"""\
logoutput: stderr
internal: {address} port = {port}
external: {outside}
socksmethod: none
clientmethod: none
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 command: connect }}
"""
    )
    return Server("danted", namespace, folder, ["danted", "-f", str(config), "-p", str(folder / "danted.pid")])


def squid(
    namespace: Namespace,
    folder: Path,
    address: str,
    port: int,
    *,
    secure: int = 0,
    certificate: Path | None = None,
    asks: bool = True,
) -> Server:
    """Serve HTTP CONNECT to any port, for :data:`USER` or for everybody.

    :param secure: where it speaks TLS, which is GnuTLS's; 0 for nowhere.
    :param certificate: its own, with its key, as PEM.
    """
    hashed = subprocess.run(["openssl", "passwd", "-6", PASSWORD], capture_output=True, text=True, check=True).stdout
    passwords = folder / "squid.passwords"
    passwords.write_text(f"{USER}:{hashed}")
    passwords.chmod(0o644)  # for the user that it becomes, of this test's own password
    config = folder / "squid.conf"
    # No file is written: started by root it changes to a user that may not write to this folder.
    config.write_text(
        f"""\
http_port {address}:{port}
{f"https_port {address}:{secure} tls-cert={certificate}" if secure else ""}
visible_hostname proxy.island.test
auth_param basic program /usr/lib/squid/basic_ncsa_auth {passwords}
acl known proxy_auth REQUIRED
http_access allow {"known" if asks else "all"}
http_access deny all
hosts_file /etc/hosts
cache deny all
cache_log /dev/null
access_log none
pid_filename none
netdb_filename none
pinger_enable off
max_filedescriptors 1024
shutdown_lifetime 0 seconds
"""
    )
    return Server("squid", namespace, folder, ["squid", "-N", "-f", str(config)])


def tinyproxy(namespace: Namespace, folder: Path, address: str, port: int, *, asks: bool = True) -> Server:
    """Serve HTTP CONNECT to any port, for :data:`USER` or for everybody."""
    config = folder / "tinyproxy.conf"
    config.write_text(
        f"""\
User nobody
Group nogroup
Listen {address}
Port {port}
Timeout 60
MaxClients 20
{f"BasicAuth {USER} {PASSWORD}" if asks else ""}
"""
    )
    return Server("tinyproxy", namespace, folder, ["tinyproxy", "-d", "-c", str(config)])
