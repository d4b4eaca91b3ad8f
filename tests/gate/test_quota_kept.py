"""What was used outlives the gate: a stop, a crash, another gate in its place, a disk that fails; and is told of."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from outgate.cli import quota as command
from outgate.core.quota.account import Kept
from outgate.errors import ConfigError
from outgate.gate.decisionlog.log import DecisionLog
from outgate.gate.quota.store import NAME, Store
from outgate.lookout import ask
from outgate.testing.running import LogLines, RunningGate
from support import peers
from support.clocked import Clocked, refused
from support.commands import serving
from support.driven import Driven
from support.upgrades import Program

pytestmark = pytest.mark.slow

CONFIG = f"""
version = 1
[apps.blog]
uid = [{os.getuid()}]
billing = true
trusted = true
except = ["127.0.0.1"]
[apps.blog.quotas]
connect = {{ day = 5, minute = "unlimited" }}
bytes_sent = {{ day = "1 GB" }}
"""


@pytest.fixture
def peer() -> Iterator[peers.Peer]:
    """A peer that takes everything."""
    with peers.sink() as found:
        yield found


def used(gate: RunningGate, quota: str = "connect.day") -> int:
    """Return how much of a quota of the only app is used, as ``outgate quota`` says."""
    rows = ask.request(gate.socket, {"op": "quota"})["answer"]["apps"]["blog"]
    return {row["quota"]: row["used"] for row in rows}[quota]


def opens(gate: RunningGate, port: int, count: int) -> None:
    """Have a program connect so often, send a kilobyte each time, and end."""
    with Driven(gate) as program:
        for _ in range(count):
            program.do(f"s = socket.create_connection(('127.0.0.1', {port})); s.sendall(bytes(1000)); s.close()")
    for number in range(1, count + 1):
        gate.wait_for(event="end", count=number)


def test_a_stop_keeps_the_very_count(peer: peers.Peer) -> None:
    """After a gate was told to stop the next goes on where it was."""
    with RunningGate(config=CONFIG) as gate:
        opens(gate, peer.port, 3)
        gate.restart()
        assert (used(gate), used(gate, "bytes_sent.day")) == (3, 3000)
        opens(gate, peer.port, 2)
        with Driven(gate) as program:
            assert refused(program, f"socket.create_connection(('127.0.0.1', {peer.port}))").quota == "connect.day"
        assert gate.faults == []


def test_a_crash_counts_at_least_what_was_used(peer: peers.Peer) -> None:
    """After a SIGKILL the next gate has what was stored, which was ahead of what was used, up to the limit."""
    with RunningGate(config=CONFIG) as gate:
        opens(gate, peer.port, 2)
        path = Path(gate.folder, "state", NAME)
        stored = 0
        while stored < 2:
            with sqlite3.connect(path) as db:
                rows = db.execute("SELECT used FROM windows WHERE resource = 'connect'").fetchall()
            db.close()
            stored = rows[0][0] if rows else 0
        gate.kill()
        gate.start()
        assert 2 <= used(gate) <= 5
        assert used(gate) == stored
        assert used(gate, "bytes_sent.day") >= 2000


def test_a_reload_counts_at_once(peer: peers.Peer) -> None:
    """A quota that is raised in the file and reloaded lets the next connect through; a lowered one refuses it."""
    with RunningGate(config=CONFIG) as gate, Driven(gate) as program:
        open_one = f"s = socket.create_connection(('127.0.0.1', {peer.port}))"
        for _ in range(5):
            program.do(open_one)
        assert refused(program, open_one).quota == "connect.day"
        assert gate.reload(CONFIG.replace("day = 5", "day = 6"))["ok"]
        program.do(open_one)
        refused(program, open_one)
        assert gate.reload(CONFIG.replace("day = 5", "day = 60"))["ok"]
        program.do(open_one)
        assert gate.reload(CONFIG.replace("day = 5", "day = 1"))["ok"]
        refused(program, open_one)
        assert used(gate) == 7


def test_a_gate_of_run_keeps_nothing(tmp_path: Path, peer: peers.Peer) -> None:
    """A gate without a folder for state counts in memory alone."""
    with Clocked(connect_day=5) as gate, Driven(gate) as program:
        program.do(f"s = socket.create_connection(('127.0.0.1', {peer.port}))")
        assert gate.call(gate.gate.quotas.save)
        assert gate.used("connect.day") == 1
    with Clocked(connect_day=5) as gate:
        assert gate.used("connect.day") == 0
    with Clocked(state=str(tmp_path), connect_day=5) as gate, Driven(gate) as program:
        program.do(f"s = socket.create_connection(('127.0.0.1', {peer.port}))")
    with Clocked(state=str(tmp_path), connect_day=5) as gate:
        assert gate.used("connect.day") == 1


# --- the file ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def log() -> Iterator[tuple[DecisionLog, LogLines]]:
    """A log and its lines."""
    read, write = os.pipe()
    lines, made = LogLines(read), DecisionLog(write)
    os.close(write)
    yield made, lines
    made.close()
    lines.join()


def row(used: int, start: int = 0) -> Kept:
    """Return a window."""
    return Kept("connect", "minute", start, start + 60, used, 0, start + 1)


def test_a_locked_file_loses_nothing(tmp_path: Path, log: tuple[DecisionLog, LogLines]) -> None:
    """While somebody holds the file quotas go on from memory; when it is free the newest of each window is written."""
    store = Store(str(tmp_path), log[0])
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.put([("a", row(1)), ("a", row(5, 60))])
    assert "quotas go on from memory" in log[1].wait_for(event="quota-store-failed")["reason"]
    store.put([("a", row(2))])
    other.execute("ROLLBACK")
    other.close()
    store.put([])
    assert store.flush()
    log[1].wait_for(event="quota-store-back")
    assert store.load() == {"a": [row(2), row(5, 60)]}
    store.stop()


def test_old_windows_are_removed(tmp_path: Path, log: tuple[DecisionLog, LogLines]) -> None:
    """The file keeps as many windows of a quota as the gate remembers, and loses none of another's."""
    store = Store(str(tmp_path), log[0])
    store.put([("a", row(number, number * 60)) for number in range(1, 401)] + [("b", row(7))])
    assert store.flush()
    kept = store.load()
    assert [each.used for each in kept["a"]] == list(range(221, 401))
    assert kept["b"] == [row(7)]
    store.stop()


