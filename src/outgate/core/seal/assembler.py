"""Put the seal's programs together: instructions with labels in, the bytes that bpf(2) loads out.

Just what the programs need of the kernel's instruction set (Documentation/bpf/standardization/instruction-set.rst):
``op:8 dst:4 src:4 offset:16 imm:32``, on processors whose numbers begin with their lowest byte.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = [
    "R0",
    "R1",
    "R2",
    "R3",
    "R4",
    "R6",
    "R7",
    "R8",
    "R9",
    "R10",
    "Instruction",
    "Label",
    "Program",
    "add",
    "add_to",
    "assemble",
    "call",
    "jump",
    "jump_if",
    "jump_if_above",
    "jump_unless",
    "jump_unless_same",
    "leave",
    "load",
    "mask",
    "move",
    "multiply",
    "plus",
    "put",
    "put_table",
    "put_wide",
    "shift_left",
    "shift_right",
    "shift_right_by",
    "store",
    "subtract",
]

#: What a call returns; its arguments; what outlives a call; the frame, whose stack lies below it.
R0, R1, R2, R3, R4, R6, R7, R8, R9, R10 = 0, 1, 2, 3, 4, 6, 7, 8, 9, 10

_FORM: Final = struct.Struct("<BBhi")
#: BPF_LDX | BPF_MEM, and the size of what is loaded.
_LOAD: Final = {1: 0x71, 4: 0x61, 8: 0x79}
#: BPF_STX | BPF_MEM, the same.
_STORE: Final = {4: 0x63, 8: 0x7B}
_WIDE = 0x18  # BPF_LD | BPF_IMM | BPF_DW, which takes two places
_TABLE = 1  # BPF_PSEUDO_MAP_FD


class Label(NamedTuple):
    """A place that jumps lead to."""

    name: str


class Instruction(NamedTuple):
    """One instruction; ``to`` is the label that it jumps to, in place of an offset."""

    op: int
    dst: int = 0
    src: int = 0
    offset: int = 0
    imm: int = 0
    to: str = ""


Program = Sequence["Instruction | Label"]


def put(dst: int, number: int) -> Instruction:
    """Put a number into a register."""
    return Instruction(0xB7, dst, imm=number)


def put_wide(dst: int, number: int) -> Instruction:
    """Put a number of 64 bits, without a sign, into a register."""
    return Instruction(_WIDE, dst, imm=number)


def put_table(dst: int, fd: int) -> Instruction:
    """Put the address of a map into a register, by the fd that it has while the program is loaded."""
    return Instruction(_WIDE, dst, _TABLE, imm=fd)


def move(dst: int, src: int) -> Instruction:
    """Copy a register."""
    return Instruction(0xBF, dst, src)


def add(dst: int, number: int) -> Instruction:
    """Add a number to a register."""
    return Instruction(0x07, dst, imm=number)


def plus(dst: int, src: int) -> Instruction:
    """Add one register to another."""
    return Instruction(0x0F, dst, src)


def multiply(dst: int, src: int) -> Instruction:
    """Multiply one register by another."""
    return Instruction(0x2F, dst, src)


def subtract(dst: int, src: int) -> Instruction:
    """Subtract one register from another."""
    return Instruction(0x1F, dst, src)


def mask(dst: int, number: int) -> Instruction:
    """Keep those bits of a register that a number has."""
    return Instruction(0x57, dst, imm=number)


def shift_left(dst: int, bits: int) -> Instruction:
    """Shift a register, filling with zeros."""
    return Instruction(0x67, dst, imm=bits)


def shift_right(dst: int, bits: int) -> Instruction:
    """Shift a register, filling with zeros."""
    return Instruction(0x77, dst, imm=bits)


def shift_right_by(dst: int, src: int) -> Instruction:
    """Shift a register by another, filling with zeros."""
    return Instruction(0x7F, dst, src)


def store(dst: int, offset: int, src: int, size: int) -> Instruction:
    """Store so many bytes of a register where another points, and an offset."""
    return Instruction(_STORE[size], dst, src, offset)


def add_to(dst: int, offset: int, src: int) -> Instruction:
    """Add a register to the 8 bytes where another points, and an offset, whatever other processors do there."""
    return Instruction(0xDB, dst, src, offset)


def load(dst: int, src: int, offset: int, size: int) -> Instruction:
    """Load so many bytes from where a register points, and an offset."""
    return Instruction(_LOAD[size], dst, src, offset)


def call(helper: int) -> Instruction:
    """Call a function of the kernel's, by its number in ``enum bpf_func_id``."""
    return Instruction(0x85, imm=helper)


def jump(to: str) -> Instruction:
    """Go on at a label."""
    return Instruction(0x05, to=to)


def jump_if(dst: int, number: int, to: str) -> Instruction:
    """Go on at a label if a register is a number (of 32 bits, with a sign)."""
    return Instruction(0x15, dst, imm=number, to=to)


def jump_unless(dst: int, number: int, to: str) -> Instruction:
    """Go on at a label unless a register is a number (of 32 bits, with a sign)."""
    return Instruction(0x55, dst, imm=number, to=to)


def jump_if_above(dst: int, number: int, to: str) -> Instruction:
    """Go on at a label if a register, as a number without a sign, is above another."""
    return Instruction(0x25, dst, imm=number, to=to)


def jump_unless_same(dst: int, src: int, to: str) -> Instruction:
    """Go on at a label unless two registers are alike."""
    return Instruction(0x5D, dst, src, to=to)


def leave() -> Instruction:
    """End the program; its answer is in :data:`R0`."""
    return Instruction(0x95)


def assemble(program: Program) -> bytes:
    """Return the bytes of a program.

    :raises ValueError: a jump to a label that is not there, or back (a loop), or a label that is there twice.
    """
    places: dict[str, int] = {}
    place = 0
    for item in program:
        if isinstance(item, Label):
            if item.name in places:
                raise ValueError(f"the label {item.name!r} is there twice")
            places[item.name] = place
        else:
            place += 2 if item.op == _WIDE else 1
    parts = []
    place = 0
    for item in program:
        if isinstance(item, Label):
            continue
        offset = item.offset
        if item.to:
            if places.get(item.to, -1) <= place:
                raise ValueError(f"a jump leads to {item.to!r}, and no such label follows it")
            offset = places[item.to] - place - 1
        registers = item.dst | item.src << 4
        if item.op == _WIDE:
            low, high = struct.unpack("<ii", struct.pack("<Q", item.imm))
            parts += [_FORM.pack(item.op, registers, 0, low), _FORM.pack(0, 0, 0, high)]
            place += 2
        else:
            parts.append(_FORM.pack(item.op, registers, offset, item.imm))
            place += 1
    return b"".join(parts)
