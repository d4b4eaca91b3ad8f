"""Serve an app on an inherited listening socket: WSGI by gunicorn's threads, ASGI by uvicorn, in this one process."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
from collections.abc import Callable
from typing import Any

from outgate.dev.inside.loading import ASGI

__all__ = ["load", "serve_asgi", "serve_wsgi"]

#: Requests that a WSGI instance answers at one time; the others wait in its socket.
THREADS = 16
#: Seconds in which requests that are running may end after SIGTERM.
GRACE = 2


def load(kind: str) -> None:
    """Import what serves an app of a kind: it imports ssl, which the app itself may be denied."""
    names = ("config", "glogging", "sock", "workers.gthread", "http.wsgi")
    for name in ("uvicorn",) if kind == ASGI else (f"gunicorn.{each}" for each in names):
        importlib.import_module(name)


def serve_wsgi(app: Callable[..., Any], listener: int, ready: Callable[[], None]) -> None:
    """Serve with gunicorn's threaded worker, until SIGTERM.

    It is the worker alone: the development server is what its arbiter would be. Ends too when the parent has ended.

    :param listener: fd of the listening Unix socket; taken over.
    :param ready: called when it serves.
    """
    from gunicorn.config import Config  # type: ignore[import-untyped]
    from gunicorn.sock import UnixSocket  # type: ignore[import-untyped]
    from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

    config = Config()
    config.set("threads", THREADS)
    config.set("worker_class", "gthread")
    config.set("graceful_timeout", GRACE)
    config.set("loglevel", "warning")
    log = config.logger_class(config)

    class Loaded:
        """What a worker asks for its app."""

        def wsgi(self) -> Callable[..., Any]:
            return app

    class Worker(ThreadWorker):  # type: ignore[misc]
        """The same, saying when it begins."""

        def run(self) -> None:
            ready()
            super().run()

    path = socket.socket(fileno=os.dup(listener))
    with path:
        address = path.getsockname()
    made = UnixSocket(address, config, log, fd=listener)
    worker = Worker(1, os.getppid(), [made], Loaded(), 0, config, log)
    worker.pid = os.getpid()
    worker.init_process()


def serve_asgi(app: Callable[..., Any], listener: int, ready: Callable[[], None]) -> int:
    """Serve with uvicorn until SIGTERM, and return the exit status. Parameters as :func:`serve_wsgi`."""
    import uvicorn

    class Server(uvicorn.Server):
        """The same, saying when it begins."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if not self.should_exit:
                ready()

    server = Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            log_level="warning",
            access_log=False,
            forwarded_allow_ips="*",  # who calls is the front, and nobody else can
            timeout_graceful_shutdown=GRACE,
        )
    )
    with socket.socket(fileno=listener) as sock:
        asyncio.run(server.serve(sockets=[sock]))
    return 0 if server.started else 3
