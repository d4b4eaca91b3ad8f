"""Write and read what two gates say on a link, after the head: frames of a kind, a length and so many bytes.

Bytes of the connection go in DATA, and only as many as the other side has said it has room for (CREDIT, as in HTTP/2,
RFC 9113 §5.2), so that everything else gets through however slowly a program reads. Whoever gives up a connection that
has gone elsewhere (RECALL) gives back (RETURNED) what its program has not read.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final, Union

from outgate.errors import ProtocolError

#: Kinds of frames. ASK, ANSWER and RESET have a JSON object in them.
DATA: Final = 0
END: Final = 1  #: of the bytes this way: an end of file, or shut down
RESET: Final = 2  #: the connection has failed, or was cut; why, as the reply of a channel has it
CREDIT: Final = 3  #: four bytes: room for so many more
ASK: Final = 4  #: about the socket; one at a time
ANSWER: Final = 5
PING: Final = 6
TAKEN: Final = 7  #: the program has the socket
CLOSE: Final = 8  #: the program has closed it; after all that it had sent
ABORT: Final = 9  #: the same, and what it had sent may be lost
RECALL: Final = 10
RETURNED: Final = 11  #: bytes; an empty one is the last
KINDS: Final = 12  #: how many there are

#: Bytes of the longest frame, and how many bytes of DATA may be on their way.
MOST: Final = 256 * 1024
WINDOW: Final = 1024 * 1024

_HEAD: Final = struct.Struct("!BI")
_NUMBER: Final = struct.Struct("!I")
#: Bytes that go before those of a frame.
HEAD: Final = _HEAD.size

#: What is in a frame; a view is good until the next one.
Payload = Union[bytes, memoryview]


def write(kind: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return head(kind, len(payload)) + payload


def head(kind: int, size: int) -> bytes:
    """Return what goes before the bytes of a frame."""
    return _HEAD.pack(kind, size)


def put_head(frame: memoryview, kind: int, size: int) -> None:
    """Write the same at the beginning of a frame whose bytes are there already."""
    _HEAD.pack_into(frame, 0, kind, size)


def say(kind: int, said: Mapping[str, Any]) -> bytes:
    """Return a frame with a JSON object."""
    return write(kind, json.dumps(said).encode())


def said(payload: bytes) -> dict[str, Any]:
    """Return the object in a frame.

    :raises ProtocolError: there is none.
    """
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProtocolError("a frame without an object")
    return found


def credit(count: int) -> bytes:
    """Return the frame that gives room for so many bytes more."""
    return write(CREDIT, _NUMBER.pack(count))


def credited(payload: bytes) -> int:
    """Return how many bytes more there is room for.

    :raises ProtocolError: it is no number.
    """
    if len(payload) != _NUMBER.size:
        raise ProtocolError("a credit of no number")
    return int(_NUMBER.unpack(payload)[0])


class Reader:
    """Makes frames of pieces as they come. What is in DATA is given as it comes, which may be in parts."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._kind = DATA
        self._body = bytearray()
        #: Bytes that are still to come of the frame, whose head has come; 0: the next is a head.
        self._left = 0

    def feed(self, piece: Payload) -> Iterator[tuple[int, Payload]]:
        """Give the frames that are whole now, and what there is of DATA: kind and payload.

        :raises ProtocolError: a frame is too long, or of no kind.
        """
        view = memoryview(piece)
        at, end = 0, len(view)
        while at < end:
            if not self._left:
                lacking = HEAD - len(self._head)
                self._head += view[at : at + lacking]
                at += lacking
                if len(self._head) < HEAD:
                    return
                self._kind, self._left = _HEAD.unpack(self._head)
                self._head.clear()
                if self._kind >= KINDS or self._left > MOST:
                    raise ProtocolError("a frame of no kind, or too long")
                if not self._left and self._kind != DATA:
                    yield self._kind, b""
                continue
            part = view[at : at + self._left]
            at += len(part)
            self._left -= len(part)
            if self._kind == DATA:
                yield DATA, part
                continue
            self._body += part
            if not self._left:
                payload = bytes(self._body)
                self._body.clear()
                yield self._kind, payload
