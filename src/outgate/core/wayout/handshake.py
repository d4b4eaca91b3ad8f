"""What the handshakes with proxies have in common: bytes to say, bytes that were answered, and how it can fail."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

__all__ = ["FAR_ENDS", "Failed", "Handshake", "Target", "host_of", "printable"]

#: What a far end says of a connect by itself, and so is never wrapped in a refusal of the gate's.
FAR_ENDS: Final = frozenset((errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ETIMEDOUT))


class Target(NamedTuple):
    """Where the proxy is to connect: a name or a numeric address, and a port."""

    host: str
    port: int


class Failed(Exception):
    """The proxy has not let the connection through.

    :ivar number: the errno, where the proxy said what the far end said; 0 for what it said itself.
    :ivar code: else the row of :data:`outgate.errors.TABLE`.
    :ivar facts: of that row, without the proxy itself.
    """

    def __init__(self, number: int = 0, code: str = "", facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(number, code, facts)
        self.number = number
        self.code = code
        self.facts = dict(facts or {})


class Handshake(Protocol):
    """One handshake: pure, told what has come, and asked what is to be said.

    :ivar is_done: the proxy has connected; whatever comes now is the far end's.
    :ivar has_asked: it was asked to connect, and what it waits for now is the far end.
    """

    is_done: bool
    has_asked: bool

    def say(self) -> bytes:
        """Return what is to be sent now, and not again."""

    def take(self, seen: bytes) -> int:
        """Look at bytes that have come and return how many of them, from the first, belong to the handshake.

        Whoever calls takes exactly these out of the socket: what comes behind is the far end's first word.

        :raises Failed: it is over, and no connection came of it.
        """


def host_of(host: str) -> str:
    """Return a host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def printable(raw: bytes, most: int = 80) -> str:
    """Return what a proxy sent as text that is safe in a sentence."""
    text = raw[: most + 1].decode("latin-1")
    safe = "".join(each if " " <= each <= "~" else "." for each in text)
    return safe if len(safe) <= most else safe[:most] + "…"
