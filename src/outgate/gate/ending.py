"""End leases: a last reading of the meter, the line in the log, the close; and wait where somebody else still holds.

A lease ends when its holder says so. Where another process may hold the socket as well (a fork, a spawned child, a
program that ended without a word), the gate looks first, keeps its duplicate and the meter running as long as
somebody does, and looks again when a holder ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from _socket import SHUT_RDWR
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from outgate.core import lease as life
from outgate.gate.kernel import cut, holders, meter
from outgate.gate.kernel.aside import Aside
from outgate.gate.onloop import call_on
from outgate.gate.registry import App, Lease, Process
from outgate.gate.relay.relaying import reading
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.fleet.guest import Guest
    from outgate.gate.server import Gate

#: Seconds between looks at sockets that others hold: they may close without ending, and nobody tells us.
LOOK_AGAIN = 1.0
#: Seconds that a look for which nobody waits is put off, so that it is one for all that is closed in a row; and what
#: share of the time such looks may take, as long as none is put off for longer: each goes through all processes of the
#: host, and in the meantime what is closed is open here.
_SOON, _SHARE, _LATEST = 0.001, 0.1, 0.1
#: How many sockets are remembered that were taken from programs.
REMEMBERED = 10_000
_NOT_TAKEN: tuple[str, int, Reply] = ("", 0, {})
#: Leases ended in one turn of the loop, at some 12 µs each.
SLICE = 100


class Ending:
    """What is on its way out."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        #: App of sockets that were taken from programs lately, the dial it was, and why, for who asks.
        self._taken: dict[int, tuple[str, int, Reply]] = {}
        #: Let go by their opener, perhaps held by others.
        self._held: dict[int, Lease] = {}
        #: Whom to tell once it is known whether anybody else holds.
        self._waiting: dict[int, Callable[[], None]] = {}
        #: Being ended, or cut, aside; of the first how many of them count as open.
        self._aside: dict[int, int] = {}
        self._cutting: set[int] = set()
        self._pidfds: dict[int, int] = {}
        self._looking = False
        #: When the look began (monotonic seconds): it knows nothing of what has come to a process since.
        self._began = 0.0
        self._again = False
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.TimerHandle | None = None
        #: Until when another look would take too much of the time.
        self._rest = 0.0

    def end(self, lease: Lease, how: str, closed: Callable[[], None] | None = None) -> None:
        """End a lease that nobody else holds: read its meter, log it, close it on the closer thread of its app.

        One whose meter only that thread may read stays as it is until it has.

        :param how: why, for the log.
        :param closed: called on the loop when the socket is closed.
        """
        if not isinstance(lease.sock, Aside):
            self._end(lease, how, closed)
            return
        if closed is not None:
            self._wait(lease, closed)
        if lease.id not in self._aside:
            self._aside[lease.id] = opened = int(lease.decision is not None)
            lease.process.app.ending += opened
            self._held.pop(lease.id, None)
            self._gate.aside.first(lease, self._end_aside, lease, how)

    def _end_aside(self, lease: Lease, how: str) -> None:
        lease.process.app.ending -= self._aside.pop(lease.id, 0)
        if lease.state != life.ENDED:  # the gate's end was quicker
            self._end(lease, how, None)

    def _end(self, lease: Lease, how: str, closed: Callable[[], None] | None) -> None:
        gate = self._gate
        gate.unwatch(lease)
        last = self._final(lease)
        gate.log_end(lease, last, how)
        lease.see(life.END)
        self._held.pop(lease.id, None)
        gate.sharing.forget(lease)
        gate.waits.forget(lease.id)
        gate.registry.remove(lease)
        closer = lease.process.app.closer
        if lease.side is not None:
            lease.side.relayed.close(how)
        if lease.process.door:
            lease.sock.close()  # here: nobody else has it, or has set it to linger
        else:
            closer.put(lease.sock)
        for waits in (closed, self._waiting.pop(lease.id, None)):
            if waits is not None:
                self.when_closed(lease.process.app, waits)
        gate.reception.released()

    def cut(self, lease: Lease, how: str, why: Reply | None = None) -> None:
        """Reset a connection both ways: the program gets ECONNRESET, never a clean end of file inside a transfer.

        :param how: why, for the log.
        :param why: the refusal that the program's next call of ours gets.
        """
        if why is not None:
            self.remember(lease, lease.number, why)
        if lease.side is not None:
            lease.side.relayed.cut(how)
            return
        gate = self._gate
        gate.unwatch(lease)
        if isinstance(lease.sock, Aside):
            if lease.id not in self._cutting:
                self._cutting.add(lease.id)
                gate.aside.reset(lease, self._cut, lease, how)
            return
        gate.log_end(lease, self._final(lease), how)
        with contextlib.suppress(OSError):  # gone by itself
            cut.reset(lease.sock)
        self._is_cut(lease)

    def _cut(self, lease: Lease, how: str) -> None:
        self._cutting.discard(lease.id)
        if lease.state != life.ENDED:
            self._gate.log_end(lease, self._final(lease), how)
            self._is_cut(lease)

    def _is_cut(self, lease: Lease) -> None:
        if lease.state != life.FAILED:  # its dial had failed by itself
            lease.see(life.RESET)

    def reclaim(self, item: Lease | Datagrams, idle: float) -> None:
        """Take an idle socket from whoever holds it: what has come is still read, then an end of file, then EPIPE.

        :param idle: for how many seconds nothing has moved or been done.
        """
        self.remember(item, 0, refusal("lease-idle", idle=idle))
        if not isinstance(item, Lease):
            item.end("idle")
            return
        if item.side is not None:
            item.side.relayed.close("idle")
            return
        with contextlib.suppress(OSError):  # reset meanwhile
            item.sock.shutdown(SHUT_RDWR)
        self.end(item, "idle")

    def missing(self, process: Process, id: int) -> Reply:
        """Return the refusal of a request about a socket that is not the process's, or not any more."""
        if self._gate.sharing.fences.keep_out(process, id):
            return refusal("taken")
        return self.why_taken(process, id) or refusal("unknown-descriptor")

    def why_taken(self, process: Process, id: int) -> Reply | None:
        """Return the refusal that tells why a socket was taken from a process's app, if it was."""
        app, _, why = self._taken.get(id, _NOT_TAKEN)
        return why if app == process.app.name else None

    def was_cut(self, lease: Lease) -> Reply | None:
        """Return the refusal that tells why a connection was cut which the program still holds, if it was."""
        app, number, why = self._taken.get(lease.id, _NOT_TAKEN)
        is_this = lease.state == life.FAILED and number == lease.number and app == lease.process.app.name
        return why if is_this else None

    def remember(self, item: Lease | Datagrams | Guest, number: int, why: Reply) -> None:
        """Keep why a socket was taken from who has it, for their next request about it.

        :param number: which dial of it that was.
        """
        self._taken[item.id] = (item.process.app.name, number, why)
        while len(self._taken) > REMEMBERED:
            del self._taken[next(iter(self._taken))]

    def when_closed(self, app: App, tell: Callable[[], None]) -> None:
        """Call ``tell`` on the loop when everything of the app that waits for its close is closed."""
        app.closer.put(partial(call_on, self._gate.loop, tell), hurry=True)

    def tell(self, lease: Lease, closed: Callable[[], None] | None) -> None:
        """Call ``closed`` on the loop when a lease that ends by itself has ended and its socket is closed."""
        if closed is not None:
            self._wait(lease, closed)

    def _wait(self, lease: Lease, tell: Callable[[], None]) -> None:
        earlier = self._waiting.get(lease.id)
        self._waiting[lease.id] = tell if earlier is None else partial(_both, earlier, tell)

    def is_let_go(self, lease: Lease) -> bool:
        """Tell whether its opener has let go of it, and somebody else is known or thought to hold it."""
        return lease.id in self._held or lease.id in self._aside

    def look(self, leases: Iterable[Lease], known: Callable[[], None] | None = None) -> None:
        """End these leases unless another process holds them; then keep them until it does no more.

        :param known: called on the loop once each is either closed or known to be held.
        """
        for lease in leases:
            if lease.side is not None:  # its end is seen where its bytes are carried
                if known is not None:
                    call_on(self._gate.loop, known)
                continue
            if lease.id not in self._aside:
                self._held.setdefault(lease.id, lease)
            if known is not None:
                self._wait(lease, known)
        if known is not None:
            self.look_now()
        else:
            self._look_soon()

    def _look_soon(self) -> None:
        """Look when some more may have come together: nobody waits for it."""
        if self._soon is None and self._held:
            pause = max(_SOON, self._rest - time.monotonic())
            self._soon = self._gate.loop.call_later(pause, self._on_soon)

    def _on_soon(self) -> None:
        self._soon = None
        self.look_now()

    def taken_back(self, process: Process) -> None:
        """A process that had lost its channels has new ones: it will say itself when it closes."""
        for id in process.leases:
            self._held.pop(id, None)

    def look_now(self) -> None:
        """Look at once: something has changed that may have been the last holder's end."""
        if not self._held:
            return
        if self._looking:
            self._again = True
            return
        self._looking = True
        self._began = time.monotonic()
        owners = {lease.inode: lease.process.uid for lease in self._held.values()}
        loop = self._gate.loop

        def find() -> None:
            found = holders.find(owners.keys(), owners=owners)
            call_on(loop, self._found, found)

        self._gate.looker.put(find, hurry=True)

    def _found(self, found: dict[int, set[int]]) -> None:
        seen = [lease for lease in self._held.values() if lease.inode in found]  # the others came after the look began
        self._sift(iter(seen), found, set())

    def _sift(self, leases: Iterator[Lease], found: dict[int, set[int]], pids: set[int]) -> None:
        """End what nobody holds, a slice at a time: thousands of leases may have lost their process at once."""
        slice_ = list(itertools.islice(leases, SLICE))
        for lease in slice_:
            holding = found[lease.inode]
            if lease.id in self._aside:  # it tells who waits itself
                continue
            if lease.id not in self._held:  # ended, or taken back, since
                if lease.id in self._waiting:
                    self._waiting.pop(lease.id)()
                continue
            if not holding and not self._gate.sharing.is_unclear(lease, self._began):
                if self._gate.sharing.keeps(lease):
                    del self._held[lease.id]  # parked: it comes back when it is redeemed
                    if lease.id in self._waiting:
                        self._waiting.pop(lease.id)()
                else:
                    self.end(lease, "closed" if lease.process.channels else "process-ended")
                continue
            pids |= holding
            if lease.id in self._waiting:
                self._waiting.pop(lease.id)()
        if slice_:
            self._gate.loop.call_soon(self._sift, leases, found, pids)
            return
        self._looking = False
        now = time.monotonic()
        self._rest = now + min((now - self._began) / _SHARE, _LATEST)
        self._watch(pids)
        if self._again:
            self._again = False
            if self._waiting:
                self.look_now()
            else:
                self._look_soon()
        elif self._held and self._timer is None:
            self._timer = self._gate.loop.call_later(LOOK_AGAIN, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.look_now()

    def _watch(self, pids: set[int]) -> None:
        loop = self._gate.loop
        for pid in list(self._pidfds):
            if pid not in pids:
                self._unwatch(pid)
        for pid in pids - self._pidfds.keys():
            try:
                fd = os.pidfd_open(pid)
            except OSError:
                self._again = True  # ended since
                continue
            self._pidfds[pid] = fd
            loop.add_reader(fd, self._holder_ended, pid)

    def _unwatch(self, pid: int) -> None:
        fd = self._pidfds.pop(pid)
        self._gate.loop.remove_reader(fd)
        os.close(fd)

    def _holder_ended(self, pid: int) -> None:
        self._unwatch(pid)
        self.look_now()

    def _final(self, lease: Lease) -> meter.Reading:
        if lease.side is not None:
            return reading(lease.side)
        try:
            if lease.state == life.DIALLED and not lease.via:  # by a proxy it is not where it was to go
                self._gate.settle(lease)  # how its dial has ended may not have been seen yet
            return lease.own(meter.read(lease.sock))
        except OSError:
            return meter.Reading(meter.CLOSE, 0, 0)

    def stop(self) -> None:
        """End everything that is held: the gate goes, and the kernel keeps what programs still have."""
        for timer in (self._timer, self._soon):
            if timer is not None:
                timer.cancel()
        for pid in list(self._pidfds):
            self._unwatch(pid)
        self._held.clear()
        registry = self._gate.registry
        for lease in list(registry.leases.values()):
            self._gate.unwatch(lease)
            if not self._gate.keeping.leaves(lease):
                is_ours = lease.side is not None or lease.process.channels
                self._gate.log_end(lease, self._final(lease), "gate-ended" if is_ours else "process-ended")
            lease.see(life.END)
            registry.remove(lease)
            if lease.side is not None:
                lease.side.relayed.cut("gate-ended")  # a clean end would look like a success to the peer
            lease.sock.close()  # not the last close, so it cannot wait, and the program's linger is left alone


def _both(one: Callable[[], None], other: Callable[[], None]) -> None:
    one()
    other()


def milliseconds_since(begun: float) -> float:
    """Return the time since ``begun`` (monotonic seconds) in milliseconds, to the microsecond."""
    return int((time.monotonic() - begun) * 1e6 + 0.5) / 1000
