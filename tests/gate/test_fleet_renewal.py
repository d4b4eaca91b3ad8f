"""A gate that runs takes the next certificate when it is due, shows it from then on, and says when it cannot."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from outgate.core.fleet import names
from outgate.gate.configuration import config
from outgate.gate.configuration.settings import FleetSettings
from outgate.gate.fleet import asking, authority, renewal
from outgate.gate.fleet.fleet import Door, Fleet
from outgate.gate.fleet.folder import Folder
from outgate.testing.running import PATIENCE, ThreadGate
from support.fleets import fleet, folder_of, kept_place


class Member(ThreadGate):
    """A gate of a fleet on a thread, which looks at its certificate by a clock that a test sets.

    :param gates: where each gate is.
    """

    def __init__(self, name: str, gates: Mapping[str, str], folder: Folder) -> None:
        self.folder_of_fleet = folder
        self._fleet_settings = FleetSettings(name, gates[name], gates)
        settings = replace(config.default_settings(os.getuid(), dev=True), fleet=self._fleet_settings)
        super().__init__(settings, os.path.dirname(folder.path))

    def __enter__(self) -> Member:
        super().__enter__()
        self.call(self._join)
        self._wait()
        return self

    def _join(self) -> None:
        door = Door(self._fleet_settings, os.path.dirname(self.folder_of_fleet.path))
        self.gate.fleet = self.fleet = Fleet(self.gate, door)

    def go(self, days: float) -> None:
        """Have the gate look, as if it were so many days later, and wait until it has."""

        def look() -> None:
            self.fleet.renewal.clock = lambda: time.time() + days * 86400
            self.fleet.renewal.look()

        self.call(look)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.call(lambda: self.fleet.renewal.is_looking):
            assert time.monotonic() < deadline
            time.sleep(0.005)  # nobody tells of it


def fingerprint_at(place: str, name: str, folder: Folder) -> str:
    """Return which certificate a gate shows to who connects to it."""
    context = folder.context(is_server=False)
    with (
        socket.create_connection(names.place(place), 10) as plain,
        context.wrap_socket(plain, server_hostname=names.host_of(name)) as link,
    ):
        shown = link.getpeercert(binary_form=True)
    assert shown is not None
    return hashlib.sha256(shown).hexdigest()


@pytest.fixture
def places() -> Iterator[dict[str, str]]:
    """Where two gates may listen."""
    with kept_place() as one, kept_place() as other:
        yield {"a": one, "b": other}


@pytest.fixture
def first(tmp_path: Path) -> Folder:
    """The folder of gate a, which issues certificates."""
    folder = Folder(str(tmp_path / "a"))
    folder.begin("a", time.time())
    return folder


def joined(first: Folder, place: str, folder: Path) -> Folder:
    """Return the folder of gate b, which has joined by gate a."""
    made = Folder(str(folder))
    asking.join(made, first.invite("b", place, time.time(), 60), "b")
    return made


def test_it_is_renewed_when_it_is_due_and_shown_from_then_on(
    places: dict[str, str], first: Folder, tmp_path: Path
) -> None:
    """Before two thirds of the week nothing happens; after them there is another one, on the next link."""
    with Member("a", places, first) as a, Member("b", places, joined(first, places["a"], tmp_path / "b")) as b:
        folder = b.folder_of_fleet
        before = folder.own()
        b.go(4.5)
        assert fingerprint_at(places["b"], "b", first) == before.fingerprint
        b.go(4.8)
        line = b.wait_for(event="fleet-certificate")
        after = folder.own()
        assert line["ends"] == int(after.ends)
        assert len(b.log.all(event="fleet-certificate")) == 1
        assert fingerprint_at(places["b"], "b", first) == after.fingerprint != before.fingerprint
        assert a.faults == b.faults == []


def test_the_issuer_renews_its_own(places: dict[str, str], first: Folder) -> None:
    """The gate that issues certificates needs nobody for its own."""
    before = first.own()
    with Member("a", places, first) as a:
        a.go(5)
        a.wait_for(event="fleet-certificate")
        assert first.own().fingerprint != before.fingerprint
        assert a.faults == []


def test_an_issuer_that_is_away_is_said_once(places: dict[str, str], first: Folder, tmp_path: Path) -> None:
    """Looking again and again, the log says once what is the matter, then that it is too late, and when it is well."""
    with Member("a", places, first):
        folder = joined(first, places["a"], tmp_path / "b")
    with Member("b", places, folder) as b:
        for days in (5, 5, 6, 8, 8):
            b.go(days)
        with Member("a", places, first):
            b.go(5)
        well = b.wait_for(lambda line: "ends" in line)
        away, late, last = b.log.all(event="fleet-certificate")
        assert "does not answer" in away["reason"]
        assert "has expired" in late["reason"]
        assert "outgate fleet invite b --again" in late["reason"]
        assert last == well
        assert well["ends"] == int(folder.own().ends)
        assert b.call(lambda: b.fleet.renewal.trouble) == ""
        assert b.faults == []


def test_a_gate_looks_at_its_start_and_every_minute(
    places: dict[str, str], first: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that starts with a certificate that is due takes the next at once; a command's is taken up by the timer."""
    with fleet() as gates:
        theirs = folder_of(gates["b"])
        gates["b"].stop()
        key = Path(folder_of(gates["a"]).path, "ca.key").read_bytes()
        own, asked = authority.request()
        theirs.renew(own, authority.issue(key, theirs.ca, asked, "b", time.time() - 5 * 86400))
        old = theirs.own()
        gates["b"].start()
        line = gates["b"].wait_for(event="fleet-certificate")
        assert line["ends"] == int(theirs.own().ends) > old.ends
    monkeypatch.setattr(renewal, "EVERY", 0.01)
    with Member("a", places, first) as a:
        asking.rotate(first, "a")
        assert a.wait_for(event="fleet-certificate")["ends"] == int(first.own().ends)
        assert fingerprint_at(places["a"], "a", first) == first.own().fingerprint
