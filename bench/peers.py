"""Run what else carries connections for programs, as Debian packages it: microsocks, dante and squid, on loopback.

Each runs in the foreground with a configuration of ours in a scratch folder, and ends with the context. Programs reach
them with PySocks, as they usually do from Python. What is not installed is left out, and named.
"""

from __future__ import annotations

import contextlib
import getpass
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

#: Seconds until one of them takes connections.
_PATIENCE = 10.0


class Peer(NamedTuple):
    """One that runs.

    :ivar protocol: ``socks5`` or ``http`` (CONNECT).
    :ivar has_udp: whether it carries datagrams (UDP ASSOCIATE of RFC 1928).
    """

    name: str
    protocol: str
    port: int
    has_udp: bool = False


class Peers(NamedTuple):
    """Those that run, and of the others why they do not."""

    running: tuple[Peer, ...]
    missing: tuple[str, ...]


class _Kind(NamedTuple):
    name: str
    program: str
    package: str
    protocol: str
    command: Callable[[str, int, Path], list[str]]
    has_udp: bool = False


def _microsocks(program: str, port: int, folder: Path) -> list[str]:
    return [program, "-i", "127.0.0.1", "-p", str(port)]


def _danted(program: str, port: int, folder: Path) -> list[str]:
    configuration = folder / "danted.conf"
    user = getpass.getuser()
    configuration.write_text(f"""\
logoutput: {folder}/danted.log
internal: 127.0.0.1 port = {port}
external: 127.0.0.1
socksmethod: none
clientmethod: none
user.privileged: {user}
user.unprivileged: {user}
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
""")
    return [program, "-f", str(configuration), "-p", str(folder / "danted.pid")]


def _squid(program: str, port: int, folder: Path) -> list[str]:
    configuration = folder / "squid.conf"
    # No file is written: started by root it changes to a user that may not write to a scratch folder.
    configuration.write_text(f"""\
http_port 127.0.0.1:{port}
http_access allow all
cache deny all
cache_log /dev/null
access_log none
pid_filename none
netdb_filename none
pinger_enable off
max_filedescriptors 4096
shutdown_lifetime 0 seconds
""")
    return [program, "-N", "-f", str(configuration)]


_KINDS = (
    _Kind("microsocks", "microsocks", "microsocks", "socks5", _microsocks),
    _Kind("dante", "danted", "dante-server", "socks5", _danted, has_udp=True),
    _Kind("squid", "squid", "squid", "http", _squid),
)


@contextlib.contextmanager
def running(scratch: str) -> Iterator[Peers]:
    """Run all that are installed for a while."""
    found: list[Peer] = []
    missing: list[str] = []
    if importlib.util.find_spec("socks") is None:
        yield Peers((), ("microsocks, dante, squid: their client is not installed (pip install PySocks)",))
        return
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    with contextlib.ExitStack() as stack:
        for kind in _KINDS:
            program = shutil.which(kind.program, path=path)
            if program is None:
                missing.append(f"{kind.name}: not installed (apt-get install {kind.package})")
                continue
            port = _free_port()
            process = subprocess.Popen(
                kind.command(program, port, Path(scratch)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            stack.callback(_end, process)
            if _takes_connections(process, port):
                found.append(Peer(kind.name, kind.protocol, port, kind.has_udp))
            else:
                missing.append(f"{kind.name}: it did not start (status {process.poll()})")
        yield Peers(tuple(found), tuple(missing))


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _takes_connections(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and its children, which are in the session that we made for it."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        pass
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
