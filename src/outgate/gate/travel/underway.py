"""Know whether a reply with the socket of a descriptor has been read: until then it may have been lost on its way.

Nobody need say so. What lies unread at the other end of a channel the kernel counts, a process that has read all ends
its channel with an end of file, and one that has not with a reset (unix(7), unix_release_sock()). A process that could
not keep what it has read, having no descriptor left, says that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.registry import Process
    from outgate.gate.server import Gate
    from outgate.gate.travel.sharing import Loan

#: Seconds between looks at replies that have gone out; what hangs on it looks at once.
INTERVAL = 0.05


class Underway:
    """The replies of a gate that carry shared sockets and may be unread: one a channel."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        #: Whose it is, what it is known by, and whom to tell whether it was read.
        self._replies: dict[Channel, tuple[Process, object, Callable[[bool], object]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, channel: Channel, loan: Loan, process: Process, serial: int) -> None:
        """Keep an eye on the reply that goes out now, with the socket of a loan for this descriptor of it."""
        self.watch(channel, process, (loan, process, serial), partial(self._tell, loan, process, serial))

    def watch(self, channel: Channel, process: Process, known_by: object, tell: Callable[[bool], object]) -> None:
        """Keep an eye on the reply that goes out now.

        :param known_by: what :meth:`cancel` is called with.
        :param tell: called with whether it was read.
        """
        if channel in self._replies:  # one that brought a socket before, and may lie unread
            self.ended(channel, read=not channel.has_unread())
        channel.carries_shared = True
        self._replies[channel] = (process, known_by, tell)
        if self._timer is None:
            self._timer = self._gate.loop.call_later(INTERVAL, self._on_timer)

    def look(self, process: Process | None = None) -> None:
        """See which replies have been read by now.

        :param process: look at those to this one alone.
        """
        for channel, (to, _, _) in tuple(self._replies.items()):
            if process in (None, to) and not channel.has_unread():
                self.ended(channel, read=True)

    def ended(self, channel: Channel, read: bool) -> None:
        """Note what became of the reply on a channel."""
        channel.carries_shared = False
        found = self._replies.pop(channel, None)
        if found is not None:
            found[2](read)

    def _tell(self, loan: Loan, process: Process, serial: int, read: bool) -> None:
        if read:
            self._gate.sharing.taken(loan, process, serial)
        else:
            self._gate.sharing.not_taken(loan, process, serial)

    def cancel(self, known_by: object) -> None:
        """Look no more at a reply of which its reader has spoken."""
        for channel, reply in tuple(self._replies.items()):
            if reply[1] == known_by:
                channel.carries_shared = False
                del self._replies[channel]
                return

    def _on_timer(self) -> None:
        self._timer = None
        self.look()
        if self._replies:
            self._timer = self._gate.loop.call_later(INTERVAL, self._on_timer)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