def test_the_file_of_a_newer_gate(tmp_path: Path, log: tuple[DecisionLog, LogLines]) -> None:
    """It is refused with the key to change, and left as it is."""
    path = tmp_path / NAME
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"gate\.state: .*of version 99"):
        Store(str(tmp_path), log[0])
    assert path.read_bytes() == before


@pytest.mark.parametrize("how", ["no database", "a torn page"])
def test_a_file_that_cannot_be_read(tmp_path: Path, log: tuple[DecisionLog, LogLines], how: str) -> None:
    """It is set aside as it is, which the log says, and a new one is begun: a gate starts all the same."""
    path = tmp_path / NAME
    if how == "no database":
        path.write_bytes(b"no database, but long enough to be looked at" * 100)
    else:
        store = Store(str(tmp_path), log[0])
        store.put(("a", Kept("connect", "minute", number * 60, number * 60 + 60, 1, 0, 0)) for number in range(500))
        store.stop()
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(bytes(4096))
    before = path.read_bytes()
    store = Store(str(tmp_path), log[0])
    assert log[1].wait_for(event="quota-store-refused")["reason"].endswith("and quotas begin anew")
    assert (tmp_path / f"{NAME}.unreadable").read_bytes() == before
    assert store.load() == {}
    store.put([("a", row(3))])
    store.stop()
    store = Store(str(tmp_path), log[0])
    assert store.load() == {"a": [row(3)]}
    store.stop()


