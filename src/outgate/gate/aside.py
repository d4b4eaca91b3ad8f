"""Do what may wait for the holder of a socket aside, on the thread of its app, and go on when that is done.

A program that is not trusted may hold the kernel's own socket, and keep its lock (:mod:`outgate.gate.kernel.aside`). It
then holds up that thread, and with it the other sockets of its app, and nothing else: requests about them are refused
after :data:`LIMIT`, what ends stays counted until it has ended, and the log says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from _socket import socket as native
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from outgate.core import lease as life
from outgate.gate.kernel import cut, dial, meter, patient
from outgate.gate.kernel.aside import Aside
from outgate.gate.onloop import call_on
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.registry import App, Lease
    from outgate.gate.server import Gate

__all__ = ["Asides"]

#: Seconds that a request waits for the thread of its app.
LIMIT: Final = 5.0
#: Seconds after which it is worth a line in the log that a thread has not come back.
NOTICE: Final = 1.0
#: Seconds that the gate's end waits for the last readings, of all apps together.
LAST: Final = 2.0
#: Sockets that the thread looks at before it passes on what it has read.
SLICE: Final = 100


class Asides:
    """What is done aside for a gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        #: Apps whose meters are being read.
        self._rounds: set[str] = set()
        #: Apps that are known to hold up their thread.
        self._held_up: set[str] = set()

    def kind(self, app: App) -> Callable[[int, int], native]:
        """Return what makes the sockets that programs of an app hold."""
        return native if app.settings.trusted else partial(Aside, app.closer)

    def take(self, fd: int, family: int, app: App, state: int, counted: tuple[int, int]) -> native:
        """Return an object for a socket that programs of an app hold, and that came from there or from another gate.

        :param fd: it; ours, and closed by this.
        :param family: 4 or 6.
        :param state: what is known of it, as of :attr:`.meter.Reading.state`.
        :param counted: the bytes sent and received that are counted already.
        """
        sock = patient.take(fd, family, self.kind(app))
        if isinstance(sock, Aside):
            sock.remember(state, *counted)
        return sock

    # --- requests -----------------------------------------------------------------------------------------------------

    def is_asked(self, lease: Lease) -> bool:
        """Tell whether a connect has to know how a socket stands."""
        return lease.state in (life.DIALLED, life.OPEN) or self._gate.quotas.has_binds(lease.process.app)

    async def look(self, lease: Lease) -> Reply | None:
        """Have the loop know of a socket what the kernel knows now, or return the refusal."""
        sock = lease.sock
        if not isinstance(sock, Aside):
            return None
        if await self._ask(lease.process.app, sock.look_closely) is None:
            return self._refusal(lease.process.app)
        return None if lease.state != life.ENDED else refusal("unknown-descriptor")

    async def dial(self, lease: Lease, target: tuple[Any, ...]) -> tuple[Reply | None, int]:
        """Begin to connect, as :func:`.dial.begin`; or return the refusal, and nothing will have been dialled."""
        sock = lease.sock
        assert isinstance(sock, Aside), "others are dialled by the loop"
        if not self._gate.fast_open:
            return await self._dial_on_a_thread(lease, target)

        def begin() -> int:
            result = dial.begin(sock, target)
            sock.look_closely()  # its own address is known from now on, and asked for where the gate itself answers
            return result

        result = await self._ask(lease.process.app, begin, undo=partial(_reset, sock))
        return (self._refusal(lease.process.app), 0) if result is None else (None, result[0])

    async def _dial_on_a_thread(self, lease: Lease, target: tuple[Any, ...]) -> tuple[Reply | None, int]:
        """Connect where that takes a thread until it has ended, however long: unless the lock is kept meanwhile.

        A dial in progress has let go of the lock, so as long as the socket can be asked it is the network that waits.
        """
        refused = await self.look(lease)
        if refused is not None:
            return refused, 0
        # A duplicate of its own: ours may be closed, and its number be another file's, before the thread is through.
        # Not by sock.dup(), which sets O_NONBLOCK to what it thinks it is, on the file that the program shares.
        duplicate = patient.take(os.dup(lease.sock.fileno()), lease.family, socket.socket)
        results: list[int] = []

        def connect() -> int:
            results.append(dial.connect(duplicate, target))
            return results[0]

        def undo() -> None:
            if results == [0]:  # else there is nothing to undo, and another dial may have begun
                _reset(duplicate)

        asked = _Asked(self._gate.loop, connect, undo)

        def run() -> None:
            with duplicate:
                asked()

        app, sock = lease.process.app, lease.sock
        self._gate.dial_threads.of(app.name).submit(run)
        while not (await asyncio.wait((asked.answer,), timeout=LIMIT))[0]:
            refused = await self.look(lease)
            if refused is not None and asked.give_up():
                app.closer.put(partial(_reset, sock))  # what is in progress, as soon as the lock is let go of
        result = asked.answer.result()
        if result is None:
            return refused, 0
        if result == [0]:  # what the loop knows of it is of before
            refused = await self.look(lease)
            if refused is not None:
                app.closer.put(partial(_reset, sock))
        return refused, result[0]

    async def do(self, lease: Lease, job: Callable[[], int]) -> tuple[Reply | None, int]:
        """Return the errno that a function returns on the thread of the lease's app; or a refusal."""
        result = await self._ask(lease.process.app, job)
        return (self._refusal(lease.process.app), 0) if result is None else (None, result[0])

    def _refusal(self, app: App) -> Reply:
        return refusal("held-up", app=app.name, limit=LIMIT)

    async def _ask(
        self, app: App, job: Callable[[], Any], undo: Callable[[], object] | None = None
    ) -> list[Any] | None:
        """Return what a function returns on the thread of an app; ``None`` where that does not come back in time."""
        if app.closer.held_for >= LIMIT:
            return None  # nothing is gained by another one that waits
        asked = _Asked(self._gate.loop, job, undo)
        app.closer.put(asked, hurry=True)
        timer = self._gate.loop.call_later(LIMIT, asked.give_up)
        try:
            return await asked.answer
        finally:
            timer.cancel()

    # --- what goes on by itself ---------------------------------------------------------------------------------------

    def first(self, item: Lease | Datagrams, then: Callable[..., object], *args: Any) -> None:
        """Call a function when the loop knows of a socket what the kernel knows: of most it can ask, and so at once."""
        sock = getattr(item, "sock", None)
        if isinstance(sock, Aside):
            item.process.app.closer.put(partial(self._look, sock, partial(then, *args)), hurry=True)
        else:
            then(*args)

    def _look(self, sock: Aside, then: Callable[[], object]) -> None:
        sock.look_closely()
        call_on(self._gate.loop, then)

    def reset(self, lease: Lease, then: Callable[..., object], *args: Any) -> None:
        """Read the meter of a socket, take its connection apart, and call a function."""
        sock = lease.sock
        assert isinstance(sock, Aside), "others are reset by the loop"

        def look_and_reset() -> None:
            sock.look()
            _reset(sock)
            call_on(self._gate.loop, then, *args)

        lease.process.app.closer.put(look_and_reset)

    def read(self, leases: Iterable[Lease], note: Callable[[tuple[Lease, ...]], object]) -> None:
        """Read the meters of sockets, but of apps that have not come back from the last time.

        :param note: told on the loop of some that have been read.
        """
        by_app: dict[App, list[Lease]] = {}
        for lease in leases:
            by_app.setdefault(lease.process.app, []).append(lease)
        for app, some in by_app.items():
            if app.name not in self._rounds:
                self._rounds.add(app.name)
                app.closer.put(partial(self._read, app, iter(some), note))

    def _read(self, app: App, leases: Iterator[Lease], note: Callable[[tuple[Lease, ...]], object]) -> None:
        slice_ = tuple(islice(leases, SLICE))
        if not slice_:
            call_on(self._gate.loop, self._rounds.discard, app.name)
            return
        for lease in slice_:
            if isinstance(lease.sock, Aside):
                lease.sock.look()
        call_on(self._gate.loop, note, slice_)
        app.closer.put(partial(self._read, app, leases, note))  # whoever has asked meanwhile comes first

    def is_readable(self, lease: Lease) -> bool:
        """Tell whether what is known of a socket is of the last few seconds: not while its app holds up its thread."""
        return not isinstance(lease.sock, Aside) or lease.process.app.closer.held_for < NOTICE

    def notice(self) -> None:
        """Write down who holds up the thread of its app, and who does no more."""
        for app in self._gate.registry.apps.values():
            is_held_up = app.closer.held_for >= NOTICE
            if is_held_up != (app.name in self._held_up):
                (self._held_up.add if is_held_up else self._held_up.discard)(app.name)
                event = "held-up" if is_held_up else "held-up-ended"
                reason = (
                    f"a socket or file of app '{app.name}' keeps the thread waiting that asks the kernel about them"
                )
                self._gate.log.event(event, app=app.name, reason=reason if is_held_up else None)

    # --- the configuration, and the end -------------------------------------------------------------------------------

    def follow(self) -> None:
        """Deal so with what was opened by apps that were trusted, and are no more."""
        for lease in self._gate.registry.leases.values():
            if lease.side is None and type(lease.sock) is native and not lease.process.app.settings.trusted:
                self._gate.unwatch(lease)  # which goes by the number
                before = lease.sock
                state = meter.SYN_SENT if lease.state == life.DIALLED else meter.ESTABLISHED
                counted = lease.noted_sent + lease.before[0], lease.noted_received + lease.before[1]
                lease.sock = self.take(os.dup(before.fileno()), lease.family, lease.process.app, state, counted)
                before.close()
                if lease.state == life.DIALLED:
                    self._gate.settle_later(lease)

    def stop(self) -> None:
        """Read every meter for the last time, but for :data:`LAST` seconds at most. The loop has stopped."""
        loop = self._gate.loop
        waits: list[asyncio.Future[Any]] = []
        by_app: dict[App, list[Aside]] = {}
        for lease in self._gate.registry.leases.values():
            if isinstance(lease.sock, Aside):
                by_app.setdefault(lease.process.app, []).append(lease.sock)
        for app, some in by_app.items():
            asked = _Asked(loop, partial(_look_at, some), None)
            app.closer.put(asked, hurry=True)
            waits.append(asked.answer)
        if waits:
            loop.run_until_complete(asyncio.wait(waits, timeout=LAST))


