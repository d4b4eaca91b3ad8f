"""Load programs into the kernel and attach them to a cgroup: bpf(2), and nothing between."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import struct

from outgate.core.seal.programs import Hook

#: Of bpf(2) by processor (asm/unistd.h).
_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_MAP_CREATE, _MAP_LOOKUP, _MAP_DELETE, _PROG_LOAD, _PROG_ATTACH = 0, 1, 3, 5, 8
_PROG_BY_ID, _MAP_BY_ID, _INFO, _PROG_QUERY = 13, 14, 15, 16
#: enum bpf_map_type: one that takes nothing more when it is full, and one that forgets what was used the longest time
#: ago. Memory is taken as it fills (BPF_F_NO_PREALLOC), where the kernel can do that.
_HASH, _LRU_HASH, _NO_PREALLOC = 1, 9, 1
#: The commands' part of union bpf_attr, up to the last field that is needed.
_LOAD = struct.Struct("=IIQQIIQII16sII")
_ATTACH = struct.Struct("=IIII")
_CREATE = struct.Struct("=IIIIIII16s")
_ELEMENT = struct.Struct("=I4xQQQ")
#: How much of that a removal takes: the map, and the key.
_KEY_ALONE = 16
_QUERY = struct.Struct("=IIIIQI")
_BY_ID = struct.Struct("=III")
_OBJECT = struct.Struct("=IIQ")
#: Of struct bpf_prog_info the number of its maps and where their ids are to go; of struct bpf_map_info the sizes of a
#: key and a value, and the name.
_PROG_INFO = struct.Struct("=52xIQ")
_MAP_INFO = struct.Struct("=8xII8x16s")
_LOG_SIZE = 1 << 16
#: Of one program.
_MOST_MAPS = 8
#: bpf_get_current_cgroup_id() and the others that the seal calls ask for no licence; what is ours is said truly.
_LICENSE = b"MIT"

_libc = ctypes.CDLL(None, use_errno=True)


class Refused(OSError):
    """The kernel did not take a program; the text ends with what its verifier said, where it said something."""


def new_map(name: str, key: int, value: int, most: int, *, is_full_at_most: bool = False) -> int:
    """Return the fd of a new map.

    :param key: bytes of a key; ``value``: of a value.
    :param is_full_at_most: whether a full one takes nothing more; else it forgets the oldest.
    :raises Refused: EPERM without CAP_BPF.
    """
    kind, flags = (_HASH, _NO_PREALLOC) if is_full_at_most else (_LRU_HASH, 0)
    try:
        return _call(_MAP_CREATE, _CREATE.pack(kind, key, value, most, flags, 0, 0, name.encode()))
    except OSError as e:
        raise Refused(e.errno, f"{name}: {e.strerror}") from None


class Table:
    """A map whose keys are numbers of 8 bytes, as this process looks into it. No capability is needed for that.

    Its memory is reserved once, for the gate looks up every connection that ends: used by one thread.

    :param fd: of the map; it stays the caller's.
    :param value: bytes of a value.
    """

    def __init__(self, fd: int, value: int) -> None:
        self.fd = fd
        self._key = ctypes.c_uint64()
        self._value = ctypes.create_string_buffer(value)
        where = _ELEMENT.pack(fd, ctypes.addressof(self._key), ctypes.addressof(self._value), 0)
        self._attributes = ctypes.create_string_buffer(where, len(where))

    def look(self, key: int) -> bytes | None:
        """Return a value, ``None`` where there is none.

        :raises OSError: EPERM before Linux 5.19, where ``kernel.unprivileged_bpf_disabled`` is set and CAP_BPF is not
            held.
        """
        return self._value.raw if self._do(_MAP_LOOKUP, _ELEMENT.size, key) else None

    def forget(self, key: int) -> None:
        """Remove a value, if there is one. Raises what :meth:`look` does."""
        self._do(_MAP_DELETE, _KEY_ALONE, key)

    def _do(self, command: int, size: int, key: int) -> bool:
        self._key.value = key
        if _libc.syscall(_number(), command, self._attributes, size) == 0:
            return True
        error = ctypes.get_errno()
        if error != errno.ENOENT:
            raise OSError(error, os.strerror(error))
        return False


def maps_in_use(cgroup: int, hook: Hook) -> dict[str, tuple[int, int, int]]:
    """Return the maps of the program that is attached to a cgroup by their names: fd, bytes of a key, of a value.

    :param cgroup: fd of its folder.
    :raises OSError: EPERM without CAP_SYS_ADMIN. Where nothing is attached there are none.
    """
    ids = (ctypes.c_uint32 * _MOST_MAPS)()
    query = _call_for(_PROG_QUERY, _QUERY.pack(cgroup, hook.moment, 0, 0, ctypes.addressof(ids), 1))
    if not _QUERY.unpack(query)[-1]:
        return {}
    program = _call(_PROG_BY_ID, _BY_ID.pack(ids[0], 0, 0))
    try:
        count, _ = _PROG_INFO.unpack(_info(program, _PROG_INFO.pack(_MOST_MAPS, ctypes.addressof(ids))))
    finally:
        os.close(program)
    found: dict[str, tuple[int, int, int]] = {}
    for number in ids[: min(count, _MOST_MAPS)]:
        fd = _call(_MAP_BY_ID, _BY_ID.pack(number, 0, 0))
        key, value, name = _MAP_INFO.unpack(_info(fd, bytes(_MAP_INFO.size)))
        found[name.rstrip(b"\0").decode()] = fd, key, value
    return found


def _info(fd: int, asked: bytes) -> bytes:
    buffer = ctypes.create_string_buffer(asked, len(asked))
    _call(_INFO, _OBJECT.pack(fd, len(asked), ctypes.addressof(buffer)))
    return buffer.raw


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
    return _run(command, ctypes.create_string_buffer(attributes, len(attributes)))


def _call_for(command: int, attributes: bytes) -> bytes:
    """Return the attributes as the kernel leaves them."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    _run(command, buffer)
    return buffer.raw


def _run(command: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
    result: int = _libc.syscall(_number(), command, buffer, len(buffer))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


@functools.cache
def _number() -> int:
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise Refused(errno.ENOSYS, f"outgate does not know the number of bpf(2) on {platform.machine()}")
    return number
