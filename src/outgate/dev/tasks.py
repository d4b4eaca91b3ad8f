"""Decide about tasks as App Engine's push queues did: what may be added, what its handler is told, when it is retried.

Plain functions on plain data, of the standard library only: instances check a task before they send it.
Numbers and names are those of the SDK's ``google.appengine.api.taskqueue``.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

#: Largest task, in bytes: method, path, headers and payload together (``MAX_PUSH_TASK_SIZE_BYTES``).
MAX_SIZE = 100 * 1024
#: Farthest future, in seconds: 30 days (``MAX_ETA_DELTA_DAYS``).
MAX_COUNTDOWN = 30 * 24 * 3600
#: Longest path (``MAX_URL_LENGTH``).
MAX_URL = 2083
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE")
#: Where nothing says which.
DEFAULT_QUEUE = "default"
#: The path whose tasks are pickled functions.
DEFERRED = "/_ah/queue/deferred"
#: How the handler of that path says that a retry would change nothing.
FOR_GOOD = "X-Outgate-Task-Failed"
#: What no handler's app may be told by others than the queue.
RESERVED_HEADER = "x-appengine-"
#: Where outside callers may not come.
RESERVED_PATH = "/_ah/queue"

_TASK_NAME = re.compile(r"[a-zA-Z0-9_-]{1,500}")
_QUEUE_NAME = re.compile(r"[a-zA-Z0-9-]{1,100}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Seconds before the first retry and the longest; it doubles in between (the defaults of ``retry_parameters``).
MIN_BACKOFF = 0.1
MAX_BACKOFF = 3600.0
MAX_DOUBLINGS = 16


class TaskError(Exception):
    """A task that cannot be added."""


class InvalidTaskError(TaskError, ValueError):
    """Something in it is not what a task may have."""


class InvalidQueueNameError(InvalidTaskError):
    """The queue has no name that a queue can have."""


class TaskTooLargeError(InvalidTaskError):
    """It is larger than :data:`MAX_SIZE`."""


class TaskAlreadyExistsError(TaskError):
    """The queue has, or had, a task of this name."""


class UnknownTargetError(TaskError):
    """No service of the app has that name."""


class QueueUnavailableError(TaskError, ConnectionError):
    """The development server does not answer, or this program was not started by one."""


#: By the name that crosses the socket.
ERRORS = {
    each.__name__: each
    for each in (
        *(InvalidTaskError, InvalidQueueNameError, TaskTooLargeError, TaskAlreadyExistsError),
        *(UnknownTargetError, QueueUnavailableError),
    )
}


def is_queue_name(name: str) -> bool:
    """Whether a queue can be called this."""
    return _QUEUE_NAME.fullmatch(name) is not None


def size(method: str, url: str, headers: Mapping[str, str], payload: bytes) -> int:
    """Return the size of a task in bytes, counted as the SDK does: ``": "`` and the line's end with each header."""
    lines = sum(len(name) + len(value) + 4 for name, value in headers.items())
    return len(method) + len(url.encode()) + lines + len(payload)


def check(task: Mapping[str, Any], payload: bytes) -> None:
    """Refuse what no queue would take.

    :param task: ``url``, ``queue``, ``countdown`` (seconds), ``name`` (or ``None``), ``method``, ``headers``, and
        perhaps ``on_failure`` (a path).
    :raises InvalidTaskError: with what is wrong and what would be right.
    """
    url, queue, name = task["url"], task["queue"], task["name"]
    _check_path("url", url)
    if "on_failure" in task:
        _check_path("on_failure", task["on_failure"])
    if not isinstance(queue, str) or not is_queue_name(queue):
        raise InvalidQueueNameError(f"queue {queue!r} is not a name for one: letters, digits and '-', at most 100")
    if name is not None and (not isinstance(name, str) or not _TASK_NAME.fullmatch(name)):
        raise InvalidTaskError(f"name {name!r} is none for a task: letters, digits, '_' and '-', at most 500")
    if task["method"] not in METHODS:
        raise InvalidTaskError(f"method {task['method']!r} is not one of {', '.join(METHODS)}")
    if payload and task["method"] not in ("POST", "PUT"):
        raise InvalidTaskError(f"a {task['method']} has no payload; put it in the url")
    countdown = task["countdown"]
    if isinstance(countdown, bool) or not isinstance(countdown, (int, float)) or not 0 <= countdown <= MAX_COUNTDOWN:
        raise InvalidTaskError(f"countdown {countdown!r} is not a number of seconds from 0 to {MAX_COUNTDOWN}")
    _check_headers(task["headers"])
    found = size(task["method"], url, task["headers"], payload)
    if found > MAX_SIZE:
        raise TaskTooLargeError(f"a task has at most {MAX_SIZE} bytes, this one {found}; store the data, pass its key")


def _check_path(key: str, url: Any) -> None:
    if not isinstance(url, str) or not url.startswith("/") or url.startswith("//"):
        raise InvalidTaskError(f"{key} {url!r} is not a path of the app; it begins with one /")
    if len(url) > MAX_URL:
        raise InvalidTaskError(f"{key} is longer than {MAX_URL} characters")
    if not url.isascii() or not url.isprintable() or " " in url or "#" in url:
        raise InvalidTaskError(f"{key} {url!r} has characters that must be quoted (urllib.parse.quote)")


def _check_headers(headers: Any) -> None:
    if not isinstance(headers, dict):
        raise InvalidTaskError("headers is not a dict of names and values")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidTaskError(f"header {name!r} is not a header's name with text")
        if name.lower().startswith(RESERVED_HEADER) or name.lower() in ("host", "content-length", "transfer-encoding"):
            raise InvalidTaskError(f"header {name} is the queue's to set")
        if any(not 32 <= ord(c) < 256 and c != "\t" for c in value):
            raise InvalidTaskError(f"header {name} has characters that no header can")


def told(task: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers by which a handler knows that the queue calls, and for which task.

    :param task: as for :func:`check`, with ``retries`` (attempts before this one), ``answered`` (those of them that got
        an answer), ``eta`` (seconds since 1970) and, after a failure, ``previous`` (the status it had).
    """
    headers = {
        "User-Agent": "AppEngine-Google; (+http://code.google.com/appengine)",
        "X-AppEngine-TaskName": task["name"],
        "X-AppEngine-QueueName": task["queue"],
        "X-AppEngine-TaskRetryCount": str(task["retries"]),
        "X-AppEngine-TaskExecutionCount": str(task["answered"]),
        "X-AppEngine-TaskETA": f"{task['eta']:.6f}",
    }
    if task.get("previous"):
        headers["X-AppEngine-TaskPreviousResponse"] = str(task["previous"])
    return headers


def backoff(retries: int) -> float:
    """Return the seconds until the next attempt, after the first and ``retries`` further ones have failed."""
    return float(min(MIN_BACKOFF * 2 ** min(retries, MAX_DOUBLINGS), MAX_BACKOFF))
