"""Be one instance: load the app, say how it is served, serve it, and end with the server that started it.

Started as ``python -m outgate.dev.inside.main JSON``, in the app's folder, under the gate.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

from outgate.dev.inside import banned, loading

__all__ = ["main"]

#: Exit status of an instance whose app cannot be loaded for a reason that it has said.
CANNOT_LOAD = 78  # EX_CONFIG


def main(argv: list[str]) -> int:
    """Run the instance that the first argument describes, and return its exit status.

    Its keys: ``folder``, ``listen`` and ``control`` (fds), ``handlers`` (regular expression, script), ``ssl``.
    """
    said = json.loads(argv[0])
    _end_with_the_server(said["control"])
    os.set_inheritable(said["control"], False)
    os.set_inheritable(said["listen"], False)
    loading.prepare(said["folder"])
    sys.argv[:] = [os.path.join(said["folder"], "main.py")]  # an app that reads its arguments finds none
    if not said["ssl"]:
        banned.ban()
    try:
        routes, kind = _load(said["handlers"])
    except loading.CannotLoad as error:
        print(f"outgate: {error}", file=sys.stderr)  # noqa: T201
        return CANNOT_LOAD
    except Exception as error:
        traceback.print_exception(type(error), error, _of_the_app(error.__traceback__))
        return 1

    def ready() -> None:
        os.write(said["control"], kind.encode() + b"\n")

    with banned.lifted():
        from outgate.dev.inside import serving

        serving.load(kind)
    if kind == loading.ASGI:
        return serving.serve_asgi(loading.around_asgi(routes), said["listen"], ready)
    serving.serve_wsgi(loading.around_wsgi(routes), said["listen"], ready)
    return 0


def _load(handlers: list[list[str]]) -> tuple[list[tuple[str, Any]], str]:
    """Load each script once; return the routes and what the apps are. Raises :class:`loading.CannotLoad`."""
    apps = {script: loading.load(script) for script in dict.fromkeys(script for _, script in handlers)}
    kinds = {script: loading.interface(app) for script, app in apps.items()}
    if len(set(kinds.values())) > 1:
        raise loading.CannotLoad(
            f"its handlers mix WSGI and ASGI ({kinds}); one service is one of them, so make two services of it"
        )
    return [(url, apps[script]) for url, script in handlers], next(iter(kinds.values()))


def _of_the_app(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without its first frames that are ours and the import system's: nobody looks for those."""
    ours = os.path.dirname(os.path.abspath(__file__))
    rest = trace
    while rest is not None and rest.tb_frame.f_code.co_filename.startswith((ours, importlib.__path__[0], "<frozen")):
        rest = rest.tb_next
    return rest or trace


def _end_with_the_server(control: int) -> None:
    """End this process, whatever it does, when the server's end of the control socket is gone."""

    def wait() -> None:
        try:
            while os.read(control, 1):
                pass
        except OSError:
            pass
        os._exit(1)

    threading.Thread(target=wait, name="outgate-dev-control", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
