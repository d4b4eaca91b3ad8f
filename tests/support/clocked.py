"""A gate with quotas whose clock a test sets, and what it asks of one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from outgate.core.quota.quotas import Quota, default_over
from outgate.gate.configuration import config
from outgate.testing.running import PATIENCE, ThreadGate
from support.driven import Driven, Refused

#: A moment in the middle of a minute and of a day.
START = 1_800_000_000.0 // 86400 * 86400 + 12 * 3600 + 30


def quotas(**limits: Any) -> tuple[Quota, ...]:
    """Return quotas: ``bytes_sent_minute=5000``, or ``(5000, "cut")`` with what happens above."""
    found = []
    for name, said in limits.items():
        resource, _, per = name.rpartition("_")
        limit, over = said if isinstance(said, tuple) else (said, default_over(resource, per))
        found.append(Quota(resource, per, limit, over))
    return tuple(found)


class Clocked(ThreadGate):
    """A gate with quotas whose clock stands still until it is told to go."""

    def __init__(self, path: str = "direct", state: str = "", **limits: Any) -> None:
        self._path = path
        super().__init__(self._made(**limits), state)
        self.time = START

    def _made(self, **limits: Any) -> config.Settings:
        settings = config.default_settings(os.getuid(), dev=True, path=self._path)
        app = replace(settings.apps["default"], quotas=quotas(**limits))
        return replace(settings, apps=MappingProxyType({"default": app}))

    def __enter__(self) -> Clocked:
        super().__enter__()
        self.call(self._set_clock)
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        assert self.faults == []

    def _set_clock(self) -> None:
        self.gate.quotas.clock = lambda: self.time

    def go(self, seconds: float) -> None:
        """Let time pass, and have the gate look."""

        def step() -> None:
            self.time += seconds
            self.gate.quotas.tick()

        self.call(step)

    def read(self) -> None:
        """Have the gate read every meter and look, now."""

        def step() -> None:
            self.gate._rounds.begin()
            self.gate.quotas.tick()

        self.call(step)

    def reload(self, **limits: Any) -> None:
        """Go on with other quotas, as a reload does."""
        self.call(lambda: self.gate.adopt(replace(self._made(**limits), number=2)))

    def used(self, quota: str) -> int:
        """Return how much of a quota is used."""
        rows = {row["quota"]: row for row in self.call(lambda: self.gate.quotas.standings("default"))}
        return int(rows[quota]["used"])

    def wait_for_use(self, quota: str, enough: Callable[[int], bool]) -> int:
        """Read until so much of a quota is used, and return how much."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.read()
            used = self.used(quota)
            if enough(used):
                return used
            if time.monotonic() > deadline:
                raise TimeoutError(f"{used} of {quota} used")
            time.sleep(0.005)  # nobody tells of a count


def refused(program: Driven, code: str) -> Refused:
    """Return the refusal that a line ends in."""
    with pytest.raises(Refused) as caught:
        program.do(code)
    return caught.value
