"""Tell a command of the operator's that a quota warns."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from outgate.gate.decisionlog.log import DecisionLog

#: Seconds that a command may take.
LIMIT: Final = 10.0
#: Commands that run at a time, and that wait for their turn; what comes above is not told, and the log says so.
AT_ONCE: Final = 4
WAITING: Final = 64


class Hook:
    """The command of ``gate.warn_command``, run once for each warning, with the fields of its log line on stdin."""

    def __init__(self, log: DecisionLog) -> None:
        self._log = log
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._pending = 0

    def tell(self, command: tuple[str, ...], fields: Mapping[str, Any]) -> None:
        """Run a command, on a thread; an empty one is none. Never waits and never raises."""
        if not command:
            return
        with self._lock:
            if self._pending >= AT_ONCE + WAITING:
                self._failed(command, "too many wait already")
                return
            self._pending += 1
        if self._pool is None:
            self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="warn")
        self._pool.submit(self._run, command, json.dumps(fields).encode() + b"\n")

    def _run(self, command: tuple[str, ...], text: bytes) -> None:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
            try:
                child.communicate(text, LIMIT)
                if child.returncode:
                    self._failed(command, f"exit status {child.returncode}")
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)  # what it has started, too
                child.communicate()
                self._failed(command, f"took more than {LIMIT:g} s")
        except OSError as e:
            self._failed(command, str(e))
        finally:
            with self._lock:
                self._pending -= 1

    def _failed(self, command: tuple[str, ...], why: str) -> None:
        self._log.event("warn-command-failed", command=command[0], reason=why)

    def stop(self) -> None:
        """Run nothing more; what runs ends within its limit."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
