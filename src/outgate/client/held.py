"""Hold signals back while fds are between the kernel and our tables: a handler that raises there would lose them.

The way to do it is::

    mask = sigmask(SIG_BLOCK, ())
    try:
        sigmask(SIG_BLOCK, HANDLED)
        ...
    finally:
        sigmask(SIG_SETMASK, mask)

The mask is asked for first and the blocking is inside, because ``sigmask`` itself runs the handlers of signals that
came before it, which may raise when it has blocked already; and C's function is called with nothing of Python's around
it, since handlers run at the entry of every function. (The one of :mod:`signal` makes enum sets: 40 times dearer.) In
a program with threads another thread may still take the signal; then Python runs the handler here all the same.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
from _signal import SIG_BLOCK, SIG_SETMASK
from _signal import pthread_sigmask as sigmask

__all__ = ["HANDLED", "SIG_BLOCK", "SIG_SETMASK", "sigmask"]

#: Those whose handlers may well raise. Every one costs time; the rest is the kernel's own, or of a program's faults.
HANDLED = frozenset(
    getattr(_signal, "SIG" + name)
    for name in ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "CHLD", "VTALRM", "PROF", "WINCH", "IO")
)
