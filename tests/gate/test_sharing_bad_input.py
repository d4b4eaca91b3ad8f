"""Whatever is said of descriptors and handed over: one answer to all who may not have it, and nobody else is harmed."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
import threading
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import pytest

from gate.test_sharing import Opened, code_of, redeemed, talk, wait_for_fds
from outgate.core.descriptor import KEY_SIZE, Descriptor, seal
from outgate.gate import wire
from outgate.gate.kernel import births
from outgate.gate.travel import passing
from outgate.testing.running import RunningGate, ThreadGate
from support import peers
from support.raw import RawChannel
from support.victims import victim

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.registry import Process
    from outgate.gate.server import Gate

pytestmark = pytest.mark.slow

NOBODY = 65534
GAMES = 60
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be a second user")


@pytest.fixture(scope="module")
def relay_gate() -> Iterator[RunningGate]:
    """A gate that carries the bytes, which must have had no fault at the end of the module."""
    with RunningGate(path="relay") as gate:
        yield gate
        assert gate.faults == []
        gate.wait_for_counts(held=0, open=0)
        assert gate.stop() == 0, gate.stderr()


@contextlib.contextmanager
def unharmed(gate: RunningGate) -> Iterator[tuple[Opened, RawChannel]]:
    """Give a client with a socket, and a channel to be bad on; both sockets of the client work afterwards as before."""
    with peers.echo() as peer, Opened(gate.socket, peer) as client, RawChannel(gate.socket) as bad:
        bad.ask("stat")
        talk(client.sock, b"before")
        fds = len(os.listdir(f"/proc/{gate.pid}/fd"))
        yield client, bad
        talk(client.sock, b"after")
        bad.close()
        wait_for_fds(gate, fds)
        text = client.share()
        client.close()
        with RawChannel(gate.socket) as other, redeemed(other, text) as sock:
            talk(sock, b"passed on")


# --- what is handed over ----------------------------------------------------------------------------------------------


def shares(gate: RunningGate, bad: RawChannel) -> tuple[int, socket.socket]:
    """Have a channel ask for a descriptor of a relayed socket of its own, and return what it is to hand over."""
    ((id, sock),) = bad.new()
    assert bad.ask("share", sock=id) == {"hand": True}
    return id, sock


def settle(channel: RawChannel, id: int, sock: socket.socket) -> None:
    """Share a socket as a client does, redeem it, and close it everywhere."""
    with redeemed(channel, channel.share(id, sock)["descriptor"]):
        sock.close()


def test_a_hand_without_an_fd(relay_gate: RunningGate) -> None:
    """A HAND that brings nothing is answered as one for no socket; another may follow."""
    with unharmed(relay_gate) as (_, bad):
        id, sock = shares(relay_gate, bad)
        with sock:
            assert code_of(bad.ask("hand", sock=id)) == "unknown-descriptor"
            settle(bad, id, sock)


def test_a_hand_before_a_share(relay_gate: RunningGate) -> None:
    """An fd that nobody has asked for is refused by the kernel at its sender, or ends the channel."""
    with unharmed(relay_gate) as (_, bad):
        ((id, sock),) = bad.new()
        with sock:
            try:
                bad.send({"op": "hand", "sock": id}, fds=[sock.fileno()])
            except PermissionError:  # SO_PASSRIGHTS, Linux 6.16
                assert code_of(bad.ask("hand", sock=id)) == "unknown-descriptor"
            else:
                assert bad.refusal() == "file descriptors in a request"


@pytest.mark.parametrize("kind", ["pipe", "file", "folder", "unix", "tcp", "another's", "its channel"])
def test_a_hand_of_another_file(relay_gate: RunningGate, kind: str) -> None:
    """Any file but the program's end of that very socket is closed and answered as one for no socket."""
    with unharmed(relay_gate) as (client, bad), contextlib.ExitStack() as kept:
        id, sock = shares(relay_gate, bad)
        kept.enter_context(sock)
        if kind == "pipe":
            read, fd = os.pipe()
            kept.callback(os.close, read)
        elif kind == "file":
            fd = os.open(__file__, os.O_RDONLY)
        elif kind == "folder":
            fd = os.open("/", os.O_PATH)
        elif kind == "unix":
            one, other = socket.socketpair()
            kept.enter_context(one)
            fd = other.detach()
        elif kind == "tcp":
            fd = socket.socket().detach()
        elif kind == "another's":
            fd = os.dup(client.sock.fileno())
        else:
            fd = os.dup(bad.sock.fileno())
        bad.send({"op": "hand", "sock": id}, fds=[fd])
        os.close(fd)
        reply = bad.receive()
        assert reply is not None
        assert code_of(reply) == "unknown-descriptor"
        if kind == "pipe":
            assert os.read(read, 1) == b""  # the gate has closed the other end
        settle(bad, id, sock)


