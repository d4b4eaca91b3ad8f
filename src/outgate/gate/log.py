"""Write the decision log: JSON lines, from a bounded queue on a thread of its own.

One line when a connection is decided and one when it ends, joined by the lease. :data:`FIELDS` says what may stand in
a line; ``docs/log.md`` is made from it. The event loop only ever puts a line into a queue: a slow, full or broken disk
costs lines, which are counted and reported in a ``log-dropped`` line as soon as writing works again, and never time.
Whoever logs makes the line: on the thread, Python code would take turns with the loop's and cost it more.
"""

import functools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from outgate.errors import ConfigError
from outgate.gate.logfile import LogFile

__all__ = ["FIELDS", "VERSION", "DecisionLog", "Field", "clean", "problems"]

#: The ``v`` of every line. A field may be added without raising it; one is never renamed or given another meaning.
VERSION: Final = 1

#: Lines that wait for the disk. At the worst case of a kilobyte and a half a line this is 12 MiB.
QUEUE_LIMIT: Final = 8192
#: Lines of one write: 200 KiB at the worst case.
CHUNK: Final = 128
#: Seconds the writer gathers lines after the first of a batch, so that a busy gate wakes it 50 times a second at most.
GATHER: Final = 0.02
#: Seconds between attempts while lines are being lost.
RETRY: Final = 1.0
#: Seconds close() waits for a disk or a reader that does not take what is left.
CLOSE_LIMIT: Final = 3.0


class Field(NamedTuple):
    """One field of the log: the lines it stands in, its JSON type, what it means, the ``v`` it came with, its length.

    ``events`` is ``every``, ``decision``, ``end``, ``both`` or the name of another event. ``limit`` is the most
    characters of a string; a longer one is cut and ends in an ellipsis.
    """

    events: str
    type: str
    meaning: str
    since: int = 1
    limit: int = 253


#: name → field, in the order in which they stand in a line. A field that does not apply is left out of the line.
FIELDS: Final[Mapping[str, Field]] = {
    "v": Field("every", "integer", "version of this table"),
    "time": Field("every", "string", "when it happened: RFC 3339, UTC, milliseconds"),
    "event": Field("every", "string", "`decision`, `end`, or what else the gate has to say (`start`, `reload`, …)"),
    "lease": Field("both", "string", "the lease; the same in the decision and in the end of one connection"),
    "app": Field("both", "string", "the app that policy and bill go by"),
    "pid": Field("both", "integer", "process that asked, as the gate sees it"),
    "uid": Field("both", "integer", "user of that process, from the kernel"),
    "program": Field("both", "string", "name of the program, as it gave it"),
    "host": Field("both", "string", "name or address that was asked for, as the program gave it"),
    "port": Field("both", "integer", "port that was asked for"),
    "transport": Field("both", "string", "`tcp` or `udp`"),
    "address": Field("both", "string", "address that was judged and dialled"),
    "class": Field("both", "string", "class of that address: `public`, `private`, `loopback`, …", limit=64),
    "verdict": Field("both", "string", "`allow`, `deny`, or `report` (let through, but would be denied)", limit=16),
    "rule": Field("both", "string", "the rule that decided", limit=320),
    "reason": Field("both", "string", "why, in a sentence; the same that the program was given", limit=1000),
    "policy": Field("both", "integer", "number of the policy in force; a reload raises it"),
    "path": Field("both", "string", "`direct` or `relay`", limit=16),
    "connected": Field("end", "boolean", "whether the connection was ever established"),
    "connect_ms": Field("end", "number", "milliseconds from the dial to the established connection"),
    "sent": Field("end", "integer", "bytes the program sent; these are billed"),
    "received": Field("end", "integer", "bytes the program received"),
    "duration": Field("end", "number", "seconds from the decision to the end"),
    "how": Field("end", "string", "how it ended: closed by the program, its process ended, cut, …"),
    "count": Field("log-dropped", "integer", "lines lost because the log could not be written"),
}

