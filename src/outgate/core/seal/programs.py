"""The programs of the seal, one for each moment at which the kernel asks about a socket that the gate has made.

A socket has the cgroup of the process that made it, for good; the kernel runs the programs of that cgroup whoever holds
the socket, and tells them in which cgroup the *caller* is. So "the caller is in the gate's cgroup" is the whole rule of
connect and sendmsg (where a datagram names its destination, and where data ride in a SYN).

Three ways lead round these calls, each closed by what it needs and nothing else does:

- ``connect(AF_UNSPEC)`` is asked about by nobody, and ``listen()`` then binds by itself: nothing comes in on a socket
  that listens.
- A source route (IP_OPTIONS, IPV6_RTHDR) sends the packets of a connected socket elsewhere: no packet that says its own
  way goes out. That needs no list of addresses, so there is none to keep equal to the policy, and the gate's own
  look-ups and ledger go where they always did.
- Options of a socket are its holder's: those that the table of :mod:`outgate.core.options` does not let a program set,
  such as one that moves its packets to another interface or undoes a pace, are the gate's alone here too.

What comes in and goes out is counted, and ``connect(AF_UNSPEC)`` takes the meter with it: :mod:`.counting`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from outgate.core import options
from outgate.core.seal.assembler import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R10,
    Instruction,
    Label,
    Program,
    add,
    call,
    jump,
    jump_if,
    jump_if_above,
    jump_unless,
    jump_unless_same,
    leave,
    load,
    mask,
    move,
    put,
    put_wide,
    shift_right,
    shift_right_by,
)
from outgate.core.seal.counting import HOP_BY_HOP, IN, IPV6, IPV6_HEADER, NEXT, OUT, SKB_LOAD_BYTES, count, keep_account

__all__ = ["HOOKS", "Hook", "programs"]

#: enum bpf_prog_type (linux/bpf.h).
_SKB, _SOCK_OPS, _SOCK_ADDR, _SOCKOPT = 8, 13, 18, 25
#: enum bpf_func_id.
_CURRENT_CGROUP_ID = 80
#: struct bpf_sock_addr: the address that is named, and its port.
_IP4, _IP6, _PORT = 4, 8, 24
#: struct __sk_buff; and of struct bpf_sock the family, and the state as include/net/tcp_states.h has it.
_SK, _FAMILY, _UNIX, _STATE, _LISTEN = 168, 4, 1, 72, 10
#: struct bpf_sockopt.
_LEVEL, _OPTION = 24, 28
#: First bytes: an IPv4 header without options; the version of an IPv6 header is in the upper half.
_PLAIN_IPV4 = 0x45
#: What may follow a header of IPv6 (RFC 8200).
_TCP, _ROUTING, _DESTINATION = 6, 43, 60
#: Options that the table does not let programs set by name and glibc's resolver must: IP_RECVERR, IPV6_RECVERR.
_RESOLVERS: Final = frozenset(((options.IP, 11), (options.IPV6, 25)))

_NO: Final[Program] = (Label("no"), put(R0, 0), leave())
_YES: Final[Program] = (Label("yes"), put(R0, 1), leave())
_ANSWERS: Final[Program] = (*_NO, *_YES)


class Hook(NamedTuple):
    """Where a program is attached.

    :ivar name: what it is called in the kernel, at most 15 bytes.
    :ivar kind: ``enum bpf_prog_type``.
    :ivar moment: ``enum bpf_attach_type``.
    """

    name: str
    kind: int
    moment: int


#: Every moment that is sealed. connect4 is not asked for ``::ffff:a.b.c.d`` on an IPv6 socket: connect6 is.
HOOKS: Final = {
    name: Hook(f"seal_{name}", kind, moment)
    for name, kind, moment in (
        ("connect4", _SOCK_ADDR, 10),
        ("connect6", _SOCK_ADDR, 11),
        ("sendmsg4", _SOCK_ADDR, 14),
        ("sendmsg6", _SOCK_ADDR, 15),
        ("bind4", _SOCK_ADDR, 8),
        ("bind6", _SOCK_ADDR, 9),
        ("option", _SOCKOPT, 22),
        ("end", _SOCK_OPS, 3),
        ("in", _SKB, 0),
        ("out", _SKB, 1),
    )
}


def programs(cgroup: int, live: int, ends: int) -> dict[str, Program]:
    """Return the program for each of :data:`HOOKS`.

    :param cgroup: the number of the gate's cgroup, which is that of its folder's inode.
    :param live: fd of the map of connections under way.
    :param ends: fd of the map where ended connections are written down.
    """
    only_gate = (*_unless_gate(cgroup, "no"), *_ANSWERS)
    return {
        "connect4": only_gate,
        "connect6": only_gate,
        "sendmsg4": only_gate,
        "sendmsg6": only_gate,
        "bind4": (move(R6, R1), *_unless_gate(cgroup, "other"), *_BIND4, *_ANSWERS),
        "bind6": (move(R6, R1), *_unless_gate(cgroup, "other"), *_BIND6, *_ANSWERS),
        "option": (move(R6, R1), *_unless_gate(cgroup, "other"), *_option_of_others(), *_ANSWERS),
        "end": (*keep_account(live, ends), *_YES),
        "in": (*_INCOMING, *_NO, Label("yes"), *count(live, IN), put(R0, 1), leave()),
        "out": (*_OUTGOING, *_NO, Label("yes"), *count(live, OUT), put(R0, 1), leave()),
    }


def _unless_gate(cgroup: int, other: str) -> Program:
    """Say yes to the gate, and go on at a label for everybody else."""
    return (
        call(_CURRENT_CGROUP_ID),
        put_wide(R1, cgroup),
        jump_unless_same(R0, R1, other),
        jump("yes"),
    )


#: Without a port; and then an IPv4 address in R1, 0.0.0.0 or below 127/8.
_WITHOUT_A_PORT: Final[Program] = (load(R1, R6, _PORT, 4), jump_unless(R1, 0, "no"))
_ANY_OR_LOOPBACK: Final[Program] = (jump_if(R1, 0, "yes"), mask(R1, 0xFF), jump_if(R1, 127, "yes"))
#: Whoever holds a socket may bind it to what :func:`outgate.client.outbound.bind` lets it: port 0 of the wildcard or of
#: loopback, which say nothing about where it leads. Addresses are in network order.
_BIND4: Final[Program] = (
    Label("other"),
    *_WITHOUT_A_PORT,
    load(R1, R6, _IP4, 4),
    *_ANY_OR_LOOPBACK,
)
#: The same for ``::``, ``::1``, ``::ffff:0.0.0.0`` and ``::ffff:127.0.0.0/104``.
_BIND6: Final[Program] = (
    Label("other"),
    *_WITHOUT_A_PORT,
    load(R1, R6, _IP6, 4),
    jump_unless(R1, 0, "no"),
    load(R1, R6, _IP6 + 4, 4),
    jump_unless(R1, 0, "no"),
    load(R2, R6, _IP6 + 8, 4),
    load(R1, R6, _IP6 + 12, 4),
    jump_unless(R2, 0, "mapped"),
    jump_if(R1, 0, "yes"),
    jump_if(R1, 1 << 24, "yes"),
    jump("no"),
    Label("mapped"),
    put_wide(R3, 0xFFFF0000),
    jump_unless_same(R2, R3, "no"),
    *_ANY_OR_LOOPBACK,
)
#: A socket that listens takes nothing in, not even the opening of a connection.
_INCOMING: Final[Program] = (
    move(R6, R1),
    load(R1, R6, _SK, 8),
    jump_if(R1, 0, "yes"),
    load(R1, R1, _STATE, 4),
    jump_unless(R1, _LISTEN, "yes"),
)
#: No packet that says its own way. A jumbo packet (RFC 2675, which the kernel makes itself where large segments are
#: switched on) has a header between, and TCP follows.
_OUTGOING: Final[Program] = (
    move(R6, R1),
    put(R2, 0),
    move(R3, R10),
    add(R3, -8),
    put(R4, 8),
    call(SKB_LOAD_BYTES),
    jump_unless(R0, 0, "no"),
    load(R1, R10, -8, 1),
    jump_if(R1, _PLAIN_IPV4, "yes"),
    shift_right(R1, 4),
    jump_unless(R1, IPV6, "no"),
    load(R1, R10, -8 + NEXT, 1),
    jump_if(R1, _ROUTING, "no"),
    jump_if(R1, _DESTINATION, "no"),
    jump_unless(R1, HOP_BY_HOP, "yes"),
    move(R1, R6),
    put(R2, IPV6_HEADER),
    move(R3, R10),
    add(R3, -8),
    put(R4, 1),
    call(SKB_LOAD_BYTES),
    load(R1, R10, -8, 1),
    jump_if(R1, _TCP, "yes"),
)


def _option_of_others() -> Program:
    """Say yes to what the table lets programs set: a level's options are the bits of one number."""
    settable = options.SETTABLE | _RESOLVERS
    small = {
        level: sum(1 << number for each, number in settable if each == level and number < 64) for level, _ in settable
    }
    lines: list[Instruction | Label] = [
        Label("other"),
        load(R1, R6, 0, 8),  # the socket
        load(R1, R1, _FAMILY, 4),
        jump_if(R1, _UNIX, "yes"),  # a pair, or a channel
        load(R1, R6, _LEVEL, 4),
        load(R2, R6, _OPTION, 4),
    ]
    for level, bits in sorted(small.items()):
        large = sorted(number for each, number in settable if each == level and number >= 64)
        lines += [
            jump_unless(R1, level, f"not {level}"),
            *(jump_if(R2, number, "yes") for number in large),
            put_wide(R3, bits),
            jump("look"),
            Label(f"not {level}"),
        ]
    return (
        *lines,
        jump("no"),
        Label("look"),
        jump_if_above(R2, 63, "no"),
        shift_right_by(R3, R2),
        mask(R3, 1),
        jump_if(R3, 1, "yes"),
    )
