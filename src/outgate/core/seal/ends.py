"""Read what the seal has written down of a connection: bytes on the wire, and as it ended what it had carried.

The kernel clears a connection's counters when somebody takes it apart (``connect(AF_UNSPEC)``); the seal reads them
just before. What was never sent is not among them: it was thrown away.
"""

from __future__ import annotations

import struct

__all__ = ["carried", "wire", "wire_of_ended"]

_FORM = struct.Struct("=IIQQQQ")
_LIVE = struct.Struct("=QQ")
_SYN_SENT, _FIN_WAIT1, _FIN_WAIT2, _TIME_WAIT, _CLOSE_WAIT, _LAST_ACK, _CLOSING = 2, 4, 5, 6, 8, 9, 11
#: Our FIN has been sent, or may have been: until it is, it is not among what was.
_FIN_SENT = frozenset((_FIN_WAIT2, _TIME_WAIT, _LAST_ACK, _CLOSING))
#: The peer's FIN has come in, and counts as one byte received.
_FIN_RECEIVED = frozenset((_TIME_WAIT, _CLOSE_WAIT, _LAST_ACK, _CLOSING))


def carried(value: bytes) -> tuple[int, int]:
    """Return the application's bytes sent and received, at most 1 off where our FIN was under way (FIN_WAIT1).

    :param value: as :func:`outgate.core.seal.counting.keep_account` says.
    """
    state, under_way, acknowledged, received, _out, _in = _FORM.unpack(value)
    if state == _SYN_SENT:
        return 0, 0
    sent = acknowledged + under_way - 1 - (state in _FIN_SENT)  # the SYN counts as one
    return max(sent, 0), max(received - (state in _FIN_RECEIVED), 0)


def wire(value: bytes) -> tuple[int, int]:
    """Return the bytes on the wire, sent and received, of a connection that is under way."""
    sent, received = _LIVE.unpack(value)
    return sent, received


def wire_of_ended(value: bytes) -> tuple[int, int] | None:
    """Return the same of one that has ended; ``None`` where its packets were not counted: it has sent a SYN at least.

    :param value: as for :func:`carried`.
    """
    sent, received = _FORM.unpack(value)[4:]
    return (sent, received) if sent else None
