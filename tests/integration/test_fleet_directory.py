"""Gates that announce themselves in a real Redis: who is there, with which policy, how much is open, and namesakes."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from outgate.cli.main import main
from outgate.cli.proving import look_for_gate
from outgate.core.fleet.clock import is_off
from outgate.core.fleet.directory import Entry, write
from outgate.gate.configuration.config import default_settings
from outgate.gate.configuration.settings import FleetSettings, StateSettings
from outgate.gate.shared import directory as announcing
from outgate.gate.shared import sharing
from outgate.guard import features
from outgate.testing.running import RunningGate, ThreadGate
from support import peers
from support.driven import Driven
from support.fleets import fleet
from support.keyvalue import SERVERS, KeyValue
from support.waiting import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not SERVERS, reason="needs Debian's redis-server"),
]

_ALONE = """\
version = 1
[fleet]
name = "{name}"
state = "{url}"
[apps.worker]
uid = [{uid}]
billing = true
trusted = true
{more}
"""


@pytest.fixture
def state(request: pytest.FixtureRequest) -> Iterator[KeyValue]:
    """A Redis of the test's own, or what it names."""
    with KeyValue(getattr(request, "param", "")) as made:
        made.settle()
        yield made


def shown(gate: RunningGate | ThreadGate, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return what `outgate fleet` prints."""
    capsys.readouterr()
    assert main(["fleet", "--socket", gate.socket, *words]) == 0
    return capsys.readouterr().out


def known(gate: RunningGate | ThreadGate, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return what `outgate fleet --json` prints, with the gates by their names."""
    found = json.loads(shown(gate, capsys, "--json"))
    found["gates"] = {row["name"]: row for row in found["gates"]}
    return found


def alone(name: str, state: KeyValue, more: str = "") -> RunningGate:
    """Return a gate that passes no sockets on, and has only what is shared in common with others."""
    return RunningGate(config=_ALONE.format(name=name, url=state.url, uid=os.getuid(), more=more))


@pytest.mark.full
def test_who_is_there_and_what_is_open(state: KeyValue, capsys: pytest.CaptureFixture[str]) -> None:
    """Every gate shows every other, with version, policy, certificate and sockets by app, also of another gate's."""
    with peers.echo() as peer, fleet(("a", "b", "c"), state=state.url) as gates:
        with Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
            front.do(f"sock = socket.create_connection({peer.address!r}, 15); import outgate")
            worker.do(f"import outgate; sock = outgate.adopt({front.do('outgate.descriptor(sock)')!r})")
            seen: dict[str, Any] = {}

            def is_all_known() -> bool:
                seen.update(known(gates["c"], capsys))
                rows = seen["gates"]
                return (
                    {row["state"] for row in rows.values()} == {"this", "announced"}
                    and rows["a"]["apps"]["worker"]["with_others"] == 1
                    and rows["b"]["apps"]["worker"]["of_others"] == 1
                )

            wait_until(is_all_known)
            a, b, c = (seen["gates"][name] for name in "abc")
            assert (a["state"], b["state"], c["state"]) == ("announced", "announced", "this")
            assert (a["apps"]["worker"]["open"], b["apps"]["worker"]["open"], c["apps"]["worker"]["open"]) == (1, 1, 0)
            assert len({row["policy"] for row in (a, b, c)}) == 1
            assert len({row["boot"] for row in (a, b, c)}) == 3
            assert all(row["ends"] > time.time() + 86400 and row["at"].startswith("127.0.0.1:") for row in (a, b, c))
            assert all(not is_off(row["skew"]) for row in (a, b, c))
            assert seen["differing"] == {}
            assert (seen["gate"], seen["namesake"], seen["fleet_state"]["answers"]) == ("c", "", True)
            table = shown(gates["c"], capsys, "--apps")
            assert "this gate" in table
            assert "answers" in table
            assert table.count("worker") >= 3
            front.do("sock.close()")
            worker.do("sock.close()")
        gates["b"].stop()
        wait_until(lambda: known(gates["c"], capsys)["gates"]["b"]["state"] == "silent")  # it has said good-bye
        with state.client() as redis:
            assert redis.smembers("outgate:gates") == {b"a", b"c"}
            assert 0 < redis.pttl("outgate:gate:a") <= 15_000
        gates["b"].start()


def test_without_redis_a_gate_says_what_it_knows(state: KeyValue, capsys: pytest.CaptureFixture[str]) -> None:
    """With Redis killed the last word of the others is shown as that; back and empty, it has all of them again."""
    with alone("a", state) as a, alone("b", state) as b:
        wait_until(lambda: known(a, capsys)["gates"].keys() == {"a", "b"})
        state.kill()
        a.wait_for(event="fleet-state-failed")
        told = known(a, capsys)
        assert told["fleet_state"]["answers"] is False
        assert told["gates"]["a"]["state"] == "this"
        assert told["gates"]["b"]["boot"] == known(b, capsys)["gates"]["b"]["boot"]
        assert "is away" in shown(a, capsys)
        state.start()
        a.wait_for(event="fleet-state-back")
        b.wait_for(event="fleet-state-back")
        with state.client() as redis:
            wait_until(lambda: redis.smembers("outgate:gates") == {b"a", b"b"})
        assert a.faults == b.faults == []


@pytest.mark.full
def test_policies_that_differ_are_said_once(state: KeyValue, capsys: pytest.CaptureFixture[str]) -> None:
    """A reload at one gate: every gate's log says so once, and once when they are the same again."""
    with alone("a", state) as a, alone("b", state) as b:
        wait_until(lambda: known(a, capsys)["gates"].keys() == {"a", "b"})
        fresh = _ALONE.format(name="b", url=state.url, uid=os.getuid(), more='deny = ["*:23"]')
        assert b.reload(fresh)["ok"]
        for gate in (a, b):
            line = gate.wait_for(event="fleet-policy")
            assert line["apps"] == "worker"
            assert "worker is not the same at a and b" in line["reason"]
        told = known(a, capsys)["differing"]["worker"]
        assert sorted(told.values()) == [["a"], ["b"]]
        assert "policies differ, app worker" in shown(a, capsys)
        assert main(["status", "--socket", a.socket]) == 0
        assert "the policy of worker is not the same" in capsys.readouterr().out
        assert a.reload(fresh.replace('name = "b"', 'name = "a"'))["ok"]
        for gate in (a, b):
            gate.wait_for(event="fleet-policy", apps="")
            assert [line["apps"] for line in gate.log.all(event="fleet-policy")] == ["worker", ""]
        assert known(b, capsys)["differing"] == {}


@pytest.mark.full
def test_two_gates_with_one_name_find_each_other(state: KeyValue, capsys: pytest.CaptureFixture[str]) -> None:
    """Both say so, with where the other is and what to do; one that is killed and started again is no namesake."""
    with contextlib.ExitStack() as stack:
        a = stack.enter_context(alone("a", state))
        wait_until(lambda: known(a, capsys)["age"] is not None)
        a.kill()
        a.start()
        twin = stack.enter_context(alone("a", state))
        for gate in (a, twin):
            line = gate.wait_for(lambda line: line["event"] == "fleet-name-twice" and "outgate fleet" in line["reason"])
            assert 'announces itself as "a"' in line["reason"]
            assert "fleet.name" in line["reason"]
            assert known(gate, capsys)["namesake"]
            assert 'another gate is called "a" too' in shown(gate, capsys)
            assert main(["status", "--socket", gate.socket]) == 0
            assert "another gate has this one's name" in capsys.readouterr().out
        reasons = [line["reason"] for line in a.log.all(event="fleet-name-twice")]
        boots = {each.split("boot ")[1].split(")")[0] for each in reasons if "boot " in each}  # it may hang for a while
        assert boots == {known(twin, capsys)["gates"]["a"]["boot"]}
        twin.stop()
        a.wait_for(event="fleet-name-twice", reason="no other gate has this gate's name any more")
        assert known(a, capsys)["namesake"] == ""


class _Clock:
    """The clock of a host, put forward by some seconds: what a gate's directory has for ``time``."""

    monotonic = staticmethod(time.monotonic)
    ahead = 0.0

    def time(self) -> float:
        """Return what it says."""
        return time.time() + self.ahead


def test_a_clock_that_is_off_is_said_where_one_looks(
    state: KeyValue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in that gate's log; in its status, its doctor and at every gate for as long; then that it is right again."""
    clock, shared = _Clock(), FleetSettings("a", "", shared=StateSettings(state.url))
    monkeypatch.setattr(announcing, "time", clock)
    monkeypatch.setattr(announcing, "BEAT", 0.05)
    settings = replace(default_settings(os.getuid(), dev=True), fleet=shared)

    def is_seen(gate: RunningGate | ThreadGate) -> bool:
        row = known(gate, capsys)["gates"].get("a", {})
        return abs(row.get("skew", 1e9) - clock.ahead) < 0.4

    def is_logged(count: int) -> bool:
        return len(a.log.all(event="fleet-clock")) >= count

    with alone("b", state) as b, ThreadGate(settings) as a:
        begin = sharing.prepare(shared)
        a.call(lambda: begin(a.gate))
        turns = (0.0, ""), (12.5, "12 s ahead of"), (0.0, ""), (-200.5, "3 min 20 s behind")
        for count, (ahead, words) in enumerate(turns):
            clock.ahead = ahead
            for gate in (a, b) if ahead == 12.5 else (a,):
                wait_until(partial(is_seen, gate))
                told = f"the clock of gate a's host is {words}" in shown(gate, capsys)
                assert told is bool(words)
            check = look_for_gate(a.socket).check
            assert words in check.found
            assert check.state == (features.WARN if words else features.OK)
            assert main(["status", "--socket", a.socket]) == 0
            assert ("that of fleet.state: have it set by NTP" in capsys.readouterr().out) is bool(words)
            wait_until(partial(is_logged, count))
        assert a.faults == b.faults == []
    lines = a.log.all(event="fleet-clock")
    expected = "s ahead of that of fleet.state", "again", "s behind that of fleet.state"
    assert [words in line["reason"] for line, words in zip(lines, expected, strict=True)] == [True] * 3
    assert [is_off(line["seconds"]) for line in lines] == [True, False, True]


def test_namesakes_and_other_policies_are_found_in_what_is_announced(
    state: KeyValue, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there of a start before this one is no namesake; another one's word is, and another policy differs."""
    monkeypatch.setattr(announcing, "BEAT", 0.05)
    shared = FleetSettings("a", "", shared=StateSettings(state.url))
    settings = replace(default_settings(os.getuid(), dev=True), fleet=shared)
    begin = sharing.prepare(shared)
    other = Entry("a", "other", "elsewhere", "192.0.2.9:7400", "0.1.0", 1, 1, "x" * 16)
    with state.client() as redis, ThreadGate(settings) as a:
        redis.set("outgate:gate:a", write(other), ex=60)
        a.call(lambda: begin(a.gate))
        own = a.call(lambda: a.gate.directory.standings.entry(a.gate.directory.take(a.gate)))
        differs = own._replace(name="b", boot="b", apps={"default": own.apps["default"]._replace(policy="x" * 16)})

        def announced(entry: Entry, seen: str) -> bool:
            redis.set(f"outgate:gate:{entry.name}", write(entry), ex=60)
            redis.sadd("outgate:gates", entry.name)
            return seen in shown(a, capsys)

        wait_until(partial(announced, differs, "policies differ, app default: a: "))
        assert a.wait_for(event="fleet-policy")["apps"] == "default"
        assert a.log.all(event="fleet-name-twice") == []
        wait_until(partial(announced, other, 'another gate is called "a" too, at 192.0.2.9:7400 (host elsewhere'))
        line = a.wait_for(event="fleet-name-twice")
        assert "outgate fleet invite" in line["reason"]
        a.wait_for(event="fleet-name-twice", reason="no other gate has this gate's name any more")
        redis.delete("outgate:gate:b")
        a.wait_for(event="fleet-policy", apps="", reason="all gates have the same policies again")
        assert "differ" not in shown(a, capsys)
        assert a.faults == []


@pytest.mark.parametrize("state", SERVERS, indirect=True)
def test_what_else_lies_in_redis_harms_nobody(state: KeyValue, capsys: pytest.CaptureFixture[str]) -> None:
    """Names that are none, announcements that are nonsense or too long: the gates that there are, are shown."""
    with state.client() as redis:
        redis.sadd("outgate:gates", "x", "y", "B!", b"\xff", "nonsense", "long", "list")
        redis.set("outgate:gate:nonsense", b"\xff{")
        redis.set("outgate:gate:long", b"x" * 100_000)
        redis.set("outgate:gate:y", b'{"v": 1, "name": "z"}')
        redis.set("outgate:gate:a", b"[]")
        with alone("a", state) as a, alone("b", state) as b:
            wait_until(lambda: known(a, capsys)["gates"].keys() == {"a", "b"})
            wait_until(lambda: not redis.smembers("outgate:gates") & {b"x", b"B!", b"\xff", b"list"})
            assert a.faults == b.faults == []


def test_shares_of_a_quota_are_shown(state: KeyValue, capsys: pytest.CaptureFixture[str]) -> None:
    """What each gate holds of a quota that all share: from any gate, and without Redis as far as one knows it."""
    more = 'except = ["127.0.0.1"]\nquotas = { connect = { day = 1000, minute = "unlimited" } }'
    with peers.echo() as peer, alone("a", state, more) as a, alone("b", state, more) as b:
        for gate, count in ((a, 3), (b, 5)):
            with Driven(gate) as program:
                program.do(f"[socket.create_connection({peer.address!r}, 15).close() for _ in range({count})]")

        def held() -> dict[str, int]:
            (share,) = known(a, capsys)["shares"]
            assert (share["app"], share["quota"], share["limit"]) == ("worker", "connect.day", 1000)
            return dict(share["held"])

        wait_until(lambda: held() == {"a": 3, "b": 5})  # what lay idle has been given back
        table = shown(b, capsys)
        assert "connect.day" in table
        assert "992" in table
        state.kill()
        a.wait_for(event="fleet-state-failed")
        assert held()["a"] == 3  # and the others' together, as it was when this gate asked last
        assert known(a, capsys)["shares_are_whole"] is False
        assert "as far as this gate knows" in shown(a, capsys)
