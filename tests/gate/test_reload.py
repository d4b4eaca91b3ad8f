"""A reload judges again what is open: what the new policy denies is cut with a reason, or only reported."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import os
import select
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gate.test_datagrams import peer as udp_peer
from gate.test_datagrams import raw, to
from outgate.core.formats import frames
from outgate.core.policy.again import Again, Question
from outgate.core.policy.decide import Decision, Policy
from outgate.gate.live import rejudging
from outgate.gate.live.rejudging import Counts, Rejudging
from outgate.testing.running import RunningGate, ThreadGate
from support import peers
from support.commands import outgate
from support.raw import RawChannel

pytestmark = pytest.mark.slow

UID = os.getuid()
PATHS = ("direct", "relay")
HOST = "127.0.0.1"


def text(rules: str, keys: str = "", gate: str = "", app: str = "blog", uid: int = UID) -> str:
    """Return a configuration with one app, which may reach what the rules say of this host."""
    head = f"version = 1\n[gate]\n{gate}\n[apps.{app}]\nuid = [{uid}]\ntrusted = true\nexcept = [{rules}]\n"
    return head + (keys if "billing" in keys else f"billing = true\n{keys}")


def rules(*ports: int) -> str:
    """Return rules for ports of this host."""
    return ", ".join(f'"{HOST}:{port}"' for port in ports)


@contextlib.contextmanager
def opened(channel: RawChannel, address: tuple[str, int]) -> Iterator[tuple[int, socket.socket]]:
    """Have a connection that the program's end of is connected, too."""
    ((id, sock),) = channel.new()
    with sock:
        assert "lease" in channel.connect(id, address)
        channel.ask("harvest", sock=id)
        if sock.family == socket.AF_INET:
            sock.connect(address)
        yield id, sock


def end_of(sock: socket.socket) -> int:
    """Wait until a connection is over, and return how: an errno, or 0 for an end of file."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    assert poll.poll(20_000), "nothing has come"
    try:
        assert sock.recv(1, socket.MSG_DONTWAIT) == b""
    except OSError as e:
        return e.errno or 0
    return 0


@pytest.mark.parametrize("path", PATHS)
def test_what_the_new_policy_denies_is_cut(path: str) -> None:
    """Of two connections the one that the new policy denies is reset, with its lines and counts; the other goes on."""
    keys = f'path = "{path}"'
    with peers.echo() as kept, peers.echo() as lost:
        before, after = rules(kept.port, lost.port), rules(kept.port)
        with RunningGate(config=text(before, keys)) as gate, RawChannel(gate.socket) as channel:
            with opened(channel, kept.address) as (_, one), opened(channel, lost.address) as (id, other):
                for sock in (one, other):
                    sock.sendall(b"x")
                    assert sock.recv(1) == b"x"
                answer = gate.reload(text(after, keys))
                assert (answer["judged"], answer["cut"], answer["reported"]) == (2, 1, 0)
                assert end_of(other) == errno.ECONNRESET
                one.sendall(b"y")
                assert one.recv(1) == b"y"
                end = gate.wait_for(event="end", how="policy")
                assert (end["port"], end["sent"], end["received"], end["policy"]) == (lost.port, 1, 1, 1)
                line = gate.wait_for(event="overruled")
                assert (line["lease"], line["how"], line["verdict"]) == (end["lease"], "cut", "deny")
                assert (line["policy"], line["app"], line["port"], line["pid"]) == (2, "blog", lost.port, os.getpid())
                assert line["cure"] == f'to permit: except = ["{HOST}:{lost.port}"]'
                reload = gate.wait_for(event="reload")
                assert (reload["policy"], reload["judged"], reload["cut"], reload["reported"]) == (2, 2, 1, 0)
                told = channel.ask("touch", socks=[id])["error"]
                assert told["code"] == "cut"
                assert told["facts"]["by"] == "policy 2"
                assert "denied" in told["facts"]["why"]
                assert gate.app("blog")["open"] == 1
            assert gate.faults == []


@pytest.mark.parametrize("path", PATHS)
def test_a_program_is_told_why(path: str) -> None:
    """A program whose connection was cut gets an error of the kernel's, then ConnectionCut from a call of ours."""
    code = """
import socket, sys
s = socket.create_connection(("127.0.0.1", {port}))
s.sendall(b"x"); s.recv(1)
print("open", flush=True)
try:
    s.recv(1)
except OSError as e:
    print(e.errno, flush=True)
sys.stdin.readline()
try:
    s.getpeername()
except OSError as e:
    print(type(e).__name__, e.errno, getattr(e, "code", None), e, flush=True)
"""
    keys = f'path = "{path}"'
    with peers.echo() as peer, RunningGate(config=text(rules(peer.port), keys)) as gate:
        program = gate.program("-c", code.format(port=peer.port))
        assert program.stdout is not None
        assert program.stdout.readline() == "open\n"
        assert gate.reload(text(rules(1), keys))["cut"] == 1
        # Linux 6.2 tells who waits in a receive EPIPE of a disconnect (sk_wait_event()), before that ECONNRESET.
        assert int(program.stdout.readline()) in (errno.ECONNRESET, errno.EPIPE)
        said, complained = program.communicate("\n", timeout=20)
        assert said.startswith(f"ConnectionCut {errno.ECONNRESET} cut "), (said, complained)
        assert "connection ended by policy 2: blog" in said
        assert gate.faults == []


