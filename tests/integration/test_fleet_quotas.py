"""Quotas that gates share in a real Redis: never above the limit, nothing refused before its time, Redis killed."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from core.test_quota_shared import Redis as Model
from outgate.core.formats import messages
from outgate.core.quota.pool import Answer, Question
from outgate.gate.quota import pooling
from outgate.gate.quota.pooling import Asked, key_of
from outgate.guard import launch
from outgate.lookout import ask
from outgate.testing.running import RunningGate
from support import peers
from support.commands import serving
from support.driven import Driven, Refused
from support.keyvalue import SERVERS, KeyValue

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not SERVERS, reason="needs Debian's redis-server"),
]
with_each = pytest.mark.parametrize("server", SERVERS, indirect=True)

CONFIGURATION = """\
version = 1
[fleet]
name = "{name}"
state = "{url}"
reservation = {share}
[apps.worker]
uid = [{uid}]
billing = true
trusted = true
path = "{path}"
except = ["127.0.0.1"]
quotas = {{ {quotas} }}
"""
_AUTOLOAD = str(Path(launch.__file__).parents[1] / "client" / "autoload")
START, END = 1_800_000_000, 1_800_000_060


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[KeyValue]:
    """A Redis for the tests of this module, or what a test names; who needs an empty one empties it."""
    with KeyValue(getattr(request, "param", "")) as made:
        yield made


@contextlib.contextmanager
def fleet(
    state: KeyValue, quotas: str, names: Sequence[str] = "ab", path: str = "direct", share: float = 0.01
) -> Iterator[dict[str, RunningGate]]:
    """Run gates that share quotas, and nothing else: they pass no sockets on."""
    with contextlib.ExitStack() as stack:
        made = {}
        for name in names:
            words = {"uid": os.getuid(), "quotas": quotas, "path": path, "share": share}
            text = CONFIGURATION.format(name=name, url=state.url, **words)
            made[name] = stack.enter_context(RunningGate(config=text))
        yield made
        for gate in made.values():
            assert gate.faults == []


def _connects(limit: int) -> str:
    return f"connect = {{ day = {limit}, minute = 'unlimited' }}"


def used(gate: RunningGate) -> int:
    """Return what a gate says that its fleet has used."""
    (row, *_) = ask.request(gate.socket, {"op": messages.QUOTA, "app": "worker", "after": ""})["answer"]["apps"][
        "worker"
    ]
    assert row["quota"] == "connect.day"
    return int(row["used"])


def wait_for_use(gate: RunningGate, count: int) -> None:
    """Wait until a gate says that its fleet has used so much."""
    deadline = time.monotonic() + 20
    while (seen := used(gate)) != count:
        assert time.monotonic() < deadline, seen
        time.sleep(0.05)  # it looks each second


# --- the script -------------------------------------------------------------------------------------------------------


@with_each
def test_the_script_does_what_the_model_does(server: KeyValue) -> None:
    """Whatever a few gates say and ask, Redis answers as the model does that the properties are proved with."""
    server.settle()
    dice, model = random.Random(7), Model()
    key = key_of("model", "connect", "minute", START)
    with server.client() as client:
        client.delete(key)
        for number in range(1, 400):
            gate = dice.choice("abc")
            words = dice.choice((0, 1, 7, 40)), dice.choice((0, 1, 9, 100)), dice.choice((0, 5, 60))
            question = Question(START, END, *words, dice.choice((100, 100, 60)))
            heard = pooling.ask(client, gate, "run", number, [Asked(key, question)], START)
            assert heard.answers == [model.answer(gate, question)], (number, gate, question)
            assert not heard.is_young
        held = {gate.decode(): int(text.split()[0]) for gate, text in client.hgetall(key).items()}
        assert held == model.held[START]


@with_each
def test_large_numbers_are_exact(server: KeyValue) -> None:
    """Limits up to the highest that there is come back to the byte."""
    server.settle()
    most = 2**53
    question = Question(START, END, 0, most - 1, 0, most)
    with server.client() as client:
        asked = Asked(key_of("large", "bytes_sent", "day", START), question)
        assert pooling.ask(client, "a", "run", 1, [asked], START).answers == [Answer(most - 1, most - 1, 1)]
        more = asked._replace(question=question._replace(need=5))
        assert pooling.ask(client, "b", "run", 1, [more], START).answers == [Answer(1, most, 2)]


@with_each
def test_a_question_that_comes_late_changes_nothing(server: KeyValue) -> None:
    """What an earlier connection still brought is older than what was said since; another run of a gate is believed."""
    server.settle()
    asked = Asked(key_of("late", "connect", "day", START), Question(START, END, 10, 0, 0, 100))
    with server.client() as client:
        assert pooling.ask(client, "a", "run", 2, [asked], START).answers == [Answer(0, 10, 1)]
        older = asked._replace(question=asked.question._replace(holds=3, need=9))
        assert pooling.ask(client, "a", "run", 1, [older], START).answers == [Answer(0, 10, 1)]
        heard = pooling.ask(client, "a", "other", 1, [older], START)
        assert heard.answers == [Answer(9, 12, 1)]
        assert heard.others == [asked.key]


@with_each
def test_windows_end(server: KeyValue) -> None:
    """A window is kept for an hour after its end, by the gate's clock and not by Redis's; and nothing of nobody's."""
    server.settle()
    asked = Asked(key_of("end", "connect", "day", START), Question(START, END, 1, 0, 0, 100))
    with server.client() as client:
        pooling.ask(client, "a", "run", 1, [asked], START)
        assert 3600 < client.ttl(asked.key) <= 3660
        none = asked._replace(question=asked.question._replace(holds=0))
        assert pooling.ask(client, "a", "run", 2, [none], START).answers == [Answer(0, 0, 1)]
        assert not client.exists(asked.key)


