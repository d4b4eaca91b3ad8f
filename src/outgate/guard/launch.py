"""Make the environment in which a program finds the gate and loads the client.

Children inherit it, so a whole tree of programs goes out through the one gate, whatever Python version each is.
"""

import os

from outgate.core.paths import SOCKET_VARIABLE

TYPE_CHECKING = False  # typing costs more than the rest of this package together
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["environment"]


def environment(environ: "Mapping[str, str]", socket_path: str, inject_dir: str) -> "dict[str, str]":
    """Return a copy of an environment in which Python loads the client and the client finds the gate.

    The folder goes to the *front* of PYTHONPATH, because Python runs the first ``sitecustomize`` it finds; what was
    there before stays, in its order. Doing it twice is doing it once, so a program that starts ``outgate run`` itself
    does not grow the list.

    :param environ: the environment to start from; it is not changed.
    :param socket_path: where the gate listens; becomes OUTGATE_SOCKET.
    :param inject_dir: the absolute folder with the client's ``sitecustomize``.
    :raises ValueError: where that folder cannot stand in PYTHONPATH: it is relative, or has the separator in its name.
    """
    if not os.path.isabs(inject_dir) or os.pathsep in inject_dir:
        raise ValueError(f"not a folder that PYTHONPATH can name: {inject_dir!r}")
    result = dict(environ)
    result[SOCKET_VARIABLE] = socket_path
    # An empty PYTHONPATH means nothing, but an empty part of a longer one means the working directory: no part may be
    # lost, and none may be made.
    before = environ.get("PYTHONPATH")
    rest = [part for part in before.split(os.pathsep) if part != inject_dir] if before else []
    result["PYTHONPATH"] = os.pathsep.join([inject_dir, *rest])
    return result
