"""Start what is measured: the target, gates, and a fresh client process for each figure."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union

import trustme

from bench import peers
from outgate.core.paths import SOCKET_VARIABLE
from outgate.guard import launch

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
_INJECTED = Path("outgate", "client", "autoload")
CLIENT = str(ROOT / "bench" / "programs" / "client.py")
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Seconds any one process may take; the slowest takes five.
_LIMIT = 120.0


class Failed(Exception):
    """A process did not do what it was started for; the text is what it said."""


def native_environment() -> dict[str, str]:
    """Return this environment without anything of outgate's."""
    environ = dict(os.environ)
    environ.pop(SOCKET_VARIABLE, None)
    environ.pop("PYTHONPATH", None)
    return environ


class Gate:
    """A running gate, and what the kernel says of its process."""

    def __init__(self, process: subprocess.Popen[str], path: str, source: Path) -> None:
        self.pid = process.pid
        self.path = path
        self._process = process
        self.environment = launch.environment(native_environment(), path, str(source / _INJECTED))

    def cpu(self) -> float:
        """Return the seconds of processor time it has used, all threads."""
        return peers.session_cpu(self.pid)

    def memory(self) -> int:
        """Return its resident bytes, once two readings a tenth of a second apart agree."""
        before, now = -1, self._resident()
        deadline = time.monotonic() + 5
        while before != now and time.monotonic() < deadline:
            time.sleep(0.1)
            before, now = now, self._resident()
        return now

    def lateness(self) -> list[float]:
        """Return by how many seconds its loop was late, each time it looked since this was asked last."""
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGUSR2)
        seen: list[float] = json.loads(self._process.stdout.readline())
        return seen

    def _resident(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE


#: The target's ports, by name, to which a peer with fixed destinations leads.
_FIXED = ("open", "echo", "sink", "source", "tls")

#: All that a gate may keep.
BOOKED = ("ledger", "metrics", "state")


class Host(NamedTuple):
    """A network that is not this process's, from where a client reaches the target natively.

    :ivar command: leads into it.
    """

    command: tuple[str, ...]


#: How a client reaches the target: through a gate, through a peer, or natively, here or from elsewhere.
Way = Union[Gate, peers.Peer, Host, None]


class World:
    """The target, the gates and peers that most cases share, and how many rounds there are.

    :ivar few: rounds of what takes long.
    :ivar authority: file of the certificate that has signed the target's.
    :ivar left_out: what was not measured, and why.
    :ivar shown: the peers that were measured, and how they were run.

    Everything it starts ends with it; the context manager removes its scratch folder too.
    """

    def __init__(self, rounds: int, quick: bool, address: str = "127.0.0.1") -> None:
        """Take figures in so many rounds, of a target that listens at an address."""
        self.rounds = rounds
        self.few = 1 if quick else min(3, rounds)
        self.quick = quick
        self.left_out: list[str] = []
        self.shown: list[peers.Shown] = []
        self._address = address
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> World:
        self.scratch = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="outgate-bench-"))
        self.authority, certificate = _certify(Path(self.scratch))
        argv = [sys.executable, str(ROOT / "bench" / "target.py"), self._address, certificate]
        self.target = self._start(argv, stdin=subprocess.PIPE, start_new_session=True)
        self.ports: dict[str, list[int]] = json.loads(self._line(self.target))
        self.gate = self._stack.enter_context(self.start_gate("gate"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def enter(self, running: contextlib.AbstractContextManager[Gate]) -> Gate:
        """Start a gate that runs to the end of the world."""
        return self._stack.enter_context(running)

    @functools.cached_property
    def relay(self) -> Gate:
        """A gate that carries the bytes of every socket; runs from the first use on."""
        return self._stack.enter_context(self.start_gate("relay", path="relay"))

    @functools.cached_property
    def peers(self) -> peers.Peers:
        """What else is installed that carries connections; runs from the first use on."""
        targets = [port for name in _FIXED for port in self.ports[name]]
        found = self._stack.enter_context(peers.running(self.scratch, targets))
        self.shown += found.shown
        for line in found.missing:
            self.leave_out(line)
        return found

    def leave_out(self, why: str) -> None:
        """Say what is not measured, and remember it for the record."""
        print(f"left out: {why}", file=sys.stderr, flush=True)
        self.left_out.append(why)

    @property
    def own_ways(self) -> dict[str, Way]:
        """The ways that need no peer."""
        return {"native": None, "direct": self.gate, "relay": self.relay}

    @property
    def ways(self) -> dict[str, Way]:
        """All ways of a stream to the target, in the order of a round."""
        return {**self.own_ways, **{peer.name: peer for peer in self.peers.running}}

    @property
    def opening_ways(self) -> dict[str, Way]:
        """All ways to open a connection: each peer with each library for it, and those that only check."""
        return {**self.own_ways, **{peer.name: peer for peer in self.peers.opening}}

    # --- processes ----------------------------------------------------------------------------------------------------

    def _start(self, argv: list[str], **options: Any) -> subprocess.Popen[str]:
        options.setdefault("env", native_environment())
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, **options)
        self._stack.callback(_end, process)
        return process

    @staticmethod
    def _line(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            assert isinstance(process.args, list)
            words = " ".join(Path(word).name for word in process.args[1:3])
            raise Failed(f"{words} ended with status {process.wait()}")
        return line

    @contextlib.contextmanager
    def start_gate(
        self,
        name: str,
        core: int | None = None,
        path: str = "direct",
        booked: Sequence[str] = (),
        lag: bool = False,
        door: int = 0,
        fleet: str = "",
        host: Sequence[str] = (),
        source: Path = SOURCE,
    ) -> Iterator[Gate]:
        """Run a gate of its own for a while.

        All its threads are on one core if one is named; it keeps what ``booked`` says, and watches its loop; at a port
        that is named it has a SOCKS5 door. With the file of a fleet's settings it is a gate of that, on the host into
        which a command leads.

        The code of gate and clients is what ``source`` has. In a session of its own, as ``outgate run`` starts it: the
        kernel shares processors out by session (autogroup).
        """
        socket_path = f"{self.scratch}/{name}.sock"
        pidfd = os.pidfd_open(os.getpid())
        argv = [*host, sys.executable, "-m", "bench.gate", str(pidfd), socket_path, path]
        argv += [
            *booked,
            *["lag"] * lag,
            *[f"door={door}"] * bool(door),
            *[f"fleet={fleet}"] * bool(fleet),
        ]
        with pinned(0, core):  # for the child to inherit
            environ = {**native_environment(), "PYTHONPATH": str(source)}
            process = self._start(argv, cwd=ROOT, env=environ, pass_fds=(pidfd,), start_new_session=True)
        os.close(pidfd)
        try:
            self._line(process)
            yield Gate(process, socket_path, source)
        finally:
            _end(process)

    def _client(self, case: str, way: Way, parameters: dict[str, Any]) -> subprocess.Popen[str]:
        environ = way.environment if isinstance(way, Gate) else native_environment()
        argv = [*(way.command if isinstance(way, Host) else ()), sys.executable, CLIENT]
        if isinstance(way, peers.Peer):
            parameters = {**parameters, "peer": way.route}
            if way.protocol == "sandlock":
                argv = [sys.executable, peers.SANDLOCKED, *argv]
        argv += [case, json.dumps(parameters)]
        return self._start(argv, env=environ, stdin=subprocess.PIPE)

    def ask(self, case: str, way: Way, **parameters: Any) -> dict[str, Any]:
        """Run one client to its end and return its figures."""
        process = self._client(case, way, parameters)
        out, _ = process.communicate(timeout=_LIMIT)
        if process.returncode:
            raise Failed(f"client {case} ended with status {process.returncode}")
        figures: dict[str, Any] = json.loads(out.splitlines()[-1])
        return figures

    @contextlib.contextmanager
    def holding(self, gate: Gate, counts: list[int], case: str = "hold") -> Iterator[Callable[[], None]]:
        """Run a client that holds connections; each call of what is yielded has it go on to the next number."""
        client = self._client(case, gate, {"ports": self.ports["hold"], "counts": counts})
        self._line(client)

        def more() -> None:
            _tell(client)
            self._line(client)

        try:
            yield more
        finally:
            _end(client)

    def seconds(self, argv: list[str], environ: dict[str, str]) -> float:
        """Return how long a command takes from start to end."""
        begun = time.perf_counter()
        process = subprocess.run(argv, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
        taken = time.perf_counter() - begun
        if process.returncode:
            raise Failed(f"{argv} ended with status {process.returncode}")
        return taken


def _certify(folder: Path) -> tuple[str, str]:
    """Make an authority, and a certificate by it for localhost; return the files of the first, and of the second."""
    authority, both = str(folder / "authority.pem"), str(folder / "certificate.pem")
    made = trustme.CA()
    made.cert_pem.write_to_path(authority)
    made.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(both)
    return authority, both


def _tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _end(process: subprocess.Popen[str]) -> None:
    """Close the process's standard input, ask it to end, wait for it, and insist in the end."""
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextlib.contextmanager
def pinned(pid: int, *cores: int | None) -> Iterator[None]:
    """Keep a process (0: the calling thread, and what it starts) on some cores for a while; ``None`` is no core."""
    wanted = {core for core in cores if core is not None}
    if not wanted:
        yield
        return
    tasks = [int(task) for task in os.listdir(f"/proc/{pid}/task")] if pid else [0]
    before = os.sched_getaffinity(pid)
    for task in tasks:
        os.sched_setaffinity(task, wanted)
    try:
        yield
    finally:
        for task in tasks:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(task, before)
