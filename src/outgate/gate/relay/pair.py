"""The life of one relayed socket: ends of file, resets and closes carried over from either side to the other."""

from __future__ import annotations

import contextlib
import select
import struct
import time
from _socket import IPPROTO_TCP, MSG_DONTWAIT, SHUT_RD, SHUT_WR, SO_ERROR, SO_LINGER, SO_SNDBUF, SOL_SOCKET, TCP_NODELAY
from _socket import socket as native
from collections.abc import Callable
from typing import TYPE_CHECKING

from outgate.gate.relay.carry import EMPTY, END, FULL, MORE, SOURCE_FAILED, TARGET_FAILED, ClientWay, OutWay, Way

if TYPE_CHECKING:
    from outgate.gate.relay.carry import Limit
    from outgate.gate.relay.relays import Relays
    from outgate.gate.tls.secured import Secured

#: SO_SNDBUF of the inside, which the kernel doubles: what may lie unread in a program's queue. Half of it takes a third
#: off the throughput towards programs. The kernel cuts it to net.core.wmem_max.
QUEUE = 512 * 1024
#: Bytes that one way of a socket moves before the next socket's turn.
SHARE = 1024 * 1024
#: What a byte weighs of which TLS is made: four times one that is copied, a dozen times one that is spliced.
SEALED = 4

_IN, _OUT, _ERR, _HUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR, select.EPOLLHUP
_ENDS = select.EPOLLRDHUP | _HUP | _ERR
_INSIDE = _IN | select.EPOLLRDHUP | select.EPOLLET
#: EPOLLOUT only while the program reads too slowly: a Unix socket reports it at every read of its peer. TCP does only
#: once it has refused bytes, so it stays, but not before: a new connection would begin with an event that says nothing.
_INSIDE_FULL = _INSIDE | _OUT
_OUTSIDE = CLIENT = _INSIDE
_OUTSIDE_FULL = _OUTSIDE | _OUT
_LINGER = struct.Struct("ii")
RESET = _LINGER.pack(1, 0)


