"""Start a module's tests in a process of their own, natively or through a gate, and outlive whatever they do.

A test that does not end in time, and one that takes the process with it, cost that test alone: the rest is started
again without it. The gate is ``outgate run --dev``: one for each process, which ends with it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

INSIDE = Path(__file__).with_name("inside.py")

#: Seconds a process may take to end after its last test, and to say where it hangs.
_GRACE = 5.0
#: How much of what a process printed is kept to explain what went wrong, in bytes.
_TAIL = 2000
#: What the tests must not see of the environment we run in.
_NOT_INHERITED = ("PYTHON", "PYTEST", "OUTGATE", "VIRTUAL_ENV")


class Stopped(Exception):
    """The run was stopped; what was started has ended."""


class NotStarted(Exception):
    """The process ended before it knew what its tests are: the gate did not start, or this harness is wrong."""


@dataclass(frozen=True)
class Outcome:
    """How a test ended: a word of ``inside.OUTCOMES``, or "hang", "crash" or "not run"; and what was said of it."""

    word: str
    why: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it did what its author wanted."""
        return self.word in ("pass", "expected")


@dataclass
class Ran:
    """What became of a module's tests, and what the gate counted (0 natively)."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    #: Tests that were there and not to be run.
    left_out: set[str] = field(default_factory=set)
    sockets: int = 0
    connects: int = 0
    #: Why there is nothing to run, or "".
    absent: str = ""


class Stop:
    """Ends every wait of every thread once it is set."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()

    def set(self) -> None:
        """Stop. May be called again, and from a signal handler."""
        os.write(self._write, b"!")

    def close(self) -> None:
        """Give the pipe back; nobody may wait any more."""
        os.close(self.fd)
        os.close(self._write)


