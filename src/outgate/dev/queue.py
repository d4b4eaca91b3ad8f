"""Keep the task queue: Huey on SQLite stores tasks and hands them to threads, which call the handlers of the apps.

An instance adds a task over a Unix socket of its app (:mod:`outgate.dev.taskqueue`), which is what says whose it is.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import logging
import os
import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import httpx
from huey import SqliteHuey  # type: ignore[import-untyped]
from huey.consumer import Consumer  # type: ignore[import-untyped]

from outgate.dev import instances, journal, sockets, tasks
from outgate.dev.instances import Instance, Pool
from outgate.dev.journal import Journal, Task
from outgate.dev.output import Printer
from outgate.dev.plan import Plan

__all__ = ["Queue"]

#: Tasks that run at one time.
WORKERS: Final = 8
#: Seconds that a handler has: ten minutes, as in the original.
DEADLINE: Final = 600.0
#: Longest line an instance may send: the largest task in base64, and its other fields.
_MAX_LINE: Final = 4 * tasks.MAX_SIZE
#: Seconds between looks into an empty queue.
_LOOK: Final = 0.05


class _Consumer(Consumer):  # type: ignore[misc]
    """Huey's, but the signals are the server's."""

    def _set_signal_handlers(self) -> None:
        pass


class Queue:
    """The queue of one server.

    :param folder: for its file and its sockets, which only this user may enter.
    :param noted: is told of every task.
    """

    def __init__(self, plan: Plan, pool: Pool, folder: str, printer: Printer, noted: Journal) -> None:
        self._plan = plan
        self._pool = pool
        self._folder = folder
        self._printer = printer
        self._noted = noted
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []
        self._stopping = False
        logging.getLogger("huey").setLevel(logging.CRITICAL)  # what becomes of a task is said here, in our words
        self._huey = SqliteHuey("tasks", filename=os.path.join(folder, "tasks.db"), results=False)
        self._call = self._huey.task(name="call", retries=0)(self._run)
        self._consumer = _Consumer(
            self._huey,
            workers=WORKERS,
            periodic=False,
            initial_delay=_LOOK,
            max_delay=_LOOK,
            check_worker_health=False,
        )

    async def start(self) -> None:
        """Take tasks, and run them."""
        for application in self._plan.applications:
            self._servers.append(
                await asyncio.start_unix_server(
                    self._serve(application), sockets.tasks_of(self._folder, application), limit=_MAX_LINE
                )
            )
        self._consumer.start()

    async def stop(self) -> None:
        """Take and run no more. Tasks that are running end with their instances."""
        self._stopping = True
        for server in self._servers:
            server.close()
        await asyncio.to_thread(self._consumer.stop, graceful=False)

    def waiting(self) -> int:
        """Return how many tasks are stored and not begun."""
        return int(self._huey.pending_count()) + int(self._huey.scheduled_count())

    def _serve(self, application: str) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, ValueError):  # ValueError: the line is longer than any task
                line = await reader.readline()
                answer = await asyncio.to_thread(self._take, application, line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
            writer.close()

        return serve

    def _take(self, application: str, line: bytes) -> dict[str, str]:
        """Store the task in a line, and return what to answer."""
        try:
            return {"name": self._add(application, *_parse(line))}
        except tasks.TaskError as error:
            return {"error": type(error).__name__, "text": str(error)}

    def _add(self, application: str, task: dict[str, Any], payload: bytes) -> str:
        tasks.check(task, payload)
        service = self._plan.runs_tasks(application, task["queue"], task.get("target"), str(task.get("service")))
        if service is None:
            names = ", ".join(each.service for each in self._plan.of_app(application))
            raise tasks.UnknownTargetError(f"no service of {application} is {task.get('target')!r}; there are {names}")
        name = task["name"] or f"task{secrets.randbits(63)}"
        # A name is taken once, and stays taken when its task is done (tombstones, in the original's words).
        if not self._huey.storage.put_if_empty(f"name {application} {task['queue']} {name}", b"1"):
            raise tasks.TaskAlreadyExistsError(f"the queue {task['queue']} has or had a task {name}")
        stored = {
            "application": application,
            **{key: task[key] for key in ("url", "queue", "method", "headers")},
            "name": name,
            "service": service,
            "adder": task.get("service"),
            "on_failure": task.get("on_failure"),
            "payload": base64.b64encode(payload).decode("ascii"),
            "eta": time.time() + task["countdown"],
            "retries": 0,
            "answered": 0,
        }
        self._store(stored, task["countdown"])
        return str(name)

    def _store(self, task: dict[str, Any], delay: float, said: str = "") -> None:
        """Have a task called after so many seconds.

        :param said: why the last attempt failed, "" for the first.
        """
        self._note(task, journal.FAILED if said else journal.WAITING, said, after=delay)
        if delay:
            self._call.schedule((task,), delay=delay)
        else:
            self._call(task)

    def _run(self, task: dict[str, Any]) -> None:
        """Make one attempt, in a thread of the consumer's; store the next one where it fails."""
        self._note(task, journal.RUNNING)
        status, text = self._attempt(task)
        if 200 <= status <= 299:
            self._note(task, journal.GIVEN_UP if text else journal.DONE, text, attempts=1)
            return
        if self._stopping:
            return
        wait = tasks.backoff(task["retries"])
        answered = task["answered"] + (status > 0)
        said = f"answered {status}" if status else text
        self._printer.say(
            f"task {task['name']} of queue {task['queue']}: {task['service']} {said}; "
            f"retry {task['retries'] + 1} in {wait:g} s",
            bad=True,
        )
        self._store({**task, "retries": task["retries"] + 1, "answered": answered, "previous": status}, wait, said)

    def _note(self, task: dict[str, Any], state: str, said: str = "", *, after: float = 0.0, attempts: int = 0) -> None:
        """Note how a task stands, from now on or since then; ``attempts`` of it are beside those before."""
        self._noted.task(
            Task(
                **{key: task[key] for key in ("name", "application", "queue", "service", "url")},
                adder=str(task["adder"]),
                state=state,
                at=time.time() + after,
                attempts=task["retries"] + attempts,
                said=said,
            )
        )

    def _attempt(self, task: dict[str, Any]) -> tuple[int, str]:
        """Call the handler; return the status of its answer and why it failed for good, or 0 and why none came."""
        try:
            instance = self._instance(task["service"])
        except (RuntimeError, TimeoutError):
            return 0, "did not start in time"
        if instance.state != instances.READY:
            return 0, "does not run"
        headers = {**task["headers"], **tasks.told(task), "Host": f"{task['service']}.localhost"}
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=instance.path), timeout=DEADLINE) as client:
                answer = client.request(
                    task["method"],
                    f"http://instance{task['url']}",
                    headers=headers,
                    content=base64.b64decode(task["payload"]),
                )
        except httpx.HTTPError as error:
            return 0, f"gave no answer ({type(error).__name__})"
        failed = answer.headers.get(tasks.FOR_GOOD)
        if failed:
            self._printer.say(f"task {task['name']} of queue {task['queue']} has failed for good: {failed}", bad=True)
            self._tell(task, failed)
        return answer.status_code, failed or ""

    def _tell(self, task: dict[str, Any], failed: str) -> None:
        """Have the app told why a task has failed for good, where it wants to know: by a task of its own."""
        adder = self._plan.find(str(task["adder"]))
        if not task["on_failure"] or adder is None:
            return
        telling = {
            **{"url": task["on_failure"], "queue": task["queue"], "method": "POST", "countdown": 0, "name": None},
            **{"headers": {"Content-Type": "text/plain; charset=utf-8"}, "target": adder.service},
        }
        self._add(adder.application, telling, failed.encode())

    def _instance(self, service: str) -> Instance:
        picking = asyncio.run_coroutine_threadsafe(self._pool.pick(service), self._loop)
        try:
            return picking.result(DEADLINE)
        finally:
            picking.cancel()


def _parse(line: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the task in a line and its payload. Raises :class:`InvalidTaskError` for what is none."""
    try:
        task = json.loads(line)
        payload = base64.b64decode(task.pop("payload"), validate=True)
        present = all(key in task for key in ("url", "queue", "countdown", "name", "method", "headers"))
    except (ValueError, KeyError, AttributeError, TypeError, binascii.Error, RecursionError):
        present = False
    if not present:
        raise tasks.InvalidTaskError(
            "this is not a task: JSON with url, queue, countdown, name, method, headers, payload"
        )
    return task, payload
