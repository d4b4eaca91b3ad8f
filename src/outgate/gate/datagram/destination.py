"""Hold what is known of the addresses that a UDP socket sends to."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from outgate.core.formats import frames

if TYPE_CHECKING:
    from outgate.core.policy.decide import Decision, Policy
    from outgate.gate.datagram.datagrams import Datagrams

#: What is sent to any address goes to loopback, and is answered from there.
_ANYWHERE = {bytes(4): bytes((127, 0, 0, 1)), bytes(16): bytes(15) + b"\1"}


class Destination:
    """One address that a socket has sent to, or was refused.

    :ivar header: what a datagram to it begins with.
    :ivar reply: what a datagram from it begins with.
    :ivar source: where its answers come from, as ``recvfrom`` says it.
    :ivar target: it, as ``sendto`` takes it.
    :ivar host: what the program asked for.
    :ivar name: the canonical name it is judged as, ``None`` for an address alone.
    :ivar is_denied: whether its decision is a denial.
    :ivar policy: that judged it last; ``None`` if that was another gate's.
    :ivar is_told: whether the program knows of the refusal.
    :ivar server: where it is one of the host's own name servers: what carries the questions there.
    :ivar has_moved: whether it has something that is not booked yet (:mod:`outgate.gate.datagram.counted`): the bytes
        ``sent`` and ``received``, and the datagrams that they were in.
    """

    __slots__ = (
        "decision",
        "has_moved",
        "header",
        "host",
        "is_denied",
        "is_told",
        "name",
        "policy",
        "received",
        "received_datagrams",
        "reply",
        "sent",
        "sent_datagrams",
        "server",
        "source",
        "target",
    )

    def __init__(
        self, header: bytes, host: str, name: str | None, decision: Decision, policy: Policy | None = None
    ) -> None:
        _, address, port, flow, scope = frames.unpack(header)
        self.header = header
        family, is_four = (AF_INET, True) if len(address) == 4 else (AF_INET6, False)
        source = _ANYWHERE.get(address, address)
        self.reply = header if source is address and not flow else frames.pack(frames.DATA, source, port, 0, scope)
        text = inet_ntop(family, source)
        self.source: Any = (text, port) if is_four else (text, port, 0, scope)
        text = inet_ntop(family, address)
        self.target: Any = (text, port) if is_four else (text, port, flow, scope)
        self.host = host
        self.name = name
        self.decision = decision
        self.is_denied = decision.denied
        self.policy = policy
        self.is_told = False
        self.server: Callable[[Datagrams, Destination, bytes], None] | None = None
        self.has_moved = False
        self.sent = self.sent_datagrams = self.received = self.received_datagrams = 0


class Destinations:
    """The destinations that one socket knows.

    :ivar find: header → destination, or ``None``.
    :ivar find_source: where an answer comes from → the destination that it answers for, or ``None``.
    :ivar sources: those that were let in, by where their answers come from.
    """

    __slots__ = ("_known", "find", "find_source", "sources")

    def __init__(self) -> None:
        self._known: dict[bytes, Destination] = {}
        self.sources: dict[Any, Destination] = {}
        self.find = self._known.get
        self.find_source = self.sources.get

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Destination]:
        return iter(tuple(self._known.values()))

    def put(self, destination: Destination) -> None:
        """Enter one as the newest, in the place of what was known by its header."""
        known = self._known.pop(destination.header, None)
        self._known[destination.header] = destination
        if not destination.is_denied:
            self.sources[destination.source] = destination
        elif self.sources.get(destination.source) is known:
            self.sources.pop(destination.source, None)

    def make_room(self, limit: int) -> None:
        """Forget the oldest until one more makes no more than ``limit``."""
        while len(self._known) >= limit:
            oldest = self._known.pop(next(iter(self._known)))
            if self.sources.get(oldest.source) is oldest:
                del self.sources[oldest.source]

    def clear(self) -> None:
        """Forget them all."""
        self._known.clear()
        self.sources.clear()


def is_loopback(address: str) -> bool:
    """Tell whether an address is this host's own, by its text as the kernel writes it."""
    return address == "::1" or address.startswith(("127.", "::ffff:127."))
