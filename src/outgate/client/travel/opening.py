"""Open what was pickled of sockets and their files. Pickles name these functions as of :mod:`outgate.pickles`."""

from __future__ import annotations

import io
import socket as module

from outgate.client.travel.files import fill, note_newline, note_pair
from outgate.client.travel.sockets import redeem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["pair", "raw", "reader", "socket", "text", "writer"]


def socket(descriptor: str, facts: dict[str, Any], cls: Any = None) -> Any:
    """Return the socket of a descriptor.

    :param facts: ``proto``, ``timeout`` (seconds or ``None``), ``closed``: whether only files of it were open.
    :raises outgate.errors.UnknownDescriptor: its lease has ended, or is another app's.
    :raises outgate.errors.GateUnavailable: no gate answers.
    """
    sock = redeem(descriptor, facts.get("proto", 0), cls=cls)
    sock.settimeout(facts.get("timeout"))
    if facts.get("closed"):
        sock._closed = True
    return sock


def raw(sock: Any, mode: str) -> Any:
    """Return an unbuffered file of a socket."""
    sock._io_refs += 1
    return module.SocketIO(sock, mode)  # type: ignore[arg-type]


def reader(raw: Any, ahead: bytes, size: int) -> Any:
    """Return a file for reading that has read ahead."""
    file = io.BufferedReader(raw, size)
    fill(file, raw, ahead)
    return file


def writer(raw: Any, size: int) -> Any:
    """Return a file for writing."""
    return io.BufferedWriter(raw, size)


def pair(raw: Any, ahead: bytes, size: int) -> Any:
    """Return a file for both that has read ahead."""
    file = io.BufferedRWPair(raw, raw)
    note_pair(file, raw, size)
    fill(file, raw, ahead)
    return file


def text(
    buffer: Any,
    encoding: str,
    errors: str,
    newline: str | None,
    line_buffering: bool,
    write_through: bool,
    mode: str | None,
) -> Any:
    """Return a file of text."""
    file: Any = io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering, write_through)
    note_newline(file, newline)
    if mode is not None:
        file.mode = mode
    return file


for _function in (socket, raw, reader, writer, pair, text):
    _function.__module__ = "outgate.pickles"
