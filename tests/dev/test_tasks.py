"""Tasks: what a queue takes, what a handler is told, when it is tried again, and how an instance adds one."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.dev import taskqueue, tasks
from outgate.dev.tasks import InvalidQueueNameError, InvalidTaskError, QueueUnavailableError, TaskTooLargeError

TASK = {"url": "/work", "queue": "default", "countdown": 0, "name": None, "method": "POST", "headers": {}}


def test_a_plain_task_is_taken() -> None:
    """A path, a queue and a payload are enough."""
    tasks.check(TASK, b"x" * 1000)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"url": "work"}, InvalidTaskError),
        ({"url": "//other.example/x"}, InvalidTaskError),
        ({"url": "http://other.example/"}, InvalidTaskError),
        ({"url": "/a b"}, InvalidTaskError),
        ({"url": "/a\r\nX: y"}, InvalidTaskError),
        ({"url": "/ä"}, InvalidTaskError),
        ({"url": "/" + "x" * 2083}, InvalidTaskError),
        ({"url": None}, InvalidTaskError),
        ({"on_failure": "//other.example/x"}, InvalidTaskError),
        ({"on_failure": None}, InvalidTaskError),
        ({"queue": "a_b"}, InvalidQueueNameError),
        ({"queue": ""}, InvalidQueueNameError),
        ({"queue": 3}, InvalidQueueNameError),
        ({"name": "a b"}, InvalidTaskError),
        ({"name": ""}, InvalidTaskError),
        ({"name": "x" * 501}, InvalidTaskError),
        ({"method": "PATCH"}, InvalidTaskError),
        ({"countdown": -1}, InvalidTaskError),
        ({"countdown": tasks.MAX_COUNTDOWN + 1}, InvalidTaskError),
        ({"countdown": float("nan")}, InvalidTaskError),
        ({"countdown": "3"}, InvalidTaskError),
        ({"countdown": True}, InvalidTaskError),
        ({"headers": {"X-AppEngine-TaskName": "forged"}}, InvalidTaskError),
        ({"headers": {"Host": "x"}}, InvalidTaskError),
        ({"headers": {"X": "a\r\nY: b"}}, InvalidTaskError),
        ({"headers": {"X Y": "a"}}, InvalidTaskError),
        ({"headers": {"X": 1}}, InvalidTaskError),
        ({"headers": []}, InvalidTaskError),
    ],
)
def test_what_no_queue_takes(change: dict[str, Any], error: type[Exception]) -> None:
    """A field that is none is refused, by the class that says which."""
    with pytest.raises(error):
        tasks.check({**TASK, **change}, b"")


def test_a_payload_needs_a_method_that_has_one() -> None:
    """GET and its like carry nothing."""
    with pytest.raises(InvalidTaskError, match="a GET has no payload"):
        tasks.check({**TASK, "method": "GET"}, b"x")


def test_the_limit_of_100_kb_is_exact() -> None:
    """Method, path, headers and payload together may be 102,400 bytes, and not one more."""
    task = {**TASK, "headers": {"A": "b"}}
    room = 102400 - len("POST") - len("/work") - len("A: b\r\n")
    tasks.check(task, b"x" * room)
    with pytest.raises(TaskTooLargeError, match="this one 102401"):
        tasks.check(task, b"x" * (room + 1))


def test_what_a_handler_is_told() -> None:
    """The headers are those of App Engine's push queues."""
    told = tasks.told({"name": "n", "queue": "q", "retries": 2, "answered": 1, "eta": 1.5, "previous": 503})
    assert told == {
        "User-Agent": "AppEngine-Google; (+http://code.google.com/appengine)",
        "X-AppEngine-TaskName": "n",
        "X-AppEngine-QueueName": "q",
        "X-AppEngine-TaskRetryCount": "2",
        "X-AppEngine-TaskExecutionCount": "1",
        "X-AppEngine-TaskETA": "1.500000",
        "X-AppEngine-TaskPreviousResponse": "503",
    }


@given(st.integers(0, 10_000))
def test_pauses_double_up_to_an_hour(retries: int) -> None:
    """Each pause is twice the one before, from a tenth of a second to an hour."""
    assert tasks.backoff(0) == 0.1
    assert tasks.backoff(retries + 1) == min(2 * tasks.backoff(retries), 3600)


