"""Relay TCP for a client of a door: its own connection stands where a program's end of a pair does."""

from __future__ import annotations

import contextlib
import select
from _socket import SO_LINGER, SOL_SOCKET
from _socket import socket as native
from collections.abc import Callable
from typing import TYPE_CHECKING

from outgate.gate.relay.carry import ClientWay, OutWay, Way
from outgate.gate.relay.pair import RESET, Relayed

if TYPE_CHECKING:
    from outgate.gate.relay.relays import Relays
    from outgate.gate.tls.secured import Secured

__all__ = ["Bridge", "Take"]

#: Says to a client that it is connected, given the socket outside, and lets go of the client's connection. Returns what
#: the client has sent behind its request, and the events on its connection that are to be seen to yet; ``None`` where
#: it has gone.
Take = Callable[[native], "tuple[bytes, int] | None"]


class Bridge(Relayed):
    """A connection of a door's client, once its dial has succeeded; until then the client is the handshake's.

    :param client: the client's connection.
    :param take: called when the dial has succeeded; ``None`` where another gate has done what it does.
    """

    __slots__ = ("_has_begun", "_take")

    def __init__(
        self,
        relays: Relays,
        client: native,
        take: Take | None,
        ended: Callable[[Relayed, str], object],
        dispose: Callable[[native], object],
    ) -> None:
        self._take = take
        self._has_begun = False
        super().__init__(relays, client, ended, dispose)

    def _way_out(self) -> OutWay | ClientWay:
        return ClientWay(self._relays.tools, self.inside, self.inside)

    def _watch_inside(self) -> None:
        """Leave it to the handshake for now."""

    @property
    def waiting(self) -> int:
        """Bytes of the client's that were not sent."""
        return self._out.unsent if self._has_begun and not self.is_over else 0

    def release(self, filled: int, failed: bool = False) -> None:
        """Nothing of the client's was filled; the handshake tells it what has failed."""

    def begin(self, outside: native, filled: int, nagle: bool = False, secured: Secured | None = None) -> None:
        """Say to the client that it is connected, and relay."""
        self.secured = secured
        take, self._take = self._take, None  # it keeps all that a handshake has, for as long as this lasts
        if self.is_over or take is None:
            self._let_go(outside, reset=False)
            return
        taken = take(outside)
        if taken is None:
            self.outside = outside
            self._end("closed", reset=True)
            return
        self._has_begun = True
        self._relays.pass_on(self.inside, self)
        self._join(outside, nagle)
        early, events = taken
        if early or events:
            self._out.rest = early
            self._inside_events |= select.EPOLLIN | events
            self._relays.queue(self)

    def restore(
        self, outside: native | None, sent: int, received: int, held: int, out: bytes, back: bytes, counted: int = 0
    ) -> None:
        """Go on where another gate stood."""
        self._has_begun = True
        self._relays.watch_client(self.inside, self)
        super().restore(outside, sent, received, held, out, back, counted)

    def _end_sending(self, way: Way) -> None:
        """Carry over an end of file, unless it is the second: the close that follows at once says it too."""
        if not (self._out.stopped and self._back is not None and self._back.stopped):
            super()._end_sending(way)

    def _dispose_inside(self, reset: bool) -> None:
        if not self._has_begun:
            return
        if reset or self.errno:
            with contextlib.suppress(OSError):
                self.inside.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
        self.inside.close()  # here: nobody else has it, or has set it to linger
