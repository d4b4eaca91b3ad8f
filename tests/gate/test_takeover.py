"""``outgate serve --takeover``: another gate takes the place of the one that runs, and programs notice nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import outgate as package
from outgate.core.formats import messages
from outgate.gate.takeover.state import VERSION
from support import peers
from support.commands import Served, environment, outgate, serving
from support.raw import RawChannel

pytestmark = pytest.mark.slow

CONFIG = """
version = 1
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
path = "{path}"
except = ["127.0.0.1"]
"""

#: Some connections that carry without a pause, an idle one, a parked descriptor, a UDP socket and one not connected.
PROGRAM = """
import hashlib, json, os, pickle, socket, sys, threading
import outgate
peer = ("127.0.0.1", int(sys.argv[1]))
def say(value):
    print(json.dumps(value), flush=True)
ended = threading.Event()
outcomes = []
def carry():
    s = socket.create_connection(peer)
    sent, received, count = hashlib.sha1(), hashlib.sha1(), 0
    def read():
        while data := s.recv(65536):
            received.update(data)
    reader = threading.Thread(target=read)
    reader.start()
    while not ended.is_set():
        data = os.urandom(20_000)
        s.sendall(data)
        sent.update(data)
        count += len(data)
    s.shutdown(socket.SHUT_WR)
    reader.join()
    s.close()
    outcomes.append([sent.hexdigest() == received.hexdigest(), count])
threads = [threading.Thread(target=carry) for _ in range(4)]
for thread in threads:
    thread.start()
idle = socket.create_connection(peer)
born = socket.socket()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.connect(("127.0.0.1", int(sys.argv[2])))
udp.send(b"one")
udp.recv(9)
lent = socket.create_connection(peer)
parked = outgate.descriptor(lent)
lent.close()
say("ready")
for line in sys.stdin:
    idle.sendall(b"idle")
    got = [idle.recv(9).decode()]
    udp.send(b"two")
    got.append(udp.recv(9).decode())
    new = socket.create_connection(peer)
    new.sendall(b"new")
    got.append(new.recv(9).decode())
    new.close()
    say(got)
born.connect(peer)
adopted = outgate.adopt(parked)
for s in (born, adopted):
    s.sendall(b"late")
    assert s.recv(9) == b"late"
    s.close()
ended.set()
for thread in threads:
    thread.join()
idle.close()
udp.close()
say(outcomes)
"""


class Echo:
    """What sends every datagram back."""

    def __init__(self) -> None:
        import threading

        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            data, source = self._sock.recvfrom(65536)
            if not data:
                return
            self._sock.sendto(data, source)

    def __enter__(self) -> Echo:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.sendto(b"", self._sock.getsockname())
        self._thread.join()
        self._sock.close()


class Program:
    """A program with the client that goes on while gates change."""

    def __init__(self, gate: Served, *arguments: object, code: str = PROGRAM) -> None:
        source = Path(package.__file__).parent
        env = environment(OUTGATE_SOCKET=gate.socket, PYTHONPATH=str(source / "client" / "autoload"))
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", code, *map(str, arguments)]
        self.process = subprocess.Popen(command, env=env, text=True, stdin=pipe, stdout=pipe, stderr=pipe)

    def said(self) -> Any:
        """Return the next thing it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return json.loads(line)

    def ask(self) -> Any:
        """Have it use what it has, and say what came of that."""
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()
        return self.said()

    def finish(self) -> Any:
        """Have it end everything; return what it says last."""
        output, errors = self.process.communicate(timeout=30)
        assert (self.process.returncode, errors) == (0, "")
        return json.loads(output)


def config(tmp_path: Path, path: str = "auto", uid: int | None = None) -> str:
    """Write a configuration and return its path."""
    file = tmp_path / "outgate.toml"
    file.write_text(CONFIG.format(uid=os.getuid() if uid is None else uid, path=path))
    return str(file)


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


ONE = """
import json, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def opens():
    try:
        socket.create_connection(s.getpeername()).close()
    except OSError as e:
        return getattr(e, "code", repr(e))
    return "opened"
print('"ready"', flush=True)
for line in sys.stdin:
    s.sendall(b"x")
    print(json.dumps([s.recv(1).decode(), opens()]), flush=True)
print('"end"', flush=True)
"""


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
