"""Dial by io_uring, whose operations pass no system call of their own (io_uring(7))."""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import struct

from outgate.guard.ways.libc import NativeSocket, address, call
from outgate.guard.ways.target import FENCE, V4, Target, Untried, Way

__all__ = ["WAYS"]

# io_uring_setup(2), io_uring_enter(2); the numbers are the same on every architecture but alpha.
_SYS_SETUP, _SYS_ENTER = 425, 426
_SINGLE_MAP = 1  # IORING_FEAT_SINGLE_MMAP, Linux 5.4
_ENTRIES_AT = 0x10000000  # IORING_OFF_SQES
_GET_EVENTS = 1
_OP_CONNECT = 16
_PARAMS = struct.Struct("=30I")  # struct io_uring_params: 10 words of its own, 10 for each ring's offsets
_ENTRY = struct.Struct("=BBHiQQIIQ24x")  # struct io_uring_sqe
_RESULT = struct.Struct("=QiI")  # struct io_uring_cqe
_WORD = struct.Struct("=I")


def _connect(fd: int, packed: bytes) -> int:
    """Connect a socket by a ring of its own, and return 0 or the errno. Raises :class:`Untried` without io_uring."""
    params = ctypes.create_string_buffer(_PARAMS.size)
    try:
        ring = call("syscall", _SYS_SETUP, 1, params)
    except OSError as e:
        raise Untried(f"io_uring is not to be had: {e.strerror}") from None
    try:
        words = _PARAMS.unpack(params.raw)
        queued, done, features = words[0], words[1], words[5]
        _, tail, _, _, _, _, array = words[10:17]
        results = words[25]
        if not features & _SINGLE_MAP:
            raise Untried("this kernel's io_uring is too old")
        length = max(array + queued * _WORD.size, results + done * _RESULT.size)
        name = ctypes.create_string_buffer(packed, len(packed))
        with mmap.mmap(ring, length) as rings, mmap.mmap(ring, queued * _ENTRY.size, offset=_ENTRIES_AT) as entries:
            _ENTRY.pack_into(entries, 0, _OP_CONNECT, 0, 0, fd, len(packed), ctypes.addressof(name), 0, 0, 0)
            _WORD.pack_into(rings, array, 0)
            _WORD.pack_into(rings, tail, 1)
            call("syscall", _SYS_ENTER, ring, 1, 1, _GET_EVENTS, None, 0)
            return -int(_RESULT.unpack_from(rings, results)[1])
    finally:
        call("close", ring)


def _dial(target: Target, mark: bytes) -> None:
    with NativeSocket.new(socket.AF_INET, socket.SOCK_STREAM) as sock:
        number = _connect(sock.fd, address(socket.AF_INET, V4, target.port))
        if number:
            raise OSError(number, os.strerror(number))
        sock.send(mark)


WAYS = (Way("io-uring", "io_uring's connect", FENCE, _dial),)
