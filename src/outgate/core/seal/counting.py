"""The seal's programs that count: what a connection puts on the wire, and what it had carried when it ended.

A connection is taken into the map of those under way when the gate begins it, so whatever is in there has been counted
from its first packet on, and what is not, the gate estimates. As it ends it goes over to the map of ended ones.

What the kernel hands to these programs may be many segments at once, which the network card or the kernel cuts up
later (TSO, GSO) or had put together (GRO): each but the first has had headers of its own.
"""

from __future__ import annotations

from typing import Final

from outgate.core.seal.assembler import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    R10,
    Instruction,
    Label,
    Program,
    add,
    add_to,
    call,
    jump,
    jump_if,
    jump_unless,
    load,
    mask,
    move,
    multiply,
    plus,
    put,
    put_table,
    shift_left,
    shift_right,
    store,
    subtract,
)

__all__ = [
    "ENDED",
    "END_VALUE",
    "HOP_BY_HOP",
    "IN",
    "IPV6",
    "IPV6_HEADER",
    "KEY",
    "LIVE",
    "LIVE_VALUE",
    "NEXT",
    "OUT",
    "SKB_LOAD_BYTES",
    "count",
    "keep_account",
]

#: How many connections under way are counted, and how many ended ones are remembered until the gate has looked.
LIVE: Final = 1 << 17
ENDED: Final = 1 << 14
#: Bytes of a socket's cookie, by which both are found.
KEY: Final = 8
#: Of one that is under way: bytes that went out (u64) and came in (u64); where each is.
LIVE_VALUE: Final = 16
OUT: Final = 0
IN: Final = 8
#: Of one that has ended: see :func:`keep_account`.
END_VALUE: Final = 40

#: enum bpf_func_id.
_MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, SKB_LOAD_BYTES, _SOCKET_COOKIE, _SOCK_OPS_FLAGS = 1, 2, 3, 26, 46, 59
#: struct __sk_buff: its length, and of how many segments it is.
_LENGTH, _SEGMENTS = 0, 164
#: IPv6 (RFC 8200): the version, the length of a header, where it says what follows, and how long the option is by
#: which it says that it is a jumbo (RFC 2675). The kernel takes that out again when it cuts the packet up.
IPV6, IPV6_HEADER, NEXT, HOP_BY_HOP, _JUMBO = 6, 40, 6, 0, 8
#: Where a header of TCP says how long it is, in words of four bytes in the upper half.
_TCP_LENGTH = 12
#: struct bpf_sock_ops; when it is called, and which further calls are asked for (BPF_SOCK_OPS_STATE_CB_FLAG).
_OP, _OLD, _NEW, _SND_NXT, _SND_UNA, _BYTES_RECEIVED, _BYTES_ACKED = 0, 4, 8, 104, 108, 168, 176
_ON_CONNECT, _ON_STATE, _ASK_FOR_STATE, _CLOSE = 3, 10, 4, 7


def count(live: int, way: int) -> Program:
    """Add the packet in R6 to what its connection has put on the wire, with the headers of IP and TCP.

    :param live: fd of the map of connections under way.
    :param way: :data:`OUT` or :data:`IN`.
    """
    return (
        move(R1, R6),
        call(_SOCKET_COOKIE),
        store(R10, -16, R0, 8),
        *_ask(live, _MAP_LOOKUP, -16),
        jump_if(R0, 0, "not counted"),
        move(R7, R0),
        load(R8, R6, _LENGTH, 4),
        load(R9, R6, _SEGMENTS, 4),
        jump_if(R9, 0, "whole"),
        jump_if(R9, 1, "whole"),
        add(R9, -1),
        store(R10, -16, R9, 8),
        put(R2, 0),
        *_load_byte(),
        move(R9, R1),
        shift_right(R1, 4),
        jump_if(R1, IPV6, "IPv6"),
        mask(R9, 0x0F),
        shift_left(R9, 2),
        move(R2, R9),
        add(R2, _TCP_LENGTH),
        jump("TCP"),
        Label("IPv6"),
        put(R2, NEXT),
        *_load_byte(),
        put(R9, IPV6_HEADER),
        put(R2, IPV6_HEADER + _TCP_LENGTH),
        jump_unless(R1, HOP_BY_HOP, "TCP"),
        add(R8, -_JUMBO),
        add(R2, _JUMBO),
        Label("TCP"),
        *_load_byte(),
        shift_right(R1, 4),
        shift_left(R1, 2),
        plus(R9, R1),
        load(R1, R10, -16, 8),
        multiply(R9, R1),
        plus(R8, R9),
        Label("whole"),
        add_to(R7, way, R8),
        Label("not counted"),
    )


