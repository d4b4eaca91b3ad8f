"""Look into the guarded threads: their memory, their files, the signals that wait for them.

All of it needs the right to trace them, which the guard has as the owner of their user namespace (user_namespaces(7)).
A thread may have a table of files of its own, so it is asked by its own pidfd and not by its process's; before Linux
6.9 there are none for threads, and the process's is what there is.

Sources: pidfd_open(2), pidfd_getfd(2), process_vm_readv(2), proc_pid_status(5).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import select
from _socket import socket as native
from collections import OrderedDict

from outgate.guard.libc import call

_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_PIDFD_THREAD = os.O_EXCL
#: Threads whose pidfd is kept.
_KEPT = 256
_TGID = re.compile(rb"^Tgid:\t(\d+)$", re.MULTILINE)
_MASKS = re.compile(rb"^(SigPnd|ShdPnd|SigBlk|SigCgt):\t([0-9a-f]+)$", re.MULTILINE)


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


_library = ctypes.CDLL(None, use_errno=True)
_read_memory = _library.process_vm_readv
_read_memory.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong)
_read_memory.restype = ctypes.c_ssize_t


def open_pidfd(thread: int) -> int:
    """Return a pidfd of a thread, or of its process where the kernel has none for threads. Raises ``OSError``."""
    try:
        return call("syscall", _PIDFD_OPEN, thread, _PIDFD_THREAD)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
    return os.pidfd_open(process_of(thread))


def take_fd(pidfd: int, number: int) -> int:
    """Return a duplicate of a file that another process has open. Raises ``OSError``: EBADF, ESRCH, EPERM."""
    return call("syscall", _PIDFD_GETFD, pidfd, number, 0)


def connect(fd: int, address: bytes) -> int:
    """Connect to an address as the kernel has it, and return the answer: 0, or a negative errno."""
    if _library.connect(ctypes.c_int(fd), address, ctypes.c_uint(len(address))) < 0:
        return -ctypes.get_errno()
    return 0


def process_of(thread: int) -> int:
    """Return the process that a thread is of. Raises ``OSError`` where it has ended."""
    with open(f"/proc/{thread}/status", "rb", buffering=0) as file:
        found = _TGID.search(file.read(4096))
    if found is None:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return int(found[1])


def read(thread: int, address: int, size: int) -> bytes:
    """Return bytes of a thread's memory. Raises ``OSError``: EFAULT where it has none there, ESRCH."""
    buffer = ctypes.create_string_buffer(size)
    ours, theirs = _Vector(ctypes.addressof(buffer), size), _Vector(address, size)
    count = _read_memory(thread, ctypes.addressof(ours), 1, ctypes.addressof(theirs), 1, 0)
    if count != size:
        error = ctypes.get_errno() if count < 0 else errno.EFAULT
        raise OSError(error, os.strerror(error))
    return buffer.raw


def has_signal(thread: int) -> bool:
    """Tell whether a signal with a handler waits for a thread: natively it would have ended the call (signal(7))."""
    try:
        with open(f"/proc/{thread}/status", "rb", buffering=0) as file:
            masks = {name: int(text, 16) for name, text in _MASKS.findall(file.read(4096))}
    except OSError:
        return False
    waiting = masks.get(b"SigPnd", 0) | masks.get(b"ShdPnd", 0)
    return bool(waiting & ~masks.get(b"SigBlk", 0) & masks.get(b"SigCgt", 0))


class Pidfd:
    """A pidfd, closed when nobody uses it any more: several threads of the guard may look at one process."""

    __slots__ = ("fd", "process")

    def __init__(self, thread: int) -> None:
        self.fd = -1
        self.fd = open_pidfd(thread)
        self.process = process_of(thread)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def has_ended(self) -> bool:
        """Tell whether the thread has ended, so that its number may be another's."""
        waiting = select.poll()
        waiting.register(self.fd, select.POLLIN)
        return bool(waiting.poll(0))


class Threads:
    """The pidfds of threads that were seen lately. Each is of one thread for good, whoever has its number next."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, Pidfd] = OrderedDict()

    def socket(self, thread: int, number: int) -> native:
        """Return a duplicate of a thread's socket. Raises ``OSError``: EBADF, ENOTSOCK, ESRCH."""
        fd = self._take(thread, number)
        try:
            return native(fileno=fd)
        except BaseException:
            os.close(fd)
            raise

    def _take(self, thread: int, number: int) -> int:
        known = self._known.get(thread)
        if known is not None:
            try:
                return take_fd(known.fd, number)
            except ProcessLookupError:  # another thread has its number by now
                pass
        return take_fd(self._look(thread).fd, number)

    def process(self, thread: int) -> int:
        """Return the process that a thread is of. Raises ``OSError`` where it has ended."""
        known = self._known.get(thread)
        if known is None or known.has_ended():
            known = self._look(thread)
        return known.process

    def _look(self, thread: int) -> Pidfd:
        known = self._known[thread] = Pidfd(thread)
        if len(self._known) > _KEPT:
            try:
                self._known.popitem(last=False)
            except KeyError:  # others have been as busy
                pass
        return known
