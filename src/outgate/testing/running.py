"""Start a real gate for tests: in a process of its own, or on a thread where a test must reach in.

::

    with RunningGate() as gate, socket.create_server(("127.0.0.1", 0)) as peer:
        port = peer.getsockname()[1]
        gate.program("-c", f"import socket; socket.create_connection(('127.0.0.1', {port}))").wait()
        assert gate.wait_for(event="end", port=port)["connected"]

What happened is waited for in the gate's log (:meth:`RunningGate.wait_for`), never by sleeping.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar, cast

from outgate.core.formats import messages
from outgate.gate import main as gate_main
from outgate.gate.configuration import config
from outgate.gate.decisionlog.log import DecisionLog
from outgate.gate.kernel.listening import listen
from outgate.gate.names import resolver
from outgate.gate.seal import cgroup
from outgate.gate.server import Gate
from outgate.guard import launch
from outgate.lookout import ask
from outgate.testing.loglines import PATIENCE, LogLines, has
from outgate.testing.names import FixedNames

__all__ = ["LogLines", "RunningGate", "ThreadGate"]

_AUTOLOAD = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "client", "autoload")

_T = TypeVar("_T")


def wait_for_counts(ask: Callable[[], dict[str, int]], counts: Mapping[str, int], limit: float) -> dict[str, int]:
    """Ask for an app's counts until they are these, and return all. Raises ``TimeoutError`` with the last answer."""
    deadline = time.monotonic() + limit
    while not has(seen := ask(), counts):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the app has {seen}, not {counts}")
        time.sleep(0.005)  # nobody tells of a count
    return seen


