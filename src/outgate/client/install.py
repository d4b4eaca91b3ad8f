"""Put the stand-in where programs find it: at ``_socket`` before ``socket`` is imported, or in place afterwards."""

from __future__ import annotations

import _socket as _native_module
import sys

from outgate.client import closing, imports, inherit, names, standin, untested
from outgate.client.travel import hooks

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

#: What a patched ``socket.socket`` gets; ``__init__`` and ``_real_close`` are added by hand.
_METHODS = (
    *("connect", "connect_ex", "bind", "listen", "_accept", "sendto", "sendmsg", "setsockopt", "getsockopt"),
    *("recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into", "getpeername", "getsockname", "shutdown"),
    *("__reduce_ex__", "__del__"),
)
_FUNCTIONS = {**names.STAND_INS, "close": closing.close_fd}

_watching = False


def _watch_once() -> None:
    global _watching
    if not _watching:
        _watching = True
        if sys.version_info[:2] > untested.NEWEST_TESTED:
            untested.say()
        inherit.watch()
        closing.watch()
        imports.after("uvloop.loop", _stand_in_for_uvloop)
        imports.before("trio._socket", _prepare_for_trio)
        imports.after("http.client", _stand_in_for_http)


def _stand_in_for_uvloop(module: ModuleType) -> None:
    from outgate.client import loops

    loops.stand_in(module)


def _prepare_for_trio(module: ModuleType) -> None:
    """Have our ``recv`` and ``send`` in the class before trio takes them from there, for good."""
    from outgate.client.relay import moving

    moving.prepare()


def _stand_in_for_http(module: ModuleType) -> None:
    from outgate.client.urlfetch import connections

    connections.stand_in(module)


def module() -> ModuleType:
    """Return a module to stand in for ``_socket``: all it has, with our socket class and look-ups in it."""
    stand_in = type(_native_module)("_socket", _native_module.__doc__)
    stand_in.__dict__.update(_native_module.__dict__)
    stand_in.__dict__.update(_FUNCTIONS)
    stand_in.__dict__["socket"] = stand_in.__dict__["SocketType"] = standin.socket
    _watch_once()
    hooks.watch()
    return stand_in


def patch() -> list[str]:
    """Patch a process that has imported ``socket`` already; return what could not be reached, a sentence each.

    Sockets that exist keep working natively. Every module that holds one of the native look-up functions gets ours.
    """
    if _native_module.socket is standin.socket:
        return []
    import socket

    if getattr(socket.socket, "__outgate__", False) or issubclass(socket.socket, standin.socket):
        return []
    _watch_once()
    cls: Any = socket.socket
    patch_class(cls)
    cls.__outgate__ = True
    replaced = {id(getattr(_native_module, name)): ours for name, ours in _FUNCTIONS.items()}
    for name, ours in _FUNCTIONS.items():
        setattr(_native_module, name, ours)
    for loaded in list(sys.modules.values()):
        replace_in(getattr(loaded, "__dict__", {}), replaced)
    native_module: Any = _native_module
    native_module.socket = native_module.SocketType = standin.socket  # what is built on C's class from now on
    missed = [
        f"{sub.__module__}.{sub.__qualname__} was built on the native socket class before and stays native"
        for sub in standin.native.__subclasses__()
        if sub is not cls and not sub.__module__.startswith("outgate.") and sub is not standin.socket
    ]
    if "trio._socket" in sys.modules:
        missed.append("trio took native methods from the socket class before: its UDP sockets do not work")
    return missed


def patch_class(cls: Any) -> None:
    """Put our methods into a class that is built on the native one, as :class:`socket.socket` is."""
    for name in _METHODS:
        setattr(cls, name, standin.socket.__dict__[name])
    cls.__init__ = _init
    cls._real_close = _real_close
    hooks.wrap_makefile(cls)
    hooks.watch()
    standin.targets.append(cls)


def replace_in(namespace: dict[str, Any], replaced: dict[int, Any]) -> None:
    """Put our functions where a module holds native ones. By identity: a stranger's ``__eq__`` may do anything."""
    name = namespace.get("__name__")
    if type(name) is str and name.startswith("outgate."):
        return  # what is native in our own modules is meant so
    for key, value in list(namespace.items()):
        ours = replaced.get(id(value))
        if ours is not None:
            namespace[key] = ours


def _init(self: Any, family: int = -1, type: int = -1, proto: int = -1, fileno: Any = None) -> None:
    standin.init(self, family, type, proto, fileno)
    self._io_refs = 0
    self._closed = False


def _real_close(self: Any, _ss: Any = None) -> None:
    closing.close(self)
