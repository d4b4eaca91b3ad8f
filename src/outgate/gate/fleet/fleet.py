"""The fleet as one gate has it: certificates, the door for other gates, and the sockets that are with or of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import time
from _socket import AF_UNIX, SOCK_STREAM, socketpair
from _socket import socket as native
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from outgate.core.fleet import heads, names
from outgate.errors import ConfigError, ProtocolError
from outgate.gate.configuration.settings import FleetSettings, Settings
from outgate.gate.fleet import asking, redeeming
from outgate.gate.fleet.alone import NoFleet
from outgate.gate.fleet.arriving import Arrival
from outgate.gate.fleet.ends import Ends
from outgate.gate.fleet.folder import Folder, check
from outgate.gate.fleet.guest import Guest
from outgate.gate.fleet.link import Link
from outgate.gate.fleet.visit import Visit
from outgate.gate.kernel import holders

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.registry import Process
    from outgate.gate.server import Gate
    from outgate.gate.travel.sharing import Loan

#: Connections from other gates that have not shown who they are, at one time.
_MOST_STRANGERS = 64
#: Seconds that a TLS handshake may take.
HANDSHAKE = 5.0
#: Seconds between looks whether a certificate is due, or has been renewed by a command.
_CERTIFICATES = 60.0
#: Seconds between looks at sockets that have been handed over.
_IDLE = 5.0
_BACKLOG = 256


class Door:
    """What a gate needs of its fleet before it can serve; its listener is made before there is a seal, and has none.

    :raises ConfigError: there is no certificate, it is another gate's or has expired, or it cannot listen there.
    """

    def __init__(self, settings: FleetSettings, state: str) -> None:
        self.settings = settings
        self.folder = Folder(state)
        check(self.folder.own(), settings.name, time.time())
        self.version = self.folder.version
        self.server = self.folder.context(is_server=True)
        self.client = self.folder.context(is_server=False)
        self.listener = _listen(names.place(settings.listen))


def door(settings: Settings) -> Door | None:
    """Return what the gate needs of its fleet, ``None`` where it is alone. Raises ``ConfigError``."""
    if settings.fleet is None:
        return None
    return Door(settings.fleet, settings.gate.state)


def _listen(place: names.Place) -> socket.socket:
    try:
        family, kind, proto, _, address = socket.getaddrinfo(*place, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The gate that takes this one's place listens before this one has ended; both have the same user.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as e:
        raise ConfigError(f"fleet.listen: cannot listen at {place}: {e.strerror or e}") from None
    listener.setblocking(False)
    return listener


class Fleet(NoFleet):
    """A gate's part in its fleet; there is one only where the configuration has ``[fleet]``.

    :ivar guests: sockets of other gates that programs here have, by their ids.
    :ivar visits: sockets of this gate that programs of other gates have.
    :ivar inner: the gate's own handlers.
    """

    def __init__(self, gate: Gate, door: Door) -> None:
        self.gate = gate
        self.folder = door.folder
        self.guests: dict[int, Guest] = {}
        self.visits: set[Visit] = set()
        self.inner = gate.handlers
        #: For files, look-ups and other gates that take their time.
        self.threads = ThreadPoolExecutor(2, thread_name_prefix="fleet")
        self._door = door
        self._ends = Ends(gate.loop)
        self._ahead: dict[Loan, bytes] = {}
        self._strangers = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        gate.sharing.fleet_name = door.settings.name
        gate.handlers = redeeming.handlers(self, gate.handlers)
        gate.one_way = redeeming.one_way(self, gate.one_way)
        gate.loop.add_reader(door.listener.fileno(), self._on_connection)
        self._every(_CERTIFICATES, self._look_at_certificates)
        self._every(_IDLE, self._look_for_holders)

    @property
    def settings(self) -> FleetSettings:
        """What the configuration in force says."""
        return self.gate.settings.fleet or self._door.settings

    # --- the door -----------------------------------------------------------------------------------------------------

    def _on_connection(self) -> None:
        for _ in range(16):
            try:
                sock, _address = self._door.listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as e:
                self.gate.log.event("accept-failed", reason=str(e))
                self.gate.loop.remove_reader(self._door.listener.fileno())
                self._timers["accept"] = self.gate.loop.call_later(0.1, self._accept_again)
                return
            if self._strangers >= _MOST_STRANGERS:
                sock.close()
                continue
            self._strangers += 1
            self._start(self._receive(sock))

    def _accept_again(self) -> None:
        self.gate.loop.add_reader(self._door.listener.fileno(), self._on_connection)

    async def _receive(self, sock: socket.socket) -> None:
        _prepare(sock)
        try:
            await self.gate.loop.connect_accepted_socket(
                lambda: Arrival(self).link, sock, ssl=self._door.server, ssl_handshake_timeout=HANDSHAKE
            )
        except (TimeoutError, OSError) as e:  # ssl.SSLError, too
            why = getattr(e, "verify_message", "") or getattr(e, "reason", None) or e.strerror or type(e).__name__
            self.gate.log.event("fleet-refused", gate="", reason=str(why))
            sock.close()
        finally:
            self._strangers -= 1

    async def connect(self, name: str, place: names.Place, link: Link) -> None:
        """Open a link to another gate, and hold it to its name.

        :raises OSError: it cannot be reached, or is not that gate.
        """
        loop = self.gate.loop
        near = names.place(self.settings.proxy) if self.settings.proxy else place
        found = await loop.getaddrinfo(*near, type=socket.SOCK_STREAM)
        sock = await self._dial(found)
        try:
            _prepare(sock)
            if self.settings.proxy:
                await self._tunnel(sock, place)
            await loop.create_connection(
                lambda: link,
                sock=sock,
                ssl=self._door.client,
                server_hostname=names.host_of(name),
                ssl_handshake_timeout=HANDSHAKE,
            )
        except BaseException:
            sock.close()
            raise

    async def _dial(self, found: list[Any]) -> socket.socket:
        failure: OSError = OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        for family, kind, proto, _, address in found:
            sock = socket.socket(family, kind, proto)
            sock.setblocking(False)
            try:
                await self.gate.loop.sock_connect(sock, address)
            except OSError as e:
                sock.close()
                failure = e
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure

    async def _tunnel(self, sock: socket.socket, place: names.Place) -> None:
        """Have the proxy connect us (RFC 9110 §9.3.6)."""
        loop = self.gate.loop
        await loop.sock_sendall(sock, heads.tunnel(str(place)))
        head = b""
        while heads.END not in head:
            # A byte more than the head would be TLS's: so none of it is taken.
            piece = await loop.sock_recv(sock, 1)
            if not piece or len(head) > heads.MOST:
                raise ProtocolError("the proxy does not answer as one")
            head += piece
        answer = heads.read_answer(head.removesuffix(heads.END))
        if answer.status != 200:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"the proxy refuses with status {answer.status}")

    async def connect_here(self, link: Link) -> Link:
        """Open a link to this very gate, and return its other side."""
        one, other = socketpair(AF_UNIX, SOCK_STREAM)
        far = Link()
        loop = self.gate.loop
        await loop.create_connection(lambda: link, sock=_plain(one))
        await loop.connect_accepted_socket(lambda: far, _plain(other))
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

    def add_visit(self, sock: native, link: Link, process: Process, loan: Loan, serial: int, ahead: bytes) -> Visit:
        """Enter a program of another gate that has one of our sockets."""
        visit = Visit(self.gate, self._ends, sock, link, process, loan, serial, ahead, self._visit_left)
        if not visit.is_over:
            self.visits.add(visit)
        return visit

    def _visit_left(self, visit: Visit) -> None:
        self.visits.discard(visit)

    async def recalled(self, loan: Loan) -> bytes:
        """Have a connection back from programs elsewhere that have passed it on; return what none of them has read."""
        ahead = self._ahead.pop(loan, b"")
        for visit in [each for each in self.visits if each.loan is loan and each.shared]:
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
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self.gate.loop.call_soon_threadsafe(_finish, unheld)

    def _look_at_certificates(self) -> None:
        self._start(self._renew())

    async def _renew(self) -> None:
        """Take another certificate when it is due, and have links from now on show the newest there is."""
        log = self.gate.log
        try:
            fresh = await self.gate.loop.run_in_executor(self.threads, self._renewed)
        except (ConfigError, OSError) as e:
            log.event("fleet-certificate", gate=self.settings.name, reason=str(e))
            return
        if fresh is not None:
            self._door.version, self._door.server, self._door.client, ends = fresh
            log.event("fleet-certificate", gate=self.settings.name, ends=int(ends))

    def _renewed(self) -> tuple[tuple[int, int], ssl.SSLContext, ssl.SSLContext, float] | None:
        name = self._door.settings.name
        why = ""
        if asking.is_due(self.folder, time.time()):
            try:
                asking.rotate(self.folder, name, self.settings.proxy)
            except ConfigError as e:
                why = str(e)
        version = self.folder.version
        if version == self._door.version:
            if why:
                raise ConfigError(why)
            return None
        own = self.folder.own()
        check(own, name, time.time())
        return version, self.folder.context(is_server=True), self.folder.context(is_server=False), own.ends

    # --- its end ------------------------------------------------------------------------------------------------------

    def end_all(self) -> None:
        """End every link: what programs elsewhere have of ours, and what programs here have of theirs."""
        for visit in list(self.visits):
            visit.leave()
        for guest in list(self.guests.values()):
            guest.lost("this gate ends")

    def stop(self) -> None:
        """Leave the fleet, as far as this process goes; the loop has stopped."""
        for timer in self._timers.values():
            timer.cancel()
        self.gate.loop.remove_reader(self._door.listener.fileno())
        self._door.listener.close()
        self.end_all()
        for task in self._tasks:
            task.cancel()
        self._ends.stop()
        self.threads.shutdown(wait=False, cancel_futures=True)

    def _start(self, work: Any) -> None:
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


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    with contextlib.suppress(OSError):  # a Unix socket has no Nagle
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _plain(sock: native) -> socket.socket:
    """Return the same socket as one of the socket module's, as the loop wants it."""
    made = socket.socket(fileno=sock.detach())
    made.setblocking(False)
    return made
