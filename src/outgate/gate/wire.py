"""Read requests and write replies: the typed side of :mod:`outgate.core.formats.messages`.

What a value may be is said in its type, so that decoding judges it and says what is wrong, and where.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import Meta

from outgate.core.formats import messages
from outgate.errors import ProtocolError

Host = Annotated[str, Meta(max_length=messages.MAX_HOST)]
Port = Annotated[int, Meta(ge=0, le=65535)]
Token = Annotated[str, Meta(min_length=16, max_length=64)]


def _refuse_null(host: str) -> None:
    if "\0" in host:  # C would take what stands before it for the whole
        raise ValueError("host has a null character")


Rules = Annotated[list[Annotated[str, Meta(max_length=messages.MAX_RULE)]], Meta(max_length=messages.MAX_NARROW_RULES)]


class NarrowTable(msgspec.Struct, frozen=True):
    """Rules that a process has left itself, or given up."""

    allow: Rules | None = None
    deny: Rules = []
    names: Rules | None = None


class Greeting(msgspec.Struct, frozen=True):
    """What a client says of itself with its first packet on a channel."""

    v: tuple[int, int]
    role: Literal["anchor", "request"]
    token: Token
    parents: Annotated[list[Token], Meta(max_length=8)] = []
    python: str = ""
    program: str = ""
    labels: Annotated[str, Meta(max_length=messages.MAX_LABELS)] = ""
    identity: Annotated[str, Meta(max_length=messages.MAX_IDENTITY)] = ""
    pid: Annotated[int, Meta(ge=0)] = 0
    narrow: Annotated[list[NarrowTable], Meta(max_length=messages.MAX_NARROWINGS)] = []


class Hello(msgspec.Struct, frozen=True, tag_field="op", tag=messages.HELLO):
    """Open the anchor channel of a process."""

    hello: Greeting | None = None


class New(msgspec.Struct, frozen=True, tag_field="op", tag=messages.NEW):
    """Ask for born sockets."""

    family: Literal[4, 6]
    count: Annotated[int, Meta(ge=1, le=messages.MAX_BORN)]
    kind: Literal["tcp", "udp"] = "tcp"
    hello: Greeting | None = None


class Connect(msgspec.Struct, frozen=True, tag_field="op", tag=messages.CONNECT):
    """Ask to dial."""

    sock: int
    host: Host
    port: Port
    flow: Annotated[int, Meta(ge=0, le=0xFFFFF)] = 0
    scope: Annotated[int, Meta(ge=0, le=0xFFFFFFFF)] = 0
    wait: Annotated[float, Meta(ge=0)] = math.inf
    hello: Greeting | None = None

    def __post_init__(self) -> None:
        _refuse_null(self.host)


class Fetch(msgspec.Struct, frozen=True, tag_field="op", tag=messages.FETCH):
    """Ask for a line to URL Fetch."""

    hello: Greeting | None = None


class Harvest(msgspec.Struct, frozen=True, tag_field="op", tag=messages.HARVEST):
    """Ask how the dial of a relayed socket has ended, and perhaps claim it for a dial of one's own."""

    sock: int
    claim: bool = False
    hello: Greeting | None = None


class Reach(msgspec.Struct, frozen=True, tag_field="op", tag=messages.REACH):
    """Ask whether a UDP socket may send to a destination, and perhaps connect it."""

    sock: int
    host: Host
    port: Port
    flow: Annotated[int, Meta(ge=0, le=0xFFFFF)] = 0
    scope: Annotated[int, Meta(ge=0, le=0xFFFFFFFF)] = 0
    connect: bool = False
    hello: Greeting | None = None

    def __post_init__(self) -> None:
        _refuse_null(self.host)


class Name(msgspec.Struct, frozen=True, tag_field="op", tag=messages.NAME):
    """Ask for a relayed socket's own address and its peer's."""

    sock: int
    hello: Greeting | None = None


class Bind(msgspec.Struct, frozen=True, tag_field="op", tag=messages.BIND):
    """Ask to bind a relayed socket to a port of the kernel's choice."""

    sock: int
    host: Host
    port: Port = 0
    hello: Greeting | None = None

    def __post_init__(self) -> None:
        _refuse_null(self.host)


class Option(msgspec.Struct, frozen=True, tag_field="op", tag=messages.OPTION):
    """Set (with a value: a number, or bytes in hexadecimal) or read (with a size, 0 for a number) an option outside."""

    sock: int
    level: Annotated[int, Meta(ge=-0x80000000, le=0x7FFFFFFF)]
    number: Annotated[int, Meta(ge=-0x80000000, le=0x7FFFFFFF)]
    value: Annotated[int, Meta(ge=-0x80000000, le=0x7FFFFFFF)] | Annotated[str, Meta(max_length=2048)] | None = None
    size: Annotated[int, Meta(ge=0, le=1024)] = 0
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


class Share(msgspec.Struct, frozen=True, tag_field="op", tag=messages.SHARE):
    """Ask for a descriptor of a socket."""

    sock: int
    hello: Greeting | None = None


class Hand(msgspec.Struct, frozen=True, tag_field="op", tag=messages.HAND):
    """Give the gate the program's end of a relayed socket, for those who will redeem its descriptor."""

    sock: int
    hello: Greeting | None = None