def test_a_brief_app_is_told_no_more_than_that_it_was_cut() -> None:
    """With reasons = "brief" the reason of a cut does not say what rule or address it was; the log does."""
    keys = 'reasons = "brief"'
    with (
        peers.echo() as peer,
        RunningGate(config=text(rules(peer.port), keys)) as gate,
        RawChannel(gate.socket) as channel,
        opened(channel, peer.address) as (id, _),
    ):
        assert gate.reload(text("", keys))["cut"] == 1
        facts = channel.ask("touch", socks=[id])["error"]["facts"]
        assert facts == {"by": "policy 2", "why": "it denies this destination"}
        assert "loopback" in gate.wait_for(event="overruled")["reason"]


@pytest.mark.parametrize("path", PATHS)
def test_only_reported(path: str) -> None:
    """With on_reload = "report" what the new policy denies goes on, and each reload that denies it says so."""
    keys, head = f'path = "{path}"', 'on_reload = "report"'
    with (
        peers.echo() as peer,
        RunningGate(config=text(rules(peer.port), keys, head)) as gate,
        RawChannel(gate.socket) as channel,
        opened(channel, peer.address) as (id, sock),
    ):
        answer = gate.reload(text("", keys, head))
        assert (answer["judged"], answer["cut"], answer["reported"]) == (1, 0, 1)
        line = gate.wait_for(event="overruled")
        assert (line["how"], line["verdict"], line["policy"]) == ("report", "deny", 2)
        sock.sendall(b"y")
        assert sock.recv(1) == b"y"
        ((other, fresh),) = channel.new()
        with fresh:
            assert channel.connect(other, peer.address)["error"]["code"] == "policy-denied"
        assert channel.ask("touch", socks=[id]) == {}
        answer = gate.reload(text("", keys))
        assert (answer["cut"], answer["reported"]) == (1, 0), "the key itself is reloaded"
        assert end_of(sock) == errno.ECONNRESET


def test_an_app_in_report_mode_is_reported_once() -> None:
    """What would be denied but for mode = "report" is let be; what was reported when it was opened is no news."""
    with (
        peers.echo() as peer,
        RunningGate(config=text(rules(peer.port))) as gate,
        RawChannel(gate.socket) as channel,
        opened(channel, peer.address),
    ):
        answer = gate.reload(text("", 'mode = "report"'))
        assert (answer["judged"], answer["cut"], answer["reported"]) == (1, 0, 1)
        assert gate.wait_for(event="overruled")["verdict"] == "report"
        with opened(channel, peer.address):
            assert gate.wait_for(event="decision", verdict="report")["policy"] == 2
            answer = gate.reload(text("", 'mode = "report"'))
            assert (answer["judged"], answer["reported"]) == (2, 1)


def test_a_failed_reload_changes_nothing() -> None:
    """A file that cannot be used leaves the policy, its number and every connection as they are."""
    with (
        peers.echo() as peer,
        RunningGate(config=text(rules(peer.port))) as gate,
        RawChannel(gate.socket) as channel,
        opened(channel, peer.address) as (_, sock),
    ):
        answer = gate.reload(text("", "no_such_key = 1"))
        assert (answer["ok"], answer["policy"]) == (False, 1)
        assert "judged" not in answer
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        assert gate.log.all(event="overruled") == []
        with opened(channel, peer.address):
            assert gate.wait_for(event="decision", count=2)["policy"] == 1