_ORDER: Final = tuple((name, field.limit) for name, field in FIELDS.items() if name not in ("v", "time", "event"))
_FREQUENT: Final = ("decision", "end", "both")
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clean(text: str, limit: int = 253) -> str:
    """Return text that a program chose in a form that is safe to print, store and count on.

    What is not printable (controls, line ends, invisible characters, those that turn the direction of a line, lone
    surrogates) becomes ``\\x1b``, ``\\u202e``, ``\\udc80``; what is longer than ``limit`` characters is cut and ends in
    an ellipsis. The result encodes as UTF-8 whatever the input, and cleaning it again changes nothing (so a backslash
    stays a backslash).

    :param limit: the most characters of the result, at least 1. 253 is the longest name of the DNS (RFC 1035).
    """
    # No more than limit + 1 characters can matter: an escape only ever makes text longer.
    safe = text[: limit + 1]
    if not safe.isprintable():  # the common case costs one scan
        safe = "".join(character if character.isprintable() else _escape(character) for character in safe)
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"


def problems(line: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with one decoded line of the log, held against :data:`FIELDS`; nothing is right."""
    event = line.get("event")
    found = [f"{name} is missing" for name in ("v", "time", "event") if name not in line]
    for name, value in line.items():
        field = FIELDS.get(name)
        if field is None:
            if event in ("decision", "end"):
                found.append(f"{name} is not in the table")
        elif not isinstance(value, _TYPES[field.type]) or (isinstance(value, bool) and field.type != "boolean"):
            found.append(f"{name} is {value!r} and not of type {field.type}")
        elif field.events == "end" and event == "decision":
            found.append(f"{name} stands in a decision")
    return found


@functools.lru_cache(maxsize=4)
def _second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def _timestamp(seconds: float) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{_second(whole)}.{thousandths:03d}Z"


def _plain(value: Any, limit: int) -> Any:
    # Most strings need nothing, and this runs beside the event loop: two built-in calls decide.
    if type(value) is str and len(value) <= limit and value.isprintable():
        return value
    if isinstance(value, str):
        return clean(value, limit)
    return round(value, 6) if isinstance(value, float) else value


_encode: Final = msgspec.json.Encoder(enc_hook=lambda value: clean(str(value))).encode

#: Lines of the two frequent events as types: encoding one takes a fifth of the time that a dict does. A field that is
#: not given is left out.
_Line: Final = msgspec.defstruct(
    "_Line",
    [("v", int), ("time", str), ("event", str)]
    + [
        (name, Any, msgspec.field(default=msgspec.UNSET)) for name, field in FIELDS.items() if field.events in _FREQUENT
    ],
)
#: What a program chose itself, or what is made of that; the other texts are the gate's own.
_CHOSEN: Final = tuple((name, FIELDS[name].limit) for name in ("program", "host", "rule", "reason"))


def _line(event: str, moment: float, fields: dict[str, Any]) -> bytes:
    """Stamp, clean, order and encode one line. May change the dict."""
    if event in ("decision", "end"):
        for name, limit in _CHOSEN:
            text = fields.get(name)
            if text is not None:
                fields[name] = _plain(text, limit)
        if None in fields.values():
            fields = {name: value for name, value in fields.items() if value is not None}
        try:
            return _encode(_Line(VERSION, _timestamp(moment), event, **fields)) + b"\n"
        except (TypeError, ValueError):  # a field that is not in the table, or text that is no UTF-8
            pass
    return _other_line(event, moment, fields)


def _other_line(event: str, moment: float, fields: dict[str, Any]) -> bytes:
    ready: dict[str, Any] = {"v": VERSION, "time": _timestamp(moment), "event": clean(event)}
    take = fields.pop
    for name, limit in _ORDER:
        value = take(name, None)
        if value is not None:
            ready[name] = value if type(value) is int else _plain(value, limit)
    for name, value in fields.items():  # fields that an event() made up
        if value is not None and name not in ready:
            ready[clean(name, 64)] = _plain(value, 1000)
    return _encode(ready) + b"\n"


class DecisionLog:
    """The decision log of one gate. Every method may be called from any thread.

    :param target: a path (made with its folders, appended to), ``"-"`` for standard output, or an open fd, which stays
        the caller's.
    :param queue_limit: lines that may wait; what comes above is counted and dropped.
    :raises ConfigError: the path cannot be opened.
    """

    def __init__(self, target: str | int, queue_limit: int = QUEUE_LIMIT) -> None:
        try:
            self._target = LogFile(target)
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f'gate.log: {target} cannot be opened: {why}; name a file this gate may write, or "-" for stdout'
            ) from None
        self._limit = queue_limit
        self._queue: deque[bytes | threading.Event] = deque()
        self._lock = threading.Lock()  # for the counters and flags that are not on the usual path
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._dropped = 0
        self._reopen = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="outgate-log", daemon=True)
        self._thread.start()
        _LOGS.add(self)

    def decision(self, **fields: Any) -> None:
        """Log that a connection was decided (fields of :data:`FIELDS`). Never waits and never raises."""
        self._put("decision", fields)

    def end(self, **fields: Any) -> None:
        """Log that a connection ended (fields of :data:`FIELDS`). Never waits and never raises."""
        self._put("end", fields)

    def event(self, name: str, /, **fields: Any) -> None:
        """Log something else, such as ``start`` or ``reload``, with fields of its own. Never waits and never raises."""
        self._put(name, fields)

    @property
    def dropped(self) -> int:
        """How many lines are lost and not yet reported in the log."""
        return self._dropped

    def reopen(self) -> None:
        """Open the path again before the next line (logrotate, SIGHUP); an fd or stdout stays as it is.

        Where that fails the old file stays in use and a line ``log-reopen`` in it says why.
        """
        self._reopen = True
        self._wake.set()

    def flush(self, limit: float = CLOSE_LIMIT) -> bool:
        """Wait, at most ``limit`` seconds, until what was logged before is written or lost; say whether it is."""
        if self._closed:
            return True
        reached = threading.Event()
        self._queue.append(reached)
        self._hurry.set()
        self._wake.set()
        return reached.wait(limit)

    def close(self, limit: float = CLOSE_LIMIT) -> int:
        """Write what is left, give the file back, and return how many lines are lost. A second call does nothing.

        :param limit: seconds for a disk or reader that takes nothing; what it has not taken by then is lost.
        """
        with self._lock:
            self._closed = True
        self._hurry.set()
        self._wake.set()
        self._thread.join(limit)
        _LOGS.discard(self)
        # Where the thread hangs in a write, the fd stays its own and ends with the process.
        return self._dropped + len(self._queue)

    def _put(self, event: str, fields: dict[str, Any]) -> None:
        moment = time.time()
        if self._closed:
            return
        try:
            line = _line(event, moment, fields) if len(self._queue) < self._limit else None
        except Exception:  # whatever is in it, the program goes on
            line = None
        if line is None:
            with self._lock:
                self._dropped += 1
            return
        self._queue.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(RETRY if self._dropped or self._target.torn else None)
            if not self._closed:
                self._hurry.wait(GATHER)
            self._hurry.clear()
            self._wake.clear()
            if self._reopen:
                self._reopen = False
                self._open_again()
            self._drain()
            if self._closed and not self._queue:
                break
        self._target.close()

    def _open_again(self) -> None:
        try:
            self._target.reopen()
        except OSError as error:
            self._put("log-reopen", {"reason": f"{self._target.path}: {error.strerror}; the old file stays in use"})

    def _drain(self) -> None:
        """Write everything that waits, a chunk at a time; at least once where losses are still to be reported."""
        while self._queue or self._dropped or self._target.torn:
            reported = self._dropped
            lines = [_line("log-dropped", time.time(), {"count": reported})] if reported else []
            marks: list[threading.Event] = []
            while self._queue and len(lines) < CHUNK:
                item = self._queue.popleft()
                if isinstance(item, threading.Event):
                    marks.append(item)
                else:
                    lines.append(item)
            lost = self._target.write(lines)
            with self._lock:
                if lost < len(lines):  # the first line, which reports the losses, is written
                    self._dropped += lost - reported
                else:
                    self._dropped += lost - (1 if reported else 0)
            for mark in marks:
                mark.set()
            if (lost or self._target.torn) and not self._queue:
                break  # tried again in a second

    def _forked(self) -> None:
        """In a forked child: the lines that wait, and the thread, are the parent's; this log is closed."""
        self._closed = True
        # The parent's threads may have held any of these.
        self._lock, self._wake, self._hurry = threading.Lock(), threading.Event(), threading.Event()
        self._queue.clear()
        self._dropped = 0
        self._target.close()


_LOGS: "weakref.WeakSet[DecisionLog]" = weakref.WeakSet()


def _after_fork() -> None:
    for log in list(_LOGS):
        log._forked()


os.register_at_fork(after_in_child=_after_fork)
