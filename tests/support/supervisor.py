"""A service manager for one gate: hears its notifications, keeps the fds that it stores, and passes them to the next.

It does of systemd's what sd_notify(3) and sd_listen_fds(3) say, with real fds over a real NOTIFY_SOCKET.
"""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from support.commands import OUTGATE, environment

#: Puts what it was given as fds to where a service finds them, says whose they are, and becomes the service.
_LAUNCHER = """
import fcntl, os, sys
count = int(sys.argv[1])
given = [int(fd) for fd in sys.argv[2 : 2 + count]]
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 200) for fd in given]
for fd in given:
    os.close(fd)
for place, fd in enumerate(high):
    os.dup2(fd, 3 + place)
    os.close(fd)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2 + count], sys.argv[2 + count :])
"""
PATIENCE = 20.0


class Supervisor:
    """A context manager around the life of a gate's service.

    :ivar kept: name → fd of what is stored.
    :ivar log_path: the gate's decision log, of all its lives.
    """

    def __init__(self, folder: Path, *options: str, room: int = 512) -> None:
        self.socket = str(folder / "gate.sock")
        self.log_path = folder / "decisions.jsonl"
        self.kept: dict[str, int] = {}
        self._options = options
        self._folder = folder
        self._room = room
        self._changed = threading.Condition()
        self._ready = 0
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(folder / "notify"))
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.socket)
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._hear, name="supervisor")
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Supervisor:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.stop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self._folder / "notify"))
        self._thread.join()
        self._notify.close()
        self._listener.close()
        for fd in self.kept.values():
            os.close(fd)

    def start(self) -> None:
        """Start the service with everything that is stored, and wait until it is ready."""
        with self._changed:
            kept = dict(self.kept)
        fds = [self._listener.fileno(), *kept.values()]
        names = ":".join(["outgate.socket", *kept])
        launcher = [sys.executable, "-c", _LAUNCHER, str(len(fds)), *map(str, fds)]
        self.process = self._launch([*launcher, *self._serve()], fds, LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names)

    def take_over(self) -> None:
        """Have another gate take the place of the one that runs, as an operator would, and wait until that has left."""
        before, self.process = self.process, self._launch([*self._serve(), "--takeover"])
        assert before is not None
        assert before.wait(PATIENCE) == 0, before.communicate()[1]
        before.communicate()

    def _serve(self) -> list[str]:
        words = [*OUTGATE, "serve", "--socket", self.socket, "--log", str(self.log_path)]
        return [*words, "--state", str(self._folder / "state"), *self._options]

    def _launch(self, command: list[str], fds: Sequence[int] = (), **variables: str) -> subprocess.Popen[str]:
        with self._changed:
            before = self._ready
        env = environment(NOTIFY_SOCKET=str(self._folder / "notify"), FDSTORE=str(self._room), **variables)
        process = subprocess.Popen(command, env=env, text=True, pass_fds=fds, stderr=subprocess.PIPE)
        with self._changed:
            if not self._changed.wait_for(lambda: self._ready > before, PATIENCE):
                process.kill()
                raise TimeoutError(process.communicate()[1])
        return process

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the service by a signal; what is stored stays."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)

    def wait_for(self, count: int) -> list[str]:
        """Return the names of what is stored when there are so many, waiting for it."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.kept) == count, PATIENCE):
                raise TimeoutError(f"stored are {list(self.kept)}, not {count}")
            return list(self.kept)

    def _hear(self) -> None:
        while True:
            data, ancillary, _, _ = self._notify.recvmsg(8192, socket.CMSG_SPACE(64 * 4), socket.MSG_CMSG_CLOEXEC)
            if not data:
                return
            fds: list[int] = []
            for level, kind, body in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds += array.array("i", body)
            said = dict(text.split("=", 1) for text in data.decode().splitlines())
            with self._changed:
                self._note(said, fds)
                self._changed.notify_all()

    def _note(self, said: dict[str, str], fds: list[int]) -> None:
        self._ready += "READY" in said
        name = said.get("FDNAME", "")
        if "FDSTORE" in said and len(fds) == 1 and name not in self.kept and len(self.kept) < self._room:
            self.kept[name] = fds.pop()
        if "FDSTOREREMOVE" in said and name in self.kept:
            os.close(self.kept.pop(name))
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)
