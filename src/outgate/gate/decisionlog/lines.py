"""Make the lines of the decision log: what may stand in one, and nothing a program chose can break it.

:data:`FIELDS` is the one table; ``docs/log.md`` is made from it. The two frequent lines are :func:`joined` of
parts that are types, which the encoder writes without a look at any key; every other line is a dict.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

__all__ = [
    "FIELDS",
    "VERSION",
    "Alike",
    "Field",
    "Outcome",
    "chosen",
    "clean",
    "encode",
    "event",
    "joined",
    "problems",
    "stamp",
]

#: The ``v`` of every line. A field may be added without raising it; one is never renamed or given another meaning.
VERSION: Final = 1


class Field(NamedTuple):
    """One field of the log: the lines it stands in, its JSON type, what it means, the ``v`` it came with, its length.

    ``events`` is ``every``, ``decision``, ``end``, ``both`` or the name of another event. ``limit`` is the most
    characters of a string; a longer one is cut and ends in an ellipsis.
    """

    events: str
    type: str
    meaning: str
    since: int = 1
    limit: int = 253


#: name → field, in the order in which they stand in a line. A field that does not apply is left out of the line.
FIELDS: Final[Mapping[str, Field]] = {
    "v": Field("every", "integer", "version of this table"),
    "time": Field("every", "string", "when it happened: RFC 3339, UTC, milliseconds"),
    "event": Field("every", "string", "`decision`, `end`, or what else the gate has to say (`start`, `reload`, …)"),
    "lease": Field("both", "string", "the lease; the same in the decision and in the end of one connection"),
    "app": Field("both", "string", "the app that policy and bill go by"),
    "pid": Field("both", "integer", "process that asked, as the gate sees it"),
    "uid": Field("both", "integer", "user of that process, from the kernel"),
    "program": Field("both", "string", "name of the program, as it gave it"),
    "host": Field("both", "string", "name or address that was asked for, as the program gave it"),
    "port": Field("both", "integer", "port that was asked for"),
    "name": Field("both", "string", "name it was judged as: asked for, or that the app had looked the address up by"),
    "transport": Field("both", "string", "`tcp` or `udp`"),
    "address": Field("both", "string", "address that was judged and dialled; in the end of a UDP socket its first"),
    "class": Field("both", "string", "class of that address: `public`, `private`, `loopback`, …", limit=64),
    "verdict": Field("both", "string", "`allow`, `deny`, or `report` (let through, but would be denied)", limit=16),
    "rule": Field("both", "string", "the rule that decided", limit=320),
    "reason": Field("both", "string", "why, in a sentence; the same that the program was given", limit=1000),
    "policy": Field("both", "integer", "number of the policy in force; a reload raises it"),
    "path": Field("both", "string", "`direct` or `relay`", limit=16),
    "via": Field("both", "string", "the proxy that it leaves by", limit=300),
    "cure": Field("decision", "string", "what would permit it, as a line for the configuration", limit=400),
    "connected": Field("end", "boolean", "whether the connection was ever established"),
    "connect_ms": Field("end", "number", "milliseconds from the dial to the established connection"),
    "sent": Field("end", "integer", "bytes the program sent; these are billed"),
    "received": Field("end", "integer", "bytes the program received"),
    "duration": Field("end", "number", "seconds from the decision to the end"),
    "how": Field("end", "string", "how it ended: closed by the program, its process ended, cut, …"),
    "datagrams_sent": Field("end", "integer", "of UDP: datagrams the program sent that went out"),
    "datagrams_received": Field("end", "integer", "of UDP: datagrams the program was given"),
    "dropped": Field("end", "integer", "of UDP: datagrams of the program that were refused, or had no way out"),
    "strangers": Field("end", "integer", "of UDP: datagrams dropped that came from where the socket had not sent to"),
    "incomplete": Field("end", "boolean", "it ended while no gate ran: bytes after the last reading are missing"),
    "count": Field("log-dropped", "integer", "lines lost because the log could not be written"),
    "judged": Field("reload", "integer", "open connections, and destinations of UDP sockets, that were judged again"),
    "cut": Field("reload", "integer", "how many of them the new policy denies, and were ended"),
    "reported": Field("reload", "integer", "how many it denies, or would, and were let be"),
    "ms": Field("reload", "number", "milliseconds that it took"),
    "superseded": Field("reload", "boolean", "whether the next reload, or the gate's end, came before all were judged"),
    "allowed": Field("log-folded", "integer", "decisions that allowed, beyond gate.log_rate and so not in the log"),
    "denied": Field("log-folded", "integer", "decisions that denied, likewise"),
    "ended": Field("log-folded", "integer", "ends of connections, likewise"),
    "others": Field("log-folded", "integer", "other lines about the app, likewise"),
    "seconds": Field("log-folded", "number", "since the first of them"),
}

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clean(text: str, limit: int = 253) -> str:
    """Return text that a program chose in a form that is safe to print, store and count on.

    What is not printable (controls, line ends, invisible characters, those that turn the direction of a line, lone
    surrogates) becomes ``\\x1b``, ``\\u202e``, ``\\udc80``; what is longer than ``limit`` characters is cut and ends in
    an ellipsis. The result encodes as UTF-8 whatever the input, and cleaning it again changes nothing (so a backslash
    stays a backslash).

    :param limit: the most characters of the result, at least 1. 253 is the longest name of the DNS (RFC 1035).
    """
    # No more than limit + 1 characters can matter: an escape only ever makes text longer.
    safe = text[: limit + 1]
    if not safe.isprintable():  # the common case costs one scan
        safe = "".join(character if character.isprintable() else _escape(character) for character in safe)
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def problems(line: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with one decoded line of the log, held against :data:`FIELDS`; nothing is right."""
    event = line.get("event")
    found = [f"{name} is missing" for name in ("v", "time", "event") if name not in line]
    for name, value in line.items():
        field = FIELDS.get(name)
        if field is None:
            if event in ("decision", "end"):
                found.append(f"{name} is not in the table")
        elif not isinstance(value, _TYPES[field.type]) or (isinstance(value, bool) and field.type != "boolean"):
            found.append(f"{name} is {value!r} and not of type {field.type}")
        elif field.events == "end" and event == "decision":
            found.append(f"{name} stands in a decision")
    return found


