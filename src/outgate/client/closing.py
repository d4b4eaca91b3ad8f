"""Close sockets natively, and tell the gate, whose duplicate would keep the connection open.

A program closes fds in many ways: by the object, by ``socket.close`` and ``os.close``, by ``dup2`` onto them. What is
closed in C is not seen here; the gate finds it when it sweeps.
"""

from __future__ import annotations

import os
import sys
from _socket import close as native_close_fd
from _socket import socket as native
from _warnings import warn

from outgate.client import channel, inherit
from outgate.client.rejoining import rejoin
from outgate.client.state import BORN, State, by_cookie, forget_ghosts, table
from outgate.core.formats import messages

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any, Callable


def close(self: native, *, _native: Any = native, _is_finalizing: Any = sys.is_finalizing) -> None:
    """Close natively, and tell the gate, whose duplicate would keep the connection open.

    When the interpreter ends, a finalizer may come here after this module's names have gone, or those of modules that
    it needs: what has to last is bound as :mod:`socket` binds it. The gate sees the end of the process then.
    """
    try:
        _close_and_tell(self)
    except BaseException:
        if not _is_finalizing():
            raise
        _native.close(self)


def _close_and_tell(self: native) -> None:
    fd = native.fileno(self)
    state = table.get(fd)
    if state is None:
        return native.close(self)
    # Natively the port is free, the reset is out, and epoll has forgotten the fd when close() returns; with a
    # duplicate in the gate that holds only after the gate has closed too.
    wait = state.bound or state.lingered or native.gettimeout(self) == 0
    if state.phase != BORN:
        rejoin()
    held = state.fds
    try:
        table.pop(fd, None)
        native.close(self)
        let_go(state, wait)
    except BaseException:  # a signal handler raised, at any of these steps
        if native.fileno(self) >= 0:
            table[fd] = state
        else:
            _let_go_again(state, held)
        raise
    return None


def close_fd(fd: Any, /) -> None:
    """Close an fd (``socket.close``), which may be one of ours."""
    state = table.get(fd) if isinstance(fd, int) else None
    if state is None:
        return native_close_fd(fd)
    return _close_number(native_close_fd, fd, state, wait=state.bound or state.lingered)


def _close_number(native_close: Callable[[int], None], fd: int, state: State, wait: bool) -> None:
    if state.phase != BORN:
        rejoin()
    held = state.fds
    closed = False
    try:
        # The entry goes before the native close: afterwards the number may be another thread's new socket.
        table.pop(fd, None)
        native_close(fd)
        closed = True
        let_go(state, wait)
    except BaseException:  # a signal handler raised, or the fd was closed before
        if not closed and _is_open(fd):
            table[fd] = state
        else:
            _let_go_again(state, held)
        raise


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def finalize(self: native, _native: Any = native, _is_finalizing: Any = sys.is_finalizing) -> None:
    """Warn and close as C does when the last reference goes, then tell the gate.

    Whatever a signal handler raises in here, the socket is closed; natively none runs. One that raises at the very
    entry leaves it open, as it leaves undone what any finalizer in Python does. When the interpreter ends, this module
    may be gone before the socket, as :func:`close` says.
    """
    state = None
    held = 0
    try:
        fd = native.fileno(self)
        state = table.get(fd) if fd >= 0 else None
        if state is None:
            native.__del__(self)  # type: ignore[attr-defined]
            return
        held = state.fds
        if state.phase != BORN:
            rejoin()
        try:
            said = f"unclosed {self!r}"  # which may have to ask for the names
        except Exception:  # and nobody answers, or the interpreter has forgotten how to ask
            said = f"unclosed {object.__repr__(self)}"
        table.pop(fd, None)
        try:
            warn(said, ResourceWarning, 2, self)  # C would name this file for the program's
            native.close(self)
        except (Warning, OSError):
            native.__del__(self)  # type: ignore[attr-defined]  # C reports what a finalizer may not raise
        let_go(state, wait=False)
    except BaseException:
        if _is_finalizing():
            _native.__del__(self)
            return
        fd = native.fileno(self)
        if state is None and fd in table:
            state = table[fd]
            held = state.fds
        if fd >= 0:
            table.pop(fd, None)
            native.close(self)
        if state is not None:
            _let_go_again(state, held)
        raise


