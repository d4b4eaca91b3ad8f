"""The console of the development server: the gate's pages, and one with instances, requests and tasks."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from outgate.dev import console, instances, journal
from outgate.dev.console import KeptLog, instances_table, requests_table, tasks_table
from outgate.dev.journal import Journal, Request, Task
from outgate.dev.plan import is_console
from support.devserver import DevServer

#: What an instance may print.
HOSTILE = "\x1b[2Jlast"
MAIN = """
import socket
from outgate.dev import taskqueue

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/add":
        taskqueue.add("/work", {"order": "42"}, name="good")
        taskqueue.add("/wrong", {"order": "43"}, name="bad")
    if path == "/refused":
        try:
            socket.create_connection(("10.0.0.5", 80), 5)
        except OSError as error:
            print(error, flush=True)
    start_response("500 Wrong" if path == "/wrong" else "200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""


# --- what is remembered -----------------------------------------------------------------------------------------------


def request(number: int, status: int = 200) -> Request:
    """Return a request."""
    return Request(1000.0 + number, "GET", f"/{number}", "default/0", status, 0.012)


def task(name: str, state: str, **rest: Any) -> Task:
    """Return how a task stands."""
    return Task(name, "blog", "mail", "back", "default", "/work", state, rest.pop("at", 1000.0), **rest)


def test_the_latest_requests_are_remembered_and_all_are_counted() -> None:
    """The latest comes first; what is above the limit is forgotten, and still counted."""
    noted = Journal()
    for number in range(journal.MOST + 5):
        noted.request(request(number))
    kept, count = noted.requests()
    assert (kept[0], kept[-1], len(kept), count) == (request(504), request(5), journal.MOST, journal.MOST + 5)


def test_a_task_is_remembered_as_it_stands_now() -> None:
    """Each once; the one that changed last comes first, and the one that stood still for longest is forgotten."""
    noted = Journal()
    for number in range(journal.MOST + 1):
        noted.task(task(str(number), journal.WAITING))
    noted.task(task("7", journal.DONE))
    found = noted.tasks()
    assert (found[0], len(found)) == (task("7", journal.DONE), journal.MOST)
    assert "0" not in {each.name for each in found}


def test_threads_may_note_at_once() -> None:
    """Nothing is lost or torn."""
    noted = Journal()

    def work() -> None:
        for number in range(300):
            noted.request(request(number))
            noted.task(task(str(number), journal.RUNNING))
            noted.tasks()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert noted.requests()[1] == 1200
    assert len(noted.tasks()) == 300


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_every_row_has_a_text_for_every_column() -> None:
    """And no other, but what tells it apart and its colour."""
    one = SimpleNamespace(name="default/0", state=instances.FAILED, pid=None, starts=3, kind="wsgi", tail=[HOSTILE])
    for table in (
        instances_table([one]),  # type: ignore[list-item]
        requests_table([request(1), request(2, 0)], 7),
        tasks_table([task("a", journal.FAILED, said="answered 500", attempts=2)], 1001.0),
    ):
        for row in table.rows:
            assert row.keys() == {"key", "kind", *(column.name for column in table.columns)}
            assert all(isinstance(text, str) and text.isprintable() for text in row.values()), row


def test_rows_keep_their_keys() -> None:
    """A request's key stays its own when others come."""
    before = requests_table([request(1)], 1).rows
    after = requests_table([request(2), request(1)], 2).rows
    assert before[0] == after[1]
    assert before[0]["key"] != after[0]["key"]


@pytest.mark.parametrize(
    ("status", "kind", "shown"),
    [
        (200, "allow", "200"),
        (304, "allow", "304"),
        (404, "report", "404"),
        (500, "deny", "500"),
        (0, "deny", "cut off"),
    ],
)
def test_a_status_has_a_colour(status: int, kind: str, shown: str) -> None:
    """Green, amber or red; no answer is the last."""
    (row,) = requests_table([request(1, status)], 1).rows
    assert (row["kind"], row["state"]) == (kind, shown)


def test_a_task_that_waits_says_for_how_long() -> None:
    """What is due later says in how many seconds, what has been since when."""
    (row,) = tasks_table([task("a", journal.WAITING, at=1090.0)], 1000.0).rows
    assert row["when"] == "in 1 min 30 s"
    (row,) = tasks_table([task("a", journal.DONE, at=990.0)], 1000.0).rows
    assert row["when"].count(":") == 2


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("console.localhost", True),
        ("Console.LOCALHOST.:8080", True),
        ("localhost", False),
        ("console.localhost.evil.example", False),
        ("x.console.localhost", False),
        ("", False),
    ],
)
def test_the_consoles_host(host: str, is_it: bool) -> None:
    """console.localhost alone, by whatever port."""
    assert is_console(host) is is_it


