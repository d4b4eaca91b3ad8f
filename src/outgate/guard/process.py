"""Take from the calling process what a guarded program must not have: privileges, capabilities, free system calls.

Thin wrappers over prctl(2) and seccomp(2); every function raises the kernel's own ``OSError``.
"""

from __future__ import annotations

import os

from outgate.core.guard import syscalls
from outgate.guard.libc import call

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 38, 47, 4
_SET_MODE_FILTER = 1
#: Give a listener; calls that were received are taken back by nothing but a kill (Linux 5.19).
_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5


def drop_capabilities() -> None:
    """Have the next exec give no capability, whoever the process is: none can be had from a file, and none is kept."""
    number = 0
    while True:
        try:
            call("prctl", _PR_CAPBSET_DROP, number, 0, 0, 0)
        except OSError:  # there are no more
            break
        number += 1
    call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def renounce_privileges() -> None:
    """Have no exec give more rights than there are (no_new_privs)."""
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def install(filter: bytes) -> int:
    """Install a filter for this process and what it starts, and return its listener, which no exec hands on.

    :param filter: an array of ``struct sock_filter``.
    :raises OSError: EINVAL from a kernel before 5.19; EBUSY where this process is guarded already.
    """
    import ctypes

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    program = Filter(len(filter) // 8, filter)
    arch = syscalls.ARCHS[os.uname().machine]
    flags = _NEW_LISTENER | _WAIT_KILLABLE
    return call("syscall", arch.numbers["seccomp"], _SET_MODE_FILTER, flags, ctypes.addressof(program))