def test_the_right_file_under_the_wrong_number(relay_gate: RunningGate) -> None:
    """The end of one socket is not taken for another, of this process or of somebody else's."""
    with unharmed(relay_gate) as (client, bad):
        id, sock = shares(relay_gate, bad)
        ((another, second),) = bad.new()
        with sock, second:
            for wrong in (another, client.id, 0, -1, 1 << 63):
                bad.ask("share", sock=id)
                bad.send({"op": "hand", "sock": wrong}, fds=[sock.fileno()])
                reply = bad.receive()
                assert reply is not None
                assert code_of(reply) == "unknown-descriptor"


@pytest.mark.parametrize("count", [2, 100, 253])
def test_more_than_one_fd(relay_gate: RunningGate, count: int) -> None:
    """Several fds at once end the channel, and all of them are closed."""
    with unharmed(relay_gate) as (_, bad):
        id, sock = shares(relay_gate, bad)
        read, write = os.pipe()
        with sock:
            bad.send({"op": "hand", "sock": id}, fds=[write] * count)
            os.close(write)
            assert bad.refusal() == "file descriptors in a request"
        assert os.read(read, 1) == b""
        os.close(read)


@pytest.mark.parametrize("packet", [b'{"op":"stat"}', b'{"op":"share","sock":1}', b"garbage", b" " * 65_537])
def test_an_fd_with_another_request(relay_gate: RunningGate, packet: bytes) -> None:
    """The fd that is expected, beside anything but a HAND, ends the channel and is closed."""
    with unharmed(relay_gate) as (_, bad):
        _, sock = shares(relay_gate, bad)
        read, write = os.pipe()
        with sock:
            bad.send(packet, fds=[write])
            os.close(write)
            assert bad.refusal()
        assert os.read(read, 1) == b""
        os.close(read)


def test_an_fd_after_it_was_not_sent(relay_gate: RunningGate) -> None:
    """Only the packet after the answer may bring an fd: a later one's is closed on a thread, and ends the channel."""
    with unharmed(relay_gate) as (_, bad):
        _, sock = shares(relay_gate, bad)
        bad.ask("stat")
        read, write = os.pipe()
        with sock:
            bad.send({"op": "stat"}, fds=[write])
            os.close(write)
            assert bad.refusal() == "file descriptors in a request"
        assert os.read(read, 1) == b""
        os.close(read)


def test_fds_right_behind_the_hand(relay_gate: RunningGate) -> None:
    """What comes with fds before the gate has read the HAND was let in by the kernel, and ends the channel."""
    with ThreadGate() as gate, RawChannel(gate.socket) as bad:
        bad.ask("stat")
        read, write = os.pipe()

        def both() -> None:  # on the loop, so that the gate reads neither before both are there
            (channel,) = (each for each in channels_of(gate) if each.peer.pid == os.getpid())
            channel.expect_fd()
            bad.send({"op": "hand", "sock": 1}, fds=[write])
            bad.send({"op": "stat"}, fds=[write])

        gate.call(both)
        os.close(write)
        assert bad.refusal() == "file descriptors in a request"
        assert os.read(read, 1) == b""
        os.close(read)
        assert gate.faults == []


def channels_of(gate: ThreadGate) -> list[Any]:
    """Return the channels of a gate; on its loop only."""
    return [channel for channel in gate.gate.reception.channels if channel.process is not None]