class _Asked:
    """A function that a thread is to run, and somebody on the loop waits for."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, job: Callable[[], Any], undo: Callable[[], object] | None
    ) -> None:
        self._loop, self._job, self._undo = loop, job, undo
        #: What it has returned, in a list; ``None`` if nobody waits any more.
        self.answer: asyncio.Future[list[Any] | None] = loop.create_future()
        self._deciding = threading.Lock()
        self._is_done = self._is_given_up = False

    def __call__(self) -> None:
        """Run it, unless nobody waits for it any more; if so by then, undo it."""
        if not self._is_wanted():
            return
        result = self._job()
        with self._deciding:
            self._is_done = True
        if self._is_wanted():
            call_on(self._loop, self._tell, [result])
        elif self._undo is not None:
            self._undo()

    def _is_wanted(self) -> bool:
        return not self._is_given_up

    def give_up(self) -> bool:
        """Wait no more, unless the answer is on its way; tell whether nobody waits now."""
        with self._deciding:
            self._is_given_up = not self._is_done
        if self._is_given_up:
            self._tell(None)
        return self._is_given_up

    def _tell(self, result: list[Any] | None) -> None:
        if not self.answer.done():  # who waited for it may have been cancelled
            self.answer.set_result(result)


def _look_at(socks: Iterable[Aside]) -> None:
    for sock in socks:
        sock.look()


def _reset(sock: native) -> None:
    with contextlib.suppress(OSError):  # gone by itself
        cut.reset(sock)
