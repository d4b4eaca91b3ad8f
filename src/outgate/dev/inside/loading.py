"""Load the app objects that handlers name, tell WSGI from ASGI, and put what the server adds around them."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any

from outgate.dev import tasks
from outgate.dev.inside import deferred
from outgate.urlfetch import in_task

__all__ = ["ASGI", "WSGI", "CannotLoad", "around_asgi", "around_wsgi", "interface", "load"]

ASGI, WSGI = "asgi", "wsgi"
#: Header in which the front says who called.
_CALLER = "HTTP_X_APPENGINE_USER_IP"


class CannotLoad(Exception):
    """The app cannot be served; the text says why and what to do."""


def load(script: str) -> Any:
    """Return the object of ``module:attribute``.

    What the module itself raises passes through: its traceback says it best.

    :raises CannotLoad: the module has no such object.
    """
    module_name, _, attribute = script.partition(":")
    found: Any = importlib.import_module(module_name)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CannotLoad(
                f"{module_name}.py has no {attribute!r}; name the app object so, or say another in app.yaml: "
                f"entrypoint: gunicorn {module_name}:NAME"
            ) from None
    if not callable(found):
        raise CannotLoad(f"{script} is no app but {type(found).__name__}")
    return found


def interface(app: Any) -> str:
    """Return :data:`ASGI` or :data:`WSGI`, by how the object would be called.

    A coroutine function, or an object whose ``__call__`` is one, or a callable of three (``scope``, ``receive``,
    ``send``) is ASGI 3; all else is WSGI, which is called with two.
    """
    call = app if inspect.isroutine(app) or inspect.isclass(app) else type(app).__call__
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(call):
        return ASGI
    try:
        parameters = inspect.signature(app).parameters.values()
    except (TypeError, ValueError):
        return WSGI
    needed = [
        each
        for each in parameters
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) and each.default is each.empty
    ]
    return ASGI if len(needed) == 3 else WSGI


def choose(routes: Sequence[tuple[str, Any]], path: str) -> Any:
    """Return the app of the first handler that matches a path; the last one's for a path that the queue calls."""
    for url, app in routes:
        if re.fullmatch(url, path):
            return app
    return routes[-1][1]


def around_wsgi(routes: Sequence[tuple[str, Any]]) -> Callable[..., Iterable[bytes]]:
    """Return one WSGI app that runs deferred functions and hands on the rest by path.

    :param routes: regular expression and app.
    """

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["REMOTE_ADDR"] = environ.get(_CALLER, "127.0.0.1")
        in_task.set("HTTP_X_APPENGINE_QUEUENAME" in environ)
        path = environ.get("PATH_INFO", "")
        if path == tasks.DEFERRED and environ["REQUEST_METHOD"] == "POST":
            outcome = deferred.run(environ.get("HTTP_X_APPENGINE_TASKNAME"), environ["wsgi.input"].read())
            start_response(
                f"{outcome.status} {HTTPStatus(outcome.status).phrase}",
                [("Content-Length", "0"), *deferred.header(outcome)],
            )
            return []
        answer: Iterable[bytes] = choose(routes, path)(environ, start_response)
        return answer

    return serve


def around_asgi(routes: Sequence[tuple[str, Any]]) -> Callable[..., Any]:
    """Return one ASGI app that runs deferred functions in a thread and hands on the rest by path."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        in_task.set(any(name == b"x-appengine-queuename" for name, _ in scope.get("headers", ())))
        if scope["type"] == "http" and scope["path"] == tasks.DEFERRED and scope["method"] == "POST":
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            name = dict(scope["headers"]).get(b"x-appengine-taskname", b"").decode("latin-1")
            outcome = await asyncio.to_thread(deferred.run, name, body)
            headers = [(key.lower().encode(), value.encode()) for key, value in deferred.header(outcome)]
            headers.append((b"content-length", b"0"))
            await send({"type": "http.response.start", "status": outcome.status, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        path = scope.get("path", "")
        await choose(routes, path)(scope, receive, send)

    return serve


def prepare(folder: str) -> None:
    """Have the app's folder be where its modules are looked for, before all others."""
    sys.path[:] = [folder, *(each for each in sys.path if each not in ("", folder))]