@functools.lru_cache(maxsize=4)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


@functools.lru_cache(maxsize=4)
def _millisecond(number: int) -> str:
    whole, thousandths = divmod(number, 1000)
    return f"{_second(whole)}.{thousandths:03d}Z"


@functools.lru_cache(maxsize=8)
def _begin(number: int, event: bytes) -> bytes:
    """Return what all lines of an event begin with that are of one millisecond: a busy gate makes several in each."""
    return b'{"v":%d,"time":"%b","event":"%b",' % (VERSION, _millisecond(number).encode(), event)


def stamp(seconds: float) -> str:
    """Return a moment (seconds since 1970) in RFC 3339, UTC, rounded to milliseconds."""
    return _millisecond(round(seconds * 1000))


def _part(name: str, *events: str) -> Any:
    fields = [
        (key, Any, msgspec.field(name=key, default=None))
        for key, field in FIELDS.items()
        if field.events in events and key != "lease"
    ]
    return msgspec.defstruct(name, fields, omit_defaults=True, gc=False)


#: What stands in the lines of a lease alike, behind its name, and the cure of a decision. A field that does not apply
#: is ``None`` and left out; the parameters stand in the order of the table. What a program chose must have been
#: :func:`chosen`.
Alike: Final = _part("Alike", "both", "decision")
#: What stands in an end alone, likewise.
Outcome: Final = _part("Outcome", "end")


def chosen(text: str, limit: int = 253) -> str:
    """Return text that a program chose, clean: as :func:`clean`, at the price of two built-in calls where it is."""
    return text if len(text) <= limit and text.isprintable() else clean(text, limit)


def _plain(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return chosen(value, limit)
    return round(value, 6) if isinstance(value, float) else value


#: Encode a line, without its line end.
encode: Final = msgspec.json.Encoder(enc_hook=lambda value: clean(str(value))).encode


def joined(moment: float, event: bytes, lease: str, alike: bytes, outcome: bytes = b"{}") -> bytes:
    """Return the encoded line of a decision or an end, made of encoded parts: those of one destination are many.

    :param moment: seconds since 1970.
    :param event: ``decision`` or ``end``.
    :param lease: as the gate names it; ``""`` for none.
    :param alike: :data:`Alike`, encoded.
    :param outcome: :data:`Outcome`, encoded.
    """
    begin = _begin(round(moment * 1000), event)
    if lease:
        begin = b'%b"lease":"%b",' % (begin, lease.encode())
    return b"%b%b,%b" % (begin, alike[1:-1], outcome[1:]) if len(outcome) > 2 else begin + alike[1:]


def event(name: str, moment: float, fields: dict[str, Any]) -> dict[str, Any]:
    """Return a line that is neither a decision nor an end: ordered as the table, with fields of its own behind.

    :param moment: seconds since 1970.
    :param fields: of any type; what JSON has no form for is written as its text.
    """
    ready: dict[str, Any] = {"v": VERSION, "time": stamp(moment), "event": clean(name)}
    for known, field in FIELDS.items():
        value = fields.pop(known, None)
        if value is not None:
            ready[known] = _plain(value, field.limit)
    for other, value in fields.items():
        if value is not None and other not in ready:
            ready[clean(other, 64)] = _plain(value, 1000)
    return ready
