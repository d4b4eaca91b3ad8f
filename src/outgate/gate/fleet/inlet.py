"""Take what a program sends out of its socket, in pieces that are copied once, all but the last byte."""

from __future__ import annotations

import contextlib
import errno
import os
from _socket import socket as native

from outgate.gate.relay.carry import OutWay, Tools


class Inlet(OutWay):
    """A program's way to another gate: nothing is sent on here, for what is sealed cannot be half sent.

    What a look copies is copied again when it is taken out: here all but a byte is taken out at once.

    :ivar is_dry: whether the last piece was all there was: what comes after it is an event of its own.
    """

    __slots__ = ("is_dry",)

    def __init__(self, tools: Tools, source: native) -> None:
        super().__init__(tools, source)
        self.is_dry = False

    def take(self, view: memoryview, most: int) -> int:
        """Take out what was not taken yet, and return how many bytes; 0 at the end.

        They go into the view behind its first byte, whose place is for the one that is held. The last of them stays in
        the queue, too, and is held from then on.

        :raises OSError: as a look does.
        """
        held = self.held
        there = self._waiting() - held
        count = min(there, most)
        if count <= 0:
            # How it ends, or that it goes on, is said by a look.
            if not self.source.recv_into(view[1:2], 1, self._look):
                return 0
            self.hold(held)
            count = 1
        ahead = held + count - 1
        taken = self._receive(ahead, view[1 - held :]) if ahead else 0
        if taken < held:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        count = taken - held
        self.held = 0
        with contextlib.suppress(BlockingIOError):  # nothing behind urgent data
            self.held = self.source.recv_into(view[count + 1 : count + 2], 1, self._look)
        count += self.held
        self.is_dry = count == there
        if not count:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return count
