"""Give rights up that a gate needs at its start alone: capabilities(7), by number."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

#: For the seal: to load its programs and to attach them. CAP_SYS_ADMIN does for both, and for too much else.
SETPCAP, NET_ADMIN, SYS_ADMIN, PERFMON, BPF = 8, 12, 21, 38, 39
#: What a sealed gate gives up. What it goes on needing, where it has it: CAP_CHOWN, to give sockets to their app's
#: user, and CAP_SYS_PTRACE, to see in which network a program is and to take up its sockets after a restart.
GIVEN_UP = (SETPCAP, NET_ADMIN, SYS_ADMIN, PERFMON, BPF)

_PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_LOWER = 24, 47, 3
_VERSION_3 = 0x20080522
_HEADER = struct.Struct("=Ii")
_SETS = struct.Struct("=6I")

_libc = ctypes.CDLL(None, use_errno=True)


def give_up(which: Iterable[int]) -> None:
    """Drop capabilities from this thread's ambient, bounding, effective, permitted and inheritable sets.

    Threads that are started later have what the one that starts them has: call it before there are any. From the
    bounding set they are dropped where that is allowed (CAP_SETPCAP): without, nobody gets them back but by executing a
    file that carries them, and a gate executes none.

    :raises OSError: the kernel's reason.
    """
    header = ctypes.create_string_buffer(_HEADER.pack(_VERSION_3, 0), _HEADER.size)
    sets = ctypes.create_string_buffer(_SETS.size)
    _check(_libc.capget(header, sets))
    words = list(_SETS.unpack(sets.raw))  # effective, permitted, inheritable; then the same for 32 and above
    may_bound = bool(words[0] >> SETPCAP & 1)
    for number in which:
        _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_LOWER, number, 0, 0)
        if may_bound:
            _check(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0))
        for place in range(3):
            words[number // 32 * 3 + place] &= ~(1 << number % 32)
    sets.raw = _SETS.pack(*words)
    _check(_libc.capset(header, sets))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