@with_each
def test_after_everything_was_lost_nothing_is_given_until_gates_have_said_what_they_hold(server: KeyValue) -> None:
    """The first question then makes another value of outgate:born, and for a while what is said is only heard."""
    asked = Asked(key_of("lost", "connect", "day", START), Question(START, END, 5, 50, 50, 100))
    with server.client() as client:
        client.flushall()
        client.script_flush()
        first = pooling.ask(client, "a", "run", 1, [asked], START)
        assert (first.is_young, first.answers) == (True, [Answer(0, 5, 1)])
        other = pooling.ask(client, "b", "other", 1, [asked], START)
        assert (other.is_young, other.born, other.answers) == (True, first.born, [Answer(0, 10, 2)])
        assert 0 < client.pttl("outgate:young") <= 1500
        client.delete("outgate:young")
        again = pooling.ask(client, "a", "run", 2, [asked], START)
        assert (again.is_young, again.born, again.answers) == (False, first.born, [Answer(60, 70, 2)])


# --- gates ------------------------------------------------------------------------------------------------------------

#: Opens connections from many threads, each until it is refused, and prints how many there were and how it ended.
CLIENTS = """
import socket, sys, threading, outgate.errors
port, count = int(sys.argv[1]), int(sys.argv[2])
opened, codes, begin = [], set(), threading.Event()
def run():
    begin.wait()
    while True:
        try:
            opened.append(socket.create_connection(("127.0.0.1", port)))
        except outgate.errors.GateError as e:
            codes.add(e.code)
            return
threads = [threading.Thread(target=run) for _ in range(count)]
for each in threads: each.start()
begin.set()
for each in threads: each.join()
print(len(opened), *codes, flush=True)
sys.stdin.read()
"""


@with_each
def test_three_gates_with_64_clients_keep_to_one_limit(server: KeyValue) -> None:
    """While Redis answers the fleet grants its limit to the call: no more, and nothing of it is lost."""
    limit = 300
    with server.client() as client:
        client.flushall()
    server.settle()
    with peers.echo() as peer, fleet(server, _connects(limit), "abc", share=0) as gates:
        shares = dict(zip(gates, (22, 21, 21), strict=True))
        programs = [gates[name].program("-c", CLIENTS, str(peer.port), str(count)) for name, count in shares.items()]
        said = [_line(program) for program in programs]
        opened = [int(line.split()[0]) for line in said]
        assert all(line.split()[1:] == ["quota-exceeded"] for line in said)
        assert 0 < sum(opened) <= limit
        # What a busy gate held ahead at the end is given back within two seconds.
        total = sum(opened)
        deadline = time.monotonic() + 20
        with Driven(gates["b"]) as program:
            while total < limit:
                assert time.monotonic() < deadline, total
                with contextlib.suppress(Refused):
                    program.do(f"s = socket.create_connection(('127.0.0.1', {peer.port}))")
                    total += 1
            with pytest.raises(Refused) as refused:
                program.do(f"s = socket.create_connection(('127.0.0.1', {peer.port}))")
        assert refused.value.code == "quota-exceeded"
        assert f"{limit} of {limit}" in str(refused.value)
        for program in programs:
            program.communicate("")
        for gate in gates.values():
            wait_for_use(gate, limit)