def test_a_hand_for_a_direct_socket() -> None:
    """A direct socket is not handed over: the gate has it, and takes no other for it."""
    with RunningGate() as gate, unharmed(gate) as (client, bad):
        assert code_of(bad.ask("hand", sock=client.id)) == "unknown-descriptor"
        assert code_of(client.channel.ask("hand", sock=client.id)) == "unknown-descriptor"
        with contextlib.suppress(PermissionError):  # SO_PASSRIGHTS, Linux 6.16
            bad.send({"op": "hand", "sock": client.id}, fds=[client.sock.fileno()])
            assert bad.refusal() == "file descriptors in a request"


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_old_kernels(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without SO_PASSRIGHTS sharing works, and an fd that was not asked for ends its channel."""
    monkeypatch.setattr(births, "take_no_fds", lambda sock: False)
    from gate.test_sharing import impatient

    with impatient(path) as gate, peers.echo() as peer, Opened(gate.socket, peer) as client:
        text = client.share()
        with RawChannel(gate.socket) as other, redeemed(other, text) as sock:
            talk(sock, b"hello")
        with RawChannel(gate.socket) as bad:
            bad.ask("stat")
            bad.send({"op": "hand", "sock": client.id}, fds=[client.sock.fileno()])
            assert bad.refusal() == "file descriptors in a request"
        assert gate.faults == []


# --- what is asked for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_a_share_of_what_another_has(path: str) -> None:
    """A process that neither opened a socket nor came by it gets no descriptor of it."""
    with RunningGate(path=path) as gate, unharmed(gate) as (client, bad):
        for id in (client.id, client.id + 1, 0, -1, 1 << 62):
            assert code_of(bad.ask("share", sock=id)) == "unknown-descriptor"


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_every_wrong_descriptor_gets_one_answer(path: str) -> None:
    """Changed, cut, made up, another gate's and ended: each gets the very same reply."""
    with RunningGate(path=path) as gate, RunningGate(path=path) as other, peers.echo() as peer:
        with Opened(other.socket, peer) as elsewhere, Opened(gate.socket, peer) as ended:
            foreign, gone = elsewhere.share(), ended.share()
            with RawChannel(gate.socket) as last, redeemed(last, gone):
                ended.close()
            gate.wait_for_counts(held=0)
        with Opened(gate.socket, peer) as client, RawChannel(gate.socket) as bad:
            bad.ask("stat")
            good = client.share()
            places = range(len(good))
            wrong = [good[:at] + chr(ord(good[at]) ^ 1 << bit) + good[at + 1 :] for at in places for bit in range(8)]
            wrong += [good[:at] for at in places]
            wrong += [foreign, gone, "", "\0", good + "\0", "é" * 160, "x" * 160, good.upper(), "outgate1." + "9" * 150]
            replies = [bad.ask("redeem", descriptor=text) for text in wrong]
            assert code_of(replies[0]) == "unknown-descriptor"
            assert all(reply == replies[0] for reply in replies)
            assert bad.fds == []
            with redeemed(bad, good) as sock:
                talk(sock, b"the right one")
        assert gate.faults == []


def steps(gate: Gate, process: Process, text: str) -> tuple[object, list[tuple[str, int]]]:
    """Return the answer to a redeem, and every line of Python that it took."""
    lines: list[tuple[str, int]] = []

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        lines.append((frame.f_code.co_name, frame.f_lineno))
        return trace

    coroutine = passing.redeem(gate, cast("Channel", None), process, wire.Redeem(descriptor=text))
    before = sys.gettrace()
    gc.disable()  # what is called when it collects is nobody's step
    sys.settrace(trace)
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value, lines
    finally:
        sys.settrace(before)
        gc.enable()
    raise AssertionError("it waits for something")


def test_every_wrong_descriptor_takes_as_long() -> None:
    """Forged, foreign and made up take the very same steps; one that has ended a few more, however many there are."""
    with ThreadGate() as gate, peers.echo() as peer, contextlib.ExitStack() as stack:
        with Opened(gate.socket, peer) as opener, RawChannel(gate.socket) as last:
            ended = opener.share()
            with redeemed(last, ended):
                opener.close()
        gate.wait_for_counts(held=0)
        openers = [stack.enter_context(Opened(gate.socket, peer)) for _ in range(20)]
        texts = [opener.share() for opener in openers]
        (process, *_) = gate.call(lambda: list(gate.gate.registry.processes.values()))
        name = Descriptor(gate.gate.boot, 1, 0, 0, 0)
        other_key = seal(bytes(KEY_SIZE), process.app.name, name)
        foreign = seal(gate.gate.sharing.key, "another", name)
        forged = texts[-1][:-1] + ("0" if texts[-1][-1] != "0" else "1")
        taken = [gate.call(partial(steps, gate.gate, process, text)) for text in (forged, foreign, other_key, ended)]
        assert len({str(answer) for answer, _ in taken}) == 1
        assert taken[0][1] == taken[1][1] == taken[2][1]
        assert taken[3][1][: len(taken[0][1]) // 2] == taken[0][1][: len(taken[0][1]) // 2]
        assert 0 <= len(taken[3][1]) - len(taken[0][1]) <= 6


@pytest.mark.parametrize("value", ["x" * 65_000, "x" * 161, 7, None, ["x"], {"a": 1}])
def test_what_is_no_descriptor_at_all(relay_gate: RunningGate, value: object) -> None:
    """What is longer than any descriptor, or no text, ends its channel with the field's name in the reason."""
    with unharmed(relay_gate) as (_, bad):
        bad.send({"op": "redeem", "descriptor": value} if value is not None else {"op": "redeem"})
        assert "descriptor" in bad.refusal()


ADOPTS = """
import json, outgate, sys
good = sys.argv[1]
texts = ["x" * 65536, "é" * 20, "\\0", "", good + "\\0", "\\ud800", good.upper(), "0" * 160, "0" * 161]
for text in texts:
    try:
        outgate.adopt(text)
    except OSError as e:
        print(json.dumps([type(e).__name__, e.errno, str(e)]))
    else:
        print("adopted", repr(text))
for what in (None, 7, b"outgate1", [good]):
    try:
        outgate.adopt(what)
    except TypeError as e:
        print("TypeError")
with outgate.adopt(good) as sock:
    sock.sendall(b"fine")
    print(sock.recv(9))
"""


def test_what_a_program_adopts(relay_gate: RunningGate) -> None:
    """In a program each wrong text is the same UnknownDescriptor, what is no text a TypeError, and it goes on."""
    with peers.echo() as peer, Opened(relay_gate.socket, peer) as opener:
        text = opener.share()
        with relay_gate.program("-c", ADOPTS, text) as program:
            said, errors = program.communicate(timeout=60)
        *refused, last = said.splitlines()
        assert len(set(refused[:9])) == 1, errors
        assert "UnknownDescriptor" in refused[0]
        assert refused[9:] == ["TypeError"] * 4
        assert last == "b'fine'"


def test_an_exclusive_redeem_that_is_refused_costs_nothing(relay_gate: RunningGate) -> None:
    """While a socket is being connected nobody can take it alone; its descriptor is what it was."""
    with peers.hanging() as address, RawChannel(relay_gate.socket) as opener, RawChannel(relay_gate.socket) as other:
        ((id, sock),) = opener.new()
        with sock:
            opener.connect(id, address)
            text = opener.share(id, sock)["descriptor"]
            for _ in range(3):
                assert code_of(other.ask("redeem", descriptor=text, exclusive=True)) == "exclusive"
            other.redeem(text).close()


def test_a_relayed_socket_is_never_given_out_itself(relay_gate: RunningGate) -> None:
    """Redeemed again and again, a relayed socket is one end of a pair, never the one that leads out."""
    with peers.echo() as peer, Opened(relay_gate.socket, peer) as opener, RawChannel(relay_gate.socket) as other:
        text = opener.share()
        with redeemed(other, text) as first:
            opener.close()
            for _ in range(5):
                with RawChannel(relay_gate.socket) as third, redeemed(third, text) as sock:
                    assert sock.family == socket.AF_UNIX
                    talk(sock, b"again")
            assert first.family == socket.AF_UNIX


def test_requests_are_all_here() -> None:
    """Each coroutine of the module is in the table of handlers, and HAVE among the packets of an anchor."""
    from outgate.gate import requests, wire

    mine = {passing.share, passing.hand, passing.redeem, passing.have}
    assert mine <= set(requests.HANDLERS.values())
    assert wire.Have in requests.ONE_WAY


# --- whose it is ------------------------------------------------------------------------------------------------------

TWO_APPS = f"""
version = 1
[apps.first]
uid = [{os.getuid()}]
billing = true
trusted = true
except = ["127.0.0.1"]
[apps.second]
uid = [{NOBODY}]
billing = true
trusted = true
except = ["127.0.0.1"]
"""

ONE_APP = f"""
version = 1
[apps.team]
gid = [{GAMES}]
billing = true
trusted = true
except = ["127.0.0.1"]
path = "PATH"
"""


def wait_for_channels(gate: RunningGate, count: int) -> None:
    """Ask until so many channels are left, the asker's own apart."""
    for _ in range(4_000):
        if gate.stats()["channels"] == count:
            return
        threading.Event().wait(0.005)  # nobody tells of it
    raise TimeoutError(f"{gate.stats()['channels']} channels, not {count}")


@needs_root
def test_a_foreign_descriptor_gets_the_answer_of_a_forged_one() -> None:
    """A descriptor of another app's live lease gets the very answer that one gets which nobody ever made."""
    with RunningGate(config=TWO_APPS) as gate, peers.echo() as peer, Opened(gate.socket, peer) as opener:
        text = opener.share()
        forged = text[:-1] + ("0" if text[-1] != "0" else "1")
        replies = []
        for each in (text, forged, "outgate1.no.such.thing"):
            with victim(gate.socket, "redeem", uid=NOBODY, token=each) as other:
                reply = other.said["reply"]
                assert reply.pop("hello")["app"] == "second"
                replies.append(reply)
        assert code_of(replies[0]) == "unknown-descriptor"
        assert replies[0] == replies[1] == replies[2]
        with RawChannel(gate.socket) as mine, redeemed(mine, text) as sock:
            talk(sock, b"still mine")
        assert gate.faults == []


@needs_root
@pytest.mark.parametrize("path", ["direct", "relay"])
def test_one_app_of_two_users(path: str) -> None:
    """Where a group is the app, what one of its users has shared another redeems, and the lease lives on with it."""
    with RunningGate(config=ONE_APP.replace("PATH", path)) as gate, peers.sink() as peer:
        with victim(gate.socket, "shared", peer.address, uid=f"{NOBODY}:{GAMES}") as opener:
            with victim(gate.socket, "redeem", uid=f"{NOBODY - 1}:{GAMES}", token=opener.said["text"]) as other:
                assert "error" not in other.said["reply"]
                opener.kill()
                wait_for_channels(gate, 1)
                assert gate.log.all(event="end") == []
                other.kill()
            line = gate.wait_for(event="end", port=peer.port)
            assert line["sent"] == 1_234 + len("redeemed")
        assert gate.faults == []


@needs_root
def test_a_gate_that_may_not_look() -> None:
    """A gate of a plain user cannot see whether another user's process has a socket, and believes what that says."""
    config = ONE_APP.replace("PATH", "direct")
    with RunningGate(config=config, uid=NOBODY) as gate, peers.sink() as peer:
        with victim(gate.socket, "shared", peer.address, uid=f"{NOBODY - 2}:{GAMES}") as opener:
            with victim(gate.socket, "redeem", uid=f"{NOBODY - 1}:{GAMES}", token=opener.said["text"]) as other:
                assert "error" not in other.said["reply"]
                opener.kill()
                wait_for_channels(gate, 1)
                assert gate.log.all(event="end") == []
                other.kill()
            line = gate.wait_for(event="end", port=peer.port)
            assert line["sent"] == 1_234 + len("redeemed")
        assert gate.faults == []
