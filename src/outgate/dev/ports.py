"""Open the server's listening socket, or say who has the port."""

from __future__ import annotations

import errno
import os
import socket

from outgate.errors import ConfigError

__all__ = ["holder", "listen"]

_LISTENING = "0A"  # TCP_LISTEN in proc_net_tcp(5)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket.

    :raises ConfigError: it cannot be; where the port is in use, with the process that uses it as far as it is known.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f"--host {host}: {error}; use an address of this machine") from None
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
    except OSError as error:
        sock.close()
        if error.errno != errno.EADDRINUSE:
            raise ConfigError(f"cannot listen at {host}:{port}: {error.strerror}") from None
        who = holder(port)
        raise ConfigError(
            f"port {port} is in use{f' by {who}' if who else ''}; end that, or say another: --port"
        ) from None
    return sock


def holder(port: int) -> str:
    """Return who listens at a TCP port: ``process 4242 (python app.py)``; "" where that cannot be seen."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [row.split() for row in file][1:]
        except OSError:
            continue
        inodes |= {row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == port}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if any(os.readlink(f"/proc/{pid}/fd/{fd}") in wanted for fd in os.listdir(f"/proc/{pid}/fd")):
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    command = file.read(200).replace(b"\0", b" ").decode(errors="replace").strip()
                return f"process {pid} ({command})"
        except OSError:  # it has ended, or is another user's
            continue
    return ""