@with_each
def test_an_open_that_is_short_of_several_quotas_asks_once(server: KeyValue) -> None:
    """One question to Redis brings what an open lacks of all its quotas."""
    with server.client() as client:
        client.flushall()
    server.settle()
    quotas = ", ".join(f"{each} = {{ day = 9, minute = 9 }}" for each in ("create", "connect"))
    with peers.echo() as peer, fleet(server, quotas, "a") as gates, server.client() as client:
        with Driven(gates["a"]) as program, client.monitor() as heard:
            program.do(f"s = socket.create_connection(('127.0.0.1', {peer.port}))")
            with server.client() as other:
                other.echo("opened")
            asked = []
            while "opened" not in (said := heard.next_command()["command"]):
                asked.append(_needs(said.split()))
        needs = [each for each in asked if any(each.values())]
        resources = [("connect", "day"), ("connect", "minute"), ("create", "day"), ("create", "minute")]
        assert [sorted(each) for each in needs] == [resources]
        assert set(needs[0].values()) == {1}


def _needs(words: Sequence[str]) -> dict[tuple[str, str], int]:
    """Return what is waited for of each window, of a command that is a question about quotas."""
    if words[0].upper() != "EVALSHA":
        return {}
    windows = words[5 : 3 + int(words[2])]
    needs = words[3 + int(words[2]) + 6 :: 5]
    return {(key.split(":")[3], key.split(":")[4]): int(need) for key, need in zip(windows, needs, strict=True)}


def _line(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    line = program.stdout.readline()
    if not line:
        assert program.stderr is not None
        raise AssertionError(program.stderr.read())
    return line


def _open_all(program: Driven, code: str) -> tuple[int, Refused]:
    """Run a line until it is refused; return how often it was not, and the refusal."""
    count = 0
    while True:
        try:
            program.do(code)
        except Refused as why:
            return count, why
        count += 1


def _status(gate: RunningGate) -> str:
    command = [sys.executable, "-m", "outgate", "status", "--socket", gate.socket]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=[pytest.mark.full, pytest.mark.timeout(180)])])
def test_redis_that_is_killed_breaks_nothing(server: KeyValue, seconds: int) -> None:
    """Open connections go on, opens go on within the reservation, status and log say so, and counts heal afterwards."""
    with server.client() as client:
        client.flushall()
    server.settle()
    with peers.echo() as peer, fleet(server, _connects(1000)) as gates:
        gate, other = gates.values()
        open_one = f"socket.create_connection(('127.0.0.1', {peer.port}), 10)"
        with Driven(gate) as program, Driven(other) as neighbour:
            program.do(f"kept = {open_one}; more = [{open_one} for _ in range(19)]")
            neighbour.do(f"more = [{open_one} for _ in range(7)]")
            state = gate.stats()["fleet_state"]
            assert (state["url"], state["answers"], state["away"], state["why"]) == (server.url, True, None, "")
            server.kill()
            gate.wait_for(event="fleet-state-failed")
            other.wait_for(event="fleet-state-failed")
            assert "is away for" in _status(gate)
            program.do("kept.sendall(b'still here')")
            assert program.do("kept.recv(10, socket.MSG_WAITALL).decode()") == "still here"
            # What was held ahead, and 10: 1 % of the limit.
            granted, why = _open_all(program, f"more.append({open_one})")
            assert why.code == "quota-exceeded"
            assert "fleet.state does not answer" in str(why)
            assert 10 <= granted <= 10 + 2 * 20
            assert neighbour.do(f"more.append({open_one})") is None, "each gate has a reservation of its own"
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                program.do("kept.sendall(b'and on')")
                assert program.do("kept.recv(6, socket.MSG_WAITALL).decode()") == "and on"
                time.sleep(0.1)  # for a minute
            server.start()  # with nothing in it
            gate.wait_for(event="fleet-state-back")
            other.wait_for(event="fleet-state-back")
            program.do(f"more.append({open_one})")
            program.do("kept.sendall(b'and now too')")
            assert program.do("kept.recv(11, socket.MSG_WAITALL).decode()") == "and now too"
            neighbour.do(f"more.append({open_one})")
            for each in (other, gate):
                wait_for_use(each, 20 + granted + 1 + 7 + 2)


