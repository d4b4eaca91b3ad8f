"""Give an object the methods of one kind of relayed socket, without touching the class of all the others.

The methods that move bytes must stay C's for direct sockets, so they cannot be in the class that stands in for C's. An
object of a relayed socket becomes an instance of a subclass of its own class instead, in which these methods come after
those of the program's own classes and before C's.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

_made: dict[tuple[Any, Any], Any] = {}


def become(self: Any, methods: Any) -> None:
    """Make an object one of a class with these methods, which looks like its own to whoever asks for its name.

    :param methods: a subclass of the stand-in without slots of its own.
    """
    cls = type(self)
    if issubclass(cls, methods):
        return
    made = _made.get((cls, methods))
    if made is None:
        bases = (cls, methods) if not issubclass(methods, cls) else (methods,)
        names = {
            "__slots__": (),
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
        }
        made = _made[cls, methods] = type(cls.__name__, bases, names)
    self.__class__ = made
