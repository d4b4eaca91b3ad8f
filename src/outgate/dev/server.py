"""Run the development server: gate, instances, front and task queue, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import uvicorn
from watchfiles import Change, DefaultFilter, awatch

from outgate.console.access import new_token
from outgate.core import paths
from outgate.dev import descendants, gating, instances, output, plan, policies, queue, sockets, taskqueue
from outgate.dev.console import Console, KeptLog
from outgate.dev.front import Front
from outgate.dev.instances import Instance, Pool
from outgate.dev.journal import Journal
from outgate.dev.output import Printer
from outgate.dev.plan import CONSOLE, Plan
from outgate.errors import ConfigError

__all__ = ["Options", "run"]

#: Seconds that requests may take to end when the server ends.
_GRACE = 1
#: What stands for an exit status where there is none yet.
_AGAIN = -1
#: Longest folder, in bytes, in which our Unix sockets' paths are not too long.
_LONGEST_BASE = 75


@dataclass(frozen=True)
class Options:
    """What was asked for.

    :ivar files: app.yaml files and folders, as given.
    :ivar host: address to listen at.
    :ivar port: TCP port; 0 for a free one.
    :ivar reload: whether a change of a file starts its service again.
    :ivar log: where the decision log is written to as well; ``None`` for nowhere.
    :ivar launcher: makes, of the gate's socket and a command, the command that runs it under the gate.
    :ivar python: the interpreter of the instances.
    """

    files: Sequence[str]
    host: str
    port: int
    reload: bool
    log: BinaryIO | None
    launcher: Callable[[str, list[str]], list[str]]
    python: str

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


class _Server(uvicorn.Server):
    """uvicorn's, but the signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(options: Options, listener: socket.socket, printer: Printer) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit status. What is wrong with the files at a start ends it.

    :param listener: bound and listening; taken over.
    :raises ConfigError: the files cannot be used, or the gate refuses what they say.
    """
    descendants.adopt()
    token = new_token()
    with listener:
        while True:
            found = plan.read(options.files)
            folder = _private_folder()
            try:
                status = asyncio.run(_serve(options, found, folder, listener.dup(), token, printer))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            if status != _AGAIN:
                return status


def _private_folder() -> str:
    """Make a folder that only this user may enter, with a short name: a Unix socket's path has at most 107 bytes."""
    base = paths.runtime_dir(os.environ, os.getuid())
    if not (os.path.isdir(base) and os.access(base, os.W_OK)):
        base = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="dev-", dir=base if len(os.fsencode(base)) <= _LONGEST_BASE else "/tmp")


async def _serve(
    options: Options, found: Plan, folder: str, listener: socket.socket, token: str, printer: Printer
) -> int:
    """Serve one plan; return the exit status, or :data:`_AGAIN` to go on with the plan that its files hold by now.

    :param token: what the console is opened by, as long as this server runs.
    """
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    again = False
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ending.set)
    os.mkdir(os.path.join(folder, "state"))
    gate = await asyncio.to_thread(gating.EmbeddedGate, policies.raw(found, folder), policies.source(found))
    lost = asyncio.Event()

    def lose() -> None:
        lost.set()
        ending.set()

    kept = KeptLog(folder)
    arguments = (gate, kept, options.log, printer, ending, lambda: loop.call_soon_threadsafe(lose))
    following = threading.Thread(target=_follow_log, args=arguments, name="gate-log", daemon=True)
    following.start()
    pool = Pool(_instances(options, found, folder, printer))
    journal = Journal()
    tasks = queue.Queue(found, pool, folder, printer, journal)
    console = None
    if has_console(options, found):
        console = Console(sockets.gate(folder), kept.path, pool.instances, journal, token).app
    front = Front(found, pool, printer, journal, console, local=options.is_local)
    config = uvicorn.Config(
        front, lifespan="off", log_level="critical", access_log=False, proxy_headers=False, ws="none",
        server_header=False, date_header=False, timeout_graceful_shutdown=_GRACE, loop="asyncio",
    )  # fmt: skip
    server = _Server(config)
    printer.width = max(len(output.OWN), *(len(each.name) for each in pool.instances))
    port = listener.getsockname()[1]
    _say_start(options, found, folder, gate, port, printer)
    if console is not None:
        printer.say(f"console: http://{CONSOLE}.localhost:{port}/?token={token}")
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    watching = None
    try:
        await tasks.start()
        pool.start()
        if options.reload:
            watching = asyncio.create_task(_watch(options, found, pool, printer, ending))
        await ending.wait()
    finally:
        printer.say("ending")
        if watching is not None:
            watching.cancel()
            again = (await asyncio.gather(watching, return_exceptions=True))[0] is True
        server.should_exit = True
        await tasks.stop()
        left = tasks.waiting()
        await pool.stop(frozenset({gate.process.pid}))
        await serving
        await front.close()
        await asyncio.to_thread(gate.stop)
        await asyncio.to_thread(following.join, _GRACE)
        kept.close()
        if left:
            printer.say(f"{left} tasks were not run")
    return _AGAIN if again else 1 if lost.is_set() else 0