class Relayed:
    """A socket of a program: the gate's end of its Unix pair and, once connected, a TCP socket outside.

    :ivar active: when a byte last moved (monotonic seconds), at first when it was adopted, then connected.
    :ivar gone: whether the program has closed its end, or shut it down both ways.
    :ivar errno: why the connection outside failed; 0 if it did not.
    :ivar limit: asked before each step.
    :ivar secured: what speaks TLS over the socket outside, where there is any: a matter of this process.
    :ivar queued: whether its turn is to come; for :class:`~outgate.gate.relay.relays.Relays`.
    """

    __slots__ = (
        *("_aborts", "_armed", "_back", "_dispose", "_ended", "_hears_room", "_inside_events"),
        *("_out", "_outside_events", "_relays"),
        *("active", "errno", "gone", "inside", "is_over", "limit", "outside", "queued", "secured"),
    )

    def __init__(
        self,
        relays: Relays,
        inside: native,
        ended: Callable[[Relayed, str], object],
        dispose: Callable[[native], object],
    ) -> None:
        inside.setblocking(False)
        self._relays = relays
        self._ended = ended
        self._dispose = dispose
        self.inside = inside
        self.outside: native | None = None
        self._out = self._way_out()
        self._back: Way | None = None
        self.secured: Secured | None = None
        self._aborts = self._armed = self._hears_room = False
        self._inside_events = self._outside_events = 0
        self.active = time.monotonic()
        self.errno = 0
        self.gone = self.is_over = self.queued = False
        self.limit: Limit | None = None
        self._watch_inside()

    def _way_out(self) -> OutWay | ClientWay:
        return OutWay(self._relays.tools, self.inside)

    def _watch_inside(self) -> None:
        self._relays.watch(self.inside, self, _INSIDE)

    @property
    def sent(self) -> int:
        """Bytes from the program that the socket outside has taken."""
        return self._out.moved

    @property
    def received(self) -> int:
        """Bytes from outside that lie in the program's queue, or that it has read."""
        return self._back.moved if self._back is not None else 0

    # --- what the gate does -------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Bytes that lie unsent in the program's end."""
        return 0 if self.is_over else self._out.unsent

    def release(self, filled: int, failed: bool = False) -> None:
        """Make the program's end writable after a connect that came to nothing.

        :param filled: bytes with which the client has filled its end, so that it was not writable until now.
        :param failed: make it readable as well, as a TCP socket is whose connect has failed (tcp_poll() in
            net/ipv4/tcp.c). The client takes the byte out when it connects again.
        """
        if self.is_over:
            return
        self._out.discard(filled)
        if failed:
            with contextlib.suppress(OSError):  # one from an earlier failure may lie there; or the program has closed
                self.inside.send(b"\0", MSG_DONTWAIT)

    def begin(self, outside: native, filled: int, nagle: bool = False, secured: Secured | None = None) -> None:
        """Relay, now that the dial has succeeded.

        :param outside: a connected TCP socket that nobody else holds.
        :param filled: as for :meth:`release`.
        :param nagle: let small pieces wait, where the program has asked for TCP_NODELAY to be off.
        :param secured: what speaks TLS over it, so that no piece can be spliced.
        """
        self.secured = secured
        if self.is_over:  # the program has closed while the dial went on
            self._let_go(outside, reset=False)
            return
        self._out.discard(filled)
        self.inside.setsockopt(SOL_SOCKET, SO_SNDBUF, QUEUE)
        self._join(outside, nagle)
        self._inside_events |= _IN  # what it has sent after the fill has had its edge
        self._relays.queue(self)

    def _join(self, outside: native, nagle: bool) -> None:
        if outside.gettimeout() != 0:
            outside.setblocking(False)
        if not nagle:
            outside.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        self.outside = outside
        self._aim(outside)
        self.active = time.monotonic()
        self._back = Way(self._relays.tools, self.secured or outside, self.inside, splices=self.secured is None)
        self._hears_room = self.secured is not None  # it refuses bytes that the socket would take
        self._relays.watch(outside, self, _OUTSIDE_FULL if self._hears_room else _OUTSIDE)
        if self.secured is not None:
            self._outside_events |= _IN  # it may have read all that has come
            self._relays.queue(self)

    def _aim(self, outside: native) -> None:
        """Have the way out lead to the socket outside, or to what speaks TLS over it."""
        self._out.target = self.secured or outside
        self._out.splices = self._out.splices and self.secured is None

    def in_between(self) -> tuple[int, bytes, bytes, int]:
        """Return what is under way: whether a byte is held, what neither side has, outwards and back, and of the latter
        how much is counted already.
        """
        back = self._back
        return self._out.held, self._out.rest, back.rest if back is not None else b"", back.counted if back else 0

    def restore(
        self, outside: native | None, sent: int, received: int, held: int, out: bytes, back: bytes, counted: int = 0
    ) -> None:
        """Go on where another gate stood.

        :param outside: the TCP socket, ``None`` if it is not relayed yet.
        """
        self._out.moved, self._out.rest = sent, out
        self._out.hold(held)
        if outside is None:
            return
        outside.setblocking(False)
        self.outside = self._out.target = outside
        self._back = Way(self._relays.tools, outside, self.inside)
        self._back.moved, self._back.rest, self._back.counted = received, back, counted
        self._inside_events |= _IN
        self._outside_events |= _IN  # there may be nothing new, and something under way
        self._hears_room = True
        self._relays.watch(outside, self, _OUTSIDE_FULL)
        self._relays.queue(self)

    def change_hands(self, inside: native, unread: bytes, ends: bool) -> None:
        """Go on with another pair: the connection has another holder, and the pair's old ones have it no more.

        Those get ECONNRESET, as something they have sent lies unread in their pair when it is closed. No byte is lost
        or doubled: what they have written goes out first, what they have not read comes first to the new holder.

        :param inside: the gate's end of the new pair. In it lies one byte that is not to be sent.
        :param unread: what was taken out of the program's end of the old pair.
        :param ends: whether the old holders had ended their sending.
        """
        old, out, back = self.inside, self._out, self._back
        with contextlib.suppress(OSError):
            old.shutdown(SHUT_RD)  # from here on they can write nothing
        left = out.copy()
        self._relays.unwatch(old, self)
        inside.setblocking(False)
        self.inside = inside
        self._out = OutWay(self._relays.tools, inside)
        self._out.hold(1)
        self._out.moved, self._out.stopped = out.moved, out.stopped
        self._inside_events = _IN | (select.EPOLLRDHUP if ends else 0)
        self._armed = False
        if back is not None and self.outside is not None:
            self._aim(self.outside)
            self._out.rest = left
            inside.setsockopt(SOL_SOCKET, SO_SNDBUF, QUEUE)
            back.target, back.full, back.ready = inside, False, True
        taken = 0
        if unread:
            with contextlib.suppress(BlockingIOError):
                taken = inside.send(unread, MSG_DONTWAIT)
        if back is not None:
            back.rest = unread[taken:] + back.rest
            back.counted += len(unread) - taken
            if back.stopped and not self.errno:
                if back.rest:
                    back.stopped = False  # it comes upon the end once more
                else:
                    inside.shutdown(SHUT_WR)
        self._relays.watch(inside, self, _INSIDE)
        self._relays.queue(self)
        self._dispose(old)

    def resume(self) -> None:
        """Go on after the limit has said 0."""
        self._inside_events |= _IN
        self._outside_events |= _IN
        self._relays.queue(self)

    def cut(self, how: str) -> None:
        """Reset it both ways: the program gets ECONNRESET or EPIPE, and the peer a reset."""
        self._end(how, reset=True)

    def close(self, how: str) -> None:
        """End it cleanly both ways: the program gets an end of file, then EPIPE, and the peer an end of file."""
        if not self.is_over:
            self._out.let_go()
            self._end(how)

    # --- what the loop does -------------------------------------------------------------------------------------------

    def note(self, fd: int, events: int) -> None:
        """Remember what has happened on one of its sockets, for its turn."""
        if fd == self.inside.fileno():
            self._inside_events |= events
        else:
            self._outside_events |= events

    @property
    def is_ready(self) -> bool:
        """Whether there may be more to move after its turn."""
        out, back = self._out, self._back
        if self.is_over or back is None:
            return False
        # Both ways are written out, here and in run(): calls are a good part of what a small piece costs.
        return (out.ready and not out.full and not out.stopped) or (back.ready and not back.full and not back.stopped)

    def run(self) -> int:
        """Take a turn and return how many bytes have moved, by their weight."""
        inside, outside = self._inside_events, self._outside_events
        self._inside_events = self._outside_events = 0
        out, back = self._out, self._back
        if self.is_over:
            return 0
        if inside & _HUP and not self.gone:
            self._leave(inside)
        if self.outside is None or back is None:
            if self.gone:
                self._end("closed")
            return 0
        if outside & _ERR:
            self._fail(self.outside.getsockopt(SOL_SOCKET, SO_ERROR))
        if inside & (_IN | _ENDS):
            out.ready = True
            out.ends = out.ends or bool(inside & _ENDS)
        if outside & (_IN | _ENDS):
            back.ready = True
            back.ends = back.ends or bool(outside & _ENDS)
        if outside & (_OUT | _ENDS):
            out.full = False
        if inside & (_OUT | _ENDS):
            back.full = False
        moved = 0
        if out.ready and not out.full and not out.stopped:
            moved = self._move(out)
        if back.ready and not back.full and not back.stopped:
            moved += self._move(back)
        if out.stopped or back.stopped or self._aborts or self.errno:
            self._settle(out, back)
        return moved if self.secured is None else moved * SEALED

    def _leave(self, events: int) -> None:
        """The program has closed. Nothing goes back any more; what it has sent goes on, unless its close is a reset."""
        self.gone = True
        if self._back is None or self.outside is None:
            return
        self._back.stopped = True
        on, seconds = _LINGER.unpack(self.outside.getsockopt(SOL_SOCKET, SO_LINGER, _LINGER.size))
        # It has left bytes unread, or it has asked for a reset: natively, what is not sent yet is lost.
        self._aborts = bool(events & _ERR) or bool(on and not seconds)

    def _fail(self, number: int) -> None:
        """The connection outside has failed: nothing goes out any more; what has come before is still delivered."""
        if number and not self.errno:
            self.errno = number
            self._out.stopped = True

    def _move(self, way: Way) -> int:
        """Move a share one way, note how that ended, and return how many bytes."""
        limit = self.limit
        is_out = way is self._out
        share = left = SHARE if self.secured is None else SHARE // SEALED
        outcome = MORE
        while outcome == MORE and left > 0:
            most = left if limit is None else min(left, limit.room(is_out))
            if most <= 0:
                way.ready = False
                break
            before = way.moved
            outcome = way.step(most)
            count = way.moved - before
            left -= count
            if limit is not None and count:
                limit.moved(is_out, count)
        if outcome == MORE:
            return share - left
        if outcome == END and is_out and not way.ends:
            # Whether the program has closed (perhaps asking for a reset) or has only ended its sending comes with the
            # event that is now on its way. An end of file before a reset would look like a good end.
            outcome = EMPTY
        if outcome == FULL:
            way.full = True
        else:
            way.ready = False
        if not is_out and self._armed != way.full:
            self._armed = way.full
            self._relays.epoll.modify(self.inside.fileno(), _INSIDE_FULL if way.full else _INSIDE)
        elif is_out and way.full and not self._hears_room and self.outside is not None:
            self._hears_room = True
            self._relays.epoll.modify(self.outside.fileno(), _OUTSIDE_FULL)
        if outcome == END:
            way.stopped = True
            if not self.gone and not self.errno:
                self._end_sending(way)
        elif outcome == SOURCE_FAILED:
            way.stopped = True
            if is_out:
                self._aborts = True
            else:
                self._fail(way.errno)
        elif outcome == TARGET_FAILED:
            way.stopped = True  # where it is the program: it has shut down reading
            if is_out:
                self._fail(way.errno)
        return share - left

    def _end_sending(self, way: Way) -> None:
        """Carry over an end of file."""
        with contextlib.suppress(OSError):  # the other side has failed meanwhile, and will say so
            way.target.shutdown(SHUT_WR)

    def _settle(self, out: Way, back: Way) -> None:
        """End it where nothing is left to do."""
        if self._aborts and (out.stopped or out.full):
            self._end("closed" if self.gone else "urgent-data", reset=True)
        elif self.errno and (back.stopped or (back.full and self._out.unsent)):
            # The second: it writes and does not read, so that only the end can tell it of the reset.
            self._end("closed" if self.gone else "reset")  # what lies unread in the inside makes it a reset
        elif out.stopped and back.stopped:
            self._out.let_go()
            self._end("closed")

    def _end(self, how: str, reset: bool = False) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._relays.unwatch(self.inside, self)
        if self.outside is not None:
            self._relays.unwatch(self.outside, self)
            self._let_go(self.outside, reset)
        self._dispose_inside(reset)
        self._ended(self, how)

    def _let_go(self, outside: native, reset: bool) -> None:
        """Have the socket outside closed, cleanly or by a reset."""
        if reset:
            with contextlib.suppress(OSError):
                outside.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        if self.secured is not None:
            self.secured.end(reset)
        self._dispose(outside)

    def _dispose_inside(self, reset: bool) -> None:
        """Close the gate's end of the pair: what lies unread in it says whether that is a reset."""
        self._dispose(self.inside)
