"""Lead dials by proxies: reach the proxy, shake hands, and hand the socket on when it has connected.

The dial of such a lease leads to the proxy. When the kernel has connected it the handshake goes over the same socket,
and only when that is through does the lease become open; until then the program sees a connect that goes on. Exactly
the proxy's own bytes are taken out of the socket: a server may speak first.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
from _socket import MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK, SO_ERROR, SOL_SOCKET
from typing import TYPE_CHECKING, Any

from outgate.core import lease as life
from outgate.core.wayout.handshake import Failed, Handshake
from outgate.errors import describe
from outgate.gate.kernel import cut
from outgate.gate.names.resolver import Resolver
from outgate.gate.replies import Reply, refusal
from outgate.gate.tls.secured import Contexts, Secured, why

if TYPE_CHECKING:
    import ssl

    from outgate.core.wayout.choice import WayOut
    from outgate.gate.registry import Lease, Process
    from outgate.gate.server import Gate

#: Seconds to reach the proxy, and for each of its answers before it is asked to connect.
PATIENCE = 15.0
#: Seconds for its answer to that: it has a dial of its own to wait for, which natively ends after 127 s
#: (net.ipv4.tcp_syn_retries is 6).
FAR_PATIENCE = 130.0
#: Seconds for all of it where the program's connect waits for the gate's answer, which must come within the limit of
#: that request (:data:`outgate.core.formats.messages.LIMITS`), a look-up of the proxy's name included.
HELD_PATIENCE = 25.0
#: Bytes looked at in one step. An answer that is longer takes several.
_LOOK = 4096
_EVENTS = 64


class Passage:
    """The handshake of one lease.

    :ivar address: of the proxy, as the kernel takes it.
    :ivar failure: the refusal that it came to, ``None`` while there is none.
    :ivar over: done when it has ended either way; ``None`` where nobody waits for that.
    :ivar number: why the proxy could not be dialled at all; 0 if it could.
    :ivar sent: bytes of the handshake that went to the proxy.
    :ivar received: those that came.
    :ivar context: whom to trust, where the proxy is spoken to by TLS; else ``None``.
    :ivar secured: the TLS itself, once the proxy has been reached, and until the relay has it.
    :ivar is_secure: whether what is to be said may be said: TLS has been agreed on, or is not wanted.
    """

    __slots__ = (
        *("address", "context", "failure", "fd", "handshake", "has_begun", "is_secure", "number", "over"),
        *("received", "rest", "secured", "sent", "timer", "way"),
    )

    def __init__(
        self, way: WayOut, address: tuple[Any, ...], handshake: Handshake, context: ssl.SSLContext | None = None
    ) -> None:
        self.way = way
        self.address = address
        self.handshake = handshake
        self.context = context
        self.secured: Secured | None = None
        self.is_secure = context is None
        self.failure: Reply | None = None
        self.over: asyncio.Future[None] | None = None
        self.has_begun = False
        self.number = 0
        self.rest = b""
        self.sent = self.received = 0
        self.fd = -1
        self.timer: asyncio.TimerHandle | None = None


class Passages:
    """The handshakes of a gate.

    They wait on an epoll of their own, as dials do (:mod:`outgate.gate.watch`): the program may share the file.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._epoll = select.epoll()
        self._leases: dict[int, Lease] = {}
        self._pending: set[Lease] = set()
        self.contexts = Contexts(gate.loop)
        #: Looks the proxies' names up, which are the operator's.
        self.resolver = Resolver("ways", looked_up=gate.counts.looked_up)
        gate.loop.add_reader(self._epoll.fileno(), self._on_ready)

    # --- the dial -----------------------------------------------------------------------------------------------------

    async def lead(
        self, lease: Lease, process: Process, passage: Passage, number: int, target: tuple[Any, ...], wait: float
    ) -> Reply:
        """Go on with a dial that leads to a proxy, and answer the program's connect.

        Of a relayed socket at once: the program sees that it is connected when the gate begins to carry. One that the
        program itself holds would look connected as soon as the proxy is reached, so the answer waits.

        :param process: that asks.
        :param number: what the dial has come to so far: 0, EINPROGRESS, or why not.
        :param target: what the program believes that it dials.
        :param wait: seconds that the program would wait for a connect.
        """
        lease.passage = passage
        lease.via = passage.way.text
        self._pending.add(lease)
        answer = {"lease": self._gate.lease_name(lease), "addr": [*target, 0, 0][:4], "connected": False}
        if lease.side is None:
            passage.over = self._gate.loop.create_future()
            passage.timer = self._gate.loop.call_later(min(wait, HELD_PATIENCE), self._too_late, lease, wait)
        else:
            self._wait(lease, passage, PATIENCE)
        passage.number = 0 if number == errno.EINPROGRESS else number
        self._gate.dialled(lease, process)
        if passage.over is not None and passage.failure is None:
            await passage.over
        if passage.failure is not None:
            return passage.failure
        if lease.side is not None:
            return answer
        if lease.state == life.OPEN:
            return {**answer, "via": True}
        return self._gate.ending.was_cut(lease) or refusal("unknown-descriptor")

    def reached(self, lease: Lease, connected: bool) -> None:
        """Shake hands, now that the proxy has been reached, or say that it was not; more than once is as good."""
        passage = lease.passage
        if passage is None or passage.has_begun:
            return
        if not connected:
            self.unreached(lease, passage.number or lease.sock.getsockopt(SOL_SOCKET, SO_ERROR))
            return
        passage.has_begun = True
        passage.fd = lease.sock.fileno()
        self._leases[passage.fd] = lease
        self._epoll.register(passage.fd, select.EPOLLIN)
        if passage.context is None:
            self._say(lease, passage)
            return
        via = passage.way.via
        assert via is not None, "there is no context without a proxy"
        passage.secured = Secured(lease.sock, passage.context, via.host, self._gate.loop)
        self._wait(lease, passage, PATIENCE)
        self._secure(lease, passage, passage.secured)

    def discard(self, lease: Lease) -> None:
        """Forget the handshake of a lease that has ended. Must come before the gate closes its duplicate."""
        passage = lease.passage
        if passage is None:
            return
        self._pending.discard(lease)
        if passage.timer is not None:
            passage.timer.cancel()
        if self._leases.pop(passage.fd, None) is not None:
            self._epoll.unregister(passage.fd)
        passage.fd = -1
        if passage.secured is not None:
            passage.secured.end(reset=True)
        lease.passage = None
        lease.before = (passage.sent, passage.received)
        if passage.over is not None and not passage.over.done():
            passage.over.set_result(None)

    def give_up(self) -> None:
        """Fail all that are under way: another gate goes on with the sockets, and not with what was half said."""
        for lease in list(self._pending):
            self._fail(lease, "via-interrupted", {})

    def stop(self) -> None:
        """Wait for none of them any more."""
        for lease in list(self._pending):
            self.discard(lease)
        self.resolver.stop()
        self._gate.loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    # --- the handshake ------------------------------------------------------------------------------------------------

    def _wait(self, lease: Lease, passage: Passage, seconds: float) -> None:
        if passage.over is not None:
            return  # one limit for all of it
        if passage.timer is not None:
            passage.timer.cancel()
        passage.timer = self._gate.loop.call_later(seconds, self._late, lease, seconds)

    def _late(self, lease: Lease, seconds: float) -> None:
        passage = lease.passage
        if passage is None:
            return
        if passage.has_begun:
            self._fail(lease, "via-timeout", {"limit": seconds})
        else:
            self.unreached(lease, errno.ETIMEDOUT)

    def _too_late(self, lease: Lease, wait: float) -> None:
        if wait <= HELD_PATIENCE:
            self._fail(lease, "", {}, errno.EAGAIN)  # as a connect says of a time-out of the program's own
        else:
            self._late(lease, HELD_PATIENCE)

    def _on_ready(self) -> None:
        for fd, events in self._epoll.poll(0, _EVENTS):
            lease = self._leases.get(fd)
            if lease is None or lease.passage is None:
                continue
            if events & select.EPOLLOUT:
                self._say(lease, lease.passage)
            if events & ~select.EPOLLOUT and lease.passage is not None:
                self._hear(lease, lease.passage)

    def _secure(self, lease: Lease, passage: Passage, secured: Secured) -> None:
        """Go on agreeing on TLS; then begin to speak."""
        try:
            passage.is_secure = secured.shake()
        except OSError as e:
            self._fail(lease, "via-tls", {"why": why(e)})
            return
        if passage.is_secure:
            self._say(lease, passage)
            if lease.passage is passage:
                self._hear(lease, passage)  # what came with the last of it is in no socket any more

    def _say(self, lease: Lease, passage: Passage) -> None:
        """Send what the handshake has to say; what the socket does not take now goes when it does."""
        passage.rest += passage.handshake.say()
        if passage.rest:
            try:
                taken = (passage.secured or lease.sock).send(passage.rest, MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                taken = 0
            except OSError:
                self._fail(lease, "via-ended", {})
                return
            passage.rest = passage.rest[taken:]
            passage.sent += taken
        self._epoll.modify(passage.fd, select.EPOLLIN | (select.EPOLLOUT if passage.rest else 0))
        self._wait(lease, passage, FAR_PATIENCE if passage.handshake.has_asked else PATIENCE)

    def _hear(self, lease: Lease, passage: Passage) -> None:
        """Look at what has come, and take out of the socket just what the proxy says of its own."""
        secured = passage.secured
        if secured is not None and not passage.is_secure:
            self._secure(lease, passage, secured)
            return
        try:
            seen = lease.sock.recv(_LOOK, MSG_PEEK | MSG_DONTWAIT) if secured is None else secured.look()
            if not seen:
                self._fail(lease, "via-ended", {})
                return
            count = passage.handshake.take(seen)
            if secured is not None:
                secured.take(count)
            elif count and len(lease.sock.recv(count, MSG_DONTWAIT)) != count:
                raise ConnectionAbortedError(errno.ECONNABORTED, "somebody else reads from it")
            passage.received += count
        except BlockingIOError:
            return
        except Failed as failed:
            self._fail(lease, failed.code, failed.facts, failed.number)
            return
        except OSError:
            self._fail(lease, "via-ended", {})
            return
        if passage.handshake.is_done:
            self._through(lease, passage)
        elif count:
            self._say(lease, passage)

    # --- how it ends --------------------------------------------------------------------------------------------------

    def _through(self, lease: Lease, passage: Passage) -> None:
        secured, passage.secured = passage.secured, None
        self.discard(lease)
        self._gate.joined(lease, True)
        self._gate.keeping.opened(lease)
        if lease.side is not None:
            self._gate.relaying.dial_ended(lease, lease.side, secured)

    def unreached(self, lease: Lease, number: int) -> None:
        """The dial to the proxy has come to nothing.

        :param number: its errno.
        """
        self._fail(lease, "via-unreachable", {"why": os.strerror(number) if number else "no connection came of it"})

    def _fail(self, lease: Lease, code: str, facts: dict[str, Any], number: int = 0) -> None:
        """End it: the program's connect fails, and its socket is fresh again.

        :param code: row of the table of errors, "" where the far end's own errno is all.
        :param number: that errno.
        """
        passage = lease.passage
        if passage is None or lease.state != life.DIALLED:
            return
        gate = self._gate
        app = lease.process.app
        host, port = lease.asked
        facts = {"app": app.name, "via": lease.via, "host": host, "port": port, **facts}
        said = refusal(code, **told(facts, app.settings.reasons)) if code else {"errno": number}
        passage.failure = said
        if code:
            note_failure(gate, lease.process, code, facts, gate.lease_name(lease))
        gate.unwatch(lease)
        with contextlib.suppress(OSError):  # gone by itself
            cut.reset(lease.sock)
        with contextlib.suppress(OSError):
            lease.sock.getsockopt(SOL_SOCKET, SO_ERROR)  # what the reset has left there is nobody's
        gate.seal.forget(lease.cookie)  # nor is what the handshake has carried
        gate.joined(lease, False)
        if lease.side is not None:
            gate.relaying.dial_failed(lease.side, said)


def note_failure(gate: Gate, process: Process, code: str, facts: dict[str, Any], lease: str | None = None) -> None:
    """Write into the log what has come of a way out."""
    text = describe(code, facts)[0]
    who = {"pid": process.pid, "uid": process.uid, "program": process.program}
    gate.log.event("way-out-failed", lease=lease, reason=text, code=code, **who, **facts)


def told(facts: dict[str, Any], reasons: str) -> dict[str, Any]:
    """Return the facts that a program is told: with ``reasons = "brief"`` not which proxy it is."""
    return {**facts, "via": "by a proxy"} if reasons == "brief" else facts