class Offer(msgspec.Struct, frozen=True, tag_field="op", tag=messages.OFFER):
    """Say which sockets of a gate that has died this process holds."""

    cookies: Annotated[list[int], Meta(max_length=messages.MAX_OFFERED)]
    hello: Greeting | None = None


class Give(msgspec.Struct, frozen=True, tag_field="op", tag=messages.GIVE):
    """Give the gate duplicates of those that it wants."""

    hello: Greeting | None = None


class Redeem(msgspec.Struct, frozen=True, tag_field="op", tag=messages.REDEEM):
    """Ask for the socket of a descriptor."""

    descriptor: Annotated[str, Meta(max_length=messages.MAX_DESCRIPTOR)]
    exclusive: bool = False
    hello: Greeting | None = None


class Have(msgspec.Struct, frozen=True, tag_field="op", tag=messages.HAVE):
    """Say that the socket of a descriptor has come, or could not be kept."""

    descriptor: Annotated[str, Meta(max_length=messages.MAX_DESCRIPTOR)]
    came: bool = True
    hello: Greeting | None = None


class Touch(msgspec.Struct, frozen=True, tag_field="op", tag=messages.TOUCH):
    """Say that sockets are in use, though no byte moves."""

    socks: Annotated[list[int], Meta(max_length=messages.MAX_TOUCHED)]
    wait: Literal[-1, 0, 1] = 0
    hello: Greeting | None = None


class Why(msgspec.Struct, frozen=True, tag_field="op", tag=messages.WHY):
    """Ask for a decision without a dial."""

    host: Host
    port: Port
    transport: Literal["tcp", "udp"] = "tcp"
    app: str = ""
    hello: Greeting | None = None

    def __post_init__(self) -> None:
        _refuse_null(self.host)


class Last(msgspec.Struct, frozen=True, tag_field="op", tag=messages.LAST):
    """Ask what was last refused to a process, 0 for any."""

    pid: Annotated[int, Meta(ge=0)] = 0
    hello: Greeting | None = None


class Refused(msgspec.Struct, frozen=True, tag_field="op", tag=messages.REFUSED):
    """Say what a guard has refused by itself."""

    call: Literal["bind", "listen"]
    transport: Literal["tcp", "udp"] = "tcp"
    host: Host = ""
    port: Port = 0
    hello: Greeting | None = None


class Stat(msgspec.Struct, frozen=True, tag_field="op", tag=messages.STAT):
    """Ask for counts, and for those of the apps behind one in the order of their names."""

    after: str = ""
    hello: Greeting | None = None


class List(msgspec.Struct, frozen=True, tag_field="op", tag=messages.LIST):
    """Ask for a page of the open sockets."""

    after: int = -1
    app: str = ""
    holders: bool = True
    hello: Greeting | None = None


class Kill(msgspec.Struct, frozen=True, tag_field="op", tag=messages.KILL):
    """Ask to reset one connection."""

    lease: Annotated[str, Meta(max_length=64)]
    hello: Greeting | None = None


class Narrow(NarrowTable, frozen=True, tag_field="op", tag=messages.NARROW):
    """Ask to be held to less from now on."""

    hello: Greeting | None = None


class Quota(msgspec.Struct, frozen=True, tag_field="op", tag=messages.QUOTA):
    """Ask how the quotas stand: of one app, or of all behind ``after``, in the order of their names."""

    app: Annotated[str, Meta(max_length=64)] = ""
    after: Annotated[str, Meta(max_length=64)] = ""
    hello: Greeting | None = None


class Fleet(msgspec.Struct, frozen=True, tag_field="op", tag=messages.FLEET):
    """Ask which gates there are behind ``after``, or which gate has how much of the quotas of apps behind it."""

    after: Annotated[str, Meta(max_length=64)] = ""
    shares: bool = False
    hello: Greeting | None = None


class Policy(msgspec.Struct, frozen=True, tag_field="op", tag=messages.POLICY):
    """Ask which rules are in force for an app, from one of them on."""

    app: Annotated[str, Meta(max_length=64)] = ""
    after: Annotated[int, Meta(ge=0)] = 0
    hello: Greeting | None = None


class Reload(msgspec.Struct, frozen=True, tag_field="op", tag=messages.RELOAD):
    """Ask the gate to read its configuration again."""

    hello: Greeting | None = None


class Drain(msgspec.Struct, frozen=True, tag_field="op", tag=messages.DRAIN):
    """Ask the gate to open nothing new and end when nothing is open."""

    on: bool = True
    hello: Greeting | None = None


class TakeOver(msgspec.Struct, frozen=True, tag_field="op", tag=messages.TAKE_OVER):
    """Ask the gate for everything it has: the next one is here."""

    version: int
    hello: Greeting | None = None


Request = Union[
    Hello,
    New,
    Connect,
    Fetch,
    Harvest,
    Reach,
    Name,
    Bind,
    Option,
    Resolve,
    Close,
    Adopt,
    Share,
    Hand,
    Offer,
    Give,
    Redeem,
    Have,
    Touch,
    List,
    Kill,
    Why,
    Last,
    Refused,
    Stat,
    Quota,
    Fleet,
    Policy,
    Narrow,
    Reload,
    Drain,
    TakeOver,
]

#: What may come with fds, where they were asked for.
BRINGS_FDS = (Hand, Give)

#: What the gate's operator may ask without being an app.
ABOUT_THE_GATE = (Why, Last, Stat, Quota, Fleet, Policy, Reload, List, Kill, Drain, TakeOver)

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
