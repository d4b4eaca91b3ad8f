"""Let pickle ask us about sockets and their files, at the price of a look into a table.

The real work is imported when a program pickles, or first makes a file of a socket.
"""

from __future__ import annotations

import copyreg
import sys
from _io import BufferedReader, BufferedRWPair, BufferedWriter, TextIOWrapper

from outgate.client import imports
from outgate.client.state import table

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any, Callable

_KINDS: dict[Any, str] = {
    BufferedReader: "reader",
    BufferedWriter: "writer",
    BufferedRWPair: "pair",
    TextIOWrapper: "text",
}
#: What pickles for workers and is imported after ``multiprocessing.reduction``, which often is the first to import
#: :mod:`socket` and so half-way when we come.
_AFTER_REDUCTION = tuple("multiprocessing." + name for name in ("connection", "popen_spawn_posix", "popen_forkserver"))
_DEFAULT_TIMEOUT = "_GLOBAL_DEFAULT_TIMEOUT"


def watch() -> None:
    """Register what pickles need. Types of C cannot be given methods; pickle asks copyreg about them before."""
    for kind in _KINDS:
        copyreg.pickle(kind, _reduce_file)
    copyreg.pickle(object, _reduce_object)
    for name in _AFTER_REDUCTION:
        imports.after(name, _reduce_for_multiprocessing)


def _reduce_file(file: Any) -> Any:
    from outgate.client.travel import files

    return getattr(files, "reduce_" + _KINDS[type(file)])(file)


def _reduce_object(value: object) -> Any:
    """Keep what it is that says "the default timeout": protocol objects hold it, and compare by identity.

    As the global that it is, so that such a pickle opens in processes without outgate too.
    """
    if value is getattr(sys.modules.get("socket"), _DEFAULT_TIMEOUT, None):
        return _DEFAULT_TIMEOUT
    return object, ()


def _reduce_for_multiprocessing(_: Any) -> None:
    """Have sockets of the gate's go to workers as to anybody, with time-out and addresses; a bare fd has neither.

    And it would need the parent to live until the child has fetched it (``multiprocessing.resource_sharer``).
    """
    import socket
    from multiprocessing.reduction import ForkingPickler

    natively = ForkingPickler._extra_reducers.get(socket.socket)  # type: ignore[attr-defined]
    if natively is None or natively.__module__ == __name__:
        return

    def reduce(sock: Any) -> Any:
        return reduce_socket(sock, 4) if sock.fileno() in table else natively(sock)

    ForkingPickler.register(socket.socket, reduce)


def wrap_makefile(cls: Any) -> None:
    """Have ``makefile`` of a socket class note with each file what pickling it will have to know."""
    cls.makefile = _noting(cls.makefile)


def _noting(makefile: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any, mode: Any = "r", buffering: Any = None, **options: Any) -> Any:
        from outgate.client.travel import files

        return files.noted(makefile(self, mode, buffering, **options), self, buffering, options.get("newline"))

    wrapped.__name__ = makefile.__name__
    wrapped.__qualname__ = makefile.__qualname__
    wrapped.__doc__ = makefile.__doc__
    wrapped.__wrapped__ = makefile  # type: ignore[attr-defined]  # for inspect.signature()
    return wrapped


def reduce_socket(self: Any, protocol: Any) -> Any:
    """Return what pickle makes a socket of: a descriptor of its lease, and what only this process knows of it.

    :raises TypeError: for sockets that are not the gate's, as natively, and for those of TLS.
    """
    from outgate.client.travel import sockets

    return sockets.reduce(self, protocol)