@pytest.mark.parametrize("keys", ['deny = ["db.test"]', 'names = ["other.test"]'])
def test_the_name_that_was_asked_for_counts(keys: str) -> None:
    """A connection by a name that may not be looked up any more is cut; one by its address is not."""
    with peers.echo() as peer:
        before, after = text(rules(peer.port)), text(rules(peer.port), keys)
        with (
            RunningGate(config=before, names={"db.test": [HOST]}) as gate,
            RawChannel(gate.socket) as channel,
            opened(channel, peer.address) as (_, by_address),
        ):
            ((id, by_name),) = channel.new()
            with by_name:
                assert "lease" in channel.connect(id, ("db.test", peer.port))
                by_name.connect(peer.address)
                answer = gate.reload(after)
                assert (answer["judged"], answer["cut"]) == (2, 1)
                assert end_of(by_name) == errno.ECONNRESET
                assert gate.wait_for(event="overruled")["host"] == "db.test"
            by_address.sendall(b"x")
            assert by_address.recv(1) == b"x"


@pytest.mark.parametrize(
    ("keys", "code"), [("billing = false", "billing-disabled"), ('billing = true\npath = "relay"', "")]
)
def test_what_holds_for_the_whole_app(keys: str, code: str) -> None:
    """An app that loses its billing loses its connections; another path is for new sockets only."""
    with (
        peers.echo() as peer,
        RunningGate(config=text(rules(peer.port))) as gate,
        RawChannel(gate.socket) as channel,
        opened(channel, peer.address) as (_, sock),
    ):
        answer = gate.reload(text(rules(peer.port), keys))
        assert answer["cut"] == (1 if code else 0)
        if code:
            assert gate.wait_for(event="overruled")["rule"] == "billing"
            assert end_of(sock) == errno.ECONNRESET
        else:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"


@pytest.mark.parametrize("path", PATHS)
def test_an_app_that_is_gone(path: str) -> None:
    """The connections of an app that is configured no more are cut, and its programs come again as who they are."""
    keys = f'path = "{path}"'
    with peers.echo() as peer, RunningGate(config=text(rules(peer.port), keys)) as gate:
        with RawChannel(gate.socket) as channel, opened(channel, peer.address) as (_, sock):
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            answer = gate.reload(text(rules(peer.port), keys, app="shop"))
            assert answer["cut"] == 1
            assert gate.wait_for(event="overruled")["app"] == "blog"
            assert end_of(sock) == errno.ECONNRESET
            assert channel.receive() is None, "its channel has ended"
            with RawChannel(gate.socket, token=channel.token) as again, opened(again, peer.address):
                assert gate.wait_for(event="decision", app="shop")["verdict"] == "allow"
        gate.wait_for_counts("shop", held=0, open=0)
        assert gate.app("blog")["held"] == 0
        assert gate.faults == []


def test_a_user_that_is_another_apps_now() -> None:
    """What was opened as one app stays that app's when its user becomes another's, and is judged by its rules."""
    with peers.echo() as peer:
        shop = "[apps.shop]\nuid = [{}]\ntrusted = true\nbilling = true\n"
        before = text(rules(peer.port)) + shop.format(UID + 1)
        after = text(rules(peer.port), uid=UID + 1) + shop.format(UID)
        with (
            RunningGate(config=before) as gate,
            RawChannel(gate.socket) as channel,
            opened(channel, peer.address) as (_, sock),
        ):
            assert gate.reload(after)["cut"] == 0
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            with RawChannel(gate.socket) as newcomer:
                ((id, fresh),) = newcomer.new()
                with fresh:
                    error = newcomer.connect(id, peer.address)["error"]
                    assert error["facts"]["app"] == "shop"


@pytest.mark.parametrize("path", PATHS)
def test_what_nobody_has_is_judged_too(path: str) -> None:
    """A parked connection that the new policy denies is ended; its descriptor leads nowhere."""
    keys = f'path = "{path}"'
    with peers.echo() as peer, RunningGate(config=text(rules(peer.port), keys)) as gate:
        with RawChannel(gate.socket) as channel:
            with opened(channel, peer.address) as (id, sock):
                descriptor = channel.share(id, sock)["descriptor"]
            channel.ask("close", sock=id)
            assert gate.app("blog")["open"] == 1
            assert gate.reload(text("", keys))["cut"] == 1
            assert gate.wait_for(event="end")["how"] == "policy"
            assert channel.ask("redeem", descriptor=descriptor)["error"]["code"] in ("unknown-descriptor", "cut")
            gate.wait_for_counts("blog", held=0, open=0)
        assert gate.faults == []


