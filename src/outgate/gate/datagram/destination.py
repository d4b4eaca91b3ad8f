"""Hold what is known of one address that a UDP socket sends to."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop
from collections.abc import Callable
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
    """

    __slots__ = (
        "decision",
        "header",
        "host",
        "is_denied",
        "is_told",
        "name",
        "policy",
        "reply",
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


def is_loopback(address: str) -> bool:
    """Tell whether an address is this host's own, by its text as the kernel writes it."""
    return address == "::1" or address.startswith(("127.", "::ffff:127."))
