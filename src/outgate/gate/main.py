"""Run a gate until it is told to stop: listener, signals, readiness, clean end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import stat
import sys
from collections.abc import Callable
from typing import Any

from outgate.core import paths
from outgate.errors import ConfigError
from outgate.gate.configuration import config
from outgate.gate.decisionlog.log import DecisionLog
from outgate.gate.kernel import notify, users
from outgate.gate.server import Gate

#: Channels that may wait to be accepted. net.core.somaxconn caps it.
_BACKLOG = 1024
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def listen(path: str, mode: int) -> socket.socket:
    """Return a listening channel socket at the path; one that a dead gate left is replaced.

    :raises ConfigError: another gate answers there, or the path cannot be used.
    """
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o755 if mode & 0o077 else 0o700, exist_ok=True)
        _refuse_shared(folder)
        _remove_dead(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        before = os.umask(0o777 & ~mode)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(_BACKLOG)
    except OSError as e:
        why = "the path is too long for a Unix socket (107 bytes)" if e.errno is None else e.strerror
        raise ConfigError(f"gate.socket: cannot listen at {path}: {why or e}") from None
    return sock


def _refuse_shared(folder: str) -> None:
    seen = os.stat(folder)
    sticky = seen.st_uid == 0 and seen.st_mode & stat.S_ISVTX  # as /tmp: others may add files, and not replace ours
    if not sticky and not paths.is_private(seen.st_uid, seen.st_mode, os.getuid()):
        raise ConfigError(
            f"gate.socket: others may change {folder}, so they could stand in for the gate; name a folder of your own"
        )


def _remove_dead(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ConfigError(f"gate.socket: {path} exists and is not a socket; name another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(path)
    if result in (0, errno.EAGAIN):
        raise ConfigError(f"gate.socket: a gate is already listening at {path}; stop it or name another socket")
    os.unlink(path)


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
) -> int:
    """Serve until SIGTERM or SIGINT, and return the exit status.

    :param listener: an inherited listening socket (socket activation); its path is not removed at the end.
    :param ready: called once channels are accepted.
    :param reloader: makes the next settings from those in force, for SIGHUP and ``outgate reload``.
    :param while_running: a pidfd, closed here; the gate ends when that process has ended, and every one that has a
        channel or was given our address.
    """
    notifier = notify.Notifier.from_environ(os.environ, os.getpid())
    log = DecisionLog(settings.gate.log if settings.gate.log != "-" else sys.stdout.fileno())
    own_listener = listener is None
    if listener is None:
        listener = listen(settings.gate.socket, settings.gate.socket_mode)
    loop = new_loop()
    gate = Gate(settings, listener, log, loop)
    gate.reloader = reloader
    _answer_signals(gate, log, notifier)
    if while_running is not None:
        _end_with(gate, while_running)
    _feed_watchdog(loop, notifier)

    def begin() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        log.event("start", pid=os.getpid(), policy=settings.number, source=settings.source)
        notifier.ready(f"{len(settings.apps)} apps, policy {settings.number}")
        if ready is not None:
            ready(gate)

    loop.call_soon(begin)
    try:
        loop.run_forever()
    finally:
        notifier.stopping()
        gate.stop()
        log.event("stop", pid=os.getpid())
        log.close()
        if own_listener:
            with contextlib.suppress(OSError):
                os.unlink(settings.gate.socket)
    return 0


def _answer_signals(gate: Gate, log: DecisionLog, notifier: notify.Notifier) -> None:
    def reload() -> None:
        notifier.reloading()
        log.reopen()
        outcome = gate.reload()
        if not outcome["ok"]:
            print(f"outgate: reload failed, the old policy stays in force: {outcome['error']}", file=sys.stderr)  # noqa: T201
        notifier.ready(f"policy {gate.settings.number}")

    # Until the loop runs uvloop would lose them: a gate that is told to end as soon as it is ready must do so.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    for number in (signal.SIGTERM, signal.SIGINT):
        gate.loop.add_signal_handler(number, gate.loop.stop)
    gate.loop.add_signal_handler(signal.SIGHUP, reload)


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

    gate.on_release = look
    wait_for(pidfd)


def _feed_watchdog(loop: asyncio.AbstractEventLoop, notifier: notify.Notifier) -> None:
    interval = notifier.interval
    if not interval:
        return

    def feed() -> Any:
        notifier.watchdog()
        loop.call_later(interval / 2, feed)

    feed()
