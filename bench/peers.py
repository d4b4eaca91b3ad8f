"""Run what else carries or checks connections for programs, on loopback, each as small as it goes and on record.

microsocks, dante, squid and haproxy run in the foreground with a configuration of ours in a scratch folder, as Debian
packages them, and end with the context; programs reach them with PySocks or python-socks. sandlock and tethered are
libraries that check a program's own connections. What is not installed is left out, and named.
"""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

#: Runs a program in a sandbox of sandlock's.
SANDLOCKED = str(Path(__file__).with_name("programs") / "sandlocked.py")
#: Seconds until one of them takes connections.
_PATIENCE = 10.0
#: The libraries that programs reach a proxy with, the most common first, and the modules that say they are there.
_CLIENTS = {"PySocks": "socks", "python-socks": "python_socks"}


class Peer(NamedTuple):
    """One that runs.

    :ivar protocol: ``socks5``, ``http`` (CONNECT), ``fixed`` (a port for each destination), or the name of a library
        that checks.
    :ivar port: where it listens; of one with fixed destinations a port for each port of theirs.
    :ivar client: the library that programs reach it with, if they need one.
    :ivar has_udp: whether it carries datagrams (UDP ASSOCIATE of RFC 1928).
    :ivar login: name and password, where it wants them.
    :ivar pid: of the process, which leads a session; 0 where it is none of its own.
    """

    name: str
    protocol: str
    port: int | Mapping[str, int] = 0
    client: str = ""
    has_udp: bool = False
    pid: int = 0
    login: tuple[str, ...] = ()

    @property
    def route(self) -> list[Any]:
        """What :mod:`bench.programs.routes` opens connections by."""
        return [self.protocol, self.port, self.client, *self.login]

    @property
    def is_asked(self) -> bool:
        """Whether a program says to it where it wants to go, by SOCKS or CONNECT."""
        return self.protocol in ("socks5", "http")

    def cpu(self) -> float:
        """Return the seconds of processor time that it has used, with its children; 0 where it is no process."""
        return session_cpu(self.pid) if self.pid else 0.0


class Shown(NamedTuple):
    """How a peer was run, for who reads the figures."""

    name: str
    version: str
    command: str
    configuration: str = ""


class Peers(NamedTuple):
    """Those that run, how, and of the others why they do not.

    :ivar opening: every way through them to open a connection: each with each library, and those that only check.
    """

    running: tuple[Peer, ...]
    opening: tuple[Peer, ...]
    shown: tuple[Shown, ...]
    missing: tuple[str, ...]


class _Kind(NamedTuple):
    """A program that can be run.

    :ivar configuration: makes the text of its file, if it has one, from the port, the scratch folder and the ports of
        the target.
    :ivar arguments: what follows the program's name; ``{port}`` and ``{file}`` are filled in.
    """

    name: str
    program: str
    package: str
    protocol: str
    version: str
    arguments: tuple[str, ...]
    configuration: Callable[[int, Path, Sequence[int]], str] | None = None
    has_udp: bool = False


def _danted(port: int, folder: Path, _: Sequence[int]) -> str:
    user = getpass.getuser()
    return f"""\
logoutput: {folder}/danted.log
internal: 127.0.0.1 port = {port}
external: 127.0.0.1
socksmethod: none
clientmethod: none
user.privileged: {user}
user.unprivileged: {user}
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
"""


def _squid(port: int, _folder: Path, _: Sequence[int]) -> str:
    # No file is written: started by root it changes to a user that may not write to a scratch folder.
    return f"""\
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
"""


def _haproxy(port: int, _folder: Path, targets: Sequence[int]) -> str:
    parts = ["defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n"]
    for at, target in enumerate(targets):
        parts.append(f"listen to-{target}\n    bind 127.0.0.1:{port + at}\n    server target 127.0.0.1:{target}\n")
    return "\n".join(parts)


_KINDS = (
    _Kind("microsocks", "microsocks", "microsocks", "socks5", "", ("-i", "127.0.0.1", "-p", "{port}")),
    _Kind("dante", "danted", "dante-server", "socks5", "-v", ("-f", "{file}", "-p", "{file}.pid"), _danted, True),
    _Kind("squid", "squid", "squid", "http", "-v", ("-N", "-f", "{file}"), _squid),
    _Kind("haproxy", "haproxy", "haproxy", "fixed", "-v", ("-db", "-f", "{file}"), _haproxy),
)
#: Libraries that check a program's own connections: name → how they are used here.
_CHECKERS = {
    "sandlock": 'Sandbox(fs_readable=["/"], fs_writable=["/tmp"], net_allow=["127.0.0.1:*"]).run_interactive(program)',
    "tethered": 'tethered.activate(allow=["127.0.0.1"], allow_localhost=False)',
}


