"""Run a gate until it is told to stop: listener, signals, readiness, clean end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from outgate.errors import ConfigError
from outgate.gate.configuration import config
from outgate.gate.decisionlog.log import DecisionLog
from outgate.gate.kernel import eager, notify, users
from outgate.gate.kernel.listening import listen
from outgate.gate.kernel.notices import Notices
from outgate.gate.live import reloading
from outgate.gate.restart import starting as restart
from outgate.gate.seal import seal as sealing
from outgate.gate.server import Gate
from outgate.gate.takeover import taking
from outgate.gate.takeover.taking import Taken

if TYPE_CHECKING:
    from outgate.gate.fleet.fleet import Door
    from outgate.gate.metrics.serving import Serving

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def new_loop() -> asyncio.AbstractEventLoop:
    """Return uvloop's loop where it is installed, asyncio's otherwise."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run(
    settings: config.Settings,
    *,
    listener: socket.socket | None = None,
    ready: Callable[[Gate], None] | None = None,
    reloader: Callable[[config.Settings], config.Settings] | None = None,
    while_running: int | None = None,
    taken: Taken | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status.

    :param listener: an inherited listening socket (socket activation); its path is not removed at the end.
    :param ready: called once channels are accepted.
    :param reloader: makes the next settings from those in force, for SIGHUP and ``outgate reload``.
    :param while_running: a pidfd, closed here; the gate ends when that process has ended, and every one that has a
        channel or was given our address.
    :param taken: everything that the gate had whose place this one takes.
    """
    notifier = notify.Notifier.from_environ(os.environ, os.getpid())
    told = Notices()  # before rights are given up, by which more of what it is told can wait
    seal = sealing.make(settings, taken.state.seal if taken is not None else "")  # before there are threads
    log = DecisionLog(settings.gate.log if settings.gate.log != "-" else sys.stdout.fileno())
    if taken is not None:
        listener = taken.listener
    serving = _metrics_server() if settings.gate.metrics else None
    made = listener or listen(settings.gate.socket, settings.gate.socket_mode)
    door = _fleet_door(settings)
    shares = _shares(settings)
    loop = new_loop()
    gate = Gate(settings, made, log, loop)
    gate.owns_listener = listener is None
    gate.seal = seal
    gate.orphans.hear(told)
    if settings.ledger is not None:
        _keep_books(gate, settings.ledger)
    if shares is not None:
        shares(gate)
    metrics = serving(gate, settings.gate.metrics) if serving is not None else None
    gate.doors.prepare(settings.gate, taken.doors if taken is not None else ())
    if seal.is_there:
        gate.answering.listen()
    seal.enter()  # when what will listen is made: nothing comes in on a sealed socket
    if taken is not None:
        taking.restore(gate, taken)
        restart.go_on_with(gate, taken, notifier, os.environ)
    else:
        restart.begin(gate, notifier, os.environ)
    if door is not None:
        _join_fleet(gate, door)
    gate.reception.follow(settings.apps, settings.gate.socket_mode)
    gate.reloader = reloader
    gate.books.begin(gate)
    gate.leave = lambda: _leave(log)
    _answer_signals(gate, notifier)
    if while_running is not None:
        _end_with(gate, while_running)
    _feed_watchdog(loop, notifier)

    def begin() -> None:
        # What the start has made stays as long as the gate, and is most of what a full collection looks at: with 8,000
        # sockets open one holds the loop 4 ms without it, and 66 to 81 with it.
        gc.freeze()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        log.event("start", pid=os.getpid(), policy=settings.number, source=settings.source)
        if taken is not None:
            log.event("took-over", pid=os.getpid(), reason=f"from process {taken.state.pid}")
        gate.doors.start()
        notifier.ready(f"{len(settings.apps)} apps, policy {settings.number}")
        if metrics is not None:
            metrics.start()
        if ready is not None:
            ready(gate)

    loop.call_soon(begin)
    try:
        loop.run_forever()
    finally:
        notifier.stopping()
        if metrics is not None:
            metrics.stop()
        is_awaited = bool(gate.registry.leases)
        gate.stop()
        gate.books.close()
        log.event("stop", pid=os.getpid())
        log.close()
        gate.keeping.close()
        if gate.owns_listener:
            with contextlib.suppress(OSError):
                os.unlink(settings.gate.socket)
        seal.leave(is_awaited)
    return 0


def _metrics_server() -> type[Serving]:
    """Return what serves metrics, which costs a gate that serves none nothing. Raises ``ConfigError`` without it."""
    try:
        from outgate.gate.metrics.serving import Serving
    except ModuleNotFoundError as e:
        raise ConfigError(f"gate.metrics: {e.name} is not installed here; pip install 'outgate[gate]'") from None
    return Serving


def _fleet_door(settings: config.Settings) -> Door | None:
    """Return what the gate needs of its fleet, which costs one that is alone nothing. Raises ``ConfigError``."""
    if settings.fleet is None or not settings.fleet.listen:
        return None
    try:
        from outgate.gate.fleet import fleet
    except ModuleNotFoundError as e:
        raise ConfigError(f"fleet: {e.name} is not installed here; pip install 'outgate[fleet]'") from None
    return fleet.door(settings)


def _join_fleet(gate: Gate, door: Door) -> None:
    from outgate.gate.fleet.fleet import Fleet

    gate.fleet = Fleet(gate, door)


def _shares(settings: config.Settings) -> Callable[[Gate], None] | None:
    """Return what has a gate share its state with others. Raises ``ConfigError`` where it cannot."""
    if settings.fleet is None or settings.fleet.shared is None:
        return None
    load_shared()
    from outgate.gate.shared import sharing

    return sharing.prepare(settings.fleet)


def load_shared() -> None:
    """Load what a line to Redis needs, which takes some 0.3 s, before anybody waits. Raises ``ConfigError`` without."""
    try:
        importlib.import_module("outgate.gate.shared.sharing")
    except ModuleNotFoundError as e:
        raise ConfigError(f"fleet.state: {e.name} is not installed here; pip install 'outgate[redis]'") from None


def load_ledger() -> None:
    """Load what a ledger needs, which takes some 0.3 s, before anybody waits. Raises ``ConfigError`` without it."""
    try:
        importlib.import_module("outgate.gate.ledger.store")
    except ModuleNotFoundError as e:
        raise ConfigError(f"ledger: {e.name} is not installed here; pip install 'outgate[gate]'") from None


def _keep_books(gate: Gate, settings: config.LedgerSettings) -> None:
    """Open the ledger, which costs a gate that keeps none nothing. Raises ``ConfigError`` where it cannot be."""
    from outgate.gate.ledger.books import Books

    books = Books(settings, gate.log, gate.seal.wire)
    gate.books = books
    gate.meters.listeners.append(books.charging.note)


def _leave(log: DecisionLog) -> NoReturn:
    """End without ending anything: the next gate has it all. A turn of the loop more would read what is its to read."""
    log.event("handed-over", pid=os.getpid())
    log.close()
    os._exit(0)


def _answer_signals(gate: Gate, notifier: notify.Notifier) -> None:
    async def reload() -> None:
        notifier.reloading()
        outcome = await reloading.reload(gate)
        if not outcome["ok"]:
            print(f"outgate: reload failed, the old policy stays in force: {outcome['error']}", file=sys.stderr)  # noqa: T201
        notifier.ready(f"policy {gate.settings.number}")

    # Until the loop runs uvloop would lose them: a gate that is told to end as soon as it is ready must do so.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    for number in (signal.SIGTERM, signal.SIGINT):
        gate.loop.add_signal_handler(number, gate.loop.stop)
    gate.loop.add_signal_handler(signal.SIGHUP, lambda: eager.run(reload(), gate.loop, gate.tasks))


def _end_with(gate: Gate, pidfd: int) -> None:
    """Stop when that process has ended, and every one that has a channel, a socket, or our address from it."""
    waiting = {pidfd}

    def wait_for(fd: int) -> None:
        waiting.add(fd)
        gate.loop.add_reader(fd, ended, fd)

    def ended(fd: int) -> None:
        gate.loop.remove_reader(fd)
        waiting.discard(fd)
        os.close(fd)
        look()

    def look() -> None:
        if waiting or gate.registry.processes or gate.registry.leases:
            return  # the end of each leads back here
        for pid in users.find(gate.settings.gate.socket):
            with contextlib.suppress(OSError):  # ended since
                wait_for(os.pidfd_open(pid))
        if not waiting:
            gate.loop.stop()

    gate.reception.on_release = look
    wait_for(pidfd)


def _feed_watchdog(loop: asyncio.AbstractEventLoop, notifier: notify.Notifier) -> None:
    interval = notifier.interval
    if not interval:
        return

    def feed() -> Any:
        notifier.watchdog()
        loop.call_later(interval / 2, feed)

    feed()
