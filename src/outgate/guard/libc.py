"""Call the C library, for what Python's ``os`` has no function for."""

from __future__ import annotations

import os


def call(name: str, *arguments: int | bytes) -> int:
    """Call a function of the C library that returns a number, and return that.

    :param arguments: numbers, passed as C's ``long``, and bytes, as the pointer to them; none of them as NULL.
    :raises OSError: it returned a negative number.
    """
    import ctypes  # here: what starts a program loads it only where it is needed

    library = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(each) if isinstance(each, int) else ctypes.c_char_p(each or None) for each in arguments]
    result = int(getattr(library, name)(*words))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
