"""The fleet as one gate has it: certificates, the door for other gates, and the sockets that are with or of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import weakref
from _socket import AF_UNIX, SOCK_STREAM
from _socket import socket as native
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from outgate.core.fleet import names
from outgate.errors import ConfigError
from outgate.gate.configuration.settings import FleetSettings, Settings
from outgate.gate.fleet import reaching, redeeming
from outgate.gate.fleet.alone import NoFleet
from outgate.gate.fleet.arriving import Arrival
from outgate.gate.fleet.ends import Ends
from outgate.gate.fleet.folder import Folder
from outgate.gate.fleet.guest import Guest
from outgate.gate.fleet.line import Line, Secure, words
from outgate.gate.fleet.link import Link
from outgate.gate.fleet.renewal import Renewal, shown
from outgate.gate.fleet.visit import Visit
from outgate.gate.kernel import holders
from outgate.gate.onloop import call_on

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.registry import Process
    from outgate.gate.server import Gate
    from outgate.gate.travel.sharing import Loan

#: Connections from other gates that have not shown who they are, at one time.
_MOST_STRANGERS = 64
#: Seconds that a TLS handshake may take.
HANDSHAKE = 5.0
#: Seconds between looks at sockets that have been handed over.
_IDLE = 5.0
#: Connections that may wait to be accepted, and that are accepted in one turn of the loop.
_BACKLOG = 256
_BATCH = 16
#: Seconds until they are accepted again where that has failed: there may be no descriptor left.
_PAUSE = 0.1


class Door:
    """What a gate needs of its fleet before it can serve; its listener is made before there is a seal, and has none.

    :raises ConfigError: there is no certificate, it is another gate's or has expired, or it cannot listen there.
    """

    def __init__(self, settings: FleetSettings, state: str) -> None:
        self.settings = settings
        self.folder = Folder(state)
        self.shown = shown(self.folder, settings.name, time.time())
        self.listener = _listen(names.place(settings.listen))


def door(settings: Settings) -> Door | None:
    """Return what the gate needs of its fleet, ``None`` where it is alone. Raises ``ConfigError``."""
    if settings.fleet is None:
        return None
    return Door(settings.fleet, settings.gate.state)


def _listen(place: names.Place) -> socket.socket:
    with contextlib.ExitStack() as stack:
        try:
            found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, proto, _, address = found[0]
            listener = stack.enter_context(socket.socket(family, kind, proto))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # The gate that takes this one's place listens before this one has ended; both have the same user.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as e:
            raise ConfigError(f"fleet.listen: cannot listen at {place}: {e.strerror or e}") from None
        listener.setblocking(False)
        stack.pop_all()
    return listener


class Fleet(NoFleet):
    """A gate's part in its fleet; there is one only where the configuration has ``[fleet]``.

    :ivar inner: the gate's own handlers.
    :ivar threads: for files, look-ups and other gates that take their time.
    """

    guests: dict[int, Guest]
    visits: dict[int, list[Visit]]

    def __init__(self, gate: Gate, door: Door) -> None:
        super().__init__()
        self.gate = gate
        self.folder = door.folder
        self.inner = gate.handlers
        self.threads = ThreadPoolExecutor(2, thread_name_prefix="fleet")
        self._door = door
        self._ends = Ends(gate.loop)
        #: What was taken out of connections for programs elsewhere, and has no reader yet.
        self._ahead: dict[Loan, bytes] = {}
        self._strangers = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        gate.sharing.fleet_name = door.settings.name
        gate.handlers = redeeming.handlers(self, gate.handlers)
        gate.one_way = redeeming.one_way(self, gate.one_way)
        gate.loop.add_reader(door.listener.fileno(), self._on_connection)
        self.renewal = Renewal(self, door.shown)
        self._every(_IDLE, self._look_for_holders)

    @property
    def settings(self) -> FleetSettings:
        """What the configuration in force says."""
        return self.gate.settings.fleet or self._door.settings

    @property
    def ends(self) -> float:
        """Until when this gate's certificate is good (Unix seconds)."""
        return self.renewal.shown.ends

    @property
    def trouble(self) -> str:
        """Why the next one could not be had, "" where all is well."""
        return self.renewal.trouble

    # --- the door -----------------------------------------------------------------------------------------------------

    def _on_connection(self) -> None:
        for _ in range(_BATCH):
            try:
                sock, _address = self._door.listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as e:
                self.gate.log.event("accept-failed", reason=str(e))
                self.gate.loop.remove_reader(self._door.listener.fileno())
                self._timers["accept"] = self.gate.loop.call_later(_PAUSE, self._accept_again)
                return
            if self._strangers >= _MOST_STRANGERS:
                sock.close()
                continue
            self._strangers += 1
            self.start(self._receive(sock))

    def _accept_again(self) -> None:
        self.gate.loop.add_reader(self._door.listener.fileno(), self._on_connection)

    async def _receive(self, sock: socket.socket) -> None:
        reaching.prepare(sock)
        line = Secure(self._ends, sock, self.renewal.shown.server)
        try:
            await line.shake(HANDSHAKE)
        except OSError as e:  # ssl.SSLError, too
            self.gate.log.event("fleet-refused", gate="", reason=words(e))
        else:
            link = Arrival(self).link
            self._links.add(link)
            line.begin(link)
        finally:
            self._strangers -= 1

    async def connect(self, name: str, place: names.Place, link: Link) -> None:
        """Open a link to another gate, and hold it to its name.

        :raises OSError: it cannot be reached, or is not that gate.
        """
        sock = await reaching.reach(self.gate.loop, place, self.settings.proxy)
        line = Secure(self._ends, sock, self.renewal.shown.client, names.host_of(name))
        await line.shake(HANDSHAKE)
        line.begin(link)

    def connect_here(self, link: Link) -> Link:
        """Open a link to this very gate, and return its other side."""
        far = Link()
        for each, sock in zip((link, far), socket.socketpair(AF_UNIX, SOCK_STREAM), strict=True):
            Line(self._ends, sock).begin(each)
        return far

    # --- sockets on their way -----------------------------------------------------------------------------------------

    def find(self, process: Process, id: int) -> Guest | None:
        """Return a socket of another gate's that this process has."""
        guest = self.guests.get(id)
        return guest if guest is not None and guest.may_use(process) else None

    def add_guest(
        self, link: Link, process: Process, owner: str, text: str, facts: dict[str, Any], channel: Channel
    ) -> Guest:
        """Enter a socket of another gate's.

        :param channel: that brings it to its program.
        :raises OSError: there is no fd left.
        """
        guest = Guest(self.gate, self._ends, link, process, owner, text, facts, self._guest_left)
        self.guests[guest.id] = guest
        self.gate.underway.watch(channel, process, guest, guest.arrived)
        return guest

    def _guest_left(self, guest: Guest) -> None:
        self.guests.pop(guest.id, None)

    def add_visit(
        self, sock: native, link: Link, process: Process, at: str, loan: Loan, serial: int, ahead: bytes
    ) -> Visit:
        """Enter a program of another gate that has one of our sockets.

        :param at: that gate.
        """
        visit = Visit(self.gate, self._ends, sock, link, process, at, loan, serial, ahead, self._visit_left)
        if not visit.is_over:
            self.visits.setdefault(visit.lease.id, []).append(visit)
        return visit

    def _visit_left(self, visit: Visit) -> None:
        left = [each for each in self.visits.pop(visit.lease.id, ()) if each is not visit]
        if left:
            self.visits[visit.lease.id] = left

    async def recalled(self, loan: Loan) -> bytes:
        """Have a connection back from programs elsewhere that have passed it on; return what none of them has read."""
        ahead = self._ahead.pop(loan, b"")
        for visit in [each for each in self.visits.get(loan.item.id, ()) if each.shared]:
            with contextlib.suppress(TimeoutError):  # gone: whether that leaves a hole is the visit's to know
                ahead += await visit.recall()
        return ahead

    def put_back(self, loan: Loan, ahead: bytes) -> None:
        """Keep bytes that have been taken out of a connection for who redeems it next."""
        if ahead and self.gate.sharing.loans.get(loan.item.id) is loan:
            self._ahead[loan] = ahead

    # --- now and then -------------------------------------------------------------------------------------------------

    def _every(self, seconds: float, look: Callable[[], None]) -> None:
        def again() -> None:
            try:
                look()
            finally:
                self._timers[look.__name__] = self.gate.loop.call_later(seconds, again)

        self._timers[look.__name__] = self.gate.loop.call_later(seconds, again)

    def _look_for_holders(self) -> None:
        """End what a program has passed on, nobody has any more, and nothing has happened on for long enough."""
        for loan in [each for each in self._ahead if self.gate.sharing.loans.get(each.item.id) is not each]:
            del self._ahead[loan]
        now = time.monotonic()
        idle = {
            guest.inode: guest
            for guest in self.guests.values()
            if guest.handed is not None and now - guest.active >= guest.process.app.settings.idle_timeout
        }
        if idle:
            self.gate.looker.put(partial(self._find_holders, idle))

    def _find_holders(self, idle: dict[int, Guest]) -> None:
        owners = {inode: guest.process.uid for inode, guest in idle.items()}
        found = holders.find(idle.keys(), owners=owners)
        unheld = [guest for inode, guest in idle.items() if not found[inode]]
        call_on(self.gate.loop, _finish, unheld)

    # --- its end ------------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """End links with gates that are listed no more: who has left gets nothing, and is asked nothing."""
        listed = {*self.settings.gates, self.settings.name, ""}
        for visit in [each for visits in self.visits.values() for each in visits if each.at not in listed]:
            visit.dismiss()
        for guest in [each for each in self.guests.values() if each.owner not in listed]:
            guest.lost("fleet.gates does not list it any more")

    def end_all(self) -> None:
        """End every link: what programs elsewhere have of ours, and what programs here have of theirs."""
        for visit in [each for visits in self.visits.values() for each in visits]:
            visit.leave()
        for guest in list(self.guests.values()):
            guest.lost("this gate ends")

    def stop(self) -> None:
        """Leave the fleet, as far as this process goes; the loop has stopped."""
        self.renewal.stop()
        for timer in self._timers.values():
            timer.cancel()
        self.gate.loop.remove_reader(self._door.listener.fileno())
        self._door.listener.close()
        self.end_all()
        for link in list(self._links):
            link.abort()
        for task in self._tasks:
            task.cancel()
        self.gate.loop.run_until_complete(self._ended_all())
        self._ends.stop()
        self.threads.shutdown(wait=False, cancel_futures=True)

    async def _ended_all(self) -> None:
        """Let what was cancelled, and connections that were aborted, come to their end."""
        await asyncio.sleep(0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something as a task that ends with the fleet."""
        task = self.gate.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.gate.fault(error, self)


def _finish(guests: list[Guest]) -> None:
    for guest in guests:
        guest.give_up()
