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
from _signal import pidfd_send_signal  # type: ignore[import-not-found]  # what signal adds is enums, 3 ms of them
from _socket import socket as native

_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_PIDFD_THREAD = os.O_EXCL
#: Threads whose pidfd is kept.
KEPT = 256
_PROCESS = b"Tgid"
#: Signals that wait for the thread, and for its process; those it does not take now, and those it has a handler for.
_MASKS = (b"SigPnd", b"ShdPnd", b"SigBlk", b"SigCgt")


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


_library = ctypes.CDLL(None, use_errno=True)
_syscall = _library.syscall
_read_memory = _library.process_vm_readv
_read_memory.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong)
_read_memory.restype = ctypes.c_ssize_t


def _call(number: int, *arguments: int) -> int:
    result = int(_syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def open_pidfd(thread: int) -> int:
    """Return a pidfd of a thread, or of its process where the kernel has none for threads. Raises ``OSError``."""
    try:
        return _call(_PIDFD_OPEN, thread, _PIDFD_THREAD)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
    return os.pidfd_open(process_of(thread))


def take_fd(pidfd: int, number: int) -> int:
    """Return a duplicate of a file that another process has open. Raises ``OSError``: EBADF, ESRCH, EPERM."""
    return _call(_PIDFD_GETFD, pidfd, number, 0)


def connect(fd: int, address: bytes) -> int:
    """Connect to an address as the kernel has it, and return the answer: 0, or a negative errno."""
    if _library.connect(ctypes.c_int(fd), address, ctypes.c_uint(len(address))) < 0:
        return -ctypes.get_errno()
    return 0


def process_of(thread: int) -> int:
    """Return the process that a thread is of. Raises ``OSError`` where it has ended."""
    found = _status(thread).get(_PROCESS)
    if found is None:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return int(found)


def _status(thread: int) -> dict[bytes, bytes]:
    """Return what the kernel says of a thread (proc_pid_status(5)). Raises ``OSError`` where it has ended."""
    fd = os.open(f"/proc/{thread}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, 4096)
    finally:
        os.close(fd)
    return {name: value.strip() for name, _, value in (line.partition(b":") for line in text.splitlines())}


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
        found = _status(thread)
    except OSError:
        return False
    alone, shared, blocked, caught = (int(found.get(name, b"0"), 16) for name in _MASKS)
    return bool((alone | shared) & ~blocked & caught)


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
        try:
            pidfd_send_signal(self.fd, 0)  # none, and so only a look (kill(2)); a poll(2) takes three times as long
        except ProcessLookupError:
            return True
        except OSError:  # of somebody else's by now, and so it lives
            pass
        return False


class Threads:
    """The pidfds of threads that were seen lately. Each is of one thread for good, whoever has its number next."""

    def __init__(self) -> None:
        self._known: dict[int, Pidfd] = {}

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
        if len(self._known) > KEPT:
            try:
                del self._known[next(iter(self._known))]
            except (KeyError, RuntimeError, StopIteration):  # others have been as busy
                pass
        return known
