"""Have the loop do something, from another thread."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop


def call_on(loop: AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    """Have a loop call a function, from another thread; one that has ended meanwhile calls nothing any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *args)