class Server:
    """A socket that notes what it is sent and answers a line."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self.got: list[Any] = []
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(str(path))
        self._sock.listen()
        self._thread = threading.Thread(target=self._serve, args=(answer,))
        self._thread.start()

    def _serve(self, answer: bytes) -> None:
        with self._sock, self._sock.accept()[0] as one, one.makefile("rwb") as file:
            self.got.append(json.loads(file.readline()))
            file.write(answer)

    def task(self) -> dict[str, Any]:
        """Return the task it was sent."""
        self._thread.join(10)
        made: dict[str, Any] = self.got[0]
        return made


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the queue is looked for."""
    monkeypatch.setenv("OUTGATE_DEV_TASKS", str(tmp_path / "q"))
    monkeypatch.setenv("OUTGATE_DEV_SERVICE", "front")
    return tmp_path / "q"


@pytest.mark.parametrize(
    ("payload", "method", "url", "body", "kind"),
    [
        (None, "POST", "/w", b"", None),
        (b"\0\xff", "POST", "/w", b"\0\xff", "application/octet-stream"),
        ("ä", "PUT", "/w", "ä".encode(), "text/plain; charset=utf-8"),
        ({"a": 1, "b": ["x", "y"]}, "POST", "/w", b"a=1&b=x&b=y", "application/x-www-form-urlencoded"),
        ([("a", "1")], "GET", "/w?a=1", b"", None),
    ],
)
def test_payloads(path: Path, payload: Any, method: str, url: str, body: bytes, kind: str | None) -> None:
    """Bytes, text and forms arrive as what they are, with their type; a form of a GET is in the path."""
    server = Server(path, b'{"name": "t"}\n')
    assert taskqueue.add("/w", payload, method=method) == "t"
    task = server.task()
    assert (task["url"], b64decode(task["payload"]), task["headers"].get("Content-Type")) == (url, body, kind)
    assert (task["service"], task["target"]) == ("front", None)


def test_deferred_functions_are_pickled(path: Path) -> None:
    """A deferred call is a task of the deferred path, its payload the pickle of function and arguments."""
    server = Server(path, b'{"name": "t"}\n')
    taskqueue.defer(os.path.join, "a", "b", _queue="q", _countdown=3, _name="n", _target="back")
    task = server.task()
    assert task["url"] == "/_ah/queue/deferred"
    assert (task["queue"], task["countdown"], task["name"], task["target"]) == ("q", 3, "n", "back")
    assert pickle.loads(b64decode(task["payload"])) == (os.path.join, ("a", "b"), {})


def test_arguments_that_do_not_fit_are_refused_at_once(path: Path) -> None:
    """A call that could only fail is refused where it is deferred: a wrong argument, a function of __main__."""
    with pytest.raises(TypeError, match="queue"):
        taskqueue.defer(os.path.basename, "a", queue="q")
    made = type(lambda: None)((lambda: None).__code__, {"__name__": "__main__"})
    made.__module__ = "__main__"
    with pytest.raises(InvalidTaskError, match="__main__"):
        taskqueue.defer(made)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b'{"error": "TaskAlreadyExistsError", "text": "twice"}\n', tasks.TaskAlreadyExistsError),
        (b'{"error": "UnknownTargetError", "text": "none"}\n', tasks.UnknownTargetError),
        (b'{"error": "Other", "text": "x"}\n', tasks.TaskError),
        (b"[1]\n", tasks.TaskError),
        (b"{}\n", tasks.TaskError),
        (b"nonsense\n", QueueUnavailableError),
    ],
)
def test_refusals_come_back_as_what_they_are(path: Path, answer: bytes, error: type[Exception]) -> None:
    """What the server answers is raised by its class; an answer that is none says that no queue is there."""
    server = Server(path, answer)
    with pytest.raises(error):
        taskqueue.add("/w")
    server.task()


def test_without_a_server(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no server runs, or none is named, the error says how to start one."""
    with pytest.raises(QueueUnavailableError, match="does not answer"):
        taskqueue.add("/w")
    monkeypatch.delenv("OUTGATE_DEV_TASKS")
    with pytest.raises(QueueUnavailableError, match="outgate dev"):
        taskqueue.add("/w")


def test_importing_the_queue_is_cheap() -> None:
    """An instance that imports the queue loads nothing beside two small modules: no socket, no json, no msgspec."""
    code = "import sys; before = set(sys.modules); import outgate.dev.taskqueue; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("outgate")} == {
        *("outgate", "outgate.dev", "outgate.dev.tasks", "outgate.dev.taskqueue"),
    }
    assert not loaded & {"socket", "json", "pickle", "inspect", "msgspec", "yaml", "typing", "asyncio"}
    assert {name.partition(".")[0] for name in loaded} <= {*sys.stdlib_module_names, "outgate"}
