"""What a gate writes down for the one that comes after its death: one line a record, and what a whole file amounts to.

A line is the CRC-32 of what follows, a space, and one JSON array (msgspec). The file survives the gate in the kernel's
page cache; a line that was cut short, or that the disk has spoiled, is told by its sum and costs that line alone.
Nothing here does anything: :func:`line` makes bytes of a record, :func:`replay` makes a :class:`Past` of bytes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final, Optional, Union

import msgspec

from outgate.core.policy.decision import Decision

#: Goes up whenever a record changes: a gate believes no file of another number. That of a newer gate it does not touch
#: either; for what :data:`VERSION` was at the last release there must be a reader (CONTRIBUTING.md).
VERSION: Final = 1


class Header(msgspec.Struct, tag="gate", array_like=True, frozen=True):
    """What a file begins with.

    :ivar kernel: the kernel's boot id (random(4)): cookies and processes of another boot mean nothing.
    :ivar network: inode of the network namespace that the gate's sockets are in (namespaces(7)), 0 where not known.
    :ivar boot: what the names of its leases begin with; it stays as long as the file does.
    :ivar generation: how many gates have died or stopped before this one.
    :ivar first: the id that the names of its leases count from.
    :ivar reserved: ids up to this one may have been given out.
    :ivar key: what its descriptors are sealed with.
    """

    version: int
    kernel: str
    network: int
    boot: str
    generation: int
    first: int
    reserved: int
    key: bytes


class Known(msgspec.Struct, tag="process", array_like=True, frozen=True):
    """A process that has leases; ``number`` is what the leases in this file call it."""

    number: int
    app: str
    token: str
    pid: int
    uid: int
    gid: int
    program: str
    parents: list[str]
    fenced: bool
    labels: str


class Opened(msgspec.Struct, tag="open", array_like=True, frozen=True, gc=False):
    """A lease that has been dialled, or a UDP socket with its first destination.

    :ivar process: number of a :class:`Known` further up.
    :ivar serial: how many dials the socket has seen: each is a connection of its own, with lines of its own.
    :ivar via: the proxy that it leaves by, "" for none.
    :ivar before: bytes sent and received that are the gate's own words with that.
    :ivar begun: of the dial, by the kernel's monotonic clock, which is one for all processes and stops at a reboot.
    """

    id: int
    process: int
    cookie: int
    inode: int
    family: int
    transport: str
    path: str
    serial: int
    begun: float
    connect_ms: Optional[float]
    host: str
    port: int
    address: str
    decision: Decision
    via: str = ""
    before: tuple[int, int] = (0, 0)


class Read(msgspec.Struct, tag="read", array_like=True, frozen=True, gc=False):
    """The bytes of a lease as they were last read."""

    id: int
    sent: int
    received: int


class Reads(msgspec.Struct, tag="reads", array_like=True, frozen=True, gc=False):
    """The bytes of many leases as they were last read: id, sent and received of each."""

    readings: list[tuple[int, int, int]]


class Shared(msgspec.Struct, tag="shares", array_like=True, frozen=True, gc=False):
    """Whose growth of a UDP socket was that was noted at once: name, address, port, bytes sent and received of each."""

    id: int
    shares: list[tuple[str, str, int, int, int]]


class Ended(msgspec.Struct, tag="end", array_like=True, frozen=True, gc=False):
    """The last reading of a connection, whose line in the log is on its way."""

    id: int
    serial: int
    sent: int
    received: int
    duration: float
    connect_ms: Optional[float]
    how: str


class Logged(msgspec.Struct, tag="logged", array_like=True, frozen=True):
    """The lines of these ends, by id and dial, are in the log, or lost with its disk."""

    ends: list[tuple[int, int]]


class Lent(msgspec.Struct, tag="lent", array_like=True, frozen=True, gc=False):
    """A lease of which descriptors have been made; ``owed`` has a bit for each that may still be redeemed."""

    id: int
    tenure: str
    made: int
    owed: int
    generation: int = 0


class Reserved(msgspec.Struct, tag="ids", array_like=True, frozen=True, gc=False):
    """Ids up to this one may be given out from now on."""

    upto: int


Record = Union[Header, Known, Opened, Read, Reads, Shared, Ended, Logged, Lent, Reserved]

_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Record)
#: Characters of the sum, and the space behind it.
_SUM = 9


def line(record: Record) -> bytes:
    """Return the line of a record, with its line end."""
    text = _encode(record)
    return b"%08x %b\n" % (zlib.crc32(text), text)


def parse(text: bytes) -> Record | None:
    """Return the record in a line without its line end, or ``None`` where it is not one that was written here."""
    body = text[_SUM:]
    if text[:_SUM] != b"%08x " % zlib.crc32(body):
        return None
    try:
        record: Record = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None  # the sum holds: written by a gate of another version
    return record


@dataclass
class Left:
    """A lease that was open when the file ends.

    :ivar sent: application bytes as they were last read, not necessarily all; ``received`` likewise.
    :ivar shares: whose the growth of a UDP socket was, oldest first, as far back as the file goes.
    """

    opened: Opened
    known: Known
    sent: int = 0
    received: int = 0
    lent: Lent | None = None
    shares: list[tuple[str, str, int, int, int]] = field(default_factory=list)


@dataclass
class Past:
    """What a file amounts to.

    :ivar header: ``None`` where it has none that can be used; nothing else is there then.
    :ivar left: id → lease that was open.
    :ivar unlogged: ends whose lines may be missing from the log, with the lease and its last reading.
    :ivar damaged: lines that could not be read, a last one that was cut short not among them.
    :ivar problem: why the file cannot be used, "" where it can.
    :ivar newer: its version, where that is one that this gate is too old for; else 0. Whoever writes it anew then
        takes from the gate that can read it what it has to meter.
    """

    header: Header | None = None
    reserved: int = 0
    left: dict[int, Left] = field(default_factory=dict)
    unlogged: dict[tuple[int, int], tuple[Left, Ended]] = field(default_factory=dict)
    damaged: int = 0
    problem: str = ""
    newer: int = 0


def replay(data: bytes) -> Past:
    """Return what the records of a file amount to. Never raises, whatever the bytes are."""
    past = Past()
    lines = data.split(b"\n")
    lines.pop()  # what stands behind the last line end was cut short, or is nothing
    processes: dict[int, Known] = {}
    for text in lines:
        if not text:
            continue  # written to end a line that had been cut short
        record = parse(text)
        if past.header is None:
            version = record.version if isinstance(record, Header) else _version_in(text)
            if version and version != VERSION:
                past.problem = f"it is of version {version}, not {VERSION}"
                past.newer = version if version > VERSION else 0
                return past
            if not isinstance(record, Header):
                past.problem = "it does not begin as one"
                return past
            past.header, past.reserved = record, record.reserved
        elif record is None or not _take(past, processes, record):
            past.damaged += 1
    if past.header is None:
        past.problem = "it is empty"
    return past


def _version_in(text: bytes) -> int:
    """Return the version in a first line of whatever form, 0 where there is none: every form has it in this place."""
    body = text[_SUM:]
    if text[:_SUM] != b"%08x " % zlib.crc32(body):
        return 0
    try:
        begin = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0
    is_one = isinstance(begin, list) and len(begin) > 1 and begin[0] == "gate" and isinstance(begin[1], int)
    return begin[1] if is_one else 0


def _read(left: dict[int, Left], id: int, sent: int, received: int) -> None:
    lease = left.get(id)
    if lease is not None:  # else it was on its way to the file while the lease ended
        lease.sent, lease.received = sent, received


def _take(past: Past, processes: dict[int, Known], record: Record) -> bool:
    """Apply one record, and tell whether it made sense."""
    left = past.left
    if isinstance(record, Read):
        _read(left, record.id, record.sent, record.received)
    elif isinstance(record, Reads):
        for reading in record.readings:
            _read(left, *reading)
    elif isinstance(record, Shared):
        lease = left.get(record.id)
        if lease is not None:
            lease.shares += record.shares
    elif isinstance(record, Opened):
        known = processes.get(record.process)
        if known is None:
            return False  # its process was in a line that is damaged: nobody could say whose it is
        before = left.get(record.id)
        lent = before.lent if before is not None else None
        left[record.id] = Left(record, known, lent=lent)
    elif isinstance(record, Ended):
        lease = left.get(record.id)
        if lease is None or lease.opened.serial != record.serial:
            return True
        del left[record.id]
        past.unlogged[record.id, record.serial] = (lease, record)
    elif isinstance(record, Logged):
        for end in record.ends:
            past.unlogged.pop(end, None)
    elif isinstance(record, Known):
        processes[record.number] = record
    elif isinstance(record, Lent):
        lease = left.get(record.id)
        if lease is not None:
            lease.lent = record
    elif isinstance(record, Reserved):
        past.reserved = max(past.reserved, record.upto)
    else:
        return False  # a second header
    return True
