"""Where the log goes and how fast: files that the gate rotates, journald, and programs that would fill or forge it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.errors import ConfigError
from outgate.gate.configuration import config, outputs
from outgate.gate.configuration.places import Place
from outgate.gate.decisionlog import journal, lines
from outgate.gate.decisionlog import log as log_module
from outgate.gate.decisionlog.journal import Journal, entry
from outgate.gate.decisionlog.log import DecisionLog
from outgate.testing.running import RunningGate
from support import peers
from support.raw import RawChannel

pytestmark = pytest.mark.slow

#: What a program may call itself, or a host.
HOSTILE = [
    'x\n{"v":1,"event":"decision","verdict":"allow"}',
    "a\x1b[2J\x07",
    '"}\r\n{"',
    "\u2028\u2029\u202e",
    "\x00\\n",
]


def logged(*paths: Path) -> list[dict[str, Any]]:
    """Return the decoded lines of files, each of which must be whole."""
    found = []
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert text.endswith("\n") or not text
        found += [json.loads(each) for each in text.split("\n")[:-1]]
    return found


@contextlib.contextmanager
def opened(path: Path, **keys: Any) -> Iterator[DecisionLog]:
    """Give a log, and close it at the end; each write of it is a chunk of its own file."""
    log = DecisionLog(str(path))
    log.configure(**keys)
    yield log
    log.close()


# --- rotation ---------------------------------------------------------------------------------------------------------


def test_rotation_by_size(tmp_path: Path) -> None:
    """No file is larger than the limit, the latest ones stay under their numbers, and no line is lost between them."""
    path = tmp_path / "log"
    with opened(path, rotate=500, keep=3) as log:
        for number in range(40):
            log.event("tick", number=number, text="x" * 60)
            assert log.flush()
    files = [path, *(tmp_path / f"log.{number}" for number in (1, 2, 3))]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(each.stat().st_size <= 500 for each in files)
    numbers = [each["number"] for each in logged(*reversed(files))]
    assert numbers == list(range(numbers[0], 40))
    assert len(numbers) >= 8


def test_fewer_files_are_kept_after_a_reload(tmp_path: Path) -> None:
    """A smaller log_keep removes what is beyond it at the next rotation."""
    path = tmp_path / "log"
    with opened(path, rotate=200, keep=5) as log:
        for number in range(20):
            log.event("tick", number=number, text="x" * 60)
            assert log.flush()
        assert len(list(tmp_path.iterdir())) == 6
        log.configure(rotate=200, keep=2)
        for number in range(3):
            log.event("tick", number=number, text="x" * 60)
            assert log.flush()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "log.1", "log.2"]


def test_what_logrotate_has_renamed_is_not_rotated(tmp_path: Path) -> None:
    """Between logrotate's rename and its signal the old file grows on, and what has the name is left alone."""
    path = tmp_path / "log"
    with opened(path, rotate=300, keep=3) as log:
        log.event("before")
        assert log.flush()
        path.rename(tmp_path / "log.old")
        for touched in (False, True):
            if touched:
                path.touch()  # logrotate's create
            for _ in range(10):
                log.event("between", text="x" * 60)
                assert log.flush()
        assert path.read_text() == ""
        log.reopen()
        log.event("after")
        assert log.flush()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "log.old"]
    assert [each["event"] for each in logged(tmp_path / "log.old", path)] == ["before", *["between"] * 20, "after"]


def test_copytruncate(tmp_path: Path) -> None:
    """A file that is cut off in place is written from its beginning again, and is rotated by its new size."""
    path = tmp_path / "log"
    with opened(path, rotate=400, keep=3) as log:
        for _ in range(3):
            log.event("tick", text="x" * 60)
            assert log.flush()
            os.truncate(path, 0)
        log.event("last")
        assert log.flush()
    assert [each["event"] for each in logged(path)] == ["last"]
    assert not (tmp_path / "log.1").exists()


