"""Carry bytes between sockets here and links to other gates: the loop, and what both sides of a link have in common.

Sockets are polled on an epoll of our own, as those of the relay are: the file may be a program's as well, and the
loop's would set O_NONBLOCK on it. Each gets a share, then the next one gets its.
"""

from __future__ import annotations

import asyncio
import select
from _socket import MSG_DONTWAIT, SHUT_WR
from _socket import socket as native
from collections import deque
from collections.abc import Callable

from outgate.core.fleet import frames
from outgate.errors import ProtocolError
from outgate.gate.fleet import line
from outgate.gate.fleet.link import Link

_EVENTS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLPRI | select.EPOLLET
_ENDED = select.EPOLLHUP | select.EPOLLERR
#: Events after which a piece that is short is not all there is: an end follows, or what is behind urgent data.
_MORE = select.EPOLLRDHUP | select.EPOLLPRI | _ENDED
#: Sockets that are noted at once; the rest come again.
_BATCH = 64
#: Bytes of one step, which with the head of their frame fill records of TLS; and of one end's turn.
PIECE = 16 * line.RECORD - frames.HEAD
TURN = 512 * 1024
#: Credit is given back in pieces of at least so many bytes.
_CREDIT = frames.WINDOW // 4
#: How much more than its window a program's gate may send when it gives the connection back.
_OVERDRAFT = 2 * frames.WINDOW


