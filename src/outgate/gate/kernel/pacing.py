"""Set how fast a TCP socket sends and how much it lets others send, whoever holds it."""

from __future__ import annotations

import struct
from _socket import IPPROTO_TCP, SOL_SOCKET, TCP_NOTSENT_LOWAT, TCP_WINDOW_CLAMP
from _socket import socket as native

#: SO_MAX_PACING_RATE (socket(7)); 64 bits wide since Linux 4.20. TCP keeps the pace by a timer of its own where the
#: route has no fq scheduler, since 4.13.
_SO_MAX_PACING_RATE = 47
_RATE = struct.Struct("=Q")
_ANY = 2**64 - 1
#: Seconds' worth of bytes that may wait in the kernel where a socket is paced, and between how many bytes that is held.
AHEAD = 0.05
_LEAST, _MOST = 64 * 1024, 4 * 1024 * 1024
#: The widest window (RFC 7323, 2.3): the kernel offers less where its buffer has less.
_WIDEST = 65535 << 14
#: Below this a window is one that :func:`hold` has made: the kernel allows none below SOCK_MIN_RCVBUF / 2, 1,152 bytes.
_NARROW = 1400


def pace(sock: native, rate: int | None) -> None:
    """Have a socket send no more than ``rate`` bytes a second from its next packet on; ``None`` lets it go.

    What the kernel sends anew after a loss counts too, and headers do not. A packet that waits already for its time
    goes then. So that what is written is not far ahead of what is sent, hardly more may wait in the kernel than it
    sends in :data:`AHEAD`; a bound of the program's own on that (TCP_NOTSENT_LOWAT) is lost.

    :raises OSError: what setsockopt(2) says.
    """
    sock.setsockopt(SOL_SOCKET, _SO_MAX_PACING_RATE, _RATE.pack(_ANY if rate is None else max(rate, 1)))
    lowat = 0 if rate is None else int(min(max(rate * AHEAD, _LEAST), _MOST))  # 0: as the system says
    sock.setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, lowat)


def paced(sock: native) -> int | None:
    """Return what :func:`pace` has set."""
    rate: int = _RATE.unpack(sock.getsockopt(SOL_SOCKET, _SO_MAX_PACING_RATE, _RATE.size))[0]
    return None if rate == _ANY else rate


def hold(sock: native) -> int:
    """Have a connection offer hardly any window, and return the bound that it had, for :func:`release`.

    What the far end was offered before it still sends, up to the receive buffer; then a kilobyte now and then, for as
    long as the program reads. Not before it is connected: the scale of the window would be chosen by it (RFC 7323).

    :raises OSError: what setsockopt(2) says.
    """
    window = sock.getsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP)
    sock.setsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP, 1)
    return window


def held(sock: native) -> bool:
    """Tell whether :func:`hold` was the last word on a connection's window."""
    return 0 < sock.getsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP) < _NARROW


def release(sock: native, window: int = 0) -> None:
    """Let a connection offer its window again: up to ``window``, 0 for any. Raises ``OSError``."""
    sock.setsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP, window or _WIDEST)
