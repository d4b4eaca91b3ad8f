"""Remember what the server has just done: the latest requests, and what became of the latest tasks. Plain data.

It is what the console shows, and nothing depends on it. Requests are noted on the loop, tasks in the queue's threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Final, NamedTuple

__all__ = ["DONE", "FAILED", "GIVEN_UP", "RUNNING", "WAITING", "Journal", "Request", "Task"]

#: How many of each are remembered.
MOST: Final = 500

WAITING, RUNNING, DONE, FAILED, GIVEN_UP = "waiting", "running", "done", "failed", "failed for good"


class Request(NamedTuple):
    """One request that has ended.

    :ivar at: when it came, in seconds since 1970.
    :ivar target: the path and query, as they came.
    :ivar instance: who answered; "" where the front did.
    :ivar status: of the answer; 0 where there was none.
    :ivar seconds: how long it took.
    :ivar task: name of the task that made it, "" where somebody outside did.
    """

    at: float
    method: str
    target: str
    instance: str
    status: int
    seconds: float
    task: str = ""


class Task(NamedTuple):
    """What is known of a task.

    :ivar service: where it runs.
    :ivar adder: the service that added it.
    :ivar state: one of :data:`WAITING`, :data:`RUNNING`, :data:`DONE`, :data:`FAILED` (it is tried again),
        :data:`GIVEN_UP`.
    :ivar at: since when it is in that state; of one that waits, when it is due.
    :ivar attempts: how often it has been tried.
    :ivar said: why the last attempt failed, "" where none has.
    """

    name: str
    application: str
    queue: str
    service: str
    adder: str
    url: str
    state: str
    at: float
    attempts: int = 0
    said: str = ""


class Journal:
    """What was noted. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: deque[Request] = deque(maxlen=MOST)
        self._tasks: OrderedDict[tuple[str, str, str], Task] = OrderedDict()
        self._count = 0

    def request(self, request: Request) -> None:
        """Note a request that has ended."""
        with self._lock:
            self._requests.appendleft(request)
            self._count += 1

    def task(self, task: Task) -> None:
        """Note how a task stands now. The one that has stood still for longest is forgotten first."""
        with self._lock:
            key = task.application, task.queue, task.name
            self._tasks[key] = task
            self._tasks.move_to_end(key)
            while len(self._tasks) > MOST:
                self._tasks.popitem(last=False)

    def requests(self) -> tuple[list[Request], int]:
        """Return the latest requests, the latest first, and how many there have been."""
        with self._lock:
            return list(self._requests), self._count

    def tasks(self) -> list[Task]:
        """Return the tasks, the one that has changed last first."""
        with self._lock:
            return list(reversed(self._tasks.values()))