def has_console(options: Options, found: Plan) -> bool:
    """Whether the server has a console: where only this machine can reach it, and no service has its name."""
    return options.is_local and found.find(CONSOLE) is None


def _instances(options: Options, found: Plan, folder: str, printer: Printer) -> Iterator[Instance]:
    for service in found.services:
        gate = sockets.gate_of(folder, service.application)

        def command(instance: Instance, listen: int, control: int, gate: str = gate) -> list[str]:
            return options.launcher(gate, instances.command(instance, options.python, listen, control))

        for number in range(service.instances):
            environ = {
                **plan.environment(service, number, os.environ),
                taskqueue.SOCKET_VARIABLE: sockets.tasks_of(folder, service.application),
                taskqueue.SERVICE_VARIABLE: service.service,
            }
            yield Instance(service, number, folder, command, environ, printer)


def _say_start(
    options: Options, found: Plan, folder: str, gate: gating.EmbeddedGate, port: int, printer: Printer
) -> None:
    """Print a line for each service with its URL, and what is read over."""
    for warning in gate.warnings:
        printer.say(f"warning: {warning}")
    for service in found.services:
        for text in service.ignored:
            printer.say(f"{service.path}: ignored: {text}")
    shown = f"[{options.host}]" if ":" in options.host else options.host
    for service in found.services:
        is_default = service is found.default
        name = ("localhost" if options.is_local else shown) if is_default else f"{service.service}.localhost"
        count = f"{service.instances} instances" if service.instances > 1 else "1 instance"
        printer.say(f"{service.service}: http://{name}:{port}/  ({count} of app {service.application}, {service.path})")
    printer.say(f"the gate: outgate ps --socket {sockets.gate(folder)}; Ctrl-C ends all")


def _follow_log(
    gate: gating.EmbeddedGate,
    kept: KeptLog,
    copy: BinaryIO | None,
    printer: Printer,
    ending: asyncio.Event,
    lost: Callable[[], object],
) -> None:
    """Print what the gate's log tells of refusals. When it ends unasked there is nothing left to serve with.

    :param kept: what the console reads.
    :param copy: gets every line as it is. When it takes no more, that is said once.
    """
    for text in gate.log:
        kept.write(text)
        try:
            if copy is not None:
                copy.write(text)
        except OSError as error:
            printer.say(f"the decision log is not written to its file any more: {error}", bad=True)
            copy = None
        try:
            sentence = output.refusal(json.loads(text))
        except ValueError:
            sentence = text.decode(errors="backslashreplace").rstrip()
        if sentence:
            printer.line("gate", sentence)
    if not ending.is_set():
        printer.say("the gate has ended, and so does everything", bad=True)
        lost()


class _Sources(DefaultFilter):
    """Watch what a service is made of; not what it writes beside: databases, logs, caches."""

    _endings = (".py", ".yaml", ".yml", ".html", ".txt", ".toml", ".json", ".ini", ".cfg", ".env", ".j2", ".jinja")

    def __call__(self, change: Change, path: str) -> bool:
        return path.endswith(self._endings) and super().__call__(change, path)


def affected(found: Plan, changed: set[str]) -> tuple[bool, list[str]]:
    """Return whether files of the plan are among these (absolute paths), and the services whose folders have others."""
    rest = changed - set(found.files)
    services = [each.service for each in found.services if any(path.startswith(each.folder + os.sep) for path in rest)]
    return bool(changed & set(found.files)), services


async def _watch(options: Options, found: Plan, pool: Pool, printer: Printer, ending: asyncio.Event) -> bool:
    """Start a service again when a file in its folder changes; ask for another plan when one of the plan's does.

    :returns: true when the plan has changed, with ``ending`` set; it ends otherwise by being cancelled, and where the
        files cannot be watched.
    """
    try:
        async for changes in awatch(*{each.folder for each in found.services}, watch_filter=_Sources()):
            changed = {path for _, path in changes}
            of_plan, services = affected(found, changed)
            if of_plan:
                try:
                    policies.check(plan.read(options.files), "/")
                except ConfigError as error:
                    printer.say(f"{error}\nwhat ran goes on running", bad=True)
                else:
                    printer.say(f"{min(changed & set(found.files))} has changed: starting all again")
                    ending.set()
                    return True
            if services:
                printer.say(f"{min(changed)} has changed: starting {', '.join(services)} again")
                await pool.restart(services)
    except (OSError, RuntimeError) as error:
        printer.say(f"changes of files are not seen: {error}", bad=True)
    return False