class Ends:
    """The sockets of a gate that are carried over links, and the lines that those go over.

    :ivar lines: all there are.
    :ivar piece: what an end has read of its socket, behind room for the head of a frame.
    :ivar sealed: what a line has read of its socket; ``opened``: what that was before TLS. All three are used by one
        step after another.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.piece = memoryview(bytearray(frames.HEAD + PIECE))
        self.sealed = memoryview(bytearray(line.PIECE))
        self.opened = memoryview(bytearray(line.PIECE + line.RECORD))
        self.lines: set[line.Line] = set()
        self._epoll = select.epoll()
        self._by_fd: dict[int, End | line.Line] = {}
        self._ready: deque[End] = deque()
        self._turning: asyncio.Handle | None = None
        loop.add_reader(self._epoll.fileno(), self._on_ready)

    def watch(self, end: End | line.Line, events: int = _EVENTS) -> None:
        """Have an end note what happens on its socket, and turn; a line just notes."""
        fd = end.sock.fileno()
        self._by_fd[fd] = end
        self._epoll.register(fd, events)

    def unwatch(self, end: End | line.Line) -> None:
        """Must come before the socket is closed."""
        fd = end.sock.fileno()
        if self._by_fd.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def queue(self, end: End) -> None:
        """Give it a turn, soon."""
        if not end.queued:
            end.queued = True
            self._ready.append(end)
        if self._turning is None:
            self._turning = self.loop.call_soon(self._turn)

    def _on_ready(self) -> None:
        for fd, events in self._epoll.poll(0, _BATCH):
            end = self._by_fd[fd]
            end.note(events)
            if isinstance(end, End) and not end.queued:
                end.queued = True
                self._ready.append(end)
        if self._turning is None:
            self._turn()

    def _turn(self) -> None:
        self._turning = None
        if not self._ready:
            return
        end = self._ready.popleft()
        end.queued = False
        try:
            end.turn()
        finally:
            if self._ready and self._turning is None:
                self._turning = self.loop.call_soon(self._turn)

    def stop(self) -> None:
        """Carry nothing any more."""
        if self._turning is not None:
            self._turning.cancel()
        for each in list(self.lines):
            each.let_go()
        self.loop.remove_reader(self._epoll.fileno())
        self._epoll.close()


class End:
    """One end of a link, and the socket that its bytes come from and go to.

    :param dispose: closes the socket; a :class:`~outgate.gate.kernel.closer.Closer` takes it off the loop.
    :ivar sock: that socket. Nothing here sets O_NONBLOCK: others may have the same file.
    :ivar queued: whether its turn is to come; for :class:`Ends`.
    """

    def __init__(self, ends: Ends, sock: native, link: Link, dispose: Callable[[native], object]) -> None:
        self.sock = sock
        self.link = link
        self.queued = False
        self.is_over = False
        self._ends = ends
        self._dispose = dispose
        self._readable = self._writable = True
        self._is_paused = False
        #: Whether each piece is followed by another look: no event of its own would say what comes after it.
        self._looks = False
        #: Nothing more is read of the socket: it has come to an end.
        self._is_read = False
        #: What the socket has not taken yet, how much that is, and whether an end follows.
        self._waiting: deque[memoryview] = deque()
        self._size = 0
        self._ends_after = False
        self._owed = 0
        ends.watch(self)
        link.begin(self)
        ends.queue(self)

    # --- what differs -------------------------------------------------------------------------------------------------

    def take(self, most: int) -> int:
        """Put bytes of the socket where they go in a frame (:attr:`Ends.piece`), and return how many; 0 at its end.

        What was all there is need not be followed by another look. Raises ``OSError`` as ``recv`` does.
        """
        raise NotImplementedError

    def ended(self) -> None:
        """The socket has come to an end of file."""
        raise NotImplementedError

    def failed(self, error: OSError) -> None:
        """The socket has failed."""
        raise NotImplementedError

    def told(self, kind: int, payload: bytes) -> None:
        """A frame has come that is not about bytes."""
        raise NotImplementedError

    def lost(self, why: str) -> None:
        """The link is gone."""
        raise NotImplementedError

    def flushed(self) -> None:
        """Everything that has come is in the socket."""

    # --- the loop's side ----------------------------------------------------------------------------------------------

    def note(self, events: int) -> None:
        """Remember what has happened on the socket."""
        if events & (select.EPOLLIN | select.EPOLLRDHUP | _ENDED):
            self._readable = True
        if events & (select.EPOLLOUT | _ENDED):
            self._writable = True
        if events & _MORE:
            self._looks = True

    def turn(self) -> None:
        """Move a share both ways."""
        if not self.is_over:
            self.flush()
        left = TURN
        while self._may_read and left > 0:
            try:
                count = self.take(min(PIECE, self.link.room))
            except (BlockingIOError, InterruptedError):
                self._readable = False
                break
            except OSError as e:
                self._is_read = True
                self.failed(e)
                break
            if not count:
                self._is_read = True
                self.ended()
                break
            left -= count
            self._send(count)
        if self._may_read:
            self._ends.queue(self)

    def _send(self, count: int) -> None:
        """Send so many bytes that were just taken."""
        frame = self._ends.piece[: frames.HEAD + count]
        frames.put_head(frame, frames.DATA, count)
        self.link.send_data(frame)

    @property
    def _may_read(self) -> bool:
        return self._readable and not self._is_read and not self._is_paused and not self.is_over and self.link.room > 0

    def flush(self) -> bool:
        """Put what has come into the socket, as far as it goes, and tell whether all is in it."""
        while self._waiting and self._writable:
            piece = self._waiting[0]
            try:
                taken = self.sock.send(piece, MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                self._writable = False
                break
            except OSError as e:
                self._waiting.clear()
                self._size = 0
                self.failed(e)
                return True
            self._size -= taken
            self._owed += taken
            if taken < len(piece):
                self._waiting[0] = piece[taken:]
            else:
                self._waiting.popleft()
        if self._owed >= _CREDIT and not self.is_over:
            self.link.send(frames.credit(self._owed))
            self._owed = 0
        if self._waiting:
            return False
        if self._ends_after:
            self._ends_after = False
            try:
                self.sock.shutdown(SHUT_WR)
            except OSError:  # it has failed meanwhile, as reading it will say
                pass
        self.flushed()
        return True

    # --- the link's side ----------------------------------------------------------------------------------------------

    def got(self, kind: int, payload: frames.Payload) -> None:
        """Take a frame, or of DATA a part."""
        if kind == frames.DATA:
            if self.is_over:
                return
            self._size += len(payload)
            if self._size > frames.WINDOW + _OVERDRAFT:
                raise ProtocolError("more bytes than there is room for")
            self._waiting.append(memoryview(payload))
            self.flush()
            if self._waiting:
                self._waiting[-1] = memoryview(bytes(self._waiting[-1]))  # its place is used again
        elif kind == frames.END:
            self._ends_after = True
            if not self.is_over:
                self.flush()
        else:
            self.told(kind, bytes(payload))

    def room(self) -> None:
        """The other gate takes more."""
        if not self.is_over:
            self._ends.queue(self)

    def let_go(self) -> None:
        """Carry nothing more, and close the socket on the thread that closes."""
        if not self.is_over:
            self.is_over = True
            self._ends.unwatch(self)
            self._dispose(self.sock)
