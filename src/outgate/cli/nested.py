"""Notice that this process runs under ``outgate run`` already."""

from __future__ import annotations

import os

from outgate.core import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_AUTOLOAD = os.path.join("outgate", "client", "autoload")


def is_nested(environ: Mapping[str, str]) -> bool:
    """Whether the environment is one that ``outgate run`` made for its program."""
    folders = environ.get("PYTHONPATH", "").split(os.pathsep)
    return bool(environ.get(paths.SOCKET_VARIABLE)) and any(folder.endswith(_AUTOLOAD) for folder in folders)


def reason(environ: Mapping[str, str]) -> str:
    """Return why no gate may be started here, ``""`` where one may.

    Its sockets would be the outer gate's, or, native, go round the outer policy; inside the fence they lead nowhere.
    """
    if not is_nested(environ):
        return ""
    return (
        f"this runs under a gate already ({paths.SOCKET_VARIABLE}={environ[paths.SOCKET_VARIABLE]}), whose policy "
        "cannot be changed from inside; start the other gate outside of it"
    )