def test_a_dial_that_has_not_ended_is_judged() -> None:
    """A connect in progress whose destination the new policy denies is ended, and counted as never connected."""
    with peers.hanging() as address, RunningGate(config=text(rules(address[1]))) as gate:
        with RawChannel(gate.socket) as channel:
            ((id, sock),) = channel.new()
            with sock:
                assert channel.connect(id, address)["connected"] is False
                assert gate.reload(text(""))["cut"] == 1
                end = gate.wait_for(event="end")
                assert (end["how"], end["connected"]) == ("policy", False)
        assert gate.faults == []


@pytest.mark.parametrize("acts", ["cut", "report"])
def test_destinations_of_udp(acts: str) -> None:
    """A UDP socket is refused what the new policy denies, or only reported; its other destinations go on."""
    head = f'on_reload = "{acts}"'
    with (
        udp_peer() as (kept, port),
        udp_peer() as (lost, other),
        RunningGate(config=text(rules(port, other), "", head)) as gate,
        raw(gate.socket) as mine,
    ):
        for far, number in ((kept, port), (lost, other)):
            mine.end.send(to(number) + b"one")
            assert far.recv(100) == b"one"
        answer = gate.reload(text(rules(port), "", head))
        counts = (answer["judged"], answer["cut"], answer["reported"])
        assert counts == ((2, 1, 0) if acts == "cut" else (2, 0, 1))
        line = gate.wait_for(event="overruled")
        assert (line["transport"], line["port"], line["how"], line["policy"]) == ("udp", other, acts, 2)
        mine.end.send(to(other) + b"two")
        if acts == "cut":
            assert frames.unpack(mine.end.recv(100))[0] == frames.REFUSED
        else:
            assert lost.recv(100) == b"two"
        mine.end.send(to(port) + b"three")
        assert kept.recv(100) == b"three"
        assert gate.reload(text(rules(port), "", head))["reported"] == (acts == "report"), "each says so"
        assert gate.faults == []


def test_a_datagram_may_be_quicker_than_the_round() -> None:
    """A destination that a datagram has had judged is counted once, whichever came first."""
    with udp_peer() as (far, port), RunningGate(config=text(rules(port))) as gate, raw(gate.socket) as mine:
        mine.end.send(to(port) + b"one")
        assert far.recv(100) == b"one"
        gate.write_config(text(""))
        gate.signal(signal.SIGHUP)
        for _ in range(50):
            with contextlib.suppress(BlockingIOError):
                mine.end.send(to(port) + b"two", socket.MSG_DONTWAIT)
        reload = gate.wait_for(event="reload")
        assert (reload["judged"], reload["cut"]) == (1, 1)
        assert len(gate.log.all(event="overruled")) == 1
        assert gate.faults == []


def test_the_command_says_what_came_of_it() -> None:
    """``outgate reload`` prints the counts, for people and as JSON; the status of a failed one is 1."""
    with (
        peers.echo() as peer,
        RunningGate(config=text(rules(peer.port))) as gate,
        RawChannel(gate.socket) as channel,
        opened(channel, peer.address),
    ):
        done = outgate("reload", "--socket", gate.socket)
        assert (done.returncode, done.stdout) == (0, "policy 2 is in force; 1 open connections judged again\n")
        gate.write_config(text('"10.0.0.1:1"'))
        found = json.loads(outgate("reload", "--json", "--socket", gate.socket).stdout)
        assert (found["ok"], found["policy"], found["judged"], found["cut"], found["reported"]) == (True, 3, 1, 1, 0)
        gate.write_config("nonsense")
        assert outgate("reload", "--socket", gate.socket).returncode == 1


def test_a_reload_while_one_is_under_way() -> None:
    """A second reload ends the round of the first where it is; the answer to the first says so."""
    with ThreadGate() as running, peers.echo() as peer, RawChannel(running.socket) as channel:
        gate = running.gate
        with opened(channel, peer.address):
            seen: list[Counts] = []

            def both() -> None:
                gate.rejudging.begin(seen.append)
                gate.rejudging.begin(seen.append)

            running.call(both)
            running.stats()
            assert [(each.judged, each.finished) for each in seen] == [(0, False), (1, True)]
            assert seen[0].fields()["superseded"] is True