def test_a_rotation_that_fails_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files cannot be renamed the log grows on in its file, and says why, once; later it rotates after all."""
    monkeypatch.setattr(log_module, "ROTATE_AGAIN", 1e-9)
    path = tmp_path / "log"
    (tmp_path / "log.1").mkdir()
    (tmp_path / "log.1" / "in the way").touch()
    with opened(path, rotate=200, keep=1) as log:
        for number in range(10):
            log.event("tick", number=number, text="x" * 60)
            assert log.flush()
        found = logged(path)
        assert [each["number"] for each in found if each["event"] == "tick"] == list(range(10))
        assert len([each for each in found if each["event"] == "log-rotate"]) == 1
        (tmp_path / "log.1" / "in the way").unlink()
        (tmp_path / "log.1").rmdir()
        log.event("tick", number=10)
        assert log.flush()
    assert [each["number"] for each in logged(path)] == [10]


def test_a_failed_new_file_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the new file cannot be made, the old one has its name again and is written on."""
    path = tmp_path / "log"
    with opened(path, rotate=200, keep=2) as log:
        log.event("tick", text="x" * 100)
        assert log.flush()

        def fails(_: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(log._target, "_open", fails)
        log.event("tick", text="x" * 100)
        assert log.flush()
        assert log.flush()
        assert [each["event"] for each in logged(path)] == ["tick", "tick", "log-rotate"]
    assert not (tmp_path / "log.1").exists()


@pytest.mark.parametrize(
    ("key", "text"),
    [("log_rotate", '"many"'), ("log_rotate", '"10 KB"'), ("log_keep", "0"), ("log_keep", "1000"), ("log_rate", "-1"),
     ("log_rate", "2000000"), ("on_reload", '"kill"')],
)  # fmt: skip
def test_wrong_keys(key: str, text: str, tmp_path: Path) -> None:
    """A value that makes no sense is refused with its place."""
    path = tmp_path / "outgate.toml"
    path.write_text(f"version = 1\n[gate]\n{key} = {text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"gate.{key}: "):
        config.load(str(path))


def test_right_keys(tmp_path: Path) -> None:
    """Sizes are read with their units, journald is no path, and a reload reaches size, number and rate."""
    assert outputs.size(outputs.rotate(Place("f"), "100 MB")) == 100_000_000
    assert outputs.size(outputs.rotate(Place("f"), "64 KiB")) == 65536
    assert outputs.size("") == outputs.size("unlimited") == 0
    path = tmp_path / "outgate.toml"
    path.write_text('version = 1\n[gate]\nlog = "journald"\n', encoding="utf-8")
    before = config.load(str(path))
    assert before.gate.log == "journald"
    path.write_text('version = 1\n[gate]\nlog = "journald"\nlog_rate = 7\nlog_rotate = "1 MB"\n', encoding="utf-8")
    after = config.reload(before)
    assert (after.gate.log_rate, after.gate.log_rotate) == (7, "1 MB")


# --- rate -------------------------------------------------------------------------------------------------------------


def test_a_flood_is_folded(tmp_path: Path) -> None:
    """Beyond the rate lines are counted by kind, another app's are written all the same, and the end tells the rest."""
    path = tmp_path / "log"
    with opened(path, rate=3) as log:
        admitted = [log.admits("loud", "denied") for _ in range(100)]
        assert admitted[:30] == [True] * 30
        assert log.admits("quiet", "ended")
        folded = log.folded
        assert folded == 100 - sum(admitted)
    told = [each for each in logged(path) if each["event"] == "log-folded"]
    assert {each["app"] for each in told} == {"loud"}
    assert sum(each["denied"] for each in told) == folded
    assert all(lines.problems(each) == [] for each in told)


def test_what_programs_bring_about_is_folded_and_what_operators_do_is_not(tmp_path: Path) -> None:
    """Events that a program can cause as often as it likes are folded; the gate's own words never are."""
    path = tmp_path / "log"
    with opened(path, rate=1) as log:
        for number in range(50):
            log.event("channel-ended", app="loud", reason="x")
            log.event("reload", policy=number)
    events = [each["event"] for each in logged(path)]
    assert events.count("reload") == 50
    assert 10 <= events.count("channel-ended") <= 12
    (told,) = [each for each in logged(path) if each["event"] == "log-folded"][-1:]
    assert told["others"] >= 38


def test_the_thread_tells_without_another_line(tmp_path: Path) -> None:
    """When a flood has stopped, what was folded is told a second later, though nothing else is logged."""
    read, write = os.pipe()
    log = DecisionLog(write)
    os.close(write)
    log.configure(rate=1)
    for _ in range(20):
        log.admits("loud", "denied")
    with open(read, encoding="utf-8") as pipe:
        line = json.loads(pipe.readline())
    assert (line["event"], line["app"], line["denied"]) == ("log-folded", "loud", 10)
    log.close()


def test_a_hostile_program_does_not_drive_the_log() -> None:
    """A program that asks for what is denied in a loop gets each refusal; all are counted, and told of."""
    text = f"version = 1\n[gate]\nlog_rate = 10\n[apps.blog]\nuid = [{os.getuid()}]\nbilling = true\ntrusted = true\n"
    with RunningGate(config=text) as gate, RawChannel(gate.socket) as channel:
        ((id, sock),) = channel.new()
        with sock:
            for _ in range(500):
                assert channel.connect(id, ("10.0.0.5", 22))["error"]["code"] == "policy-denied"
        assert gate.app("blog")["denied"] == 500
        gate.wait_for(event="log-folded")
        gate.stop()
        written = len(gate.log.all(event="decision"))
        folded = sum(each["denied"] for each in gate.log.all(event="log-folded"))
        assert written + folded == 500
        assert written < 400
        gate.start()


def test_ends_are_folded_and_counted() -> None:
    """The bytes of connections whose ends are folded are counted all the same."""
    head = "version = 1\n[gate]\nlog_rate = 1\n[apps.blog]\nbilling = true\ntrusted = true\n"
    text = f'{head}uid = [{os.getuid()}]\nexcept = ["127.0.0.1"]\n'
    with peers.echo() as peer, RunningGate(config=text) as gate, RawChannel(gate.socket) as channel:
        for _ in range(30):
            ((id, sock),) = channel.new()
            with sock:
                assert "lease" in channel.connect(id, peer.address)
                sock.connect(peer.address)
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
            channel.ask("close", sock=id)
        counts = gate.wait_for_counts("blog", ended=30)
        assert (counts["sent"], counts["received"]) == (30, 30)
        gate.stop()
        told = gate.log.all(event="log-folded")
        ends = len(gate.log.all(event="end")) + sum(each.get("ended", 0) for each in told)
        decisions = len(gate.log.all(event="decision")) + sum(each.get("allowed", 0) for each in told)
        assert (ends, decisions) == (30, 30)
        gate.start()


# --- lines cannot be forged -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_forges_no_line(name: str) -> None:
    """Whatever a program calls itself or a host, its decision is one line of printable text."""
    text = f"version = 1\n[apps.blog]\nuid = [{os.getuid()}]\nbilling = true\ntrusted = true\n"
    with RunningGate(config=text) as gate, RawChannel(gate.socket) as channel:
        channel.hello = {**(channel.hello or {}), "program": name}
        ((id, sock),) = channel.new()
        with sock:
            channel.connect(id, ("10.0.0.5", 22))
            channel.connect(id, (name, 22))
        line = gate.wait_for(event="decision")
        assert line["verdict"] == "deny"
        assert line["program"].isprintable()
        assert gate.log.all(verdict="allow") == []
        assert gate.faults == []


TEXTS = st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(HOSTILE)


@given(TEXTS, TEXTS)
def test_no_text_forges_a_line_or_a_field_of_the_journal(host: str, program: str) -> None:
    """A line is one line, and its entry has just the fields of the line, whatever stands in it."""
    packed = lines.encode(lines.event("odd", 0.0, {"host": host, "program": program, "reason": program})) + b"\n"
    assert packed.count(b"\n") == 1
    assert json.loads(packed)["event"] == "odd"
    fields = dict(decoded(entry(packed)))
    assert set(fields) <= {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "OUTGATE_LINE", *(f"OUTGATE_{n}" for n in
        ("V", "TIME", "EVENT", "HOST", "PROGRAM", "REASON"))}  # fmt: skip
    assert fields["OUTGATE_EVENT"] == "odd"


# --- journald ---------------------------------------------------------------------------------------------------------


def decoded(data: bytes) -> list[tuple[str, str]]:
    """Return the fields of an entry, read as systemd's protocol says."""
    found = []
    while data:
        head, _, rest = data.partition(b"\n")
        name, equals, value = head.partition(b"=")
        if equals:
            found.append((name.decode(), value.decode()))
            data = rest
        else:
            size = int.from_bytes(rest[:8], "little")
            found.append((name.decode(), rest[8 : 8 + size].decode()))
            assert rest[8 + size : 9 + size] == b"\n"
            data = rest[9 + size :]
    return found


class Journald:
    """What receives entries, as journald does: datagrams, or sealed memfds beside empty ones."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.sock.settimeout(20.0)

    def __enter__(self) -> Journald:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def entry(self) -> dict[str, str]:
        """Return the next entry."""
        data, ancillary, _, _ = self.sock.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        for _, _, rights in ancillary:
            fd = int.from_bytes(rights[:4], sys.byteorder)
            assert data == b""
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
            # What systemd asks of a memfd: nobody may change it any more (server_process_native_file()).
            assert seals & (fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE) == 0b1110
            with open(fd, "rb") as file:
                file.seek(0)
                data = file.read()
        return dict(decoded(data))


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journald]:
    """A journald of the test's own, where logs go that are to go there."""
    path = tmp_path / "journal.sock"
    monkeypatch.setattr(journal, "SOCKET", str(path))
    with Journald(path) as made:
        yield made


def test_an_entry_has_a_sentence_and_the_fields(journald: Journald) -> None:
    """Each line is an entry: a sentence, a priority, the fields of the line and the line itself."""
    log = DecisionLog("journald")
    log.event(
        "decision", app="blog", host="db.corp", port=5432, transport="tcp", verdict="deny", reason="denied: private"
    )
    found = journald.entry()
    assert found["MESSAGE"] == "denied: private"
    assert (found["PRIORITY"], found["SYSLOG_IDENTIFIER"]) == ("5", "outgate")
    assert (found["OUTGATE_APP"], found["OUTGATE_PORT"], found["OUTGATE_VERDICT"]) == ("blog", "5432", "deny")
    assert json.loads(found["OUTGATE_LINE"])["host"] == "db.corp"
    log.event("reload", policy=2, judged=1, cut=0, reported=0)
    found = journald.entry()
    assert (found["MESSAGE"], found["PRIORITY"]) == ("reload: policy 2, judged 1, cut 0, reported 0", "6")
    log.event("fault", reason="x")
    assert journald.entry()["PRIORITY"] == "3"
    assert log.close() == 0


def test_a_large_entry_goes_by_a_file(journald: Journald) -> None:
    """An entry that no datagram carries comes whole, in a memfd that nobody can change any more."""
    target = Journal()
    target._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    line = lines.encode({"v": 1, "event": "big", "text": "x" * 200_000}) + b"\n"
    assert target.write([line]) == 0
    assert journald.entry()["OUTGATE_TEXT"] == "x" * 200_000
    target.close()


def test_a_value_with_a_line_end_goes_by_its_length() -> None:
    """A line end in a value opens no field, though no line of ours has one."""
    packed = lines.encode({"v": 1, "event": "odd", "host": "x\nOUTGATE_APP=forged"}) + b"\n"
    fields = decoded(entry(packed))
    assert ("OUTGATE_HOST", "x\nOUTGATE_APP=forged") in fields
    assert "OUTGATE_APP" not in dict(fields)


def test_journald_may_be_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While journald is away lines are lost and counted; when it is back the count is told and entries come again."""
    path = tmp_path / "journal.sock"
    monkeypatch.setattr(journal, "SOCKET", str(path))
    monkeypatch.setattr(log_module, "RETRY", 0.01)
    with Journald(path) as first:
        log = DecisionLog("journald")
        log.event("one")
        assert first.entry()["OUTGATE_EVENT"] == "one"
    path.unlink()
    for _ in range(3):
        log.event("lost")
    log.flush()
    assert log.dropped == 3
    with Journald(path) as second:
        found = second.entry()
        assert (found["OUTGATE_EVENT"], found["OUTGATE_COUNT"]) == ("log-dropped", "3")
        log.event("two")
        assert second.entry()["OUTGATE_EVENT"] == "two"
        assert log.close() == 0


def test_without_journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no journald listens the gate does not start, and says what to write instead."""
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"gate\.log: journald cannot be opened: No such file"):
        DecisionLog("journald")


def test_the_journal_of_a_real_gate(tmp_path: Path) -> None:
    """A gate with log = "journald" sends its start, a refusal and its stop there."""
    path, gate_socket = tmp_path / "journal.sock", tmp_path / "gate.sock"
    text = f'version = 1\n[gate]\nlog = "journald"\nsocket = "{gate_socket}"\nstate = "{tmp_path}/state"\n'
    text += f"[apps.blog]\nuid = [{os.getuid()}]\nbilling = true\ntrusted = true\n"
    (tmp_path / "outgate.toml").write_text(text, encoding="utf-8")
    code = (
        "import sys\nfrom outgate.gate.decisionlog import journal\njournal.SOCKET = sys.argv[1]\n"
        "from outgate.cli.main import main\nsys.exit(main(['serve', '--config', sys.argv[2]]))"
    )
    with Journald(path) as received:
        arguments = [sys.executable, "-c", code, str(path), str(tmp_path / "outgate.toml")]
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
        try:
            while received.entry()["OUTGATE_EVENT"] != "start":
                pass
            with RawChannel(str(gate_socket)) as channel:
                ((id, sock),) = channel.new()
                with sock:
                    channel.connect(id, ("10.0.0.5", 22))
            found = received.entry()
            assert (found["OUTGATE_EVENT"], found["OUTGATE_VERDICT"], found["PRIORITY"]) == ("decision", "deny", "5")
            assert "10.0.0.5" in found["MESSAGE"]
        finally:
            process.send_signal(signal.SIGTERM)
            _, complained = process.communicate(timeout=20)
        assert process.returncode == 0, complained
        while received.entry()["OUTGATE_EVENT"] != "stop":
            pass
