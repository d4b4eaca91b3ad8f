"""Show the gate, the instances, the requests and the tasks of the server in its console."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from starlette.types import ASGIApp

from outgate.console.app import make
from outgate.console.extras import Column, Extra, Table
from outgate.console.sources import FileLog, Sources
from outgate.dev import instances, journal
from outgate.dev.instances import Instance
from outgate.dev.journal import Journal, Request, Task
from outgate.errors import ConfigError
from outgate.lookout import ask
from outgate.lookout.words import printable, span

__all__ = ["Console", "KeptLog"]

#: Rows of one table.
MOST: Final = 100
#: Bytes of the kept log at which it is begun anew: its folder may be in memory.
LARGEST: Final = 16 << 20

_KINDS: Final[Mapping[str, str]] = {
    instances.READY: "allow",
    instances.STARTING: "report",
    instances.FAILED: "deny",
    journal.DONE: "allow",
    journal.RUNNING: "report",
    journal.FAILED: "deny",
    journal.GIVEN_UP: "deny",
}
_INSTANCES: Final = (
    *(Column("name", "Instance"), Column("state", "State", "state"), Column("pid", "Process", "number")),
    *(Column("starts", "Starts", "number"), Column("kind_of", "Serves"), Column("said", "Last words", "code")),
)
_REQUESTS: Final = (
    *(Column("when", "When"), Column("state", "Status", "state"), Column("request", "Request", "code")),
    *(Column("instance", "Instance"), Column("took", "Took", "number")),
)
_TASKS: Final = (
    *(Column("name", "Task"), Column("state", "State", "state"), Column("queue", "Queue")),
    *(Column("url", "Calls", "code"), Column("way", "From, to"), Column("attempts", "Attempts", "number")),
    *(Column("when", "Since, due"), Column("said", "Why it failed", "code")),
)


class KeptLog:
    """The decision log of the server's gate, kept in a file while the server runs.

    :param folder: that only this user may enter.
    """

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "decisions.jsonl")
        self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115 - closed by close()
        self._lock = threading.Lock()

    def write(self, text: bytes) -> None:
        """Keep a line. A full disk loses it, and nothing else."""
        with self._lock:
            try:
                if self._file.tell() > LARGEST:
                    self._file.truncate(0)
                    self._file.seek(0)
                self._file.write(text)
            except (OSError, ValueError):  # ValueError: closed meanwhile
                pass

    def close(self) -> None:
        """Keep no more."""
        with self._lock:
            self._file.close()


class Console:
    """The console of one server.

    :param gate: path of the gate's socket.
    :param log: path of the kept log.
    :param token: what it is opened by.
    :ivar app: the ASGI application.
    """

    def __init__(self, gate: str, log: str, pool: Sequence[Instance], noted: Journal, token: str) -> None:
        def asked(message: dict[str, Any]) -> Any:
            return ask.request(gate, message)["answer"]

        def tables() -> list[Table]:
            return [instances_table(pool), requests_table(*noted.requests()), tasks_table(noted.tasks(), time.time())]

        extra = Extra("/server", "Server", tables)
        self.app: ASGIApp = make(Sources(asked, FileLog(lambda: log), _no_ledger), token, [extra])


def _no_ledger() -> NoReturn:
    raise ConfigError("the development server keeps no ledger; a gate does, with [ledger] in its configuration")


def instances_table(pool: Sequence[Instance]) -> Table:
    """Return the table of instances."""
    rows = [
        {
            "key": each.name,
            "kind": _KINDS.get(each.state, ""),
            "name": each.name,
            "state": each.state,
            "pid": str(each.pid or "–"),
            "starts": str(each.starts),
            "kind_of": each.kind.upper(),
            "said": printable(_last(each.tail)),
        }
        for each in pool
    ]
    return Table("instances", "Instances", _INSTANCES, rows, "No instance runs.")


def _last(lines: Any) -> str:
    try:
        return str(lines[-1])
    except IndexError:  # it has printed nothing, or starts again just now
        return ""


def requests_table(requests: Sequence[Request], count: int) -> Table:
    """Return the table of the latest requests.

    :param count: how many there have been.
    """
    rows = [
        {
            "key": str(count - place),
            "kind": _kind_of(each.status),
            "when": _clock(each.at),
            "state": str(each.status or "cut off"),
            "request": printable(f"{each.method} {each.target}"),
            "instance": each.instance or "the server",
            "took": f"{each.seconds * 1000:,.0f} ms",
        }
        for place, each in enumerate(requests[:MOST])
    ]
    return Table("requests", "Requests", _REQUESTS, rows, "Nothing was asked for yet.")


def _kind_of(status: int) -> str:
    return "allow" if 200 <= status < 400 else "report" if 400 <= status < 500 else "deny"


def tasks_table(tasks: Sequence[Task], now: float) -> Table:
    """Return the table of the latest tasks."""
    rows = [
        {
            "key": f"{each.application} {each.queue} {each.name}",
            "kind": _KINDS.get(each.state, ""),
            "name": each.name,
            "state": each.state,
            "queue": each.queue,
            "url": printable(each.url),
            "way": f"{each.adder} → {each.service}",
            "attempts": str(each.attempts),
            "when": f"in {span(each.at - now)}" if each.at > now else _clock(each.at),
            "said": printable(each.said),
        }
        for each in tasks[:MOST]
    ]
    return Table("tasks", "Tasks", _TASKS, rows, "No task was added yet.")


def _clock(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))
