"""Run classic BPF as the kernel does for seccomp, one instruction after the other: the twin of what the kernel runs."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def run(program: bytes, number: int, arch: int, arguments: Sequence[int] = ()) -> int:
    """Return what a filter answers to a call.

    :raises AssertionError: for an instruction that seccomp does not permit, or a run past the end.
    """
    words = [each & 0xFFFFFFFFFFFFFFFF for each in (*arguments, *(0,) * 6)][:6]
    data = struct.pack("=iIQ6Q", number if number < 1 << 31 else number - (1 << 32), arch, 0, *words)
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = place = 0
    while True:
        assert place < len(instructions), "past the end"
        code, then, otherwise, k = instructions[place]
        place += 1
        if code == 0x20:
            assert k % 4 == 0
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif code == 0x54:
            accumulator &= k
        elif code == 0x05:
            place += k
        elif code == 0x06:
            return k
        else:
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: accumulator & k}[code]
            place += then if holds else otherwise
