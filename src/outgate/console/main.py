"""Be the process of the console: serve its pages until whoever started it has gone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import uvicorn

from outgate.console.app import make
from outgate.console.sources import Sources, log_of
from outgate.lookout import ask, ledger

__all__ = ["serve"]

#: Connections at one time; what is above is told to come again (503).
_MOST: Final = 256
#: Seconds that requests may take to end when the process ends.
_GRACE: Final = 1
#: Seconds for which a browser may keep a connection that it does not use.
_KEPT: Final = 60


class _Server(uvicorn.Server):
    """uvicorn's, without its signals: this process ends when its standard input does."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def serve() -> None:
    """Serve what the first line of standard input says: ``fd`` that listens, ``token``, the ``gate``'s socket.

    ``config`` is the path of the gate's configuration, "" for none. A second line, or the end, ends it.
    """
    said: dict[str, Any] = json.loads(sys.stdin.readline())
    for number in (signal.SIGINT, signal.SIGHUP):  # of the terminal; who started this one sees to its end
        signal.signal(number, signal.SIG_IGN)
    gate = ask.Gate(said["gate"])
    find = partial(ledger.find, "", said["config"], said["gate"], "")
    app = make(Sources(gate.ask, log_of(gate.ask), find), said["token"])
    asyncio.run(_serve(app, socket.socket(fileno=said["fd"])))


async def _serve(app: Any, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app, lifespan="off", log_level="critical", access_log=False, proxy_headers=False, ws="none", http="h11",
        server_header=False, limit_concurrency=_MOST, timeout_graceful_shutdown=_GRACE, timeout_keep_alive=_KEPT,
        loop="asyncio",
    )  # fmt: skip
    server = _Server(config)

    def end() -> None:
        server.should_exit = True

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), end)
    await server.serve(sockets=[listener])


if __name__ == "__main__":
    serve()
