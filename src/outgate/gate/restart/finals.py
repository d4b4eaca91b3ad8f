"""Hear the last reading of sockets that the gate holds no duplicate of, from the kernel, when they are no more.

Of a socket that the gate holds the kernel tells nothing before the gate itself has closed it, and needs not: its meter
is read then (:mod:`outgate.gate.ending`). So this is for connections of a gate that died which nobody has given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from outgate.core import notices
from outgate.gate.kernel import meter
from outgate.gate.kernel.notices import Notices

__all__ = ["Finals"]

#: Notices that are read in one turn of the loop, at some 2 µs each.
SLICE = 200
#: Seconds between two turns: each notice by itself would wake the loop.
PAUSE = 0.02
#: Seconds after which nothing more is listened to when nothing is awaited any more.
LINGER = 1.0


class Finals:
    """Who waits for the end of which socket.

    :param told: a socket to the kernel's notices, closed at the end.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, told: Notices) -> None:
        self._loop = loop
        self._told = told
        #: By cookie.
        self._awaited: dict[int, Callable[[meter.Reading], object]] = {}
        self._listens = False
        self._timer: asyncio.Handle | None = None

    @property
    def why(self) -> str:
        """Why nothing is heard, ``""`` where it is."""
        return self._told.why

    def expect(self, cookie: int, tell: Callable[[meter.Reading], object]) -> bool:
        """Call a function with the last reading of a socket when it is no more; return whether the kernel will say.

        What is no more already is not told of, so whoever asks looks afterwards whether it is there.
        """
        if not self._listens:
            self._listens = self._told.join()
            if self._listens:
                self._loop.add_reader(self._told.fileno(), self._on_readable)
        if self._listens:
            self._awaited[cookie] = tell
        return self._listens

    def forget(self, cookie: int) -> None:
        """Await it no more."""
        if self._awaited.pop(cookie, None) is not None and not self._awaited and self._timer is None:
            self._timer = self._loop.call_later(LINGER, self._rest)

    def _on_readable(self) -> None:
        self._loop.remove_reader(self._told.fileno())
        self._stop_timer()
        self._read()

    def _read(self) -> None:
        self._timer = None
        # What was lost nobody hears of: whoever awaits something also looks for it now and then.
        packets, _lost = self._told.take(SLICE)
        for packet in packets:
            tell = self._awaited.pop(notices.cookie_of(packet), None)
            if tell is not None:
                notice = notices.parse(packet)
                if notice is not None and len(notice.info) >= meter.SIZE:
                    tell(meter.parse(notice.info))
        if len(packets) == SLICE:
            self._timer = self._loop.call_soon(self._read)
        else:
            self._timer = self._loop.call_later(PAUSE, self._rest)

    def _rest(self) -> None:
        self._timer = None
        if self._awaited:
            self._loop.add_reader(self._told.fileno(), self._on_readable)
        elif self._listens:
            self._loop.remove_reader(self._told.fileno())
            self._told.leave()
            self._told.take(SLICE)
            self._listens = False

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """Listen no more."""
        self._stop_timer()
        if self._listens:
            self._loop.remove_reader(self._told.fileno())
        self._listens = False
        self._awaited.clear()
        self._told.close()