def forget_stale(fd: int) -> None:
    """Let go of a socket that had this number until it was closed where we do not look."""
    stale = table.pop(fd, None)
    if stale is not None:
        let_go(stale, wait=False)


def closed_elsewhere(fd: int, state: State) -> None:
    """Note that C code has closed an fd of a socket, and tell the gate as :func:`close` does.

    :param state: the socket that it was; the number may be another's by now.
    """
    if table.get(fd) is state:
        del table[fd]
        let_go(state, wait=state.bound or state.lingered)


def let_go(state: State, wait: bool, certainly_last: bool = False) -> None:
    """Note that one fd of a socket is closed, and with the last one tell the gate.

    :param wait: until the gate has closed too, or knows that another process holds the socket.
    :param certainly_last: it must be closed there even if something was started meanwhile that may hold it.
    """
    state.fds -= 1
    if state.fds > 0:
        return
    is_shared = state.spawns == inherit.SHARED
    if state.is_relay and not is_shared and not (wait and not state.is_datagram and (state.bound or state.lingered)):
        by_cookie.pop(state.cookie, None)  # the gate has no duplicate, and notices itself
        return
    if state.phase == BORN:
        forget_ghosts()
    else:
        by_cookie.pop(state.cookie, None)
    message = _goodbye(state)
    if certainly_last:
        message["shared"] = False
    if not wait or sys.is_finalizing():
        try:
            channel.one_way(message)
        except ImportError:  # the interpreter ends, and with it everything of its process
            pass
        return
    from outgate.errors import GateError

    try:
        channel.request(message)
    except GateError:
        pass  # a gate that has ended holds no duplicate either


def _let_go_again(state: State, held: int) -> None:
    """Do what :func:`let_go` was interrupted in, which may have been anywhere: telling the gate twice does no harm.

    :param held: how many fds there were before.
    """
    state.fds = held - 1
    if state.fds <= 0:
        channel.one_way(_goodbye(state))


def _goodbye(state: State) -> dict[str, Any]:
    return {"op": messages.CLOSE, "sock": state.id, "shared": state.spawns != inherit.count}


# --- what the os module does to fds -----------------------------------------------------------------------------------


def watch() -> None:
    """Notice what the functions of :mod:`os` do to our fds. Called once, when the stand-in is installed."""
    for name, replacement in (("close", _close), ("closerange", _closerange), ("dup", _dup), ("dup2", _dup2)):
        native = getattr(os, name)
        ours = replacement(native)
        ours.__name__ = ours.__qualname__ = name
        ours.__doc__ = native.__doc__
        setattr(os, name, ours)


def _close(native: Callable[..., Any]) -> Callable[..., Any]:
    def close(fd: Any) -> None:
        state = table.get(fd) if isinstance(fd, int) else None
        if state is None:
            native(fd)
        else:
            _close_number(native, fd, state, wait=False)

    return close


def _closerange(native: Callable[..., Any]) -> Callable[..., Any]:
    def closerange(fd_low: Any, fd_high: Any, /) -> None:
        within = range(fd_low, fd_high) if isinstance(fd_low, int) and isinstance(fd_high, int) else ()
        rejoin()
        states = [table.pop(fd, None) for fd in list(table) if fd in within]
        try:
            native(fd_low, fd_high)
        finally:
            for state in states:
                if state is not None:
                    let_go(state, wait=False)

    return closerange


def _dup(native: Callable[..., Any]) -> Callable[..., Any]:
    def dup(fd: Any, /) -> Any:
        new = native(fd)
        if table:
            _note_duplicate(fd, new)
        return new

    return dup


def _dup2(native: Callable[..., Any]) -> Callable[..., Any]:
    def dup2(fd: Any, fd2: Any, inheritable: bool = True) -> Any:
        new = native(fd, fd2, inheritable)
        if table and fd != new:
            _note_duplicate(fd, new)
        return new

    return dup2


def _note_duplicate(fd: int, new: int) -> None:
    forget_stale(new)
    state = table.get(fd)
    if state is not None:
        table[new] = state
        state.fds += 1
