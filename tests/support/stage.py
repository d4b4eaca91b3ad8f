"""A host for the pages' examples: with a network, /etc, /run, /var/lib and /var/log of its own, and the pages' peers.

Commands are run as they stand on the page, as root; what they write below those folders is the stage's. The addresses
are somebody's on the real internet, and lead from here to nobody but :data:`PEERS`. Needs root.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Iterator

from support import peers
from support.namespaces import Namespace, ip, join

ROOT = Path(__file__).parents[2]
NEAR, FAR = "93.184.215.2", "93.184.215.1"

#: Names of the pages, as /etc/hosts has them.
NAMES = {
    "api.example": "93.184.215.14",
    "www.example.com": "93.184.215.14",
    "news.example.com": "93.184.215.11",
    "api.example.com": "93.184.215.11",  # where nobody answers on the web's ports
    "cdn.example": "93.184.215.15",
    "db.corp": "10.0.0.5",
}
#: Where somebody answers: what is sent there comes back.
PEERS = (
    *(("93.184.215.14", port) for port in (80, 443)),
    ("93.184.215.15", 443),
    ("10.0.0.5", 5432),
    ("10.0.0.6", 22),
    ("169.254.169.254", 80),
)
#: Users of the pages.
USERS = {"blog": 1001, "mail": 1002, "ci": 1003}
#: Folders in which the stage has files of its own.
_OWN = ("/etc", "/run", "/var/lib", "/var/log")
_PROGRAMS = ("ip", "unshare", "mount", "curl", "jq", "logrotate", "sqlite3")


class _News(socketserver.StreamRequestHandler):
    """A news server with one group, as small as ``nntplib`` lets it be."""

    _REPLIES = {  # noqa: RUF012
        b"CAPABILITIES": b"101 \r\nVERSION 2\r\nREADER\r\n.\r\n",
        b"GROUP": b"211 1 1 1 example.group\r\n",
        b"QUIT": b"205 \r\n",
    }

    def handle(self) -> None:
        """Answer line by line."""
        self.wfile.write(b"200 news\r\n")
        for line in self.rfile:
            word = (line.upper().split() or [b""])[0]
            self.wfile.write(self._REPLIES.get(word, b"500 what?\r\n"))
            if word == b"QUIT":
                return


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__(("", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener


def missing() -> str | None:
    """Return why this host cannot hold a stage, or ``None``."""
    if os.geteuid() != 0:
        return "network and mount namespaces need root"
    absent = [name for name in _PROGRAMS if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)} (sh tests/integration/install.sh)" if absent else None


class Net:
    """The two namespaces and the peers, for as many stages as one likes; a context manager."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Net:
        with contextlib.ExitStack() as stack:
            number = next(Net._numbers)
            self.near, self.far = (self._namespace(stack, f"outgate-{os.getpid()}-d{number}-{r}") for r in ("n", "f"))
            join(self.near, self.far)
            ip("-n", self.near.name, "address", "add", f"{NEAR}/24", "dev", "near0")
            ip("-n", self.far.name, "address", "add", f"{FAR}/24", "dev", "far0")
            for address in sorted({address for address, _ in PEERS} | set(NAMES.values())):
                ip("-n", self.far.name, "address", "add", address, "dev", "lo")
                if not address.startswith("93.184.215."):
                    ip("-n", self.near.name, "route", "add", address, "via", FAR)
            for address, port in PEERS:
                stack.enter_context(peers.echo(listener=self._listen(address, port)))
            news = _Server(self._listen(NAMES["news.example.com"], 119), _News)
            threading.Thread(target=news.serve_forever, daemon=True).start()
            stack.callback(news.server_close)
            stack.callback(news.shutdown)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @staticmethod
    def _namespace(stack: contextlib.ExitStack, name: str) -> Namespace:
        made = Namespace(name)
        stack.callback(made.close)
        return made

    def _listen(self, address: str, port: int) -> socket.socket:
        listener = self.far.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()
        return listener


class Stage:
    """The files of one page's host on a network.

    :ivar work: the folder that commands are run in.
    """

    def __init__(self, net: Net, folder: Path) -> None:
        self.net = net
        self._root = folder
        self._started: list[subprocess.Popen[str]] = []
        self.work = folder / "work"
        self.work.mkdir()
        for own in _OWN:
            self.at(own).mkdir(parents=True)
        self.at("/etc/outgate").mkdir()
        self.at("/etc/hosts").write_text(
            "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in NAMES.items())
        )
        self.at("/etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
        people = {"root": 0, "nobody": 65534, **USERS}
        self.at("/etc/passwd").write_text("".join(f"{n}:x:{i}:{i}::/:/bin/sh\n" for n, i in people.items()))
        self.at("/etc/group").write_text("".join(f"{n}:x:{i}:\n" for n, i in people.items()))
        for name in ("ld.so.cache", "ld.so.conf", "localtime", "alternatives"):  # what programs need to start
            if Path("/etc", name).is_dir():
                shutil.copytree(Path("/etc", name), self.at("/etc") / name, symlinks=True)
            elif Path("/etc", name).exists():
                shutil.copy(Path("/etc", name), self.at("/etc") / name)

    def at(self, path: str) -> Path:
        """Return where a path of the stage is for the test."""
        own = any(path == top or path.startswith(top + "/") for top in _OWN)
        return self._root / path.lstrip("/") if own else self.work / path

    def environ(self) -> dict[str, str]:
        """Return the environment of commands."""
        path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {
            "PATH": path,
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "HOME": str(self.work),
            "TREE": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "200",
        }

    def start(self, command: str) -> subprocess.Popen[str]:
        """Start a line of shell here; it leads a process group of its own."""
        binds = "".join(f"mount --bind {shlex.quote(str(self._root / own[1:]))} {own} && " for own in _OWN)
        inner = f"{binds} cd {shlex.quote(str(self.work))} && exec bash -c {shlex.quote(command)}"
        words = self.net.near.command("unshare", "--mount", "--propagation", "private", "sh", "-c", inner)
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environ(),
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        """End all that was started here, and what it left running."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        self.net.near.end_all()
        for process in self._started:
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@contextlib.contextmanager
def stage(net: Net) -> Iterator[Stage]:
    """Have a stage; when the block ends, so does what was started on it."""
    with tempfile.TemporaryDirectory(prefix="ogd-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = Stage(net, Path(folder))
        try:
            yield made
        finally:
            made.end()
