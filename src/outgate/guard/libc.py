"""Call functions of the C library by ctypes, and raise what they say.

``ctypes`` is imported at the first call, because ``outgate run`` would pay for it at every start.
"""

from __future__ import annotations

import functools
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["call"]


def call(name: str, *arguments: object) -> int:
    """Call a function that returns a number, -1 where it has failed.

    :param arguments: numbers, which are passed as C's ``long``, bytes, and ``None`` for a null pointer.
    :raises OSError: it has failed.
    """
    import ctypes

    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(getattr(_library(), name)(*words))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@functools.cache
def _library() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)
