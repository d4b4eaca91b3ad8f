"""Follow a gate's decision log as it is written, and wait for a line of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["PATIENCE", "LogLines", "has"]

#: Seconds after which a wait is taken for a hang.
PATIENCE = 20.0


class LogLines:
    """The lines of a decision log as they are written, read from a pipe by a thread.

    :param fd: the pipe's end to read; taken over.
    """

    def __init__(self, fd: int) -> None:
        self._changed = threading.Condition()
        self._lines: list[dict[str, Any]] = []
        self._ended = False
        self._thread = threading.Thread(target=self._follow, args=(fd,), name="log-lines", daemon=True)
        self._thread.start()

    def _follow(self, fd: int) -> None:
        with open(fd, encoding="utf-8") as pipe:
            for text in pipe:
                line = json.loads(text)
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._lines)

    def all(self, **fields: Any) -> list[dict[str, Any]]:
        """Return the lines so far that have these fields."""
        return [line for line in list(self._lines) if has(line, fields)]

    def wait_for(
        self,
        predicate: Callable[[dict[str, Any]], object] | None = None,
        *,
        count: int = 1,
        since: int = 0,
        limit: float = PATIENCE,
        **fields: Any,
    ) -> dict[str, Any]:
        """Return the line that has these fields and satisfies the predicate, waiting until it is written.

        :param count: which of the lines that do: the first, or the n-th.
        :param since: how many lines to leave out, from ``len()`` of an earlier moment.
        :param limit: seconds.
        :raises TimeoutError: no such line within the limit, or the log ended; the text has its last lines.
        """
        deadline = time.monotonic() + limit
        seen, found = since, 0
        with self._changed:
            while True:
                for line in self._lines[seen:]:
                    seen += 1
                    if has(line, fields) and (predicate is None or predicate(line)):
                        found += 1
                        if found == count:
                            return line
                if self._ended or not self._changed.wait(deadline - time.monotonic()):
                    why = "the log ended" if self._ended else f"within {limit:g} s"
                    last = "\n".join(map(str, self._lines[-12:]))
                    raise TimeoutError(f"no line with {fields} ({found} of {count}): {why}. The last lines:\n{last}")

    def join(self) -> None:
        """Wait until the log has ended and every line of it is here."""
        self._thread.join(PATIENCE)


def has(line: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    """Tell whether a line has these fields."""
    return all(line.get(name) == value for name, value in fields.items())