@contextlib.contextmanager
def running(scratch: str, targets: Sequence[int]) -> Iterator[Peers]:
    """Run all that are installed for a while.

    :param targets: the ports that a peer with fixed destinations leads to.
    """
    clients = [name for name, module in _CLIENTS.items() if importlib.util.find_spec(module)]
    missing = [f"{name}: not installed (pip install {name})" for name in _CLIENTS if name not in clients]
    found: list[Peer] = []
    shown: list[Shown] = []
    with contextlib.ExitStack() as stack:
        for kind in _KINDS:
            program = shutil.which(kind.program, path=_path())
            if program is None:
                missing.append(f"{kind.name}: not installed (apt-get install {kind.package})")
            elif kind.protocol != "fixed" and not clients:
                missing.append(f"{kind.name}: no client library for it is installed")
            else:
                started = _started(stack, kind, program, Path(scratch), targets, clients[:1])
                if isinstance(started, str):
                    missing.append(started)
                else:
                    found.append(started[0])
                    shown.append(started[1])
        checking = []
        for name in _CHECKERS:
            if importlib.util.find_spec(name) is None:
                missing.append(f"{name}: not installed (pip install {name})")
            elif name == "sandlock" and not _runs([sys.executable, SANDLOCKED, sys.executable, "-c", "pass"]):
                missing.append("sandlock: it does not run on this kernel (it wants Landlock ABI 6, Linux 6.12)")
            else:
                checking.append(name)
        shown += [Shown(name, importlib.metadata.version(name), _CHECKERS[name]) for name in checking]
        opening = [
            peer._replace(name=f"{peer.name}, {client}", client=client)
            for peer in found
            if peer.is_asked
            for client in clients
        ]
        opening += [peer for peer in found if not peer.is_asked] + [Peer(name, name) for name in checking]
        yield Peers(tuple(found), tuple(opening), tuple(shown), tuple(missing))


def _runs(argv: Sequence[str]) -> bool:
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.run(argv, check=False, timeout=_PATIENCE, **quiet).returncode == 0


def _path() -> str:
    return os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))


def _started(
    stack: contextlib.ExitStack,
    kind: _Kind,
    program: str,
    scratch: Path,
    targets: Sequence[int],
    clients: Sequence[str],
) -> tuple[Peer, Shown] | str:
    """Start one that ends with the stack, and return it and how it was run, or why it does not run."""
    is_fixed = kind.protocol == "fixed"
    port = free_ports(len(targets) if is_fixed else 1)
    file = scratch / f"{kind.program}.conf"
    configuration = kind.configuration(port, scratch, targets) if kind.configuration is not None else ""
    file.write_text(configuration)
    arguments = [each.format(port=port, file=file) for each in kind.arguments]
    process = subprocess.Popen(
        [program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    stack.callback(_end, process)
    if not _takes_connections(process, port):
        return f"{kind.name}: it did not start (status {process.poll()})"
    ports = {str(target): port + at for at, target in enumerate(targets)} if is_fixed else port
    peer = Peer(kind.name, kind.protocol, ports, "" if is_fixed else clients[0], kind.has_udp, process.pid)
    command = " ".join((kind.program, *(each.format(port="PORT", file=file.name) for each in kind.arguments)))
    return peer, Shown(kind.name, _version(kind, program), command, anonymous(configuration, scratch))


def anonymous(configuration: str, scratch: Path) -> str:
    """Return a configuration without what is another one each time: ports, and the scratch folder."""
    text = configuration.replace(str(scratch), "FOLDER")
    sections = text.split("\nlisten ")
    if len(sections) > 2:
        text = "\nlisten ".join(sections[:2]) + "\n# and so on for each port of the target\n"
    return re.sub(r"(?<=port = )\d+|(?<=:)\d{4,5}|(?<=to-)\d+", "PORT", text)


def _version(kind: _Kind, program: str) -> str:
    """Return the version that it says, or its package's."""
    argv = (
        [program, kind.version]
        if kind.version
        else ["dpkg-query", "--show", "--showformat", "${Version}", kind.package]
    )
    with contextlib.suppress(OSError):
        said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10).stdout
        match = re.search(r"\d+\.\d+(\.\d+)?", said)
        if match is not None:
            return match[0]
    return "unknown"


def free_ports(count: int) -> int:
    """Return the first of so many ports in a row that are free."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            for at in range(1, count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port + at))
            return port


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


def session_cpu(session: int) -> float:
    """Return the seconds of processor time of the processes of a session, with their children that have ended."""
    tick = os.sysconf("SC_CLK_TCK")
    total = 0
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            fields = Path(f"/proc/{int(entry)}/stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                total += sum(int(each) for each in fields[11:15])  # utime, stime, cutime, cstime of proc(5)
    return total / tick