class _Served:
    """What both kinds of gate have: a socket's path, a log to wait on, counts to ask for."""

    socket: str
    log: LogLines

    def wait_for(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Wait for a line of the log; see :meth:`LogLines.wait_for`."""
        return self.log.wait_for(*args, **kwargs)

    @property
    def faults(self) -> list[dict[str, Any]]:
        """What the gate logged as faults of its own; a test that provoked none asserts that there is none."""
        return self.log.all(event="fault")

    def stats(self) -> dict[str, Any]:
        """Return what ``outgate stats --json`` shows."""
        return ask.request(self.socket, {"op": messages.STAT})["answer"]  # type: ignore[no-any-return]

    def app(self, name: str = "default") -> dict[str, int]:
        """Return the counts of one app."""
        return self.stats()["apps"][name]  # type: ignore[no-any-return]

    def wait_for_counts(self, app: str = "default", limit: float = PATIENCE, **counts: int) -> dict[str, int]:
        """Ask until the app has these counts. Raises ``TimeoutError`` with the last answer."""
        return wait_for_counts(lambda: self.app(app), counts, limit)

    def environ(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return an environment in which Python programs load the client and find this gate."""
        return launch.environment(os.environ if base is None else base, self.socket, _AUTOLOAD)

    def program(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start ``python ARGUMENTS…`` with the client, its standard streams in pipes; options go to ``Popen``."""
        pipe = subprocess.PIPE
        options = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "text": True, **options}
        return subprocess.Popen([sys.executable, *arguments], env=self.environ(), **options)


class RunningGate(_Served):
    """A gate in a process of its own, on a private path; starts and ends with the ``with`` block.

    :param config: a configuration file's text; without it the gate has the built-in app ``default``.
    :param dev: whether that app has the development policy, which lets programs reach loopback.
    :param allow: its rules, as those of ``outgate run``; so are ``deny`` and ``except_``.
    :param path: how its bytes travel, ``direct`` or ``relay``.
    :param open_sockets: its limit.
    :param users: the uids whose programs it is; this process's own by default.
    :param uid: the user the gate itself runs as; only root can name another.
    :param descriptors: the gate's hard RLIMIT_NOFILE.
    :param names: what the gate's resolver knows (:class:`FixedNames`); it asks no name server.
    """

    def __init__(
        self,
        *,
        config: str | None = None,
        dev: bool = True,
        allow: Sequence[str] = (),
        deny: Sequence[str] = (),
        except_: Sequence[str] = (),
        path: str = "auto",
        open_sockets: int | None = None,
        users: Sequence[int] | None = None,
        uid: int | None = None,
        descriptors: int | None = None,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.folder = tempfile.mkdtemp(prefix="outgate-test-")
        os.chmod(self.folder, 0o755)  # other users' programs connect too
        if uid is not None:
            os.chown(self.folder, uid, -1)
        self.socket = os.path.join(self.folder, "gate.sock")
        self.config = os.path.join(self.folder, "outgate.toml") if config is not None else None
        self._spec = {
            "socket": self.socket,
            "config": self.config,
            "state": os.path.join(self.folder, "state"),
            "dev": dev,
            "allow": list(allow),
            "deny": list(deny),
            "except_": list(except_),
            "path": path,
            "open_sockets": open_sockets,
            "users": list(users) if users is not None else [os.getuid()],
            "uid": uid,
            "descriptors": descriptors,
            "names": {name: list(addresses) for name, addresses in (names or {}).items()},
        }
        if config is not None:
            self.write_config(config)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RunningGate:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()
        shutil.rmtree(self.folder)
        cgroup.forget(self.socket)  # of a gate that a test has killed

    @property
    def pid(self) -> int:
        """The process id of the gate that runs."""
        assert self._process is not None, "the gate does not run"
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it accepts channels. Raises ``RuntimeError`` with what it said on stderr."""
        assert self._process is None, "the gate runs"
        read, write = os.pipe()
        with open(os.path.join(self.folder, "stderr"), "wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, json.dumps(self._spec)],
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=stderr,
            )
        os.close(write)
        self.log = LogLines(read)
        try:
            self.log.wait_for(event="start")
        except TimeoutError:
            self.kill()
            raise RuntimeError(f"the gate did not start: {self.stderr()}") from None

    def stderr(self) -> str:
        """Return what the gate has said on standard error since it started."""
        with open(os.path.join(self.folder, "stderr"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal, and return its exit status once its whole log is read."""
        assert self._process is not None, "the gate does not run"
        process, self._process = self._process, None
        process.send_signal(number)
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        self.log.join()
        return status

    def kill(self) -> None:
        """Kill it with SIGKILL: no word to anybody."""
        self.stop(signal.SIGKILL)

    def restart(self) -> None:
        """Start it again on the same path, ending it first if it runs; ``log`` begins anew."""
        if self._process is not None:
            self.stop()
        self.start()

    def write_config(self, text: str) -> None:
        """Write the configuration file; :meth:`reload` makes it count."""
        assert self.config is not None, "this gate was made without a configuration"
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(text)

    def reload(self, text: str | None = None) -> dict[str, Any]:
        """Reload over a channel, with a new text if one is given, and return the answer."""
        if text is not None:
            self.write_config(text)
        return cast("dict[str, Any]", ask.request(self.socket, {"op": messages.RELOAD})["answer"])

    def signal(self, number: int) -> None:
        """Send a signal: SIGHUP reloads too, SIGSTOP makes it hang."""
        os.kill(self.pid, number)


class ThreadGate(_Served):
    """A gate on a thread of this process, for tests that must look into it; the ``with`` block serves.

    It raises this process's RLIMIT_NOFILE, as every gate does.

    :param settings: what it serves with, but for socket and log; the development policy by default.
    :param state: the folder for what outlives it; "" for nothing.
    :ivar gate: the gate; touch it on its loop only (:meth:`call`).
    """

    gate: Gate

    def __init__(self, settings: config.Settings | None = None, state: str = "") -> None:
        self._state = state
        self.folder = tempfile.mkdtemp(prefix="outgate-test-")
        self.socket = os.path.join(self.folder, "gate.sock")
        self._settings = settings or config.default_settings(os.getuid(), dev=True)

    def __enter__(self) -> ThreadGate:
        read, write = os.pipe()
        self.log = LogLines(read)
        self._log = DecisionLog(write)
        os.close(write)
        gate = replace(self._settings.gate, socket=self.socket, socket_mode=0o600, state=self._state)
        listener = listen(self.socket, 0o600)
        self._loop = gate_main.new_loop()
        self.gate = Gate(replace(self._settings, gate=gate), listener, self._log, self._loop)
        self.gate.doors.prepare(gate)
        self._loop.call_soon(self.gate.doors.start)
        self._thread = threading.Thread(target=self._loop.run_forever, name="gate")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self.gate.stop()
        self._loop.close()
        self._log.close()
        self.log.join()
        shutil.rmtree(self.folder)

    def call(self, function: Callable[[], _T]) -> _T:
        """Run a function on the gate's loop and return its result."""
        done = threading.Event()
        result: list[_T] = []

        def run() -> None:
            try:
                result.append(function())
            finally:
                done.set()

        self._loop.call_soon_threadsafe(run)
        if not done.wait(PATIENCE):
            raise TimeoutError("the gate's loop is held")
        return result[0]


def _become(uid: int) -> None:
    """Give up root, and stay a process whose fds its own user may read (prctl(2), PR_SET_DUMPABLE)."""
    import ctypes
    import encodings.ascii
    import encodings.idna
    import encodings.latin_1  # noqa: F401  # loaded late, perhaps from a folder that the user may not read
    import pwd

    gid = pwd.getpwuid(uid).pw_gid
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    ctypes.CDLL(None, use_errno=True).prctl(4, 1, 0, 0, 0)


def _main(argv: Sequence[str]) -> int:
    """Be the gate of a :class:`RunningGate`; ends with the process that started it."""
    spec = json.loads(argv[0])
    parent = os.pidfd_open(os.getppid())
    gate_main.new_loop().close()  # loads uvloop, while it may be read
    if spec["descriptors"] is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (spec["descriptors"],) * 2)
    resolver.CALLS.update(FixedNames(spec["names"]).calls())
    if spec["config"] is not None:
        settings = config.load(spec["config"])
    else:
        rules = spec["allow"], spec["deny"], spec["except_"]
        settings = config.default_settings(spec["users"][0], spec["dev"], *rules, path=spec["path"])
        app = settings.apps["default"]
        app = replace(app, uid=tuple(spec["users"]), open_sockets=spec["open_sockets"] or app.open_sockets)
        settings = replace(settings, apps=MappingProxyType({"default": app}))
    own = {"socket": spec["socket"], "socket_mode": 0o666, "log": "-", "state": spec["state"]}

    def placed(of_file: config.Settings) -> config.Settings:
        ledger = replace(of_file.ledger, spool=spec["state"]) if of_file.ledger is not None else None
        return replace(of_file, gate=replace(of_file.gate, **own), ledger=ledger)

    def reload(previous: config.Settings) -> config.Settings:
        ledger = replace(previous.ledger, spool=settings.ledger.spool) if previous.ledger and settings.ledger else None
        # What is ours here is no change of the file's.
        return placed(config.reload(replace(previous, gate=settings.gate, ledger=ledger)))

    if spec["uid"] is not None and spec["uid"] != os.getuid():  # last: Python's own files may be out of its reach
        _become(spec["uid"])
    return gate_main.run(placed(settings), reloader=reload, while_running=parent)


if __name__ == "__main__":
    status = _main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # threads in a look-up are not waited for
