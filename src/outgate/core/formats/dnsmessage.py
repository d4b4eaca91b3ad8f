"""Read the question of a DNS message and the addresses of its answer, strictly, and write a refusal.

Only as much of RFC 1035 as judging a question takes: a message with one question in the class IN. What is not exactly
that is an error, and never guessed at. Pure.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

__all__ = [
    "FORMERR",
    "HEADER",
    "NOTIMP",
    "PTR",
    "REFUSED",
    "SERVFAIL",
    "TRANSFERS",
    "Malformed",
    "Question",
    "addresses",
    "is_answer",
    "question",
    "refusal",
    "reversed_address",
]

#: Bytes of the header (RFC 1035 section 4.1.1).
HEADER: Final = 12
#: Response codes.
FORMERR, SERVFAIL, NOTIMP, REFUSED = 1, 2, 4, 5
A, CNAME, PTR, AAAA = 1, 5, 12, 28
#: Record types that ask for a whole zone, in as many messages as it takes: IXFR, AXFR.
TRANSFERS: Final = (251, 252)
_IN: Final = 1
_MAX_NAME: Final = 255
#: A name whose compression leads through more jumps than it can have labels goes round in a circle.
_MOST_JUMPS: Final = 127
#: Records of an answer that are looked at.
_MOST_RECORDS: Final = 512


class Malformed(ValueError):
    """Not a question that is answered here.

    :ivar rcode: the response code to answer with, ``None`` for what gets no answer at all.
    """

    def __init__(self, rcode: int | None, text: str) -> None:
        super().__init__(text)
        self.rcode = rcode


class Question(NamedTuple):
    """What is asked.

    :ivar id: number of the message, which the answer repeats.
    :ivar name: in lower case, without the dot at the end; ``""`` for the root.
    :ivar type: number of the record type.
    :ivar end: where the question ends in the message.
    """

    id: int
    name: str
    type: int
    end: int


def question(message: bytes) -> Question:
    """Return the question of a query.

    :raises Malformed: it is no query, has another count of questions than one, answers in it, a compressed name, a name
        with a dot or anything but visible ASCII in a label, or another class than IN.
    """
    if len(message) < HEADER or message[2] & 0x80:
        raise Malformed(None, "no query")
    id, flags, questions, answers, authorities, _ = _counts(message)
    if flags >> 11 & 15:
        raise Malformed(NOTIMP, "another operation than a query")
    if questions != 1 or answers or authorities:
        raise Malformed(FORMERR, "not one question alone")
    name, at = _name(message, HEADER, may_jump=False)
    if len(message) < at + 4:
        raise Malformed(FORMERR, "it ends within the question")
    if int.from_bytes(message[at + 2 : at + 4], "big") != _IN:
        raise Malformed(REFUSED, "another class than IN")
    return Question(id, name, int.from_bytes(message[at : at + 2], "big"), at + 4)


def refusal(message: bytes, rcode: int, end: int = HEADER) -> bytes:
    """Return the answer that refuses a query.

    :param end: where its question ends; without it the answer does not repeat the question.
    """
    flags = 0x8000 | int.from_bytes(message[2:4], "big") & 0x7900 | 0x0080 | rcode
    count = 1 if end > HEADER else 0
    return message[:2] + flags.to_bytes(2, "big") + bytes((0, count, 0, 0, 0, 0, 0, 0)) + message[HEADER:end]


def is_answer(message: bytes, id: int, asked: bytes, end: int) -> bool:
    """Tell whether a message answers a question (RFC 5452 section 9.1): its number, and the question repeated.

    :param asked: the message that asked, and ``end`` where its question ends in it.
    """
    return (
        len(message) >= end
        and message[2] & 0x80 != 0
        and int.from_bytes(message[:2], "big") == id
        and message[4:6] == b"\0\1"
        and message[HEADER:end].lower() == asked[HEADER:end].lower()
    )


def addresses(message: bytes, asked: Question) -> list[tuple[str, int]]:
    """Return the (address, seconds to live) pairs of the name that was asked for, aliases followed; nothing on error.

    :param message: an answer to ``asked`` (:func:`is_answer`).
    """
    if asked.type not in (A, AAAA) or message[3] & 15:
        return []
    at, owner, found = asked.end, asked.name, []
    try:
        for _ in range(min(_counts(message)[3], _MOST_RECORDS)):
            name, at = _name(message, at)
            type, klass = (int.from_bytes(message[at + n : at + n + 2], "big") for n in (0, 2))
            ttl = int.from_bytes(message[at + 4 : at + 8], "big")
            start = at + 10
            at = start + int.from_bytes(message[at + 8 : start], "big")
            if at > len(message) or start > len(message):
                return []
            if klass != _IN or name != owner:
                continue
            data = message[start:at]
            if type == CNAME:  # the records of a chain stand in its order
                owner, _ = _name(message, start)
            elif type == asked.type == A and len(data) == 4:
                found.append((str(IPv4Address(data)), ttl))
            elif type == asked.type == AAAA and len(data) == 16:
                found.append((str(IPv6Address(data)), ttl))
    except Malformed:
        return []
    return found


def reversed_address(name: str) -> str | None:
    """Return the address that a name under ``in-addr.arpa`` or ``ip6.arpa`` asks about, ``None`` for another name."""
    labels = name.split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return str(IPv4Address(".".join(labels[3::-1])))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34 and all(len(label) == 1 for label in labels[:32]):
            return str(IPv6Address(int("".join(labels[31::-1]), 16)))
    except ValueError:
        pass
    return None


def _counts(message: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(message[at : at + 2], "big") for at in range(0, HEADER, 2))


def _name(message: bytes, at: int, may_jump: bool = True) -> tuple[str, int]:
    """Return the name at a place of a message, and where what follows it begins."""
    labels: list[str] = []
    end, jumps, total = -1, 0, 1
    while True:
        if at >= len(message):
            raise Malformed(FORMERR, "it ends within a name")
        length = message[at]
        if length >= 0xC0 and may_jump:
            if at + 1 >= len(message) or jumps == _MOST_JUMPS:
                raise Malformed(FORMERR, "a name that leads nowhere")
            end = at + 2 if end < 0 else end
            at = (length & 0x3F) << 8 | message[at + 1]
            jumps += 1
            continue
        if length > 63:
            raise Malformed(FORMERR, "no label")
        label = message[at + 1 : at + 1 + length]
        at += 1 + length
        total += 1 + length
        if total > _MAX_NAME + 1 or len(label) != length:
            raise Malformed(FORMERR, "no name")
        if not length:
            return ".".join(labels), (at if end < 0 else end)
        if any(not 0x21 <= byte <= 0x7E or byte == 0x2E for byte in label):
            raise Malformed(REFUSED, "a name that is no text")
        labels.append(label.decode("ascii").lower())
