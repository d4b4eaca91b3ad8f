"""Know whether a task of a queue is at work, which may wait longer for an answer."""

from __future__ import annotations

from contextvars import ContextVar

#: Whether it is: ten minutes may be waited for an answer then, and not one. Who runs tasks sets it.
in_task: ContextVar[bool] = ContextVar("outgate.urlfetch.in_task", default=False)
