"""``outgate usage verify`` of a gate at work: what is under way is no difference, and what is amiss is named."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

import outgate as package
from gate.test_restart import written
from outgate.cli import verifying
from outgate.cli.main import main
from outgate.gate.restart import records
from support import peers
from support.commands import Served, environment, serving

if TYPE_CHECKING:
    from outgate.testing.running import RunningGate

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]

CONFIG = """
version = 1
[gate]
log = "decisions.jsonl"
[ledger]
url = "ledger.sqlite"
gate = "here"
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
except = ["127.0.0.1"]
"""
#: Moves bytes over connections that it keeps, and from a word on over others that it opens and closes, until the next.
BUSY = """
import socket, sys, threading
peer = ("127.0.0.1", int(sys.argv[1]))
def move(sock, count):
    sock.sendall(bytes(count))
    assert len(sock.recv(count, socket.MSG_WAITALL)) == count
kept = [socket.create_connection(peer) for _ in range(3)]
ending = threading.Event()
def pass_by():
    while not ending.is_set():
        with socket.create_connection(peer) as sock:
            move(sock, 10)
        for sock in kept:
            move(sock, 100)
thread = threading.Thread(target=pass_by)
for word in ("ready", "busy"):
    for sock in kept:
        move(sock, 1000)
    if word == "busy":
        thread.start()
    print(word, flush=True)
    sys.stdin.readline()
ending.set()
thread.join()
"""


def verify(capsys: Capture, *words: str) -> dict[str, Any]:
    """Return what the command finds."""
    capsys.readouterr()
    status = main(["usage", "verify", *words, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert status == (0 if found["ok"] else 1)
    return found


class Program:
    """The busy program."""

    def __init__(self, gate: Served, port: int) -> None:
        autoload = Path(package.__file__).parent / "client" / "autoload"
        env = environment(OUTGATE_SOCKET=gate.socket, PYTHONPATH=str(autoload))
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", BUSY, str(port)]
        self._process = subprocess.Popen(command, env=env, text=True, stdin=pipe, stdout=pipe, stderr=pipe)

    def tell(self, word: str) -> None:
        """Let it go on."""
        print(word, file=self._process.stdin, flush=True)

    def hear(self, word: str) -> None:
        """Wait until it says this."""
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        assert said == word, self._process.communicate()[1]

    def __enter__(self) -> Program:
        self.hear("ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration."""
    (tmp_path / "outgate.toml").write_text(CONFIG.format(uid=os.getuid()))
    return tmp_path


def test_what_is_under_way_is_no_difference(folder: Path, capsys: Capture) -> None:
    """Ledger, log and counts agree while connections come and go, a moment after the gate was killed with some open.

    The gate that comes after books what the one before had noted and not booked, and begins to count at 0.
    """
    options = ("--config", str(folder / "outgate.toml"))
    three = [
        "the ledger, with itself",
        f"the counts of the gate at {folder / 'gate.sock'}",
        f"the decision log {folder / 'decisions.jsonl'}",
    ]
    with peers.echo() as peer, contextlib.ExitStack() as gates:
        first = gates.enter_context(serving(folder, *options))
        program = gates.enter_context(Program(first, peer.port))
        written(cast("RunningGate", SimpleNamespace(folder=folder)), records.Read, count=3)
        first.stop(signal.SIGKILL)
        after = gates.enter_context(serving(folder, *options))
        program.tell("go on")
        program.hear("busy")
        found = verify(capsys, "--socket", after.socket)
        assert (found["differences"], found["notes"], found["checked"]) == ([], [], three)
        program.tell("end")
        after.wait_for_counts("blog", open=0)
        assert after.stop()[0] == 0
    found = verify(capsys, *options)
    assert (found["differences"], found["checked"]) == ([], [three[0], three[2]])


def alter(folder: Path, more: int) -> bool:
    """Change what was sent in a way that sums cannot tell; return whether there was something to change."""
    with contextlib.closing(sqlite3.connect(folder / "ledger.sqlite", timeout=20)) as ledger, ledger:
        first = "(SELECT start FROM drafts LIMIT 1)"
        changed = ledger.execute(f"UPDATE drafts SET sent = sent + ? WHERE start = {first}", (more,)).rowcount
        ledger.execute("UPDATE runs SET sent = sent + ?", (more * changed,))
        return changed == 1


def test_what_is_amiss_is_named(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What vanishes from a ledger, or comes into it, so that it agrees with itself, differs from the gate's counts."""
    options = ("--config", str(folder / "outgate.toml"))
    with peers.echo() as peer, serving(folder, *options) as gate, Program(gate, peer.port):
        deadline = time.monotonic() + 20
        while not alter(folder, 0):  # nothing is booked yet
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert verify(capsys, "--socket", gate.socket)["ok"]
        monkeypatch.setattr(verifying, "_PATIENCE", 0.0)
        for more, differs in ((-5, -5), (5 + 7, 7)):
            assert alter(folder, more)
            first, *_ = verify(capsys, "--socket", gate.socket)["differences"]
            counted, booked = (int(text.replace(",", "")) for text in re.findall("[0-9,]*[0-9]", first))
            assert first.startswith("the gate has counted ")
            assert booked == counted + differs
