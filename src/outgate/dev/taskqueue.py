"""Add tasks to the development server's queue, from the code of an app.

::

    from outgate.dev import taskqueue

    taskqueue.add("/work", {"order": "42"}, countdown=10)    # POST /work, to the service itself or the queue's
    taskqueue.defer(fetch_posts, nntp, group, _queue="news")  # fetch_posts(nntp, group) there, sockets included

Standard library only, and no import that costs: it is loaded into every instance that adds tasks.
"""

from __future__ import annotations

import os

from outgate.dev import tasks
from outgate.dev.tasks import InvalidQueueNameError as InvalidQueueNameError
from outgate.dev.tasks import InvalidTaskError as InvalidTaskError
from outgate.dev.tasks import QueueUnavailableError as QueueUnavailableError
from outgate.dev.tasks import TaskAlreadyExistsError as TaskAlreadyExistsError
from outgate.dev.tasks import TaskError as TaskError
from outgate.dev.tasks import TaskTooLargeError as TaskTooLargeError
from outgate.dev.tasks import UnknownTargetError as UnknownTargetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable, Iterable, Optional, Tuple, Union

    Payload = Union[None, bytes, str, Mapping[str, Any], Iterable[Tuple[str, Any]]]

__all__ = ["PermanentTaskFailure", "TaskError", "add", "defer"]

#: Names the socket of the queue in the environment of an instance.
SOCKET_VARIABLE = "OUTGATE_DEV_TASKS"
#: Names the instance's own service there.
SERVICE_VARIABLE = "OUTGATE_DEV_SERVICE"
#: Seconds that the server may take to store a task.
_LIMIT = 10.0
_FORM = "application/x-www-form-urlencoded"
_BYTES = "application/octet-stream"
_TEXT = "text/plain; charset=utf-8"


class PermanentTaskFailure(Exception):
    """Raised by a deferred function: it has failed, and a retry would change nothing."""


def add(
    url: str,
    payload: Payload = None,
    queue: str = tasks.DEFAULT_QUEUE,
    countdown: float = 0,
    name: Optional[str] = None,
    method: str = "POST",
    headers: Optional[Mapping[str, str]] = None,
    target: Optional[str] = None,
    on_failure: Optional[str] = None,
) -> str:
    """Have the queue call a handler of the app, and again until it answers with a status from 200 to 299.

    :param url: path of the handler.
    :param payload: the body: bytes, text, or a mapping or pairs, which become a form (in the query where the method is
        GET, HEAD or DELETE).
    :param countdown: seconds from now before which it is not called.
    :param name: a queue takes a name once; made up unless given.
    :param target: the service whose handler it is; unless given the one that app.yaml names for the queue, and where
        none is named the service that adds it.
    :param on_failure: path of a handler of the service that adds it, which gets the reason as text (POST) when the task
        has failed for good.
    :returns: its name.
    :raises InvalidTaskError: it is none, with what is wrong.
    :raises TaskAlreadyExistsError: the queue has or had one of this name.
    :raises UnknownTargetError: no such service runs here.
    :raises QueueUnavailableError: no development server answers.
    """
    given = dict(headers or {})
    url, body, kind = _body(url, payload, method)
    if body and not any(each.lower() == "content-type" for each in given):
        given["Content-Type"] = kind
    return _send(url, body, queue, countdown, name, method, given, target, on_failure)


def defer(
    function: Callable[..., Any],
    *args: Any,
    _queue: str = tasks.DEFAULT_QUEUE,
    _countdown: float = 0,
    _name: Optional[str] = None,
    _target: Optional[str] = None,
    _on_failure: Optional[str] = None,
    **kwargs: Any,
) -> str:
    """Have the queue call a function with these arguments, in an instance of the service that runs the queue's tasks.

    Function and arguments are pickled. A socket that leaves through the gate, or an object that holds one, travels
    with them: what the function gets is the same connection.

    :param function: one that the other instance can import by the same name.
    :param _queue: it and the next four as in :func:`add`; the underscore leaves the names to the function.
    :raises TaskTooLargeError: the pickle is larger than a task may be.
    :raises TypeError: the function does not take these arguments, or one of them does not pickle.
    :raises pickle.PicklingError: the function, or an argument, does not.
    """
    import pickle

    if getattr(function, "__module__", None) == "__main__":
        raise InvalidTaskError(f"{function!r} is of __main__, which is another module there; move it into one")
    _bind(function, args, kwargs)
    body = pickle.dumps((function, args, kwargs), pickle.HIGHEST_PROTOCOL)
    headers = {"Content-Type": _BYTES}
    return _send(tasks.DEFERRED, body, _queue, _countdown, _name, "POST", headers, _target, _on_failure)


def _bind(function: Callable[..., Any], args: Tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that the function does not take here, where somebody sees it, and not in every retry."""
    import inspect

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of C, and silent about it
        return
    signature.bind(*args, **kwargs)


def _body(url: str, payload: Payload, method: str) -> Tuple[str, bytes, str]:
    """Return the url with what belongs there, the body, and its type."""
    if payload is None:
        return url, b"", ""
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return url, bytes(payload), _BYTES
    if isinstance(payload, str):
        return url, payload.encode(), _TEXT
    from urllib.parse import urlencode

    pairs: Any = payload
    form = urlencode(pairs, doseq=True)
    if method in ("POST", "PUT"):
        return url, form.encode(), _FORM
    return url + ("&" if "?" in url else "?") + form, b"", ""


def _send(
    url: str,
    body: bytes,
    queue: str,
    countdown: float,
    name: Optional[str],
    method: str,
    headers: Mapping[str, str],
    target: Optional[str],
    on_failure: Optional[str],
) -> str:
    from base64 import b64encode

    task = {"url": url, "queue": queue, "countdown": countdown, "name": name, "method": method, "headers": headers}
    if on_failure is not None:
        task["on_failure"] = on_failure
    tasks.check(task, body)
    task["target"] = target
    task["service"] = os.environ.get(SERVICE_VARIABLE, "")
    task["payload"] = b64encode(body).decode("ascii")
    answer = _ask(task)
    if "name" in answer:
        return str(answer["name"])
    raise tasks.ERRORS.get(answer.get("error", ""), TaskError)(answer.get("text", "the queue gave no reason"))


def _ask(task: Mapping[str, Any]) -> Mapping[str, Any]:
    """Send one task as a line of JSON over the server's Unix socket, and return the line it answers."""
    import json
    import socket

    path = os.environ.get(SOCKET_VARIABLE)
    if not path:
        raise QueueUnavailableError("there is no task queue here; start this with: outgate dev")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_LIMIT)
            sock.connect(path)
            sock.sendall(json.dumps(task).encode() + b"\n")
            with sock.makefile("rb") as reply:
                answer = json.loads(reply.readline() or b"{}")
    except (OSError, ValueError) as error:
        raise QueueUnavailableError(f"the task queue at {path} does not answer: {error}") from None
    return answer if isinstance(answer, dict) else {}
