"""A link between two gates: frames over TLS about one connection, with a sign of life now and then.

What goes wrong with a link is told once (:meth:`Handler.lost`), within :data:`SILENCE` seconds also where the network
between the gates swallows everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from outgate.core.fleet import frames, heads
from outgate.errors import ProtocolError

if TYPE_CHECKING:
    from outgate.gate.fleet.line import Line

#: Seconds between signs of life, and without one after which the other gate counts as gone.
PULSE = 4.0
SILENCE = 12.0
#: Bytes that may wait to be sent: the window, what a recalled program had written, and room for talk.
_MOST_WAITING = 4 * frames.WINDOW
#: Frames that may come before there is a handler.
_MOST_EARLY = 64


class Handler(Protocol):
    """Whoever has a link."""

    def got(self, kind: int, payload: frames.Payload) -> None:
        """A frame has come that is not the link's own, or a part of DATA: it may raise ``ProtocolError``.

        That ends the link. The payload may be a view, of what is used again afterwards.
        """

    def room(self) -> None:
        """The other side takes more bytes."""

    def lost(self, why: str) -> None:
        """Nothing comes and goes any more. Called once, unless the handler has closed it itself."""


class Link:
    """One side of a link. Before frames there are heads, which go to ``opening``.

    :param opening: called with what has come so far; it returns how many bytes of it it has used up, and whether what
        follows are frames. ``None``: they are from the first byte on.
    :ivar handler: who has it from :meth:`begin` on.
    :ivar credit: bytes of DATA that the other side has room for.
    :ivar is_over: whether nothing comes and goes any more.
    :ivar failed: called with the reason when it is lost before it has a handler.
    """

    def __init__(self, opening: Callable[[Link, bytes], tuple[int, bool]] | None = None) -> None:
        self._opening = opening
        self._head = b""
        self._reader = frames.Reader()
        self._line: Line | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self._heard = 0.0
        #: Frames that have come before there was a handler, and how many bytes of DATA are among them.
        self._early: list[tuple[int, bytes]] = []
        self._early_size = 0
        self.handler: Handler | None = None
        self.credit = frames.WINDOW
        self.is_over = False
        self.failed: Callable[[str], object] = _ignore

    @property
    def certificate(self) -> dict[str, Any]:
        """What the other side has shown; empty for nothing, and where there is no TLS."""
        return self._line.certificate if self._line is not None else {}

    @property
    def peer(self) -> str:
        """Where the other side is, for the log."""
        return self._line.peer if self._line is not None else ""

    @property
    def room(self) -> int:
        """How many bytes of the connection to send now: none while some of those before wait here."""
        return 0 if self._line is None or self._line.size else self.credit

    def begin(self, handler: Handler) -> None:
        """Give what comes to a handler from now on."""
        self.handler = handler
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        self._pulse = loop.call_later(PULSE, self._on_pulse, loop)
        early, self._early = self._early, []
        for kind, payload in early:
            self._got(kind, payload)

    def send(self, data: bytes | memoryview) -> None:
        """Send a frame, or a head."""
        line = self._line
        if line is None or self.is_over:
            return
        line.write(data)
        if line.size > _MOST_WAITING:
            self._lose("it does not read")

    def send_data(self, frame: bytes | memoryview) -> None:
        """Send a frame of DATA; there is credit for it."""
        self.credit -= len(frame) - frames.HEAD
        self.send(frame)

    def close(self) -> None:
        """End it when everything is sent."""
        self._end()
        if self._line is not None:
            self._line.close()

    def abort(self) -> None:
        """End it now."""
        self._end()
        if self._line is not None:
            self._line.let_go()

    # --- what its line calls ------------------------------------------------------------------------------------------

    def opened(self, line: Line) -> None:
        """Keep what sends."""
        self._line = line

    def came(self, data: bytes | memoryview) -> None:
        """Take what has come to frames, and those to the handler."""
        if not self.is_over:
            self._take(data)

    def emptied(self) -> None:
        """Nothing waits here any more."""
        if self.handler is not None and not self.is_over:
            self.handler.room()

    def ended(self, why: str) -> None:
        """It has ended, by either side or the network."""
        self._lose(why)

    def _take(self, data: frames.Payload) -> None:
        try:
            if self._opening is not None:
                self._head += data
                used, is_open = self._opening(self, self._head)
                self._head = self._head[used:]
                if not is_open:
                    if len(self._head) > heads.MOST + heads.MOST_BODY:
                        raise ProtocolError("too long a head")
                    return
                self._opening, data, self._head = None, self._head, b""
            for kind, payload in self._reader.feed(data):
                if self.handler is None:
                    self._keep(kind, bytes(payload))
                else:
                    self._got(kind, payload)
                if self.is_over:
                    return
        except ProtocolError as e:
            self._lose(str(e))

    def _keep(self, kind: int, payload: bytes) -> None:
        """Keep a frame until there is a handler."""
        if kind == frames.DATA:
            self._early_size += len(payload)
            if self._early and self._early[-1][0] == frames.DATA:
                payload = self._early.pop()[1] + payload
        self._early.append((kind, payload))
        if len(self._early) > _MOST_EARLY or self._early_size > frames.WINDOW:
            raise ProtocolError("frames before the link is open")

    def _got(self, kind: int, payload: frames.Payload) -> None:
        assert self.handler is not None
        self._heard = asyncio.get_running_loop().time()
        if kind == frames.CREDIT:
            self.credit += frames.credited(bytes(payload))
            if self.credit > 2 * frames.WINDOW:
                raise ProtocolError("more credit than there is")
            self.handler.room()
        elif kind != frames.PING:
            self.handler.got(kind, payload)

    def _on_pulse(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop.time() - self._heard > SILENCE:
            self._lose(f"nothing was heard of it for {SILENCE:g} s")
            return
        self.send(frames.write(frames.PING))
        self._pulse = loop.call_later(PULSE, self._on_pulse, loop)

    def _lose(self, why: str) -> None:
        if self.is_over:
            return
        self._end()
        if self._line is not None:
            self._line.let_go()
        if self.handler is not None:
            self.handler.lost(why)
        else:
            self.failed(why)

    def _end(self) -> None:
        self.is_over = True
        if self._pulse is not None:
            self._pulse.cancel()


def _ignore(why: str) -> None:
    """Hear why a link was lost that nobody waits for."""
