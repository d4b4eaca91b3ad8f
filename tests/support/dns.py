"""Write and read the little of DNS messages that the tests' own name server and client need (RFC 1035, section 4)."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import NamedTuple, Sequence

from support.namespaces import Namespace

A, CNAME, TXT, AAAA = 1, 5, 16, 28
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, REFUSED = 0, 1, 2, 3, 5
#: Flags of an answer that claims authority (QR, AA, RD, RA), and the one that says it was cut off.
ANSWER, TRUNCATED = 0x8580, 0x0200


class Question(NamedTuple):
    """What a query asks: its id, the name in lower case without the last dot, and the record type."""

    id: int
    name: str
    kind: int


class Record(NamedTuple):
    """One record of an answer: owner, type, data as on the wire, and seconds it may be kept."""

    name: str
    kind: int
    data: bytes
    ttl: int = 0


def pack_name(name: str) -> bytes:
    """Write a name as labels; each character is one byte, so that odd ones can be sent too."""
    labels = [label.encode("latin-1") for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def address(name: str, text: str, ttl: int = 0) -> Record:
    """Make the A or AAAA record for a numeric address."""
    parsed = ipaddress.ip_address(text)
    return Record(name, A if parsed.version == 4 else AAAA, parsed.packed, ttl)


def alias(name: str, target: str, ttl: int = 0) -> Record:
    """Make a CNAME record."""
    return Record(name, CNAME, pack_name(target), ttl)


def read_question(query: bytes) -> Question:
    """Read the first question of a query. Raises ``ValueError`` if there is none."""
    labels, at = [], 12
    try:
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        (kind,) = struct.unpack_from("!H", query, at + 1)
        (number,) = struct.unpack_from("!H", query)
    except (IndexError, struct.error):
        raise ValueError("no question") from None
    return Question(number, ".".join(labels).lower(), kind)


def pack_query(name: str, kind: int = A, number: int = 0x4F47) -> bytes:
    """Write a query for one record type of a name, recursion desired."""
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + pack_name(name) + struct.pack("!2H", kind, 1)


def pack_answer(question: Question, records: Sequence[Record] = (), code: int = NOERROR, flags: int = 0) -> bytes:
    """Write the answer to a question, without compression."""
    head = struct.pack("!6H", question.id, ANSWER | flags | code, 1, len(records), 0, 0)
    body = pack_name(question.name) + struct.pack("!2H", question.kind, 1)
    for name, kind, data, ttl in records:
        body += pack_name(name) + struct.pack("!2HIH", kind, 1, ttl, len(data)) + data
    return head + body


def ask(namespace: Namespace, server: str, name: str) -> bytes:
    """Ask a server from a namespace for a name's A record once, and return the answer.

    :raises OSError: no answer came within a second.
    """
    query = pack_query(name)
    with namespace.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.connect((server, 53))
        sock.send(query)
        answer = sock.recv(65535)
    if answer[:2] != query[:2]:
        raise OSError("an answer to another question")
    return answer
