"""Relay TCP for programs: one loop that pumps between their Unix sockets and the TCP sockets that lead outside.

Each socket that may have something to do gets its share, then the next one gets its: one that floods, dribbles or never
reads costs the others nothing but its turn. Nothing is stored here: what one side does not take stays in the other's
kernel buffer, and holds back who sends. A client of a door is looked after here from its first word on, so that its
connection needs no other place when it leads somewhere.
"""

from __future__ import annotations

import asyncio
import select
import time
from _socket import socket as native
from collections import deque
from collections.abc import Callable
from typing import Protocol

from outgate.gate.relay.bridge import Bridge, Take
from outgate.gate.relay.carry import Tools
from outgate.gate.relay.pair import CLIENT, SHARE, Relayed

#: Bytes after which the loop's other work gets its turn: about a millisecond.
TURN = 4 * SHARE
#: What a socket's turn counts as at least, in bytes: a step costs time even where it moves nothing.
LEAST = 16 * 1024
_EVENTS = 64


class Turning(Protocol):
    """What gets turns when something has happened on its sockets: a relayed socket, or a client in its handshake.

    :ivar active: when a turn last moved a byte (monotonic seconds).
    :ivar queued: whether its turn is to come.
    """

    active: float
    queued: bool

    @property
    def is_ready(self) -> bool:
        """Whether it wants another turn at once."""

    def note(self, fd: int, events: int) -> None:
        """Remember what has happened on one of its sockets, for its turn."""

    def run(self) -> int:
        """Take a turn and return how many bytes have moved, by their weight."""


class Relays:
    """The relayed sockets of a gate.

    They wait on an epoll of our own inside the loop's: edge-triggered, for a byte always lies unread in every inside
    (see :class:`outgate.gate.relay.carry.OutWay`).

    :param dispose_fd: closes an fd that a program sent over its end; None where the kernel refuses such fds at the
        sender (``take_no_fds`` of the inside has worked).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, dispose_fd: Callable[[int], object] | None = None) -> None:
        self.tools = Tools(dispose_fd)
        self.epoll = select.epoll()
        self._loop = loop
        self._by_fd: dict[int, Turning] = {}
        self._ready: deque[Turning] = deque()
        self._turning: asyncio.Handle | None = None
        loop.add_reader(self.epoll.fileno(), self._on_ready)

    def adopt(
        self, inside: native, ended: Callable[[Relayed, str], object], dispose: Callable[[native], object]
    ) -> Relayed:
        """Look after the gate's end of a Unix stream pair, from birth on: the program may close its end at any time.

        :param inside: the gate's end; nothing else may read from it.
        :param ended: called once, on the loop, when it is over, with how: "closed" (by the program, or by both sides),
            "reset" (from outside), or what :meth:`Relayed.cut` or :meth:`Relayed.close` were given.
        :param dispose: closes a socket; a :class:`~outgate.gate.kernel.closer.Closer` takes it off the loop.
        """
        return Relayed(self, inside, ended, dispose)

    def bridge(
        self,
        client: native,
        take: Take | None,
        ended: Callable[[Relayed, str], object],
        dispose: Callable[[native], object],
    ) -> Bridge:
        """Look after the connection of a door's client; parameters as :class:`Bridge`, the rest as :meth:`adopt`."""
        return Bridge(self, client, take, ended, dispose)

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> set[Relayed]:
        return {each for each in self._by_fd.values() if isinstance(each, Relayed)}

    def watch(self, sock: native, who: Turning, events: int) -> None:
        """Tell somebody what happens on one of their sockets."""
        fd = sock.fileno()
        self._by_fd[fd] = who
        self.epoll.register(fd, events)

    def watch_client(self, sock: native, who: Turning) -> None:
        """Tell somebody what happens on the connection of a door's client, each thing once."""
        self.watch(sock, who, CLIENT)

    def pass_on(self, sock: native, relayed: Relayed) -> None:
        """Tell this relayed socket what happens on a socket that is watched for somebody else."""
        self._by_fd[sock.fileno()] = relayed

    def unwatch(self, sock: native, who: Turning) -> None:
        """Tell them nothing more, unless it is told to somebody else by now.

        Must come before the socket is closed, which may be later and on another thread.
        """
        fd = sock.fileno()
        if self._by_fd.get(fd) is who:
            del self._by_fd[fd]
            self.epoll.unregister(fd)

    def queue(self, relayed: Relayed) -> None:
        """Give it a turn, soon."""
        if not relayed.queued:
            relayed.queued = True
            self._ready.append(relayed)
        if self._turning is None:
            self._turning = self._loop.call_soon(self._turn)

    def close(self, how: str) -> None:
        """Reset all of them, both ways: the gate ends, and none of them may look as if it had come to a good end."""
        for relayed in self._all():
            relayed.cut(how)
        if self._turning is not None:
            self._turning.cancel()
        self._loop.remove_reader(self.epoll.fileno())
        self.epoll.close()
        self.tools.close()

    def _on_ready(self) -> None:
        # All of a batch is noted before anything is done: what is done may close sockets and make others, whose fds
        # would then be taken for those in the batch.
        for fd, events in self.epoll.poll(0, _EVENTS):
            relayed = self._by_fd[fd]
            relayed.note(fd, events)
            if not relayed.queued:
                relayed.queued = True
                self._ready.append(relayed)
        if self._turning is None:
            self._turn()

    def _turn(self) -> None:
        self._turning = None
        ready = self._ready
        now = time.monotonic()
        left = TURN
        try:
            while ready and left > 0:
                relayed = ready.popleft()
                relayed.queued = False
                moved = relayed.run()
                if moved:
                    relayed.active = now
                if relayed.is_ready:
                    relayed.queued = True
                    ready.append(relayed)
                left -= moved if moved > LEAST else LEAST
        finally:
            if ready and self._turning is None:
                self._turning = self._loop.call_soon(self._turn)
