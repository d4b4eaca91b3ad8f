"""Serve one client of a door until its connection leads somewhere: read, judge, dial, answer.

:meth:`Handshake._go_on` is the one to read first. What the bytes mean is decided by :mod:`outgate.core.doors`; who may
go where by the very handlers that answer programs (:mod:`outgate.gate.asking`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket
import time
from _socket import MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR
from _socket import socket as native
from typing import TYPE_CHECKING, Any, Final

from outgate.core import lease as life
from outgate.core.doors import failures
from outgate.core.doors.failures import Failure
from outgate.core.doors.socks import SocksTalk
from outgate.core.doors.talk import UDP, Login, Refused, Talk, Wanted
from outgate.core.doors.tunnel import TunnelTalk
from outgate.gate import wire
from outgate.gate.asking import ask
from outgate.gate.doors import association
from outgate.gate.doors.listening import LATE, SOCKS5, Door
from outgate.gate.doors.wording import failure_of, is_by_policy
from outgate.gate.judging import may_hold
from outgate.gate.kernel import eager
from outgate.gate.names.resolver import numbers
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate.doors.doors import Doors
    from outgate.gate.registry import App, Lease, Process

__all__ = ["Handshake"]

#: Seconds from a connection to its whole request; for the look-up and all dials; for one dial where there are further
#: addresses; and for a client to take the answer that it is refused.
TALK_LIMIT: Final = 10.0
OPEN_LIMIT: Final = 60.0
DIAL_LIMIT: Final = 10.0
LEAVE_LIMIT: Final = 2.0
#: Bytes of one read, and those that are read and thrown away of a client that was refused.
PIECE: Final = 4096
MOST_IGNORED: Final = 64 * 1024
#: Addresses of one name that are tried.
ADDRESSES: Final = 8
#: Look-ups and dials of one app at the doors at one time.
OPENING: Final = 1024

_SEND: Final = MSG_DONTWAIT | MSG_NOSIGNAL
_TALKING, _OPENING, _LEAVING, _OVER = range(4)
_GONE: Final = select.EPOLLHUP | select.EPOLLERR
_ENDS: Final = select.EPOLLRDHUP | _GONE
#: What a turn counts as, in bytes (:mod:`outgate.gate.relay.relays`): it may be a dial, so that 32 of them are enough
#: before the loop's other work.
_WEIGHT: Final = 128 * 1024


class Handshake:
    """One client in the middle of its handshake.

    :param sock: its connection.
    :param peer: the name of its other end.
    :ivar deadline: when its patience, or ours, ends (monotonic seconds).
    """

    __slots__ = (
        *("_address", "_app", "_doors", "_events", "_gate", "_how", "_ignored", "_lease", "_state", "_talk", "_told"),
        *("active", "deadline", "door", "peer", "queued", "sock"),
    )
    #: It wants no further turn: it does all that there is to do in one.
    is_ready = False

    def __init__(self, doors: Doors, door: Door, sock: native, peer: tuple[Any, ...]) -> None:
        self._doors = doors
        self._gate = doors.gate
        self._talk: Talk = SocksTalk() if door.kind == SOCKS5 else TunnelTalk()
        self._state = _TALKING
        self._app: App | None = None
        self._address: str = peer[0]
        self._lease: Lease | None = None
        #: Set when a dial has ended, or the client has gone, or the time is up.
        self._told: asyncio.Event | None = None
        self._how: str | None = ""
        self._ignored = 0
        self.door = door
        self.sock = sock
        self.peer = peer
        self.active = 0.0
        self.queued = False
        #: What has happened on the connection and is to be seen to.
        self._events = 0
        self.deadline = time.monotonic() + TALK_LIMIT

    def note(self, fd: int, events: int) -> None:
        """Remember what has happened on the connection, for its turn; each is told of once."""
        self._events |= events

    def run(self) -> int:
        """See to what has happened, and return what that counts as."""
        if self._state == _TALKING:
            self.read()
        elif self._state == _LEAVING:
            self._ignore()
        elif self._state == _OPENING and self._events & _GONE:
            self.close()
        return _WEIGHT

    def is_late(self) -> None:
        """End it: its time is up."""
        if self._state == _OPENING:
            self._wake("late")
            return
        if self._state == _TALKING:
            self.door.refusals[LATE] += 1
        self.close()

    def read(self) -> None:
        """Read what the client has said, all of it unless that is more than its request, and do what it asks for."""
        self._events &= _ENDS
        while self._state == _TALKING:
            try:
                data = self.sock.recv(PIECE, MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            is_all = len(data) < PIECE and not self._events
            if not is_all:
                self._events |= select.EPOLLIN  # for whoever reads next
            self._talk.feed(data)
            self._go_on()
            if is_all:
                return

    def _go_on(self) -> None:
        """Do what the client has asked for so far: judge its credentials, then begin what it wants."""
        talk = self._talk
        while True:
            event = talk.next()
            if (talk.out and not self._send()) or event is None:
                return
            if isinstance(event, Refused):
                self._doors.note_refused(self, event.why)
                self._leave()
                return
            if isinstance(event, Login):
                self._app = self._doors.app_of(event)
                if self._app is None:
                    talk.reject()
                    self._doors.note_refused(self, "")
                    if self._send():
                        self._leave()
                    return
                talk.welcome()
            else:
                self._begin(event)
                return

    def _send(self) -> bool:
        """Send what the talk has to say, and tell whether the client has taken it: it is less than any buffer."""
        talk = self._talk
        said, talk.out = talk.out, b""
        try:
            is_taken = self.sock.send(said, _SEND) == len(said)
        except OSError:
            is_taken = False
        if not is_taken:
            self.close()
        return is_taken

    def _leave(self) -> None:
        """Close when the client has: at once, with something of its unread, would be a reset that takes the answer."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(SHUT_WR)
        self._forget()
        self._state = _LEAVING
        self.door.talking[self] = None
        self.deadline = time.monotonic() + LEAVE_LIMIT
        self._ignore()

    def _ignore(self) -> None:
        while self._state == _LEAVING:
            try:
                count = len(self.sock.recv(PIECE, MSG_DONTWAIT))
            except BlockingIOError:
                return
            except OSError:
                count = 0
            self._ignored += count
            if not count or self._ignored > MOST_IGNORED:
                self.close()

    def _forget(self) -> None:
        self.door.talking.pop(self, None)
        if self._doors.opening.pop(self, self) is None and self._app is not None:
            self._doors.opening_of[self._app.name] -= 1

    def close(self) -> None:
        """Close the connection, and let go of what was being opened for it."""
        if self._state == _OVER:
            return
        was_opening = self._state == _OPENING
        self._state = _OVER
        self._forget()
        self._gate.relaying.relays.unwatch(self.sock, self)
        if was_opening:
            self._end_lease()
            self._wake("closed")
        self.sock.close()

    # --- what it wants ------------------------------------------------------------------------------------------------

    def _begin(self, wanted: Wanted) -> None:
        assert self._app is not None, "no talk wants anything before it is welcome"
        gate = self._gate
        self._forget()
        self._state = _OPENING
        self._doors.opening[self] = None
        self._doors.opening_of[self._app.name] += 1
        self.deadline = time.monotonic() + OPEN_LIMIT
        # Nothing is read meanwhile: only whether it goes.
        eager.run(self._carry_out(wanted), gate.loop, gate.tasks)

    async def _carry_out(self, wanted: Wanted) -> None:
        assert self._app is not None
        gate = self._gate
        process = self._doors.process_of(self.door, self._app, self._address)
        failure: Failure | None
        process.channels += 1  # it stays, as long as something is opened for it
        try:
            if self._doors.opening_of[self._app.name] > OPENING:
                failure = Failure(failures.GENERAL, 503, "connection_limit_reached", "too many are being opened")
            elif wanted.what == UDP:
                failure = self._associate(process, wanted)
            else:
                failure = await self._connect(process, wanted)
        except Exception as e:
            gate.fault(e, wanted)
            failure = Failure(failures.GENERAL, 503, "proxy_internal_error", "a fault of the gate's own")
        finally:
            process.channels -= 1
            gate.registry.forget(process)
        if failure is None or self._state != _OPENING:
            return
        self._end_lease()
        self._talk.failed(failure)
        if self._send():
            self._leave()

    async def _connect(self, process: Process, wanted: Wanted) -> Failure | None:
        """Resolve → decide → dial each address in turn, as ``create_connection`` does; ``None``: one has answered."""
        gate, host, port = self._gate, wanted.host, wanted.port
        known = [host] if wanted.family else numbers(host)
        if known:
            targets = [(6 if ":" in each else 4, each, 0, 0) for each in known]
        else:
            reply = await ask(gate, process, wire.Resolve("getaddrinfo", [host, port, 0, int(socket.SOCK_STREAM)]))
            if "answer" not in reply:
                return self._refused(wire.Resolve, reply, host)
            targets = [
                (6 if family == socket.AF_INET6 else 4, address[0], *(address[2:4] or (0, 0)))
                for family, _, _, _, address in reply["answer"]
            ][:ADDRESSES]
        until = self.deadline
        failure: Failure | None = None
        for place, (family, address, flow, scope) in enumerate(targets):
            if self._state != _OPENING:
                return None
            if place + 1 < len(targets):
                self.deadline = min(until, time.monotonic() + DIAL_LIMIT)
            else:
                self.deadline = until
            failure, is_final = await self._dial(process, family, (address, port, flow, scope), "" if known else host)
            if failure is None or is_final or time.monotonic() >= until:
                return failure
        return failure or failures.of_network(errno.EHOSTUNREACH, f"{host} has no address")

    async def _dial(
        self, process: Process, family: int, target: tuple[str, int, int, int], name: str
    ) -> tuple[Failure | None, bool]:
        """Dial one address, and return why it has failed, and whether that holds for others as well."""
        gate = self._gate
        lease = self._lease
        if lease is None or lease.family != family or lease.state == life.ENDED:
            self._end_lease()
            refused = may_hold(gate, process, 1)
            if refused is not None:
                return self._refused(wire.Connect, refused, target[0]), True
            try:
                lease = self._lease = gate.relaying.make_bridge(process, family, self.sock, self._take)
            except OSError as e:
                return failure_of(refusal("gate-sockets", errno=e.errno), target[0]), True
        side = lease.side
        assert side is not None
        self._told, self._how = None, None
        side.told = self._wake
        reply = await ask(gate, process, wire.Connect(lease.id, *target), name)
        where = f"{name or target[0]}:{target[1]}"
        if "error" in reply:
            return self._refused(wire.Connect, reply, where), not is_by_policy(reply)
        if "errno" in reply:
            return failures.of_network(reply["errno"], f"{where}: {os.strerror(reply['errno'])}"), False
        how = await self._dial_ended()
        if self._state != _OPENING:
            return None, True
        if how == "late":
            self._end_lease()
            return failures.late(f"{where}: nobody has answered in time"), False
        if how:
            return failure_of(refusal("cut", by="the gate", why=how), where), True
        number = side.errno or errno.ECONNREFUSED
        return failures.of_network(number, f"{where}: {os.strerror(number)}"), False

    def _refused(self, request: type, reply: Reply, host: str) -> Failure:
        """Count a refusal by the gate, and return it in the words of the doors (:func:`failure_of`)."""
        if "error" in reply and self._app is not None:
            self._gate.counts.refused(self._app.name, request, reply["error"]["code"])
            self.door.refusals[reply["error"]["code"]] += 1
        return failure_of(reply, host)

    async def _dial_ended(self) -> str:
        """Return how a dial has ended, as :meth:`_wake` was told."""
        if self._how is None:
            self._told = asyncio.Event()
            await self._told.wait()
        return self._how or ""

    def _wake(self, how: str) -> None:
        """Note that a dial has ended, and how: "" as its lease says, else what has ended it."""
        if self._how is None:
            self._how = how
            if self._told is not None:
                self._told.set()

    def _take(self, outside: native) -> tuple[bytes, int] | None:
        """Say that it is connected, and let go of the connection, as :data:`outgate.gate.relay.bridge.Take`."""
        if self._state != _OPENING:
            return None
        own: tuple[Any, ...]
        try:
            own = outside.getsockname()
        except OSError:  # reset meanwhile
            own = ("0.0.0.0", 0)
        self._talk.opened(own[0], own[1])
        if not self._send():
            return None
        self.let_go()
        return self._talk.rest, self._events

    def let_go(self) -> None:
        """Have no more to do with the connection: it is somebody else's."""
        self._state = _OVER
        self._forget()
        lease, self._lease = self._lease, None
        if lease is not None and lease.side is not None:
            lease.side.told = None  # else it would keep us as long as it lasts
        self._wake("")

    def _end_lease(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None and lease.state != life.ENDED:
            self._gate.ending.end(lease, "closed")

    def _associate(self, process: Process, wanted: Wanted) -> Failure | None:
        refused = may_hold(self._gate, process, 1) or self._doors.may_associate(process.app)
        if refused is not None:
            return self._refused(wire.New, refused, "")
        try:
            made = association.Association(self._doors, process, self.sock, self._address, wanted.port)
        except OSError as e:
            return failure_of(refusal("gate-sockets", errno=e.errno), "")
        self._talk.opened(*made.address)
        if not self._send():
            made.outer.close()
            return None
        self.let_go()
        self._gate.relaying.relays.unwatch(self.sock, self)
        made.begin()
        return None
