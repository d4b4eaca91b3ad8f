"""``outgate serve --takeover``: another gate takes the place of the one that runs, and programs notice nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import pytest

from outgate.core.formats import messages
from outgate.gate.takeover.state import VERSION
from support import peers
from support.commands import outgate, serving
from support.raw import RawChannel
from support.upgrades import ONE, Echo, Program, config

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_nothing_is_noticed(tmp_path: Path, path: str) -> None:
    """Across two gates every byte arrives, is counted once, and what was open, parked or unconnected is usable."""
    options = ("--config", config(tmp_path, path))
    with peers.echo() as peer, Echo() as echo, serving(tmp_path, *options) as first:
        program = Program(first, peer.port, echo.port)
        assert program.said() == "ready"
        assert program.ask() == ["idle", "two", "new"]
        with serving(tmp_path, *options, "--takeover") as second:
            assert first.process.wait(20) == 0
            assert program.ask() == ["idle", "two", "new"]
            with serving(tmp_path, *options, "--takeover") as third:
                assert second.process.wait(20) == 0
                assert program.ask() == ["idle", "two", "new"]
                outcomes = program.finish()
                assert all(same for same, _ in outcomes), "what came back is what was sent"
                assert len(outcomes) == 4
                third.wait_for_counts("blog", open=0, held=0, connects=11)
                third.stop()
        lines = third.log()
        assert [line["event"] for line in lines if line["event"] not in ("decision", "end")] == [
            *("start", "handed-over", "start", "took-over", "handed-over", "start", "took-over", "stop")
        ]
        ends = [line for line in lines if line["event"] == "end"]
        assert max(Counter(line["lease"] for line in ends).values()) == 1
        carried = sum(count for _, count in outcomes)
        tcp = [line for line in ends if line["transport"] == "tcp"]
        total = carried + 3 * len("idle") + 3 * len("new") + 2 * len("late")
        assert sum(line["sent"] for line in tcp) == sum(line["received"] for line in tcp) == total
        (udp,) = [line for line in ends if line["transport"] == "udp"]
        assert (udp["sent"], udp["received"], udp["datagrams_sent"]) == (12, 12, 4)
        # Who had the adopted one is looked up after its close, and the program may have ended by then.
        assert {line["how"] for line in ends} <= {"closed", "process-ended"}


@pytest.mark.parametrize("when", ["at once", "with everything"])
def test_a_taker_that_is_lost(tmp_path: Path, when: str) -> None:
    """Where the next gate dies before it says that it has everything, the one that runs goes on as before."""
    with peers.echo() as peer, serving(tmp_path, "--config", config(tmp_path)) as gate:
        program = Program(gate, peer.port, code=ONE)
        assert program.said() == "ready"
        with RawChannel(gate.socket) as taker:
            taker.post("takeover", version=VERSION)
            if when == "with everything":
                packet, fds = receive_all(taker)
                assert json.loads(packet) == {"fds": len(fds)}
                for fd in fds:
                    os.close(fd)
        assert program.ask() == ["x", "opened"]
        assert program.finish() == "end"
        assert gate.process.poll() is None


def receive_all(taker: RawChannel) -> tuple[bytes, list[int]]:
    """Return the first packet of a takeover, and the fds in it."""
    packet, fds, _, _ = socket.recv_fds(taker.sock, messages.MAX_PACKET, 253)
    return packet, fds


def test_another_version(tmp_path: Path) -> None:
    """A gate that would not understand the state is told so, and nothing changes."""
    with serving(tmp_path, "--config", config(tmp_path)) as gate, RawChannel(gate.socket) as taker:
        answer = taker.ask("takeover", version=VERSION + 1)["answer"]
        assert answer["ok"] is False
        assert f"version {VERSION}" in answer["error"]
        assert outgate("status", "--socket", gate.socket).returncode == 0


def test_an_app_that_is_gone(tmp_path: Path) -> None:
    """What an app has open goes on under a configuration without it, and it gets nothing new."""
    with peers.echo() as peer, serving(tmp_path, "--config", config(tmp_path)) as first:
        program = Program(first, peer.port, code=ONE)
        assert program.said() == "ready"
        text = Path(config(tmp_path)).read_text().replace("[apps.blog]", "[apps.shop]")
        (tmp_path / "outgate.toml").write_text(text.replace(f"uid = [{os.getuid()}]", f"uid = [{os.getuid() + 1}]"))
        with serving(tmp_path, "--config", str(tmp_path / "outgate.toml"), "--takeover"):
            assert first.process.wait(20) == 0
            assert program.ask() == ["x", "billing-disabled"]
            assert program.finish() == "end"


def test_no_gate(tmp_path: Path) -> None:
    """Without a gate there is nothing to take over: exit status 2, and a sentence."""
    done = outgate("serve", "--socket", tmp_path / "none.sock", "--log", tmp_path / "log", "--takeover")
    assert done.returncode == 2
    assert "--takeover: the gate at" in done.stderr
    assert "No such file" in done.stderr


@pytest.mark.integration
def test_a_connection_of_a_dead_gate_goes_on(tmp_path: Path) -> None:
    """What the gate before held no duplicate of is metered on by the one that takes its place, to its last byte."""
    options = ("--config", config(tmp_path))
    # Without the right to trace it a gate may not take a duplicate from a program that has that right.
    prefix = ("setpriv", "--bounding-set", "-sys_ptrace")
    code = """
