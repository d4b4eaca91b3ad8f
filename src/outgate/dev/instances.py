"""Keep the instances of services running: start, start again, say why one ended, end them all.

An instance has one listening Unix socket for life, which the server holds: requests that come while it starts again
wait there. Nobody but this user can enter the folder it is in, so the front is the only way in.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO, Final, cast

from outgate.dev import descendants, sockets
from outgate.dev.appyaml import AppYaml
from outgate.dev.output import MAX_LINE, Printer

__all__ = ["BACKLOG", "FAILED", "GRACE", "READY", "STARTING", "STOPPED", "Instance", "Pool", "pause"]

STARTING, READY, FAILED, STOPPED = "starting", "ready", "failed", "stopped"
#: Seconds from SIGTERM to SIGKILL; what serves has two for the requests that are running.
GRACE: Final = 4.0
#: Connections that wait while an instance starts.
BACKLOG: Final = 256
#: How many lines are kept of what an instance has printed.
TAIL: Final = 20
#: Longest pause before another try, in seconds.
_LONGEST: Final = 30.0


def pause(failures: int) -> float:
    """Return the seconds to wait before starting again what has ended ``failures`` times in a row unasked."""
    return min(float(2 ** (failures - 1)), _LONGEST)


class Instance:
    """One process of a service, and those that follow it.

    :ivar path: its Unix socket.
    :ivar state: one of :data:`STARTING`, :data:`READY`, :data:`FAILED`, :data:`STOPPED`.
    :ivar tail: the last lines it has printed.
    :ivar starts: how often it was started.
    """

    def __init__(
        self, service: AppYaml, number: int, folder: str, command: Callable[[Instance, int, int], list[str]],
        environ: dict[str, str], printer: Printer,
    ) -> None:  # fmt: skip
        self.service = service
        self.number = number
        self.name = f"{service.service}/{number}"
        self.path = sockets.instance(folder, service.service, number)
        self.state = STARTING
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.starts = 0
        self.kind = ""
        self._command = command
        self._environ = environ
        self._printer = printer
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = asyncio.Event()
        self._wanted = asyncio.Event()  # a start was asked for, by a change of files or the end of all
        self._stopping = False
        self._changed = asyncio.Condition()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(BACKLOG)

    @property
    def pid(self) -> int | None:
        """Its process, ``None`` where there is none."""
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Keep it running until :meth:`stop`."""
        failures = 0
        try:
            while not self._stopping:
                self._wanted.clear()
                try:
                    status, was_ready = await self._live()
                    how = _how(status)
                except OSError as error:  # no process to be had, or its folder has gone
                    how, was_ready = f"could not be started ({error})", False
                if self._stopping or self._wanted.is_set():
                    failures = 0
                    continue
                failures = 1 if was_ready else failures + 1
                wait = pause(failures)
                self._say_end(how, was_ready, wait)
                await self._become(FAILED)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), wait)
        finally:
            await self._become(STOPPED)
            self._listener.close()
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    async def until_decided(self) -> str:
        """Wait while it starts; return its state then."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.state != STARTING)
        return self.state

    async def restart(self) -> None:
        """Have the next process take the place of this one. Requests from now on are for the next."""
        self._wanted.set()
        await self._become(STARTING)
        await self._end_process()

    async def stop(self) -> None:
        """End it for good."""
        self._stopping = True
        self._wanted.set()
        await self._end_process()

    async def _live(self) -> tuple[int, bool]:
        """Start one process and wait for its end; return its exit status, and whether it was ever ready."""
        await self._become(STARTING)
        self.tail.clear()
        self.starts += 1
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours:
            with theirs:
                process, output = self._spawn(theirs)
            self._process = process
            self._ended.clear()
            if self._stopping:
                self._signal(signal.SIGTERM)
            reading = asyncio.create_task(self._read(output))
            waiting = asyncio.create_task(self._wait_ready(ours))
            try:
                # Not asyncio's own: that waits for the end of the pipe too, which a daemon of the app's may hold.
                await _until_ended(process.pid)
            finally:
                waiting.cancel()
                self._signal(signal.SIGKILL)  # what it has started and left
                status = process.wait()
                with contextlib.suppress(asyncio.CancelledError):
                    await waiting
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reading, 1)
            was_ready = self.state == READY
            self._process = None
            self._ended.set()
        return status, was_ready

    def _spawn(self, control: socket.socket) -> tuple[subprocess.Popen[bytes], BinaryIO]:
        """Start its process; return it, and what it will print."""
        read, write = os.pipe()
        fds = (self._listener.fileno(), control.fileno())
        try:
            process = subprocess.Popen(
                self._command(self, *fds),
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=subprocess.STDOUT,
                cwd=self.service.folder,
                env=self._environ,
                pass_fds=fds,
                start_new_session=True,  # Ctrl-C is for the server, which ends its instances in order
            )
        finally:
            os.close(write)
        return process, cast("BinaryIO", open(read, "rb", buffering=0))  # closed by who reads it

    async def _wait_ready(self, control: socket.socket) -> None:
        said = await asyncio.get_running_loop().sock_recv(control, 16)
        if said and not self._wanted.is_set():
            self.kind = said.decode().strip()
            await self._become(READY)

    async def _read(self, output: BinaryIO) -> None:
        """Print what comes out of a pipe, in whole lines where they end in time."""
        rest = b""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), output
        )
        try:
            while chunk := await reader.read(65536):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._note(line)
                while len(rest) > MAX_LINE:
                    self._note(rest[:MAX_LINE])
                    rest = rest[MAX_LINE:]
            if rest:
                self._note(rest)
        finally:
            transport.close()

    def _note(self, line: bytes) -> None:
        text = line.decode(errors="backslashreplace").rstrip("\r")
        self.tail.append(text)
        self._printer.line(self.name, text)

    async def _become(self, state: str) -> None:
        async with self._changed:
            self.state = state
            self._changed.notify_all()

    def _say_end(self, how: str, was_ready: bool, wait: float) -> None:
        when = "" if was_ready else " before it was ready"
        self._printer.say(f"{self.name} {how}{when}; starts again in {wait:g} s, or when a file changes", bad=True)
        if not was_ready and self.tail:
            self._printer.say("its last words:\n" + "\n".join(f"  {line}" for line in list(self.tail)[-8:]), bad=True)

    def _signal(self, number: int) -> None:
        """Send a signal to its process and to all in its process group."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    async def _end_process(self) -> None:
        if self._process is None:
            return
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._ended.wait(), GRACE)
        except TimeoutError:
            self._printer.say(f"{self.name} did not end within {GRACE:g} s and is killed")
            self._signal(signal.SIGKILL)
            await self._ended.wait()


