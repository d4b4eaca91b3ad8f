"""Make the sockets that doors listen at, and accept from them."""

from __future__ import annotations

import contextlib
from _socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPV6_V6ONLY,
    SO_KEEPALIVE,
    SO_REUSEADDR,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
)
from _socket import socket as native
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from outgate.gate.configuration.listening import is_loopback

if TYPE_CHECKING:
    from outgate.gate.configuration.settings import GateSettings
    from outgate.gate.doors.handshake import Handshake

__all__ = ["EVICTED", "HTTP", "LATE", "NO_REQUEST", "SOCKS5", "WRONG_TOKEN", "Door", "make", "shown"]

SOCKS5: Final = "socks5"
HTTP: Final = "http"
#: Why a client was turned away: wrong credentials, nothing of the protocol, no request in time, room for another.
WRONG_TOKEN: Final = "wrong-token"
NO_REQUEST: Final = "no-request"
LATE: Final = "late"
EVICTED: Final = "evicted"
#: Connections that may wait to be accepted. net.core.somaxconn caps it.
_BACKLOG: Final = 1024
#: What connections inherit. A client whose host has gone is noticed after two minutes: a dead one says nothing.
_OPTIONS: Final = (
    (IPPROTO_TCP, TCP_NODELAY, 1),
    (SOL_SOCKET, SO_KEEPALIVE, 1),
    (IPPROTO_TCP, TCP_KEEPIDLE, 60),
    (IPPROTO_TCP, TCP_KEEPINTVL, 15),
    (IPPROTO_TCP, TCP_KEEPCNT, 4),
)


class Door:
    """One listener.

    :param kind: :data:`SOCKS5` or :data:`HTTP`.
    :param wanted: ``host:port``, as the configuration has it.
    :param sock: made, and perhaps listening already.
    :ivar address: where it listens, once it does; port 0 has become a number.
    :ivar why: why it does not listen, or accept.
    :ivar talking: the handshakes at it, the oldest first.
    :ivar accepted: connections since the gate started; so are the other counts.
    :ivar refused: those with wrong credentials, or none of its protocol.
    :ivar evicted: those that were closed to let another one in.
    :ivar refusals: why clients were turned away, or what they asked for refused → how many: one of :data:`WRONG_TOKEN`,
        :data:`NO_REQUEST`, :data:`LATE` and :data:`EVICTED`, or the code of the gate's refusal.
    """

    def __init__(self, kind: str, wanted: str, sock: native, is_listening: bool = False) -> None:
        self.kind = kind
        self.wanted = wanted
        self.sock = sock
        self.address = ""
        self.why = ""
        self.talking: dict[Handshake, None] = {}
        self.accepted = self.refused = self.evicted = 0
        self.refusals: Counter[str] = Counter()
        self._is_listening = is_listening

    @property
    def place(self) -> str:
        """Where it listens, or is to."""
        return self.address or self.wanted

    @property
    def is_loopback(self) -> bool:
        """Whether programs of this host alone reach it."""
        return is_loopback(self.wanted)

    def listen(self) -> bool:
        """Listen, unless it does already, and tell whether it has begun to. Raises ``OSError``."""
        is_new = not self._is_listening
        if is_new:
            host, _, port = self.wanted.rpartition(":")
            self.sock.bind((host.strip("[]"), int(port)))
            self.sock.listen(_BACKLOG)
            self._is_listening = True
        self.sock.setblocking(False)
        self.address = shown(self.sock.getsockname())
        return is_new

    def accept(self) -> tuple[native, tuple[Any, ...]]:
        """Return a connection and the name of its other end.

        :raises BlockingIOError: nobody waits.
        :raises OSError: no descriptor is left.
        """
        fd, peer = self.sock._accept()  # type: ignore[attr-defined]  # as socket.accept() does
        return native(AF_INET6 if len(peer) == 4 else AF_INET, SOCK_STREAM, 0, fd), peer


def shown(name: tuple[Any, ...]) -> str:
    """Return an address and port as people write them."""
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def make(settings: GateSettings, taken: Iterable[Door]) -> list[Door]:
    """Return the doors of a configuration, as unbound sockets or as those that the gate before has listened at."""
    known = {(door.kind, door.wanted): door for door in taken}
    doors = []
    for kind, wanted in [(SOCKS5, each) for each in settings.socks] + [(HTTP, each) for each in settings.http_connect]:
        before = known.pop((kind, wanted)) if (kind, wanted) in known else None
        doors.append(before or Door(kind, wanted, _unbound(wanted)))
    for door in known.values():
        door.sock.close()
    return doors


def _unbound(wanted: str) -> native:
    family = AF_INET6 if wanted.startswith("[") else AF_INET
    sock = native(family, SOCK_STREAM)
    try:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        if family == AF_INET6:
            sock.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 1)
        for level, number, value in _OPTIONS:
            with contextlib.suppress(OSError):
                sock.setsockopt(level, number, value)
    except BaseException:
        sock.close()
        raise
    return sock
