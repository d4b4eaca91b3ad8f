"""Answer a gate's look-ups from a table that a test changes as it goes, and tell what was asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from outgate.testing.names import FixedNames

PATIENCE = 20.0


class Zone(FixedNames):
    """The names of a test. Put it in place with ``monkeypatch.setattr(resolver, "CALLS", {**CALLS, **zone.calls()})``.

    :param names: name → addresses, or several such answers, which take turns.
    :ivar asked: names and addresses that were looked up, in order; numeric hosts are no look-up.
    """

    def __init__(self, **names: Sequence[str] | Sequence[Sequence[str]]) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._turns: dict[str, list[list[str]]] = {}
        self._held: dict[str, threading.Event] = {}
        self._changed = threading.Condition()
        for name, addresses in names.items():
            self.set(name.replace("__", "."), *addresses)

    def set(self, name: str, *answers: str | Sequence[str]) -> None:
        """Have a name answer with these addresses, or with one list of addresses after another in turn."""
        if all(isinstance(answer, str) for answer in answers):
            answers = (answers,)  # type: ignore[assignment]
        self._turns[name] = [list(answer) for answer in answers]

    def hold(self, name: str) -> threading.Event:
        """Have look-ups of a name wait for the event that is returned."""
        event = self._held[name] = threading.Event()
        return event

    def release(self) -> None:
        """Let everything go on."""
        for event in self._held.values():
            event.set()

    def wait_until_asked(self, name: str, count: int = 1) -> None:
        """Wait until so many look-ups of a name have begun."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.asked.count(name) >= count, PATIENCE), self.asked

    def gethostbyaddr(self, host: Any) -> tuple[str, list[str], list[str]]:
        """Answer as :func:`socket.gethostbyaddr` does, for an address of the table."""
        self._note(host)
        for name, turns in self._turns.items():
            if any(host in answer for answer in turns):
                return name, [], [host]
        return super().gethostbyaddr(host)

    def getnameinfo(self, address: Any, flags: int) -> tuple[str, str]:
        """Answer as :func:`socket.getnameinfo` does."""
        if flags & socket.NI_NUMERICHOST:
            return super().getnameinfo(address, flags)
        host = self.gethostbyaddr(address[0])[0]
        return host, super().getnameinfo(address, flags)[1]

    def _note(self, name: str) -> None:
        with self._changed:
            self.asked.append(name)
            self._changed.notify_all()

    def _addresses(self, host: Any) -> Iterator[str]:
        name = str(host).lower().rstrip(".")
        self._note(name)
        held = self._held.get(name)
        if held is not None:
            assert held.wait(PATIENCE)
        turns = self._turns.get(name)
        if turns is None:
            yield from super()._addresses(host)
            return
        answer = turns[0]
        if len(turns) > 1:
            turns.append(turns.pop(0))
        yield from answer
