"""Put methods of ours before C's ``recv`` and ``send`` as soon as the process has a relayed socket.

Until then they are C's own, at C's speed. They are put into the class, and not into a class of its own for each such
socket: libraries compare the type of what they are given with ``socket.socket``, and call methods by the class.
"""

from __future__ import annotations

from outgate.client import standin
from outgate.client.outbound import carrying

_CALLS = ("recv", "recv_into", "send", "sendall")
_is_ready = False


def prepare() -> None:
    """See to it that the methods of all sockets know of relayed ones."""
    global _is_ready
    if not _is_ready:
        _is_ready = True
        for call in _CALLS:
            method = carrying(call)
            for cls in standin.targets:
                setattr(cls, call, method)
