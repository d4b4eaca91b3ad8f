"""Load programs into the kernel and attach them to a cgroup: bpf(2), and nothing between."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from outgate.core.seal.programs import Hook

#: Of bpf(2) by processor (asm/unistd.h).
_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_MAP_CREATE, _PROG_LOAD, _PROG_ATTACH, _MAP_TAKE = 0, 5, 8, 21
#: A map that forgets what was used the longest time ago when it is full (enum bpf_map_type).
_LRU_HASH = 9
#: The commands' part of union bpf_attr, up to the last field that is needed.
_LOAD = struct.Struct("=IIQQIIQII16sII")
_ATTACH = struct.Struct("=IIII")
_CREATE = struct.Struct("=IIIIIII16s")
_ELEMENT = struct.Struct("=I4xQQQ")
_LOG_SIZE = 1 << 16
#: bpf_get_current_cgroup_id() and the others that the seal calls ask for no licence; what is ours is said truly.
_LICENSE = b"MIT"

_libc = ctypes.CDLL(None, use_errno=True)


class Refused(OSError):
    """The kernel did not take a program; the text ends with what its verifier said, where it said something."""


def new_map(name: str, key: int, value: int, most: int) -> int:
    """Return the fd of a new map that forgets the oldest when it is full.

    :param key: bytes of a key; ``value``: of a value.
    :raises Refused: EPERM without CAP_BPF.
    """
    try:
        return _call(_MAP_CREATE, _CREATE.pack(_LRU_HASH, key, value, most, 0, 0, 0, name.encode()))
    except OSError as e:
        raise Refused(e.errno, f"{name}: {e.strerror}") from None


def take(fd: int, key: bytes, size: int) -> bytes | None:
    """Return a value of a map and remove it; ``None`` where there is none. No capability is needed for it.

    :param size: of the value.
    :raises OSError: EPERM before Linux 5.19, where ``kernel.unprivileged_bpf_disabled`` is set and CAP_BPF is not held.
    """
    here = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(size)
    try:
        _call(_MAP_TAKE, _ELEMENT.pack(fd, ctypes.addressof(here), ctypes.addressof(value), 0))
    except OSError as e:
        if e.errno != errno.ENOENT:
            raise
        return None
    return value.raw


def load(hook: Hook, instructions: bytes) -> int:
    """Return the fd of a program that the kernel's verifier has taken.

    :raises Refused: EPERM without CAP_BPF and CAP_NET_ADMIN, EINVAL or EACCES where the verifier says no.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license = ctypes.create_string_buffer(_LICENSE)

    def attempt(log: ctypes.Array[ctypes.c_char] | None) -> int:
        return _call(
            _PROG_LOAD,
            _LOAD.pack(
                hook.kind,
                len(instructions) // 8,
                ctypes.addressof(code),
                ctypes.addressof(license),
                1 if log is not None else 0,
                len(log) if log is not None else 0,
                ctypes.addressof(log) if log is not None else 0,
                0,
                0,
                hook.name.encode(),
                0,
                hook.moment,
            ),
        )

    try:
        return attempt(None)
    except OSError as e:
        first = e
    log = ctypes.create_string_buffer(_LOG_SIZE)
    try:
        return attempt(log)
    except OSError:
        # The verifier's last line but for its statistics.
        said = [line for line in log.value.decode(errors="replace").splitlines() if not line.startswith("processed ")]
        raise Refused(first.errno, f"{hook.name}: {first.strerror}{': ' + said[-1] if said else ''}") from None


def attach(cgroup: int, program: int, hook: Hook) -> None:
    """Attach a program to a cgroup, in place of the one that is there; it stays when its fd is closed.

    :param cgroup: fd of its folder.
    :raises Refused: the kernel's reason.
    """
    try:
        # Without BPF_F_ALLOW_MULTI: the next gate's replaces this one at once, and none below can overrule it. Those of
        # the cgroups around it, such as a service manager's, run as well.
        _call(_PROG_ATTACH, _ATTACH.pack(cgroup, program, hook.moment, 0))
    except OSError as e:
        raise Refused(e.errno, f"{hook.name}: {e.strerror}") from None


def _call(command: int, attributes: bytes) -> int:
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise Refused(errno.ENOSYS, f"outgate does not know the number of bpf(2) on {platform.machine()}")
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = _libc.syscall(number, command, buffer, len(attributes))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