def test_a_folder_that_cannot_be_made(tmp_path: Path, log: tuple[DecisionLog, LogLines]) -> None:
    """A folder below a file is refused with the key to change."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"gate\.state: .* cannot be used: .*; name a folder this gate may write"):
        Store(str(tmp_path / "file" / "state"), log[0])


# --- who is told ------------------------------------------------------------------------------------------------------


def test_the_operators_command_is_told(tmp_path: Path, peer: peers.Peer) -> None:
    """The command gets one JSON object for each warning; one that fails is named in the log and holds nobody."""
    told = tmp_path / "told"
    text = CONFIG.replace(
        "version = 1", f'version = 1\n[gate]\nwarn_command = ["/bin/sh", "-c", "cat >> {told}; echo >> {told}; exit 3"]'
    )
    with RunningGate(config=text) as gate:
        opens(gate, peer.port, 4)
        line = gate.wait_for(event="quota-warning", app="blog", quota="connect.day")
        assert (line["used"], line["limit"], line["share"]) == (4, 5, 0.8)
        failed = gate.wait_for(event="warn-command-failed")
        assert (failed["command"], failed["reason"]) == ("/bin/sh", "exit status 3")
        said = json.loads(told.read_text())
        assert (said["event"], said["app"], said["quota"], said["used"]) == ("quota-warning", "blog", "connect.day", 4)
        assert gate.reload(text.replace("/bin/sh", "/no/such/command"))["ok"]
        opens(gate, peer.port, 1)
        assert "No such file" in gate.wait_for(event="warn-command-failed", command="/no/such/command")["reason"]


# --- the command line -------------------------------------------------------------------------------------------------


def test_outgate_quota_shows_them(peer: peers.Peer, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has a line for each quota with use, share and reset; --json has the numbers."""
    with RunningGate(config=CONFIG) as gate:
        opens(gate, peer.port, 4)
        assert command.main(["--socket", gate.socket]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert lines[0][:4] == ["app", "quota", "used", "limit"]
        assert lines[1][:6] == ["blog", "connect.day", "4", "5", "80", "%"]
        assert [line[1] for line in lines[1:]] == ["connect.day", "bytes_sent.day", "open_sockets"]
        assert command.main(["--socket", gate.socket, "--json", "--app", "blog"]) == 0
        answer = json.loads(capsys.readouterr().out)
        (day, sent, gauge) = answer["quotas"]
        assert (day["used"], day["limit"], day["share"], day["over"], day["per"]) == (4, 5, 0.8, "cut", "day")
        assert day["end"] - day["start"] == 86400
        assert sent["use"] == "4 kB of 1 GB"
        assert (gauge["used"], gauge["per"]) == (0, None)
        assert command.main(["--socket", gate.socket, "--json", "--app", "other"]) == 0
        assert json.loads(capsys.readouterr().out)["quotas"] == []
        gate.signal(signal.SIGTERM)
    assert command.main(["--socket", gate.socket]) == 1
    assert "no gate answers" in capsys.readouterr().err


def test_many_apps_come_in_pages() -> None:
    """Of more apps than fit a packet every one is shown, once."""
    limits = "\n".join(f"{name} = {{ day = 1, minute = 1 }}" for name in ("create", "connect", "bind", "look_ups"))
    apps = "".join(
        f"[apps.app{number:03}]\nsocket = 'app{number}.sock'\nbilling = true\n"
        "[apps.app%03d.quotas]\n%s\n" % (number, limits)
        for number in range(60)
    )
    with RunningGate(config="version = 1\n" + apps) as gate:
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            answer = ask.request(gate.socket, {"op": "quota", "after": after})["answer"]
            seen += answer["apps"]
            after = answer["next"]
        assert seen == [f"app{number:03}" for number in range(60)]


def test_the_day_of_the_configured_zone() -> None:
    """A day's window is that of gate.zone, at once after a reload; what was used stays used."""
    text = CONFIG.replace("version = 1", 'version = 1\n[gate]\nzone = "Asia/Kathmandu"')
    with RunningGate(config=text) as gate, peers.sink() as peer:
        opens(gate, peer.port, 2)
        row = ask.request(gate.socket, {"op": "quota"})["answer"]["apps"]["blog"][0]
        assert row["start"] % 86400 == 86400 - (5 * 3600 + 45 * 60), "it begins at 18:15 UTC"
        assert gate.reload(CONFIG)["ok"]
        row = ask.request(gate.socket, {"op": "quota"})["answer"]["apps"]["blog"][0]
        assert (row["start"] % 86400, row["used"]) == (0, 2)


def test_another_gate_takes_the_counts_over(tmp_path: Path) -> None:
    """The gate that takes over goes on at the very count; a connect is not charged again, nor is a byte."""
    config = tmp_path / "outgate.toml"
    config.write_text(CONFIG.replace('day = "1 GB"', 'minute = "100 MB", day = "1 GB"'))
    config.chmod(0o600)
    options = ("--config", str(config))
    code = """
import socket, sys
socks = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(3)]
for sock in socks:
    sock.sendall(bytes(1000))
print(1, flush=True)
for word in sys.stdin:
    socks[0].sendall(bytes(1000))
    print(1, flush=True)
"""
    with peers.sink() as peer, serving(tmp_path, *options) as first:
        program = Program(first, peer.port, code=code)
        program.said()
        with serving(tmp_path, *options, "--takeover") as second:
            assert first.process.wait(20) == 0
            program.ask()
            program.process.communicate()
            while len([line for line in second.log() if line["event"] == "end"]) < 3:
                time.sleep(0.005)  # a file tells of no change of its own
            rows = ask.request(second.socket, {"op": "quota"})["answer"]["apps"]["blog"]
            found = {row["quota"]: row["used"] for row in rows}
            assert (found["connect.day"], found["bytes_sent.day"]) == (3, 4000)
