"""Have threads that compute take turns with the gate's loop more often than the interpreter would by itself."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Final

__all__ = ["SWITCH", "take_turns", "taking_turns"]

#: Seconds for which a thread that computes keeps the loop's from the interpreter, each time it wants to go on. Python's
#: own 0.005 is as long as the loop may be held at all.
SWITCH: Final = 0.0005
_is_for_good = False


def take_turns() -> None:
    """Have threads of this process let the others go on sooner, from now on."""
    global _is_for_good
    _is_for_good = True
    sys.setswitchinterval(min(SWITCH, sys.getswitchinterval()))


@contextlib.contextmanager
def taking_turns() -> Iterator[None]:
    """Have them do so during the ``with`` block."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        yield
    finally:
        if not _is_for_good:  # it may have been so before, or have become so meanwhile
            sys.setswitchinterval(before)