def test_many_in_slices() -> None:
    """A round of many goes over several turns of the loop, misses none, and leaves those that end meanwhile."""
    with ThreadGate() as running, peers.sink() as peer, RawChannel(running.socket) as channel:
        gate = running.gate
        with contextlib.ExitStack() as stack:
            ids = [stack.enter_context(opened(channel, peer.address))[0] for _ in range(60)]
            turns = []
            done: list[Counts] = []

            def turn() -> None:
                turns.append(len(done))
                if not done:
                    running._loop.call_soon(turn)

            def begin() -> None:
                rejudging.BUDGET = 0.0  # type: ignore[misc]
                gate.rejudging.begin(done.append)
                turn()
                gate.ending.end(gate.registry.leases[ids[-1]], "killed")

            before = rejudging.BUDGET
            try:
                running.call(begin)
                while not done:
                    running.stats()
            finally:
                rejudging.BUDGET = before
            assert (done[0].judged, done[0].cut, done[0].finished) == (59, 0, True)
            assert len(turns) >= 60 / rejudging.BETWEEN
        assert running.faults == []


class Counting(Again):
    """Answers that count how often a policy is asked.

    :cvar asked: how often.
    """

    asked = 0

    def __missing__(self, question: Question) -> Decision | None:
        Counting.asked += 1
        return super().__missing__(question)


def test_the_same_policy_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a policy has let through it need not judge again, until something is open that it has not decided on."""
    monkeypatch.setattr(rejudging, "Again", Counting)
    monkeypatch.setattr(Counting, "asked", 0)
    denies = Policy.build("default")
    with ThreadGate() as running, peers.sink() as peer, RawChannel(running.socket) as channel:
        gate = running.gate
        app = gate.registry.apps["default"]

        def judge(policy: Policy) -> Counts:
            done: list[Counts] = []

            def begin() -> None:
                app.adopt(replace(app.settings, policy=replace(policy, number=app.settings.policy.number + 1)))
                gate.rejudging.begin(done.append)

            running.call(begin)
            while not done:
                running.stats()
            return done[0]

        with opened(channel, peer.address), opened(channel, peer.address) as (_, sock):
            policy = app.settings.policy
            assert [judge(policy).judged for _ in range(3)] == [2, 2, 2]
            assert Counting.asked == 1, "of the gate's start nothing is known, and both connections are one question"
            running.call(lambda: gate.rejudging.doubt(app))
            assert [judge(policy).judged for _ in range(2)] == [2, 2]
            assert Counting.asked == 2
            assert policy.digest != denies.digest == replace(denies, number=9).digest
            monkeypatch.setattr(Rejudging, "_cuts", False)
            assert [judge(denies).reported for _ in range(2)] == [2, 2], "what was let be is no less denied"
            monkeypatch.undo()
            assert judge(denies).cut == 2
            assert end_of(sock) == errno.ECONNRESET


def test_no_circles_are_looked_for_among_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round of many keeps Python's garbage collector out as long as it lasts, and only if it was on."""
    monkeypatch.setattr(rejudging, "MANY", 1)
    with ThreadGate() as running, peers.sink() as peer, RawChannel(running.socket) as channel:
        gate = running.gate
        with opened(channel, peer.address):
            for collects in (True, False):
                (gc.enable if collects else gc.disable)()
                try:
                    during: list[bool] = []
                    done: list[bool] = []

                    def begin(during: list[bool] = during, done: list[bool] = done) -> None:
                        gate.rejudging.begin(lambda counts: done.append(gc.isenabled()))
                        during.append(gc.isenabled())

                    running.call(begin)
                    while not done:
                        running.stats()
                    assert (during, done) == ([False], [collects])
                finally:
                    gc.enable()


def test_answers_are_given_back_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a round has found out is given back over several turns of the loop, and all of it."""
    monkeypatch.setattr(rejudging, "BUDGET", 0.0)
    loop = asyncio.new_event_loop()
    tables: list[dict[Question, Decision | None]] = [
        {(("h", port), HOST, ""): None for port in range(count)} for count in (0, 1, 3 * rejudging.RETURNED)
    ]
    whole = list(tables)
    rejudging._empty(loop, tables)
    assert [len(each) for each in whole] == [0, 1, 2 * rejudging.RETURNED], "one slice in the turn in which it ends"
    while tables:
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    assert not any(whole)
