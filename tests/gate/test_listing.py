"""Pages of open sockets hold every one once, in the order of their age, and none of them holds the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gate.test_datagrams import peer as udp_peer
from gate.test_datagrams import raw
from gate.test_reload import opened
from outgate.gate import listing
from outgate.gate.kernel import holders
from outgate.testing.running import PATIENCE, RunningGate, ThreadGate
from support import peers
from support.raw import RawChannel


@contextlib.contextmanager
def connected(gate: ThreadGate | RunningGate, count: int) -> Iterator[None]:
    """Have so many connections of one process, and as many sockets that were never put to use."""
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(peers.echo())
        channel = stack.enter_context(RawChannel(gate.socket))
        for _ in range(count):
            stack.enter_context(channel.new()[0][1])
            stack.enter_context(opened(channel, peer.address))
        yield


def pages(gate: ThreadGate | RunningGate, **request: Any) -> list[list[dict[str, Any]]]:
    """Return all pages, as ``outgate ps`` asks for them."""
    found = []
    after: int | None = -1
    with RawChannel(gate.socket) as channel:
        while after is not None:
            answer = channel.ask("list", after=after, **request)["answer"]
            found.append(answer["sockets"])
            after = answer["next"]
    return found


def names(rows: list[dict[str, Any]]) -> list[str]:
    """Return what the sockets are called in the log."""
    return [row["lease"] for row in rows]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the loop back before every row."""
    monkeypatch.setattr(listing, "BUDGET", 0.0)


@pytest.mark.parametrize("app", ["", "default"])
def test_every_socket_is_on_one_page(app: str, slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of small pages, made with a turn of the loop for each row, each socket is on one, the oldest on the first."""
    with ThreadGate() as gate, connected(gate, 5), udp_peer() as (_, port), raw(gate.socket) as datagrams:
        datagrams.reach("127.0.0.1", port)
        (whole,) = pages(gate, app=app, holders=False)
        assert [row["transport"] for row in whole] == ["tcp"] * 5 + ["udp"]
        numbers = [int(name.partition("-")[2]) for name in names(whole)]
        assert numbers == sorted(set(numbers))
        monkeypatch.setattr(listing, "PAGE", 2)
        parts = pages(gate, app=app, holders=False)
        assert [len(part) for part in parts] == [2, 2, 2, 0]
        assert [name for part in parts for name in names(part)] == names(whole)


def test_nobodys_sockets() -> None:
    """Of an app that is not there nothing is shown."""
    with ThreadGate() as gate, connected(gate, 1):
        assert pages(gate, app="nobody") == [[]]


def test_one_page_at_a_time(slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks while a page is made waits for its end, and what closes meanwhile is not on it."""
    with ThreadGate() as gate, connected(gate, 3):
        made: list[tuple[str, int]] = []
        of = gate.gate.listing
        row = type(of)._row

        def noted(self: listing.Listing, id: int, orphans: Any) -> dict[str, Any] | None:
            task = asyncio.current_task()
            assert task is not None
            made.append((task.get_name(), id))
            return row(self, id, orphans)

        monkeypatch.setattr(listing.Listing, "_row", noted)
        done = threading.Event()
        found: list[list[Any]] = []

        def begin() -> None:
            first, second = (gate.gate.loop.create_task(of.page(None, -1), name=name) for name in ("first", "second"))
            gone = max(lease.id for lease in gate.gate.registry.leases.values() if lease.state == "open")

            def end() -> None:
                gate.gate.ending.end(gate.gate.registry.leases[gone], "closed")

            gate.gate.loop.call_soon(gate.gate.loop.call_soon, end)  # in the second turn of the first page

            def finished(_: Any) -> None:
                found.extend([first.result(), second.result()])
                done.set()

            second.add_done_callback(finished)

        gate.call(begin)
        assert done.wait(PATIENCE)
        assert [len(rows) for rows in found] == [2, 2]
        order = [name for name, _ in made]
        assert order == sorted(order), "the first page is made before the second"
        assert len(order) > 4


def test_holders_of_many_pages_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages after the first are of its look through /proc; a first page, and what is not in it, has a new one."""
    looked: list[int] = []
    find = holders.find

    def counted(inodes: Any, *rest: Any, **more: Any) -> dict[int, set[int]]:
        looked.append(len(inodes))
        return find(inodes, *rest, **more)

    monkeypatch.setattr(listing, "PAGE", 1)
    monkeypatch.setattr(listing, "FRESH", PATIENCE)
    monkeypatch.setattr(holders, "find", counted)
    with ThreadGate() as gate, connected(gate, 3):
        assert [len(part) for part in pages(gate)] == [1, 1, 1, 0]
        assert looked == [len(gate.gate.registry.leases)]
        pages(gate)
        assert len(looked) == 2
        gate.call(gate.gate.listing.stop)
        with RawChannel(gate.socket) as channel:
            channel.ask("list", after=gate.gate.registry.first)
        assert len(looked) == 3


def test_who_holds_it_is_on_every_page() -> None:
    """More sockets than a page has each have their holder."""
    with RunningGate() as gate, connected(gate, listing.PAGE + 1):
        first, second = pages(gate)
        assert (len(first), len(second)) == (listing.PAGE, 1)
        assert {tuple(row["holders"]) for row in (*first, *second)} == {(os.getpid(),)}