def test_redis_that_hangs_holds_nobody_for_long(server: KeyValue) -> None:
    """An open that waits for an answer is decided before its client gives up; when Redis goes on so does everything."""
    with server.client() as client:
        client.flushall()
    server.settle()
    with peers.echo() as peer, fleet(server, _connects(1000), "a") as gates, Driven(gates["a"]) as program:
        open_one = f"socket.create_connection(('127.0.0.1', {peer.port}), 10)"
        program.do(f"more = [{open_one}]")
        server.hold()
        try:
            program.do(f"more += [{open_one} for _ in range(5)]")  # or GateUnavailable: a client waits for ten seconds
            gates["a"].wait_for(event="fleet-state-failed")
        finally:
            server.go_on()
        gates["a"].wait_for(event="fleet-state-back")
        program.do(f"more += [{open_one} for _ in range(50)]")
        wait_for_use(gates["a"], 56)


def test_a_gate_that_starts_again_and_one_that_leaves(server: KeyValue) -> None:
    """What a gate has used stays used when it starts again or ends; what it held ahead is others'."""
    with server.client() as client:
        client.flushall()
    server.settle()
    with peers.echo() as peer, fleet(server, _connects(60)) as gates:
        open_one = f"socket.create_connection(('127.0.0.1', {peer.port}), 10)"
        with Driven(gates["a"]) as program:
            program.do(f"more = [{open_one} for _ in range(20)]")
        gates["a"].restart()
        with Driven(gates["a"]) as program:
            program.do(f"more = [{open_one} for _ in range(5)]")
        gates["a"].stop()
        with Driven(gates["b"]) as program:
            program.do(f"more = [{open_one} for _ in range(35)]")
            with pytest.raises(Refused, match="60 of 60"):
                program.do(open_one)
        gates["a"].start()
        wait_for_use(gates["a"], 60)


class _At:
    """Where a gate is that ``outgate serve`` runs, for who starts a program."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    def environ(self) -> dict[str, str]:
        """Return the environment of a program with the client."""
        return launch.environment(os.environ, self._socket, _AUTOLOAD)


def test_a_gate_that_takes_over_goes_on_where_the_other_stood(server: KeyValue, tmp_path: Path) -> None:
    """What was used stays used over a takeover, and the new gate asks for more under the same name."""
    with server.client() as client:
        client.flushall()
    server.settle()
    file = tmp_path / "outgate.toml"
    words = {"uid": os.getuid(), "quotas": _connects(30), "path": "direct", "share": 0.01}
    file.write_text(CONFIGURATION.format(name="a", url=server.url, **words))
    options = "--config", str(file), "--state", str(tmp_path / "state")
    with peers.echo() as peer, serving(tmp_path, *options) as first:
        open_one = f"socket.create_connection(('127.0.0.1', {peer.port}), 10)"
        with Driven(_At(first.socket)) as program:  # type: ignore[arg-type]
            program.do(f"more = [{open_one} for _ in range(20)]")
            with serving(tmp_path, *options, "--takeover") as second:
                assert first.process.wait(30) == 0
                program.do(f"more += [{open_one} for _ in range(10)]")
                with pytest.raises(Refused, match="30 of 30"):
                    program.do(open_one)
                assert [line for line in second.log() if line["event"] in ("fault", "fleet-name-twice")] == []


def test_relayed_bytes_wait_for_an_answer_and_stop_at_the_limit_of_all(server: KeyValue) -> None:
    """What two gates carry is together the limit and no byte more; then connections are cut, at both."""
    with server.client() as client:
        client.flushall()
    server.settle()
    limit = 3_000_000
    # A machine that is busy may let an answer wait for longer than the gate does; without a reservation it is exact.
    with peers.sink() as peer, fleet(server, f"bytes_sent = {{ day = {limit} }}", path="relay", share=0) as gates:
        with Driven(gates["a"]) as one, Driven(gates["b"]) as other:
            for program in (one, other):
                program.do(f"s = socket.create_connection(('127.0.0.1', {peer.port}), 20)")
                program.do("s.sendall(bytes(1_000_000))")
            for program in (one, other):
                with pytest.raises(Refused) as refused:
                    program.do("while True: s.sendall(bytes(100_000))")
                assert refused.value.name in ("ConnectionCut", "ConnectionResetError", "BrokenPipeError")
        for gate in gates.values():
            assert gate.wait_for(event="end", port=peer.port)["how"] == "quota"
        total = sum(gate.app("worker")["sent"] for gate in gates.values())
        # Nothing above it; below it, what the other had in a batch when the first heard of the end.
        assert limit - 2 * 46_875 - 2 <= total <= limit
