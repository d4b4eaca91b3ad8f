"""A gate with shared quotas, and a pool that answers when the test says: who waits, who is refused, what goes on."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest

from core.test_quota_shared import Redis as Model
from outgate.core.quota.pool import Question
from outgate.gate.configuration import config
from outgate.gate.configuration.settings import FleetSettings, StateSettings
from outgate.gate.server import Gate
from outgate.gate.shared.unshared import Unshared
from outgate.testing.running import PATIENCE, ThreadGate
from support import peers
from support.clocked import START, quotas
from support.driven import Driven, Refused

FLEET = FleetSettings("a", "", shared=StateSettings("redis://test"))


class Pool(Unshared):
    """What stands in for the line to Redis: it answers as the model does, at once or when it is let.

    :ivar model: what gates hold; another gate of the test's may hold some of it.
    :ivar asked: how many questions there were.
    """

    is_there = True

    def __init__(self, gate: Gate) -> None:
        self.watchers = []
        self.is_away = False
        self.model = Model()
        self.born, self.is_young = b"first", False
        self.twin = 0
        self.asked = 0
        self.is_held = False
        self._held: list[Callable[[], None]] = []
        self._loop = gate.loop

    def ask(self, job: Callable[[Any], Any], then: Callable[[Any], None]) -> None:
        """Answer in the next turn of the loop, or when it is let."""
        self.asked += 1

        def answer() -> None:
            then(None if self.is_away else job(self))

        if self.is_held:
            self._held.append(answer)
        else:
            self._loop.call_soon(answer)

    def evalsha(self, name: str, count: int, *words: Any) -> list[Any]:
        """Do what the script does, with what the gate has sent for it."""
        keys, (gate, _, _, _, _, *rest) = words[:count], words[count:]
        self.model.is_young = self.is_young
        rows = []
        for number, key in enumerate(keys[2:]):
            holds, need, ahead, limit, seconds = rest[5 * number : 5 * number + 5]
            start = int(key.rpartition(":")[2])
            assert seconds >= 3600
            rows.append([*self.model.answer(gate, Question(start, 0, holds, need, ahead, limit)), self.twin])
        return [self.born, int(self.is_young), *rows]

    def let(self) -> None:
        """Answer what was asked, and from now on at once."""
        self.is_held = False
        held, self._held = self._held, []
        for answer in held:
            answer()

    def turn(self, is_away: bool) -> None:
        """Go away, or come back."""
        self.is_away = is_away
        for watcher in self.watchers:
            watcher(is_away)
        if is_away:
            self.let()


class Sharing(ThreadGate):
    """A gate whose clock stands still, at its pool."""

    def __init__(self, path: str = "direct", **limits: Any) -> None:
        made = config.default_settings(os.getuid(), dev=True, path=path)
        app = replace(made.apps["default"], quotas=quotas(**limits))
        super().__init__(replace(made, apps=MappingProxyType({"default": app}), fleet=FLEET))

    def __enter__(self) -> Sharing:
        super().__enter__()
        self.call(self._begin)
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        assert self.faults == []

    def _begin(self) -> None:
        self.gate.quotas.clock = lambda: START
        self.gate.quotas._timer.cancel()  # a second passes when the test says so
        self.pool = self.gate.shared = Pool(self.gate)
        self.gate.quotas.share()

    def tick(self) -> None:
        """Let a second pass."""
        self.call(self.gate.quotas.tick)
        self.call(self.gate.quotas._timer.cancel)

    def wait_until_one_waits(self) -> None:
        """Wait until a request waits for the pool's answer."""
        fleetwide = self.gate.quotas._fleetwide
        assert fleetwide is not None
        deadline = time.monotonic() + PATIENCE
        while not self.call(lambda: len(fleetwide._waiting)):
            assert time.monotonic() < deadline
            time.sleep(0.005)  # nobody tells of it

    def row(self) -> dict[str, Any]:
        """Return how the first quota stands."""
        row: dict[str, Any] = self.call(lambda: self.gate.quotas.standings("default"))[0]
        return row