import os, socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(bytes(1000))
print(1, flush=True)
for word in sys.stdin:
    sock.sendall(bytes(500))
    if word == "end\\n":
        os._exit(0)
    print(1, flush=True)
"""
    with peers.sink() as peer, contextlib.ExitStack() as stack:
        first = stack.enter_context(serving(tmp_path, *options, prefix=prefix))
        program = Program(first, peer.port, code=code)
        program.said()
        while not any(b'["open",' in path.read_bytes() for path in (tmp_path / "state").glob("leases-*")):
            time.sleep(0.005)  # a file tells of no change of its own
        first.stop(signal.SIGKILL)
        second = stack.enter_context(serving(tmp_path, *options, prefix=prefix))
        program.ask()
        second.wait_for_counts("blog", open=1, held=0, sent=1500)
        third = stack.enter_context(serving(tmp_path, *options, "--takeover", prefix=prefix))
        assert second.process.wait(20) == 0
        third.wait_for_counts("blog", open=1, held=0, sent=1500)
        assert program.process.stdin is not None
        program.process.stdin.write("end\n")
        program.process.stdin.flush()
        program.process.communicate()
        while not (ends := [line for line in third.log() if line["event"] == "end"]):
            time.sleep(0.005)
        assert [(end["sent"], end.get("incomplete")) for end in ends] == [(2000, None)]


def test_the_file_of_what_is_open_goes_on(tmp_path: Path) -> None:
    """A gate that has taken over goes on with the file: when it is killed, a third finds all that the first made."""
    options = ("--config", config(tmp_path))
    code = """
import socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(bytes(1000))
print(1, flush=True)
for word in sys.stdin:
    sock.sendall(bytes(500))
    print(1, flush=True)
"""
    with peers.sink() as peer, serving(tmp_path, *options) as first:
        program = Program(first, peer.port, code=code)
        program.said()
        with serving(tmp_path, *options, "--takeover") as second:
            assert first.process.wait(20) == 0
            program.ask()
            second.stop(signal.SIGKILL)
            program.ask()
            with serving(tmp_path, *options) as third:
                program.ask()
                program.process.communicate()
                while not (ends := [line for line in third.log() if line["event"] == "end"]):
                    time.sleep(0.005)  # a file tells of no change of its own
            assert [(end["sent"], end.get("incomplete")) for end in ends] == [(2500, None)]
            began = next(line for line in third.log() if line["event"] == "decision")
            assert began["lease"] == ends[0]["lease"]
