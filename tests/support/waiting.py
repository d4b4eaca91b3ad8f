"""Wait for what nobody tells of."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds between looks.
_PAUSE = 0.01


def wait_until(is_so: Callable[[], object], limit: float = 60.0, why: str = "") -> None:
    """Ask until it is so.

    :param limit: seconds after which it is an error.
    :param why: what that error says.
    """
    deadline = time.monotonic() + limit
    while not is_so():
        assert time.monotonic() < deadline, why
        time.sleep(_PAUSE)