@pytest.fixture
def peer() -> Iterator[peers.Peer]:
    """A peer that echoes."""
    with peers.echo() as found:
        yield found


def test_an_open_waits_for_the_answer(peer: peers.Peer) -> None:
    """What the gate does not hold is asked for; the open goes on when it is given, and is refused when all is used."""
    open_one = f"s = socket.create_connection(('127.0.0.1', {peer.port}))"
    with Sharing(connect_minute=2) as gate, Driven(gate) as program:
        gate.pool.is_held = True
        program.begin(open_one)
        gate.wait_until_one_waits()
        gate.call(gate.pool.let)
        program.end()
        program.do(open_one)
        with pytest.raises(Refused, match="2 of 2") as refused:
            program.do(open_one)
        assert refused.value.code == "quota-exceeded"
        assert gate.row()["used"] == 2


def test_a_burst_is_answered_together(peer: peers.Peer) -> None:
    """64 opens at once that wait are asked for in a few questions, and none of them is refused while there is room."""
    code = f"""
import threading, socket
opened, failed = [], []
def run():
    try:
        opened.append(socket.create_connection(('127.0.0.1', {peer.port})))
    except OSError as e:
        failed.append(e.code)
threads = [threading.Thread(target=run) for _ in range(64)]
for each in threads: each.start()
for each in threads: each.join()
"""
    with Sharing(connect_minute=60) as gate, Driven(gate) as program:
        gate.call(partial(gate.pool.model.answer, "b", Question(int(START) - 30, 0, 9, 0, 0, 60)))
        program.do(code)
        assert program.do("[len(opened), *sorted(set(failed))]") == [51, "quota-exceeded"]
        assert program.do("len(failed)") == 13
        assert gate.row()["used"] == 60
        assert gate.row()["use"] == "60 of 60"
        gate.call(lambda: gate.pool.model.answer("b", Question(int(START) - 30, 0, 7, 0, 0, 60)))
        gate.tick()
        program.do(f"opened.append(socket.create_connection(('127.0.0.1', {peer.port})))")


def test_what_waits_when_the_pool_goes_away_is_decided_by_the_reservation(peer: peers.Peer) -> None:
    """Who waits then goes on, ten times; after that the refusal says why, and when the pool is back they go on."""
    open_one = f"more.append(socket.create_connection(('127.0.0.1', {peer.port})))"
    with Sharing(connect_minute=100) as gate, Driven(gate) as program:
        gate.pool.is_held = True
        program.do("more = []")
        program.begin(open_one)
        gate.wait_until_one_waits()
        gate.call(lambda: gate.pool.turn(True))
        program.end()
        for _ in range(9):
            program.do(open_one)
        with pytest.raises(Refused, match=r"10 of 100 as far as it is known \(fleet\.state does not answer"):
            program.do(open_one)
        gate.call(lambda: gate.pool.turn(False))
        program.do(open_one)
        assert gate.pool.model.held[int(START) - 30]["a"] >= 11


def test_after_everything_was_lost_all_is_said_anew(peer: peers.Peer) -> None:
    """Another birth has the gate state what it holds at once, and opens wait until something is given again."""
    open_one = f"more.append(socket.create_connection(('127.0.0.1', {peer.port})))"
    with Sharing(connect_minute=100) as gate, Driven(gate) as program:
        program.do("more = []")
        for _ in range(5):
            program.do(open_one)

        def lose() -> None:
            gate.pool.model.held.clear()
            gate.pool.born, gate.pool.is_young = b"second", True

        gate.call(lose)
        gate.tick()
        gate.call(lambda: None)
        assert gate.pool.model.held[int(START) - 30] == {"a": 5}
        program.begin(open_one)
        asked = gate.call(lambda: gate.pool.asked)
        while gate.call(lambda: gate.pool.asked) < asked + 2:  # it asks on while nothing is given
            pass
        gate.call(lambda: setattr(gate.pool, "is_young", False))
        program.end()