def _load_byte() -> tuple[Instruction, ...]:
    """Load the byte of the packet in R6 whose place is in R2 into R1."""
    return (
        move(R1, R6),
        move(R3, R10),
        add(R3, -8),
        put(R4, 1),
        call(SKB_LOAD_BYTES),
        jump_unless(R0, 0, "whole"),
        load(R1, R10, -8, 1),
    )


def keep_account(live: int, ends: int) -> Program:
    """Enter a connection as it begins, and ask to be told of its states; write down what it has carried as it ends.

    What is written down: state before (u32), bytes that were sent and not acknowledged (u32), acknowledged (u64),
    received (u64); on the wire out (u64) and in (u64), zeros where that was not counted. :mod:`.ends` reads it. The
    kernel sets the state before it clears its counters.

    :param live: fd of the map of connections under way.
    :param ends: fd of that of ended ones.
    """
    return (
        move(R6, R1),
        load(R1, R6, _OP, 4),
        jump_if(R1, _ON_CONNECT, "begin"),
        jump_unless(R1, _ON_STATE, "yes"),
        load(R1, R6, _NEW, 4),
        jump_unless(R1, _CLOSE, "yes"),
        load(R1, R6, _OLD, 4),
        store(R10, -40, R1, 4),
        load(R1, R6, _SND_NXT, 4),
        load(R2, R6, _SND_UNA, 4),
        subtract(R1, R2),
        store(R10, -36, R1, 4),
        load(R1, R6, _BYTES_ACKED, 8),
        store(R10, -32, R1, 8),
        load(R1, R6, _BYTES_RECEIVED, 8),
        store(R10, -24, R1, 8),
        put(R1, 0),
        store(R10, -16, R1, 8),
        store(R10, -8, R1, 8),
        *_store_cookie(),
        *_ask(live, _MAP_LOOKUP),
        jump_if(R0, 0, "not counted"),
        load(R1, R0, OUT, 8),
        store(R10, -16, R1, 8),
        load(R1, R0, IN, 8),
        store(R10, -8, R1, 8),
        Label("not counted"),
        *_update(ends, -40),
        # Last, so that it is in one of the two whenever somebody looks.
        *_ask(live, _MAP_DELETE),
        jump("yes"),
        Label("begin"),
        put(R1, 0),
        store(R10, -16, R1, 8),
        store(R10, -8, R1, 8),
        *_store_cookie(),
        *_update(live, -16),
        move(R1, R6),
        put(R2, _ASK_FOR_STATE),
        call(_SOCK_OPS_FLAGS),
    )


def _store_cookie() -> tuple[Instruction, ...]:
    return move(R1, R6), call(_SOCKET_COOKIE), store(R10, -48, R0, 8)


def _ask(table: int, helper: int, cookie: int = -48) -> tuple[Instruction, ...]:
    """Call a function of the kernel's about a map, with the cookie at a place of the stack."""
    return put_table(R1, table), move(R2, R10), add(R2, cookie), call(helper)


def _update(table: int, value: int) -> tuple[Instruction, ...]:
    """Put what is on the stack into a map, under the cookie there."""
    return (
        put_table(R1, table),
        move(R2, R10),
        add(R2, -48),
        move(R3, R10),
        add(R3, value),
        put(R4, 0),
        call(_MAP_UPDATE),
    )
