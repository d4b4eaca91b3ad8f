"""Read where a console is to be had, and listen there: an address that only this host reaches, or a Unix socket."""

from __future__ import annotations

import ipaddress
import os
import socket

from outgate.errors import ConfigError
from outgate.gate.kernel.listening import listen

__all__ = ["DEFAULT", "bind", "new", "where"]

#: A free port of loopback.
DEFAULT = "127.0.0.1:0"
_EXAMPLE = "as in 127.0.0.1:8470, [::1]:8470 or unix:/run/outgate/console.sock"
_BACKLOG = 128
#: Of a Unix socket: the gate's own user alone.
_MODE = 0o600


def where(text: str) -> tuple[str, int]:
    """Return (address, port) of what was asked for, or (path, -1) of a Unix socket.

    :raises ConfigError: it names neither, or others reach it.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path:
            raise ConfigError(f"--console {text}: the path is missing; {_EXAMPLE}")
        return os.path.abspath(path), -1
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ConfigError(f"--console {text}: it has no port; {_EXAMPLE}")
    host = "127.0.0.1" if host in ("", "localhost") else host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ConfigError(f"--console {text}: {host} is not a numeric address; {_EXAMPLE}") from None
    if not address.is_loopback:
        raise ConfigError(
            f"--console {text}: other hosts reach {address}, and the console speaks plain HTTP; listen on loopback and "
            f"forward the port: ssh -L 8470:127.0.0.1:8470 this-host"
        )
    return str(address), int(port)


def new(text: str) -> socket.socket | None:
    """Return a socket that :func:`bind` may take later, ``None`` for a Unix socket, of which it makes one itself."""
    host, port = where(text)
    return None if port < 0 else socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)


def bind(text: str, made: socket.socket | None = None) -> tuple[socket.socket, str]:
    """Listen where it was asked for, and return the socket and what to open in a browser, without the token.

    :param made: the socket to use, from :func:`new`; left open where nobody can listen there.
    :raises ConfigError: nobody can listen there.
    """
    host, port = where(text)
    sock = made or new(text)
    if sock is None:
        return listen(host, _MODE, "--console", socket.SOCK_STREAM), "http://localhost/"
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the console before may linger
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as e:
        if made is None:
            sock.close()
        raise ConfigError(
            f"--console {text}: cannot listen there: {e.strerror}; leave the port out for a free one"
        ) from None
    name = f"[{host}]" if ":" in host else host
    return sock, f"http://{name}:{sock.getsockname()[1]}/"
