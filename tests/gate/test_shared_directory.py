"""What a gate makes of what stood in the place of its own announcement, turn by turn."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from outgate.core.fleet.directory import Entry
from outgate.gate.shared import directory
from outgate.gate.shared.directory import BEAT, Directory

OWN = Entry("a", "own", "here", "192.0.2.1:7400", "0.1.0", 1, 1, "x")
TWIN = OWN._replace(boot="twin", host="elsewhere")


class Heard:
    """A directory whose answers and clock the test makes.

    :ivar said: what the log has of namesakes.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self._now = 100.0
        monkeypatch.setattr(directory, "time", SimpleNamespace(monotonic=lambda: self._now, time=time.time))
        timer = SimpleNamespace(cancel=lambda: None)
        loop = SimpleNamespace(call_soon=lambda _: timer, call_later=lambda *_: timer)
        log = SimpleNamespace(event=lambda _, **fields: self.said.append(fields["reason"]))
        gate: Any = SimpleNamespace(loop=loop, log=log, shared=SimpleNamespace(watchers=[]))
        self._directory = Directory(gate)

    def after(self, seconds: float, before: Entry | None, is_away: bool = False) -> str:
        """Let time pass, have an announcement answered, and return where a namesake is known to be."""
        self._now += seconds
        self._directory._heard(None if is_away else directory._Heard(OWN, before, [], 0.0))
        return self._directory.clash


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """A gate that has announced itself, and has found a namesake then."""
    made = Heard(monkeypatch)
    assert made.after(0, None) == ""
    assert "host elsewhere" in made.after(BEAT, TWIN)
    assert len(made.said) == 1
    return made


def test_a_namesake_that_is_gone_is_gone_after_some_beats(heard: Heard) -> None:
    """When announcements have found their own for two beats, the log says so once."""
    assert heard.after(BEAT, OWN)
    assert heard.after(BEAT, OWN)
    assert heard.after(BEAT, OWN) == ""
    assert heard.said[1:] == ["no other gate has this gate's name any more"]


def test_announcements_at_once_say_nothing_of_a_namesake(heard: Heard) -> None:
    """A few reloads in a row have announced so often, and the namesake has had no time to."""
    for _ in range(5):
        assert heard.after(0.01, OWN)
    assert heard.after(BEAT, TWIN)
    assert len(heard.said) == 1


def test_after_an_outage_a_namesake_has_time_to_come_back(heard: Heard) -> None:
    """What is found first when everything had expired says nothing of who has not announced itself yet."""
    assert heard.after(BEAT, OWN)
    assert heard.after(60, None, is_away=True)
    assert heard.after(1, None)
    assert heard.after(BEAT, TWIN)
    assert len(heard.said) == 1