def test_a_kept_log_begins_anew_when_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may lie in memory. What comes after its close is lost, and nobody is told."""
    monkeypatch.setattr(console, "LARGEST", 100)
    kept = KeptLog(str(tmp_path))
    for number in range(50):
        kept.write(b"%d\n" % number)
    assert len(Path(kept.path).read_bytes()) < 120
    assert Path(kept.path).read_bytes().endswith(b"49\n")
    kept.close()
    kept.write(b"late\n")


# --- the whole --------------------------------------------------------------------------------------------------------


class Visitor:
    """A browser's part: it opens the console by its token, and keeps the cookie."""

    def __init__(self, server: DevServer) -> None:
        self._port = server.port
        self._host = f"console.localhost:{server.port}"
        token = server.wait_for(r"console: http://console\.localhost:\d+/\?token=(\S+)")[1]
        with self._ask(f"/?token={token}", {}) as answer:
            assert answer.status == 303
            self._cookie = str(answer.getheader("Set-Cookie")).partition(";")[0]

    @contextlib.contextmanager
    def _ask(self, path: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)) as connection:
            connection.request("GET", path, headers={"Host": self._host, **headers})
            with connection.getresponse() as answer:
                yield answer

    def page(self, path: str) -> str:
        """Return a page."""
        with self._ask(path, {"Cookie": self._cookie}) as answer:
            assert answer.status == 200
            return answer.read().decode()

    def told(self, path: str, until: Any) -> dict[str, Any]:
        """Follow a page until what it is told satisfies a question, and return that."""
        with self._ask(path, {"Cookie": self._cookie}) as answer:
            for line in answer:
                said = json.loads(line[6:]) if line.startswith(b"data: ") else {}
                if said and until(said):
                    return dict(said)
        raise AssertionError("it ended")

    def refused(self, path: str) -> int:
        """Return the status for who has no cookie."""
        with self._ask(path, {}) as answer:
            return answer.status


def test_the_console_shows_the_server(tmp_path: Path) -> None:
    """Instances, requests, tasks and refusals are on its pages, and come while they are looked at."""
    (tmp_path / "main.py").write_text(MAIN)
    with DevServer(tmp_path) as server:
        visitor = Visitor(server)
        assert visitor.refused("/server") == 401
        assert server.ask("/add").status == 200
        assert server.ask("/refused").status == 200

        def is_settled(said: dict[str, Any]) -> bool:
            return {row["name"]: row["state"] for row in said["tables"]["tasks"]} == {"good": "done", "bad": "failed"}

        said = visitor.told("/server/live", is_settled)["tables"]
        assert [(row["name"], row["state"], row["kind_of"]) for row in said["instances"]] == [
            ("default/0", "ready", "WSGI")
        ]
        assert [row["request"] for row in said["requests"]] == ["GET /refused", "GET /add"]
        bad = next(row for row in said["tasks"] if row["name"] == "bad")
        assert (bad["queue"], bad["way"], bad["said"]) == ("default", "default → default", "answered 500")
        page = visitor.page("/server")
        assert "10.0.0.5 (private)" in page, "the last words of the instance"
        server.wait_for(r"gate +\|.*10\.0\.0\.5")
        assert "10.0.0.5" in visitor.page("/log?show=denied")
        assert "keeps no ledger" in visitor.page("/apps/default")


def test_no_console_for_other_machines_or_beside_a_service_of_its_name(tmp_path: Path) -> None:
    """Its host is then the service's, or nobody's."""
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "app.yaml").write_text("runtime: python311\nservice: console\n")
    with DevServer(tmp_path) as server:
        assert server.ask("/", host="console.localhost").text == "hello"
        assert "token=" not in server.printed