def test_another_gate_of_this_name_is_told_of_once(peer: peers.Peer) -> None:
    """Two gates with one name take each other's use for their own: the log says so."""
    open_one = f"socket.create_connection(('127.0.0.1', {peer.port})).close()"
    with Sharing(connect_minute=100) as gate, Driven(gate) as program:
        program.do(open_one)
        gate.call(lambda: setattr(gate.pool, "twin", 1))
        program.do(open_one)
        program.do(open_one)
        assert gate.wait_for(event="fleet-name-twice")["gate"] == "a"
        assert len(gate.log.all(event="fleet-name-twice")) == 1


@contextlib.contextmanager
def udp_echo() -> Iterator[int]:
    """Answer each datagram with itself, at a port of the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()

        def serve() -> None:
            while True:
                data, source = sock.recvfrom(100)
                if not data:
                    return
                sock.sendto(data, source)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield address[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", address)
            thread.join(10)


def test_datagrams_wait_for_an_answer_both_ways() -> None:
    """A datagram that the gate has no grant for waits, and those behind it: of what there is room for none is lost."""
    with Sharing(send_minute=25, receive_minute=25) as gate, Driven(gate) as program, udp_echo() as port:
        program.do("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)")
        program.do(f"for n in range(20): s.sendto(b'%d' % n, ('127.0.0.1', {port}))")
        assert program.do("[s.recv(9).decode() for _ in range(20)]") == [str(number) for number in range(20)]
        gate.call(lambda: setattr(gate.pool, "is_held", True))
        program.do(f"for n in range(5): s.sendto(b'%d' % n, ('127.0.0.1', {port}))")
        gate.call(gate.pool.let)
        assert program.do("[s.recv(9).decode() for _ in range(5)]") == [str(number) for number in range(5)]
        with pytest.raises(Refused, match="25 of 25"):
            program.do(f"while True: s.sendto(b'x', ('127.0.0.1', {port}))")


def test_relayed_bytes_wait_for_an_answer(peer: peers.Peer) -> None:
    """A relayed socket stands still until the pool has answered, and is not cut for that."""
    with Sharing("relay", bytes_sent_minute=(1_000_000, "cut")) as gate, Driven(gate) as program:
        gate.call(lambda: setattr(gate.pool, "is_held", True))
        program.do(f"s = socket.create_connection(('127.0.0.1', {peer.port}))")
        program.do("s.sendall(bytes(30_000))")
        gate.call(gate.pool.let)
        assert program.do("len(s.recv(30_000, socket.MSG_WAITALL))") == 30_000
        assert gate.log.all(event="end") == []
        with pytest.raises(Refused):
            program.do("while True: s.sendall(bytes(10_000)); s.recv(10_000, socket.MSG_WAITALL)")
        assert gate.wait_for(event="end")["how"] == "quota"
        assert gate.app()["sent"] == 1_000_000


def test_a_reload_goes_on_sharing(peer: peers.Peer) -> None:
    """Another limit and another reservation count from the next call on."""
    open_one = f"socket.create_connection(('127.0.0.1', {peer.port})).close()"
    with Sharing(connect_minute=2) as gate, Driven(gate) as program:
        for _ in range(2):
            program.do(open_one)
        with pytest.raises(Refused):
            program.do(open_one)
        settings = gate.gate.settings
        app = replace(settings.apps["default"], quotas=quotas(connect_minute=4))
        fresh = replace(
            settings, apps=MappingProxyType({"default": app}), number=2, fleet=replace(FLEET, reservation=0.5)
        )
        gate.call(lambda: gate.gate.adopt(fresh))
        for _ in range(2):
            program.do(open_one)
        with pytest.raises(Refused, match="4 of 4"):
            program.do(open_one)
