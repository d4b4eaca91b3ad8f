"""Have a datagram wait until it is known whether the fleet has room for it in a quota, and those behind it with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.datagram.destination import Destination

__all__ = ["back", "out"]

_Receive = Callable[[int], bytes]


class _Again:
    """Receives a packet once more that was received already, and then what comes after it."""

    __slots__ = ("_packet", "receive")

    def __init__(self, receive: _Receive, packet: bytes) -> None:
        self.receive = receive
        self._packet = packet

    def __call__(self, size: int) -> bytes:
        packet, self._packet = self._packet, b""
        return packet or self.receive(size)


def out(made: Datagrams, loop: asyncio.AbstractEventLoop, receive: _Receive, packet: bytes) -> _Receive:
    """Take nothing more from a program until there is an answer.

    :param packet: what is to wait.
    :returns: what gives that again, and then goes on with ``receive``.
    """
    inside, limit = made.inside, made.limit
    assert limit is not None

    def go_on() -> None:
        if not made.is_ended and made.inside is inside:
            loop.add_reader(inside.fileno(), made.on_inside)
            made.on_inside()

    loop.remove_reader(inside.fileno())
    limit.later(go_on)
    return _Again(receive.receive if isinstance(receive, _Again) else receive, packet)


def back(made: Datagrams, loop: asyncio.AbstractEventLoop, destination: Destination, payload: bytes) -> None:
    """Take nothing more from the network until there is an answer, and then this first."""
    outside, limit = made.outside, made.limit
    assert outside is not None
    assert limit is not None

    def go_on() -> None:
        if made.is_ended:
            return
        made.deliver(destination, payload)
        if made.limit is not None and made.limit.is_short:  # the answer was to what was asked before
            made.limit.later(go_on)
        else:
            loop.add_reader(outside.fileno(), made.on_outside)

    loop.remove_reader(outside.fileno())
    limit.later(go_on)
