"""Receive a filter's notifications and answer them: thin wrappers over ioctl(2) of its listener.

Source: seccomp_unotify(2), ``include/uapi/linux/seccomp.h``.
"""

from __future__ import annotations

import errno
import select
import struct
from fcntl import ioctl
from typing import NamedTuple

_RECEIVE, _SEND, _IS_VALID, _ADD_FD, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103, 0x40082104
_SYNC_WAKE_UP = 1
_ADD_AND_SEND = 2
#: ``struct seccomp_notif``: id, thread, flags; number, architecture, instruction pointer, six arguments.
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
#: ``struct seccomp_notif_resp``: id, value, error, flags.
_RESPONSE = struct.Struct("=QqiI")
#: ``struct seccomp_notif_addfd``: id, flags, ours, theirs, flags of theirs.
_ADDITION = struct.Struct("=QIIII")


class Call(NamedTuple):
    """A system call that waits for an answer.

    :ivar thread: the thread's id, as we see it.
    """

    id: int
    thread: int
    number: int
    arguments: tuple[int, ...]

    def integer(self, place: int) -> int:
        """Return an argument that is C's ``int``."""
        value = self.arguments[place] & 0xFFFFFFFF
        return value - (1 << 32) if value & 0x80000000 else value


class Gone(Exception):
    """Who made the call waits no more: killed, or interrupted before we had it."""


class Listener:
    """The listener of one filter.

    :param fd: taken over.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def wake_in_step(self) -> bool:
        """Have the waker and the woken share a core: six times as fast, since Linux 6.6. Tell whether it can."""
        try:
            ioctl(self.fd, _SET_FLAGS, _SYNC_WAKE_UP)
        except OSError:
            return False
        return True

    def receive(self) -> Call:
        """Wait for a call. Raises :class:`Gone` where one was taken back, ``OSError`` where there will be no more."""
        buffer = bytearray(_NOTIFICATION.size)  # must be zeros
        while True:
            try:
                ioctl(self.fd, _RECEIVE, buffer)
                break
            except InterruptedError:
                continue
            except OSError as e:
                if e.errno == errno.ENOENT:
                    raise Gone from None
                raise
        id, thread, _, number, _, _, *arguments = _NOTIFICATION.unpack(buffer)
        return Call(id, thread, number, tuple(arguments))

    def has_ended(self) -> bool:
        """Tell whether nobody has the filter any more; :meth:`receive` then says Gone at once, since Linux 6.11."""
        waiting = select.poll()
        waiting.register(self.fd, 0)
        return bool(waiting.poll(0))

    def is_valid(self, id: int) -> bool:
        """Tell whether the call still waits, and so its thread is still who made it."""
        try:
            ioctl(self.fd, _IS_VALID, id.to_bytes(8, "little"))
        except OSError:
            return False
        return True

    def answer(self, id: int, value: int) -> None:
        """End a call with a value, or where that is negative with an errno."""
        response = _RESPONSE.pack(id, max(value, 0), min(value, 0), 0)
        try:
            ioctl(self.fd, _SEND, response)
        except OSError as e:
            if e.errno not in (errno.ENOENT, errno.EINPROGRESS):
                raise

    def give(self, id: int, fd: int, flags: int) -> int:
        """Put a file into the caller's table and end the call with its number, both or neither; return the number.

        :param flags: ``O_CLOEXEC`` or 0.
        :raises Gone: nobody waits any more; nothing was given.
        :raises OSError: EMFILE and whatever else the caller's table says; the call still waits.
        """
        try:
            # A bytearray, for of bytes ioctl() gives the bytes and not the number.
            number: int = ioctl(self.fd, _ADD_FD, bytearray(_ADDITION.pack(id, _ADD_AND_SEND, fd, 0, flags)))
            return number
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.EINPROGRESS):
                raise Gone from None
            raise
