"""Read a TCP socket's byte counters from the kernel, exact as of one instant.

Offsets in ``struct tcp_info`` (linux/tcp.h; ``bytes_sent`` since 4.19). Measured with losses, resets, stuck peers and
kills: ``bytes_sent - bytes_retrans + notsent`` is what the program wrote, to the byte.
"""

from __future__ import annotations

import struct
from _socket import IPPROTO_TCP
from _socket import socket as native
from typing import NamedTuple

TCP_INFO = 11
SIZE = 216
#: The fields at 0 (state), 120 (bytes acked), 128 (received), 144 (not sent), 200 (sent) and 208 (retransmitted).
_FIELDS = struct.Struct("=B119xQQ8xI52xQQ")
#: The same but for the bytes acked, which those of an established connection do not hang on.
PASSING = struct.Struct("=B127xQ8xI52xQQ")
#: Those at 44 and 52: milliseconds since data were last sent, and received.
_CLOCKS = struct.Struct("=44xI4xI")

ESTABLISHED, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING = range(
    1, 12
)
#: Our FIN is in the queue, and counts as one byte of it until it is sent.
_FIN_QUEUED = frozenset((FIN_WAIT1, CLOSING, LAST_ACK))
#: The peer's FIN has come in, and counts as one byte received.
_FIN_RECEIVED = frozenset((CLOSE_WAIT, LAST_ACK, CLOSING, TIME_WAIT))
_SYN_AND_FIN = 2
#: The handshake goes on.
PENDING = frozenset((SYN_SENT, SYN_RECV))


class Reading(NamedTuple):
    """One consistent snapshot: the TCP state, and the application bytes each way."""

    state: int
    sent: int
    received: int


def state(sock: native) -> int:
    """Return the TCP state of a socket alone, without taking its error from the program (SO_ERROR would)."""
    return sock.getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0]


def was_connected(sock: native) -> bool:
    """Tell of a socket in state CLOSE whether the peer had answered it: ``bytes_acked`` counts the SYN.

    Not of one whose failure a program has heard from connect(2), which takes the connection apart.
    """
    acknowledged: int = _FIELDS.unpack_from(sock.getsockopt(IPPROTO_TCP, TCP_INFO, SIZE))[1]
    return acknowledged > 0


def idle(sock: native) -> float:
    """Return for how many seconds no data have come or gone, by the kernel's clocks (tcpi_last_data_sent, _recv)."""
    return _idle(sock.getsockopt(IPPROTO_TCP, TCP_INFO, _CLOCKS.size))


def _idle(info: bytes) -> float:
    sent, received = _CLOCKS.unpack_from(info)
    seconds: float = min(sent, received) / 1000
    return seconds


def read(sock: native) -> Reading:
    """Return the counters of a socket."""
    return parse(sock.getsockopt(IPPROTO_TCP, TCP_INFO, SIZE))


def look(sock: native) -> tuple[Reading, float]:
    """Return what :func:`read` and :func:`idle` do, of one instant."""
    info = sock.getsockopt(IPPROTO_TCP, TCP_INFO, SIZE)
    return parse(info), _idle(info)


def pack(state: int, sent: int, received: int) -> bytes:
    """Return a ``struct tcp_info`` that :func:`parse` reads so. Pure.

    :param state: of a connection that was answered, or CLOSE of a socket that never was connected.
    """
    return _FIELDS.pack(state, int(state != CLOSE), received, 0, sent, 0)


def parse(info: bytes) -> Reading:
    """Return the counters in a ``struct tcp_info``. Pure.

    In state CLOSE the kernel no longer says whether a FIN was among the bytes received. It was where ours has been
    acknowledged (``bytes_acked`` counts the SYN and the FIN): both sides closed, and nobody reset. ``received`` may be
    one off only where a reset came after one FIN. Where nothing was ever acknowledged, the SYN included, there was no
    connection, or connect(2) took it apart: ``notsent`` then is an artefact of tcp_disconnect().
    """
    state, acknowledged, received, notsent, sent, retransmitted = _FIELDS.unpack_from(info)
    if notsent and state in _FIN_QUEUED:
        notsent -= 1
    if state == CLOSE and not acknowledged:
        return Reading(CLOSE, 0, 0)
    written = sent - retransmitted + notsent
    if received and (state in _FIN_RECEIVED or (state == CLOSE and acknowledged == written + _SYN_AND_FIN)):
        received -= 1
    return Reading(state, written, received)
