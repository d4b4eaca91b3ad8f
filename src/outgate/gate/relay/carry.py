"""Carry bytes from one socket to another without keeping any.

What the target does not take stays in the source's queue in the kernel, where it holds back whoever sends; of what
comes from outside, a piece of at most 16 KiB waits here. Small pieces are copied; from a program they are peeked at,
sent, and only then taken out. Large ones go through a pipe by splice(2), which moves pages instead of bytes and costs
half of the processor time. One buffer and one pipe serve every socket, for nothing lies in them between two steps.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import struct
from _socket import CMSG_SPACE, MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_PEEK, SCM_RIGHTS, SHUT_RD, SOL_SOCKET
from _socket import socket as native
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from outgate.gate.kernel import queues

if TYPE_CHECKING:
    from outgate.gate.tls.secured import Secured

#: Bytes looked at in one step. What fills it is followed by more, and worth a splice.
SMALL = 16 * 1024
#: The same where a splice could block (see :class:`Tools`).
LARGE = 256 * 1024
#: Bytes spliced in one step, and the size of the pipe. The default limit of pipe(7) for those who are not root.
PIPE = 1024 * 1024

#: How a step ended: there may be more; the source is empty; the target takes no more; the source has ended; it failed;
#: the target failed; the limit is reached.
MORE, EMPTY, FULL, END, SOURCE_FAILED, TARGET_FAILED = range(6)

_SO_MEMINFO = 55
_SO_PEEK_OFF = 42
_MEMINFO = struct.Struct("=9I")
_WMEM_ALLOC, _SNDBUF, _WMEM_QUEUED = 2, 3, 5
_SPLICE = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE
#: SCM_MAX_FD of the kernel: no packet carries more.
_MOST_FDS = 253


class Tools:
    """What all relayed sockets of a gate share: a buffer and a pipe.

    :param dispose: closes an fd that a program has sent over its end, where the kernel cannot refuse it
        (SO_PASSRIGHTS, Linux 6.16). None: no fds can come. Reading past an fd closes it, which blocks for as long as
        its sender likes (a lingering TCP socket), so every read then has room for them, and splice(2), which has none,
        is not used on what programs send.
    """

    def __init__(self, dispose: Callable[[int], object] | None = None) -> None:
        self.dispose = dispose
        self.buffer = memoryview(bytearray(SMALL if dispose is None else LARGE))
        #: The beginning of it, for every way: a view of its own for each of them is one more object.
        self.small = self.buffer[:SMALL]
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.capacity = _grow(self.writer)

    def empty(self, count: int) -> bytes:
        """Take out what is left in the pipe: ``count`` bytes."""
        parts = []
        while count:
            parts.append(os.read(self.reader, count))
            count -= len(parts[-1])
        return b"".join(parts)

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.reader)
        os.close(self.writer)


def _grow(pipe: int) -> int:
    try:
        return fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)
    except OSError:  # EPERM: pipe-user-pages-soft
        return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)


class Limit(Protocol):
    """What a quota says to a relayed socket."""

    def room(self, out: bool) -> int:
        """Return how many bytes may go now; at 0 nothing goes until :meth:`~outgate.gate.relay.pair.Relayed.resume`."""

    def moved(self, out: bool, count: int) -> None:
        """Take note of bytes that have gone, never more than there was room for."""


class Way:
    """One direction of a relayed socket.

    :ivar moved: bytes that the target has taken.
    :ivar rest: bytes that have left the source and that the target has not taken. Mostly none: the kernel is asked
        first how much will go.
    :ivar counted: how many of these, from the first, are in ``moved`` already: another holder's end had taken them.
    :ivar errno: why a step failed.
    :ivar splices: whether both ends are sockets of the kernel's, and no fds can come.
    """

    #: How to look at what lies in the source. A look that takes it out saves a call; what the target then refuses,
    #: which is once for each time that it fills up, is the rest.
    _look = MSG_DONTWAIT

    __slots__ = (
        "_bulk",
        "_tools",
        "_view",
        "counted",
        "ends",
        "errno",
        "full",
        "moved",
        "ready",
        "rest",
        "source",
        "splices",
        "stopped",
        "target",
    )

    def __init__(self, tools: Tools, source: native | Secured, target: native | Secured, splices: bool = True) -> None:
        self._tools = tools
        self.splices = splices
        self._view = tools.small if splices else tools.buffer
        self.source = source
        self.target = target
        self.moved = 0
        self.rest = b""
        self.counted = 0
        self.errno = 0
        #: There may be something to do, as an event has said.
        self.ready = False
        #: The source has come to an end, or failed, behind what still lies in it.
        self.ends = False
        #: The target takes no more until it says so.
        self.full = False
        #: Nothing goes this way any more.
        self.stopped = False
        self._bulk = False

    def step(self, most: int) -> int:
        """Move at most ``most`` bytes and return how it ended. Never blocks, and never raises for a socket's error."""
        if self.rest:
            return self._flush(most)
        if self._bulk:
            count = self._spliceable(most)
            if count:
                return self._splice(count)
            self._bulk = False
        view = self._view
        size = len(view)
        if most < size:
            view = view[:most]
            size = most
        try:
            count = self.source.recv_into(view, size, self._look)
        except BlockingIOError:
            return EMPTY
        except OSError as e:
            return self._failed(e, SOURCE_FAILED)
        if not count:
            return END
        try:
            taken = self.target.send(view if count == size else view[:count], MSG_DONTWAIT)
        except BlockingIOError:
            self._keep(0, count)
            return FULL
        except OSError as e:
            return self._failed(e, TARGET_FAILED)
        self.moved += taken
        if not self._take(taken, count):
            return SOURCE_FAILED
        if taken < count:
            return FULL
        if count < size and not self.ends and self.splices:
            return EMPTY  # without another look; where fds can come, a look also ends at them
        self._bulk = self.splices and count == size
        return MORE

    def _take(self, taken: int, seen: int) -> bool:
        """Take out of the source what has been sent, where a look leaves it there."""
        if taken < seen:
            self._keep(taken, seen)
        return True

    def _keep(self, taken: int, seen: int) -> None:
        """See to it that what was seen and not taken comes first the next time."""
        self.rest = bytes(self._view[taken:seen])

    def _spliceable(self, most: int) -> int:
        """Return how many bytes to splice, or 0 where that is not worth it."""
        count = min(most, self._tools.capacity, self._room())
        return count if count >= SMALL else 0

    def _splice(self, count: int) -> int:
        tools = self._tools
        try:
            left = os.splice(self.source.fileno(), tools.writer, count, flags=_SPLICE)
        except BlockingIOError:  # empty; or at the mark of urgent data, which only recv(2) gets past
            self._bulk = False
            return MORE
        except OSError as e:
            return self._failed(e, SOURCE_FAILED)
        if not left:
            return END
        self._bulk = left >= SMALL
        target = self.target.fileno()
        try:
            while left:
                taken = os.splice(tools.reader, target, left, flags=_SPLICE)
                left -= taken
                self.moved += taken
        except BlockingIOError:
            self.rest = tools.empty(left)
            return FULL
        except OSError as e:
            tools.empty(left)
            return self._failed(e, TARGET_FAILED)
        return MORE

    def _room(self) -> int:
        """Return about how many bytes the target will take: a sixteenth less, for the kernel's overhead counts too."""
        target: native = self.target  # type: ignore[assignment]  # splices, so it is the kernel's
        memory = _MEMINFO.unpack(target.getsockopt(SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
        # Unix sockets count in the one, TCP sockets in the other.
        room: int = memory[_SNDBUF] - max(memory[_WMEM_ALLOC], memory[_WMEM_QUEUED])
        return room - room // 16

    def _flush(self, most: int) -> int:
        try:
            taken = self.target.send(self.rest[:most], MSG_DONTWAIT)
        except BlockingIOError:
            return FULL
        except OSError as e:
            return self._failed(e, TARGET_FAILED)
        again = min(taken, self.counted)
        self.counted -= again
        self.moved += taken - again
        self.rest = self.rest[taken:]
        return FULL if self.rest and taken < most else MORE

    def _failed(self, error: OSError, who: int) -> int:
        self.errno = error.errno or errno.EIO
        return who


class OutWay(Way):
    """From a program's Unix socket outwards. The last byte that was sent stays in the queue, unread.

    A Unix stream socket gives its peer ECONNRESET exactly if it is closed while bytes lie unread in its queue
    (unix_release_sock() in net/unix/af_unix.c, since Linux 2.x); otherwise its peer reads a clean end of file. So a
    reset from outside, or the gate's own sudden end, can always be told from a clean end by the program. SO_PEEK_OFF
    makes each look begin behind that byte.

    :ivar held: whether the first byte in the queue has been sent already: 0 or 1.
    """

    # What has not been sent stays in the queue: a close must find there what was not read.
    _look = MSG_PEEK | MSG_DONTWAIT

    __slots__ = ("held",)
    source: native

    def __init__(self, tools: Tools, source: native) -> None:
        # The target is set when there is one.
        super().__init__(tools, source, source, splices=tools.dispose is None)
        self.held = 0
        self._look_from(0)  # from now on each look begins where the last one ended

    def discard(self, count: int) -> None:
        """Take out bytes that are not to be sent, all but the last, which is then the one that stays."""
        if count <= 0:
            return
        tools = self._tools
        left = count - 1 + self.held
        while left:
            taken = self._receive(min(left, len(tools.buffer)))
            if not taken:
                break
            left -= taken
        self.held = 0 if left else 1
        self._look_from(self.held)

    def copy(self) -> bytes:
        """Return what was not sent, and leave it in the queue: nobody sends it from there any more."""
        parts = [self.rest]
        self._look_from(self.held)
        while True:
            try:
                parts.append(self.source.recv(LARGE, MSG_PEEK | MSG_DONTWAIT))
            except OSError:
                break
            if not parts[-1]:
                break
        return b"".join(parts)

    def hold(self, held: int) -> None:
        """Note whether the first byte in the queue has been sent already."""
        self.held = held
        self._look_from(held)

    def let_go(self) -> None:
        """Take out what is held: whoever closes the source now ends it cleanly."""
        with contextlib.suppress(OSError):
            self.source.shutdown(SHUT_RD)  # else a program that goes on writing could keep us here
        while self._receive(len(self._tools.buffer)):
            pass

    def _take(self, taken: int, seen: int) -> bool:
        left = taken - 1 + self.held
        self.held = 1
        while left:
            count = self._receive(left)
            if not count:  # urgent data (MSG_OOB on a Unix socket, Linux 5.15), which we do not carry
                self.errno = errno.EOPNOTSUPP
                return False
            left -= count
        if taken < seen:
            self._keep(taken, seen)
        return True

    def _keep(self, taken: int, seen: int) -> None:
        self._look_from(self.held)  # it is still in the queue

    def _look_from(self, offset: int) -> None:
        self.source.setsockopt(SOL_SOCKET, _SO_PEEK_OFF, offset)

    @property
    def unsent(self) -> int:
        """How many bytes in the queue have not been sent."""
        return self._waiting() - self.held

    def _waiting(self) -> int:
        """Return how many bytes lie in the queue, the one that is held among them."""
        return queues.unread(self.source.fileno())

    def _spliceable(self, most: int) -> int:
        # One stays, to be sent later.
        count = super()._spliceable(min(most, self._waiting() - 1 - self.held))
        if count and self.held:
            self._receive(1)
            self._look_from(0)
            self.held = 0
        return count

    def _receive(self, most: int, into: memoryview | None = None) -> int:
        """Take bytes out of the queue and return how many; 0 if there are none.

        :param into: where they go; by default where nobody looks for them.
        """
        tools = self._tools
        view = tools.buffer if into is None else into
        try:
            if tools.dispose is None:
                return self.source.recv_into(view, most, MSG_DONTWAIT)
            count, ancillary, _, _ = self.source.recvmsg_into(
                [view[:most]], CMSG_SPACE(_MOST_FDS * 4), MSG_DONTWAIT | MSG_CMSG_CLOEXEC
            )
        except OSError:
            return 0
        for level, kind, data in ancillary:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                for fd in array.array("i", data[: len(data) // 4 * 4]):
                    tools.dispose(fd)
        return count


class ClientWay(Way):
    """From a client of a door outwards: its end is a TCP socket of its own, which can say "reset" by itself.

    So no byte needs to stay behind, and what :class:`OutWay` does about that is nothing here.
    """

    __slots__ = ()
    held = 0

    def discard(self, count: int) -> None:
        """A client of a door fills nothing."""

    def let_go(self) -> None:
        """Nothing is held."""

    def hold(self, held: int) -> None:
        """Nothing is."""

    def copy(self) -> bytes:
        """Return what has left the source and was not sent."""
        return self.rest

    @property
    def unsent(self) -> int:
        """How many bytes of the client's wait to be sent."""
        return queues.unread(self.source.fileno()) + len(self.rest)
