"""Assemble classic BPF from instructions that jump to labels.

One ``struct sock_filter`` is ``code jt jf k``: 16, 8, 8 and 32 bits. A conditional jump reaches 255 instructions ahead;
where a label is farther the assembler says so, and a :meth:`Program.jump` in between reaches any distance.

Source: ``include/uapi/linux/filter.h``, and the calls that seccomp permits (``seccomp_check_filter``).
"""

from __future__ import annotations

import struct

#: ``struct sock_filter``.
INSTRUCTION = struct.Struct("=HBBI")
#: The most instructions of one program (BPF_MAXINSNS).
MOST = 4096

LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP = 0x05  # BPF_JMP | BPF_JA
EQUAL, GREATER, AT_LEAST, ANY_BIT = 0x15, 0x25, 0x35, 0x45  # BPF_JMP | BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET
RETURN = 0x06  # BPF_RET | BPF_K

#: The label of the next instruction.
NEXT = ""


class Program:
    """A program in the making; :meth:`assemble` gives its bytes."""

    def __init__(self) -> None:
        self._instructions: list[tuple[int, int, str, str]] = []
        self._places: dict[str, int] = {}

    def label(self, name: str) -> None:
        """Name the next instruction. Raises ``ValueError`` where the name is taken."""
        if name in self._places or name == NEXT:
            raise ValueError(f"a second label {name!r}")
        self._places[name] = len(self._instructions)

    def load(self, offset: int) -> None:
        """Load 32 bits of the data, at an offset in bytes."""
        self._instructions.append((LOAD, offset, NEXT, NEXT))

    def mask(self, bits: int) -> None:
        """Keep only these bits of what is loaded."""
        self._instructions.append((AND, bits, NEXT, NEXT))

    def test(self, kind: int, value: int, then: str = NEXT, otherwise: str = NEXT) -> None:
        """Compare what is loaded (:data:`EQUAL`, :data:`GREATER`, :data:`AT_LEAST`, :data:`ANY_BIT`) and jump."""
        self._instructions.append((kind, value, then, otherwise))

    def jump(self, label: str) -> None:
        """Jump, any distance ahead."""
        self._instructions.append((JUMP, 0, label, NEXT))

    def give(self, result: int) -> None:
        """End with a result."""
        self._instructions.append((RETURN, result, NEXT, NEXT))

    def assemble(self) -> bytes:
        """Return the program. Raises ``ValueError`` for a label that is not ahead, or farther than a jump reaches."""
        if len(self._instructions) > MOST:
            raise ValueError(f"{len(self._instructions)} instructions; at most {MOST}")
        parts = []
        for place, (code, value, then, otherwise) in enumerate(self._instructions):
            if code == JUMP:
                parts.append(INSTRUCTION.pack(code, 0, 0, self._distance(place, then, 0xFFFFFFFF)))
            else:
                near = self._distance(place, then, 0xFF), self._distance(place, otherwise, 0xFF)
                parts.append(INSTRUCTION.pack(code, *near, value))
        return b"".join(parts)

    def _distance(self, place: int, label: str, most: int) -> int:
        if label == NEXT:
            return 0
        if label not in self._places:
            raise ValueError(f"no label {label!r}")
        distance = self._places[label] - place - 1
        if not 0 <= distance <= most:
            raise ValueError(f"{label!r} is {distance} instructions ahead")
        return distance
