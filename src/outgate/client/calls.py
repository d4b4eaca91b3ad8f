"""What the methods of the stand-in share: refusals, and C's own judgement of arguments."""

from __future__ import annotations

import errno
import os
from _operator import index
from _socket import socket as native

from outgate.client.constants import AF_UNIX

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any


def refusal(code: str, **facts: Any) -> Exception:
    """Return the exception of a row of the error table."""
    from outgate import errors

    return errors.build(code, facts)


def os_error(number: int) -> OSError:
    """Return the error of an errno, in the kernel's words."""
    return OSError(number, os.strerror(number))


def c_int(value: Any) -> int:
    """Return a number as C's ``int`` takes it. Raises as ``__index__`` does, or ``OverflowError``."""
    number = value if type(value) is int else int(index(value))
    if -0x80000000 <= number <= 0x7FFFFFFF:
        return number
    raise OverflowError("out of the range of a C int")


_closed: list[native] = []


def judge(call: str, *args: Any, **kwargs: Any) -> None:
    """Let C refuse what is wrong with arguments, on a socket without an fd: nothing can come of it."""
    if not _closed:
        sock = native(AF_UNIX)
        sock.close()
        _closed.append(sock)
    try:
        getattr(native, call)(_closed[0], *args, **kwargs)
    except OSError as e:
        if e.errno != errno.EBADF:
            raise
