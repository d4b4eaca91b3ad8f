"""Run functions that were deferred: unpickle, call, and say whether a retry could change anything."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import sys
import traceback
from typing import NamedTuple

from outgate.dev import taskqueue, tasks
from outgate.errors import GateUnavailable

__all__ = ["Outcome", "run"]

#: What the queue takes for done; a failure for good is done, too (``google.appengine.ext.deferred``).
_DONE = 200
_AGAIN = 500


class Outcome(NamedTuple):
    """What the handler answers.

    :ivar status: 200 where the task is over, 500 where it is to be called again, 403 where the queue did not call.
    :ivar failed: why it has failed for good, "" where it has not.
    """

    status: int
    failed: str = ""


def run(task_name: str | None, body: bytes) -> Outcome:
    """Call the function in a task's payload. What fails is printed on standard error, as the app's own words.

    :param task_name: the header X-AppEngine-TaskName, which the front takes out of what comes from outside.
    :param body: the pickle.
    """
    if not task_name:
        return Outcome(403, "this path is for the task queue alone")
    try:
        function, args, kwargs = pickle.loads(body)
    except GateUnavailable:
        traceback.print_exc()  # a socket in it could not be asked for; it may be there in a moment
        return Outcome(_AGAIN)
    except Exception as error:
        # Whatever a pickle raises, it will raise it again: no such function, no such connection any more.
        return _for_good(task_name, f"its payload cannot be unpickled: {type(error).__name__}: {error}")
    try:
        result = function(*args, **kwargs)
        if inspect.iscoroutine(result):
            asyncio.run(result)
    except taskqueue.PermanentTaskFailure as error:
        return _for_good(task_name, f"{type(error).__name__}: {error}")
    except Exception:
        traceback.print_exc()
        return Outcome(_AGAIN)
    return Outcome(_DONE)


def _for_good(task_name: str, text: str) -> Outcome:
    traceback.print_exc()
    print(f"task {task_name} has failed for good: {text}", file=sys.stderr, flush=True)  # noqa: T201
    return Outcome(_DONE, text)


def header(outcome: Outcome) -> list[tuple[str, str]]:
    """Return the headers of the answer."""
    if not outcome.failed:
        return []
    text = outcome.failed.splitlines()[0][:300]
    return [(tasks.FOR_GOOD, text.encode("ascii", "backslashreplace").decode("ascii"))]
