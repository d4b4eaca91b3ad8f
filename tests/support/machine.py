"""Run assembled BPF programs here: a plain reading of the instruction set, for the instructions that the seal uses.

The kernel's verifier says that a program ends and touches nothing it may not; what it *decides* is tried with this on
every input that matters, as the kernel could not be made to give them all.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

#: Where the stack ends, and where the context begins: the registers hold plain numbers.
STACK, CONTEXT = 0x1000, 0x2000
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}
_MASK = 2**64 - 1

#: Called with the first five arguments and the memory; what it returns is in R0.
Helper = Callable[["list[int]", "bytearray"], int]


def run(code: bytes, context: bytes, helpers: Mapping[int, Helper]) -> int:
    """Run a program to its end and return what it answers.

    :param context: what R1 points to; numbers in it may point into it (:data:`CONTEXT`).
    :param helpers: the kernel's functions, by number.
    """
    lines = [struct.unpack_from("<BBhi", code, at) for at in range(0, len(code), 8)]
    memory = bytearray(CONTEXT) + bytearray(context)
    registers = [0] * 11
    registers[1], registers[10] = CONTEXT, STACK
    at = steps = 0
    while True:
        op, both, offset, imm = lines[at]
        dst, src = both & 15, both >> 4
        at, steps = at + 1, steps + 1
        assert steps < 1000, "it does not end"
        value, other = registers[dst], registers[src]
        if op == 0x95:
            return registers[0]
        if op == 0x18:
            registers[dst] = (imm & 0xFFFFFFFF) | (lines[at][3] & 0xFFFFFFFF) << 32
            at += 1
        elif op == 0x85:
            registers[0] = helpers[imm](registers[1:6], memory) & _MASK
        elif op == 0xDB:
            at_it = slice(value + offset, value + offset + 8)
            memory[at_it] = (int.from_bytes(memory[at_it], "little") + other & _MASK).to_bytes(8, "little")
        elif op & 7 == 1:
            size = _SIZES[op & 0x18]
            registers[dst] = int.from_bytes(memory[other + offset : other + offset + size], "little")
        elif op & 7 == 3:
            size = _SIZES[op & 0x18]
            memory[value + offset : value + offset + size] = (other & (1 << 8 * size) - 1).to_bytes(size, "little")
        elif op & 7 == 7:
            operand = other if op & 8 else imm
            registers[dst] = _ALU[op & 0xF0](value, operand & _MASK) & _MASK
        elif op & 7 == 5:
            operand = other if op & 8 else imm & _MASK
            if op & 0xF0 == 0 or _JUMPS[op & 0xF0](value, operand):
                at += offset
        else:
            raise AssertionError(f"no such instruction: {op:#x}")


_ALU: dict[int, Callable[[int, int], int]] = {
    0x00: lambda one, other: one + other,
    0x10: lambda one, other: one - other,
    0x20: lambda one, other: one * other,
    0x50: lambda one, other: one & other,
    0x60: lambda one, other: one << (other & 63),
    0x70: lambda one, other: one >> (other & 63),
    0xB0: lambda one, other: other,
}
_JUMPS: dict[int, Callable[[int, int], bool]] = {
    0x10: lambda one, other: one == other,
    0x20: lambda one, other: one > other,
    0x50: lambda one, other: one != other,
}