def _how(status: int) -> str:
    """Return how a process has ended, in words."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


async def _until_ended(pid: int) -> None:
    """Wait until a child has ended; it is not reaped."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    fd = os.pidfd_open(pid)
    loop.add_reader(fd, _settle, ended)
    try:
        await ended
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Pool:
    """All instances."""

    def __init__(self, instances: Iterable[Instance]) -> None:
        self.instances = tuple(instances)
        self._turn: dict[str, int] = {}
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start all."""
        self._running = [asyncio.create_task(each.run()) for each in self.instances]

    def of(self, service: str) -> list[Instance]:
        """Return the instances of a service."""
        return [each for each in self.instances if each.service.service == service]

    async def pick(self, service: str, number: int | None = None) -> Instance:
        """Return the instance for a request: those that are ready in turn; else one that starts, as soon as it has.

        The one returned may have failed: its state says so.
        """
        found = self.of(service)
        if number is not None:
            found = [found[number]]
        ready = [each for each in found if each.state == READY]
        if ready:
            turn = self._turn[service] = self._turn.get(service, -1) + 1
            return ready[turn % len(ready)]
        starting = [each for each in found if each.state == STARTING]
        if starting:
            await starting[0].until_decided()
            return next((each for each in found if each.state == READY), starting[0])
        return found[0]

    async def restart(self, services: Sequence[str]) -> None:
        """Start the instances of these services again."""
        await asyncio.gather(*(each.restart() for each in self.instances if each.service.service in services))

    async def stop(self, spared: frozenset[int]) -> None:
        """End all, and every process that they have left behind.

        :param spared: children of this process that are no instance's.
        """
        await asyncio.gather(*(each.stop() for each in self.instances))
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.to_thread(descendants.end, spared)


def command(instance: Instance, python: str, listen: int, control: int) -> list[str]:
    """Return the command that is an instance, to be started under the gate."""
    said = {
        "folder": instance.service.folder,
        "listen": listen,
        "control": control,
        "handlers": [[each.url, each.script] for each in instance.service.handlers],
        "ssl": instance.service.has_ssl,
    }
    # -P: while it starts, a json.py of the app's is not for us; the folder comes to sys.path with the app.
    return [python, "-P", "-m", "outgate.dev.inside.main", json.dumps(said)]
