"""Read requests and write replies: the typed side of :mod:`outgate.core.messages`."""

from __future__ import annotations

from typing import Any, Literal, Union

import msgspec

from outgate.core import messages
from outgate.errors import ProtocolError

_HOST = msgspec.Meta(max_length=messages.MAX_HOST)


class Greeting(msgspec.Struct, frozen=True):
    """What a client says of itself with its first packet on a channel."""

    v: tuple[int, int]
    role: str
    token: str
    parents: list[str] = []
    python: str = ""
    program: str = ""


class Hello(msgspec.Struct, frozen=True, tag_field="op", tag=messages.HELLO):
    """Open the anchor channel of a process."""

    hello: Greeting | None = None


class New(msgspec.Struct, frozen=True, tag_field="op", tag=messages.NEW):
    """Ask for born sockets."""

    family: int
    count: int
    hello: Greeting | None = None


class Connect(msgspec.Struct, frozen=True, tag_field="op", tag=messages.CONNECT):
    """Ask to dial."""

    sock: int
    host: str
    port: int
    flow: int = 0
    scope: int = 0
    hello: Greeting | None = None


class Resolve(msgspec.Struct, frozen=True, tag_field="op", tag=messages.RESOLVE):
    """Ask for a look-up."""

    call: str
    args: list[Any]
    hello: Greeting | None = None


class Close(msgspec.Struct, frozen=True, tag_field="op", tag=messages.CLOSE):
    """Say that this process has closed a socket."""

    sock: int
    shared: bool = True
    hello: Greeting | None = None


class Adopt(msgspec.Struct, frozen=True, tag_field="op", tag=messages.ADOPT):
    """Ask whether a socket of unknown origin is one of ours."""

    cookie: int
    hello: Greeting | None = None


class Why(msgspec.Struct, frozen=True, tag_field="op", tag=messages.WHY):
    """Ask for a decision without a dial."""

    host: str
    port: int
    transport: Literal["tcp", "udp"] = "tcp"
    app: str = ""
    hello: Greeting | None = None


class Stat(msgspec.Struct, frozen=True, tag_field="op", tag=messages.STAT):
    """Ask for counts."""

    hello: Greeting | None = None


class Reload(msgspec.Struct, frozen=True, tag_field="op", tag=messages.RELOAD):
    """Ask the gate to read its configuration again."""

    hello: Greeting | None = None


Request = Union[Hello, New, Connect, Resolve, Close, Adopt, Why, Stat, Reload]

_decoder = msgspec.json.Decoder(Request)
_encoder = msgspec.json.Encoder()


def decode(packet: bytes | bytearray | memoryview) -> Request:
    """Return the request in a packet.

    :raises ProtocolError: for anything that is not one, with what is wrong and where.
    """
    try:
        request: Request = _decoder.decode(packet)
        return request
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise ProtocolError(f"not a request: {e}") from None


def encode(reply: dict[str, Any]) -> bytes:
    """Return the packet of a reply."""
    return _encoder.encode(reply)


def problem(request: Request) -> str | None:
    """Return what is wrong with a well-formed request's values, or ``None``. Pure."""
    match request:
        case New(family=family, count=count):
            if family not in (4, 6):
                return f"family must be 4 or 6, not {family}"
            if not 1 <= count <= messages.MAX_BORN:
                return f"count must be 1 to {messages.MAX_BORN}, not {count}"
        case Connect(host=host, port=port, flow=flow, scope=scope):
            return (
                _host_problem(host)
                or _port_problem(port)
                or _range(flow, 0xFFFFF, "flow")
                or _range(scope, 0xFFFFFFFF, "scope")
            )
        case Why(host=host, port=port):
            return _host_problem(host) or _port_problem(port)
    return None


def greeting_problem(hello: Greeting) -> str | None:
    """Return what is wrong with a greeting, or ``None``; a version mismatch is not judged here."""
    if hello.role not in ("anchor", "request"):
        return f"role must be anchor or request, not {hello.role!r}"
    for token in (hello.token, *hello.parents):
        if not 16 <= len(token) <= 64:
            return "a token has 16 to 64 characters"
    if len(hello.parents) > 8:
        return "more than 8 parents"
    return None


def _host_problem(host: str) -> str | None:
    if len(host) > messages.MAX_HOST:
        return f"host is longer than {messages.MAX_HOST} characters"
    return "host has a null character" if "\0" in host else None


def _port_problem(port: int) -> str | None:
    return _range(port, 65535, "port")


def _range(value: int, top: int, name: str) -> str | None:
    return None if 0 <= value <= top else f"{name} must be 0 to {top}, not {value}"