@dataclass(frozen=True)
class How:
    """How tests are run.

    :param python: the interpreter whose tests they are.
    :param gate: through a gate, or natively.
    :param path: the gate's path, "direct" or "relay".
    :param limit: seconds a test may take.
    :param log: file for the gate's decision log, or ``None``.
    :param packages: a folder to import ``test`` from in place of the interpreter's own, for tests of this harness.
    """

    python: str
    gate: bool = True
    path: str = "direct"
    limit: float = 60.0
    log: str | None = None
    packages: str | None = None

    def command(self) -> list[str]:
        """Return the command that starts the interpreter."""
        # -bb, as CPython's own runner has it: it also holds the client, which runs in there.
        interpreter = [self.python, "-W", "default", "-bb", str(INSIDE)]
        if not self.gate:
            return interpreter
        log = ["--log", self.log] if self.log else []
        return [sys.executable, "-m", "outgate", "run", "--dev", "-q", "--path", self.path, *log, "--", *interpreter]

    def environ(self) -> dict[str, str]:
        """Return the environment of the tests: ours without what steers Python, its test tools or HTTP clients."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_NOT_INHERITED) and not name.lower().endswith("_proxy")
        }
        return kept | ({"PYTHONPATH": self.packages} if self.packages else {})


WHERE_TESTS_ARE = "on Debian they are in libpython3.N-testsuite"


def version_with_tests(python: str) -> str:
    """Return the version of an interpreter, as "3.11.7", or "" if it does not run or its tests are not there."""
    # One of them by name: Debian's python3 has the package "test" and next to nothing in it.
    code = "import importlib.util as u, sys; u.find_spec('test.test_socket') or sys.exit(1)\n"
    code += "print('.'.join(map(str, sys.version_info[:3])))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


@dataclass(frozen=True)
class Order:
    """What to run of a module.

    :param match: patterns of which a test must fit one, none for all.
    :param leave_out: patterns of tests that are not run at all.
    :param only: names of tests, ``None`` for all.
    :param resources: what the tests may use besides ``inside.RESOURCES``.
    """

    module: str
    match: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None
    resources: tuple[str, ...] = ()


def run(how: How, order: Order, stop: Stop) -> Ran:
    """Run a module's tests, starting again after each that hangs or takes the process with it.

    :raises Stopped: as soon as ``stop`` is set.
    :raises NotStarted: with what was printed.
    """
    ran = Ran()
    while True:
        with tempfile.TemporaryDirectory(prefix="outgate-cpython-") as folder:
            process = _Process(how, order, stop, Path(folder))
            try:
                process.listen(ran)
            finally:
                process.end(ran)
        rest = tuple(test for test in process.plan if test not in ran.outcomes)
        if process.ended_well:  # what is left, a fixture kept from running
            ran.outcomes |= {test: process.kept_from_running(test) for test in rest}
            return ran
        if not process.plan:
            raise NotStarted(process.why_it_ended.why)
        # Where no test had begun it was in a fixture: the test that comes next pays for it, at the end the last one.
        culprit = process.running or (*rest, process.plan[-1])[0]
        ran.outcomes[culprit] = process.why_it_ended
        order = replace(order, only=tuple(test for test in rest if test != culprit))
        if not order.only:
            return ran


class _Process:
    """One process that runs tests until it is done, hangs or dies."""

    def __init__(self, how: How, order: Order, stop: Stop, folder: Path) -> None:
        self.plan: list[str] = []
        self.running: str | None = None
        self.ended_well = False
        self.why_it_ended = Outcome("crash")
        self._how = how
        self._stop = stop
        self._fixtures: dict[str, Outcome] = {}
        self._socket: str | None = None
        self._printed = folder / "printed"
        (folder / "cwd").mkdir()
        self._hear, say = os.pipe()
        hear, self._tell = os.pipe()
        try:
            with self._printed.open("wb") as printed:
                self._popen = subprocess.Popen(
                    [*how.command(), str(say), str(hear)],
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    cwd=folder / "cwd",
                    env=how.environ(),
                    pass_fds=(say, hear),
                    start_new_session=True,
                )
        finally:
            os.close(say)
            os.close(hear)
        os.write(self._tell, json.dumps(asdict(order)).encode() + b"\n")

    def listen(self, ran: Ran) -> None:
        """Hear how tests end until all are done, one takes too long, or the process ends."""
        heard = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._hear, selectors.EVENT_READ)
            selector.register(self._stop.fd, selectors.EVENT_READ)
            while not self.ended_well:
                ready = {key.fd for key, _ in selector.select(self._how.limit)}
                if self._stop.fd in ready:
                    raise Stopped
                if not ready:
                    self.why_it_ended = Outcome("hang", self._where_it_hangs())
                    return
                more = os.read(self._hear, 65536)
                if not more:
                    self._wait()
                    status = self._popen.returncode
                    self.why_it_ended = Outcome("crash", f"exit status {status}\n{self._tail()}")
                    return
                *lines, heard = (heard + more).split(b"\n")
                for line in lines:
                    self._take(json.loads(line), ran)

    def _take(self, said: dict[str, Any], ran: Ran) -> None:
        if "plan" in said:
            self.plan = said["plan"]
            self._socket = said["socket"]
            ran.left_out.update(said["left_out"])
        elif "absent" in said:
            ran.absent = said["absent"]
        elif "start" in said:
            self.running = said["start"]
        elif "end" in said:
            ran.outcomes[said["end"]] = Outcome(said["outcome"], said["why"])
            self.running = None
        elif "fixture" in said:
            self._fixtures[said["fixture"]] = Outcome(said["outcome"], said["why"])
        elif "done" in said:
            self.ended_well = True

    def kept_from_running(self, test: str) -> Outcome:
        """Return what to say of a test that did not run: how its class's or its module's fixture ended."""
        for fixture, outcome in self._fixtures.items():
            name = fixture.partition("(")[2].rstrip(")").removeprefix("test.")
            if test.startswith(f"{name}."):
                return outcome
        return Outcome("not run")

    def end(self, ran: Ran) -> None:
        """End the process and all it started, after the gate was asked what it has counted."""
        if self._how.gate and self._socket:
            counts = _counts(self._socket)
            ran.sockets += counts["sockets"]
            ran.connects += counts["connects"]
        os.close(self._tell)
        if self.ended_well:
            self._wait()
        try:
            os.killpg(self._popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._popen.wait()
        os.close(self._hear)

    def _wait(self) -> None:
        try:
            self._popen.wait(_GRACE)
        except subprocess.TimeoutExpired:
            pass  # a thread that a test has left

    def _where_it_hangs(self) -> str:
        self._popen.send_signal(signal.SIGQUIT)  # faulthandler's
        self._wait_for_words()
        return f"no end in {self._how.limit:g} s\n{self._tail()}"

    def _wait_for_words(self) -> None:
        """Wait until the process has written where it is: nothing tells us but that its output grows no more."""
        deadline = time.monotonic() + _GRACE
        size = -1
        while size != self._printed.stat().st_size and time.monotonic() < deadline:
            size = self._printed.stat().st_size
            time.sleep(0.1)

    def _tail(self) -> str:
        return self._printed.read_bytes()[-_TAIL:].decode(errors="replace")


def _counts(socket: str) -> dict[str, int]:
    """Return what a gate has counted, as ``outgate stats`` says it: the sum over its apps."""
    command = [sys.executable, "-m", "outgate", "stats", "--json", "--socket", socket]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:  # it ended with a program that a test has taken with it
        return {"sockets": 0, "connects": 0}
    apps = json.loads(done.stdout)["apps"].values()
    return {what: sum(app[what] for app in apps) for what in ("sockets", "connects")}
