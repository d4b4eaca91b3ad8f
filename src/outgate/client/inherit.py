"""Notice when another process, or another fd, may hold one of our sockets from now on.

The gate ends a lease when its holder closes it, unless the holder says that somebody else may have it as well; then
the gate looks first. One counter is enough: a socket may be shared if anything was started since it was born.
"""

from __future__ import annotations

import os
import sys

from outgate.client import channel

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any, Callable

#: Goes up with every fork, spawn, and fd sent in ancillary data.
count = 0
#: What is never counted to: somebody else may always have it.
SHARED = -1


def bump() -> None:
    """Count one event after which any of our sockets may have another holder."""
    global count
    count += 1


def _after_fork_in_child() -> None:
    channel.start_anew()


def _counted(native: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        bump()
        return native(*args, **kwargs)

    call.__name__ = native.__name__
    call.__doc__ = native.__doc__
    return call


def watch() -> None:
    """Start counting. Called once, when the stand-in is installed."""
    os.register_at_fork(before=bump, after_in_child=_after_fork_in_child)
    for name in ("posix_spawn", "posix_spawnp"):
        if hasattr(os, name):
            setattr(os, name, _counted(getattr(os, name)))
    # subprocess and multiprocessing fork in C, behind register_at_fork.
    import _posixsubprocess

    native = _posixsubprocess.fork_exec
    wrapped = _counted(native)
    _posixsubprocess.fork_exec = wrapped
    subprocess = sys.modules.get("subprocess")
    if subprocess is not None and getattr(subprocess, "_fork_exec", None) is native:
        subprocess._fork_exec = wrapped  # type: ignore[attr-defined]
