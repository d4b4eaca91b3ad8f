"""The decision log: what a line says, and that nothing a disk does reaches the caller."""

import errno
import json
import os
import re
import stat
import threading
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.errors import ConfigError
from outgate.gate.decisionlog import lines as forms
from outgate.gate.decisionlog import log as module
from outgate.gate.decisionlog.lines import FIELDS, VERSION, clean, problems
from outgate.gate.decisionlog.log import DecisionLog

DECISION = {
    "lease": "a1",
    "app": "web",
    "pid": 7,
    "uid": 1000,
    "program": "agent.py",
    "host": "db.corp",
    "port": 5432,
    "name": "db.corp",
    "transport": "tcp",
    "address": "10.0.0.5",
    "class": "private",
    "verdict": "deny",
    "rule": "non-public",
    "reason": "db.corp is 10.0.0.5 (private)",
    "policy": 3,
    "path": "direct",
}
END = {"connected": True, "connect_ms": 1.25, "sent": 5, "received": 2**40, "duration": 0.5, "how": "closed"}
END |= {"datagrams_sent": 1, "datagrams_received": 2, "dropped": 3, "strangers": 4}


@pytest.fixture
def path(tmp_path):
    """Where the log of a test goes: a folder that is not there yet."""
    return str(tmp_path / "made" / "decisions.jsonl")


@pytest.fixture
def log(path):
    """A decision log on a file, closed at the end."""
    made = DecisionLog(path)
    yield made
    made.close()


def line(event, fields):
    """Return a line of a frequent form, made as the gate makes it: of encoded parts."""
    alike, outcome = (
        forms.encode(form(**{name: fields.get(name) for name in form.__struct_encode_fields__}))
        for form in (forms.Alike, forms.Outcome)
    )
    return forms.joined(0.0, event, fields.get("lease", ""), alike, outcome)


def lines(path):
    """Return the decoded lines of a file, each of which must be whole."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def disk(monkeypatch):
    """A disk that can be made slow or full: ``room`` bytes are left on it, ``gate`` lets writes pass."""

    class Disk:
        room = None

        def __init__(self):
            self.gate = threading.Event()
            self.gate.set()
            self.reached = threading.Event()
            self.write = os.write

        def __call__(self, fd, data):
            self.reached.set()
            self.gate.wait()
            if self.room is None:
                return self.write(fd, data)
            if self.room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            done = self.write(fd, data[: self.room])
            self.room -= done
            return done

    made = Disk()
    monkeypatch.setattr("outgate.gate.decisionlog.logfile.os.write", made)
    yield made
    made.gate.set()


def test_a_decision_and_its_end_are_two_lines_of_the_table(log, path):
    """Every field arrives as given, under the names, types and order of the table."""
    log.write(line(b"decision", DECISION))
    log.write(line(b"end", {**DECISION, **END}))
    assert log.flush()
    decision, end = lines(path)
    assert problems(decision) == problems(end) == []
    assert (decision["event"], end["event"], decision["v"]) == ("decision", "end", VERSION)
    assert {name: decision[name] for name in DECISION} == DECISION
    assert {name: end[name] for name in END} == END
    assert list(end) == [name for name in FIELDS if name in end], "the order of the table"


def test_time_is_rfc_3339_in_utc_with_milliseconds(log, path, monkeypatch):
    """A moment is written in UTC, rounded to milliseconds, whole seconds included."""
    for moment in (0.0, 1763800000.12345, 1763800000.9999):
        monkeypatch.setattr(module.time, "time", lambda moment=moment: moment)
        log.event("tick")
    monkeypatch.undo()
    log.flush()
    assert [line["time"] for line in lines(path)] == [
        "1970-01-01T00:00:00.000Z",
        "2025-11-22T08:26:40.123Z",
        "2025-11-22T08:26:41.000Z",
    ]


def test_a_field_that_does_not_apply_is_left_out(log, path):
    """None is no value of a field: the field is not there."""
    log.write(line(b"decision", {"app": "a", "host": None}))
    log.event("x", host=None)
    log.flush()
    assert all("host" not in found and "lease" not in found for found in lines(path))


def test_what_a_program_chose_cannot_break_a_line(log, path):
    """Line ends, escapes, direction marks, surrogates and length are taken out of every string."""
    log.event("x", program="a\nb\x1b[31m\u202e\udc80", host="x" * 5000, rule='"\\')
    log.event("made-up", **{"bad\nname": "a\u2028b", "obj": object, "data": b"x", "huge": 2**80, "nan": float("nan")})
    log.flush()
    first, second = lines(path)
    assert first["program"] == r"a\x0ab\x1b[31m\u202e\udc80"
    assert len(first["host"]) == FIELDS["host"].limit
    assert first["host"].endswith("x…")
    assert first["rule"] == '"\\'
    assert second[r"bad\x0aname"] == r"a\u2028b"
    assert second["obj"] == "<class 'object'>"


def test_a_line_that_cannot_be_written_down_is_counted(log, path):
    """A value that defeats the encoder costs its own line, which is reported, and no other."""

    class Hostile:
        def __str__(self):
            raise RuntimeError

    log.event("bad", value=Hostile())
    log.event("good")
    log.flush()
    log.event("later")
    log.flush()
    assert sorted(line["event"] for line in lines(path)) == ["good", "later", "log-dropped"]
    assert log.dropped == 0


@given(st.text(alphabet=st.characters()), st.integers(1, 40))
def test_clean_makes_any_text_safe(text, limit):
    """Whatever the text, the result is printable, encodes, fits, and is its own result."""
    result = clean(text, limit)
    assert result.isprintable()
    assert len(result) <= limit
    assert result.encode("utf-8").decode("utf-8") == result
    assert clean(result, limit) == result
    if text.isprintable() and len(text) <= limit:
        assert result == text


@pytest.mark.parametrize(
    ("text", "limit", "result"),
    [
        ("", 5, ""),
        ("abcde", 5, "abcde"),
        ("abcdef", 5, "abcd…"),
        ("\x00\x7f\x9f", 99, r"\x00\x7f\x9f"),
        ("\ud800\U000e0041", 99, r"\ud800\U000e0041"),
        ("naïve 例え", 99, "naïve 例え"),
        ("\n" * 10**6, 5, "\\x0a…"),
    ],
)
def test_clean_by_example(text, limit, result):
    """Control characters are escaped, a long text ends in an ellipsis, and other scripts stay."""
    assert clean(text, limit) == result


def test_problems_names_what_is_not_in_the_table():
    """A line with an unknown, misplaced or mistyped field is found out."""
    good = {"v": 1, "time": "t", "event": "decision", **DECISION}
    assert problems(good) == []
    assert problems({**good, "sent": 5}) == ["sent stands in a decision"]
    assert problems({**good, "hosst": "x"}) == ["hosst is not in the table"]
    assert problems({**good, "pid": True}) == ["pid is True and not of type integer"]
    assert problems({**good, "port": "80"}) == ["port is '80' and not of type integer"]
    assert problems({"event": "start", "anything": 1}) == ["v is missing", "time is missing"]


def test_the_file_is_private_and_appended_to(path):
    """The file and its folder are made for owner (and root's group) alone, and old lines stay."""
    for _ in range(2):
        log = DecisionLog(path)
        log.event("start")
        log.close()
    assert len(lines(path)) == 2
    root = os.geteuid() == 0
    assert stat.S_IMODE(os.stat(path).st_mode) == (0o640 if root else 0o600)
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) & 0o007 == 0


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_a_target_that_is_no_path_is_refused(name, tmp_path):
    """A log that cannot be opened is a configuration error with the way out."""
    with pytest.raises(ConfigError, match=r"^gate\.log: .*cannot be opened.*stdout"):
        DecisionLog(name)
    with pytest.raises(ConfigError, match="Is a directory"):
        DecisionLog(str(tmp_path))
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(ConfigError, match="cannot be opened"):
        DecisionLog(str(fifo))


def test_standard_output_and_an_fd_stay_the_callers(capfd):
    """Lines go to stdout or the given fd, which closing the log leaves open."""
    log = DecisionLog("-")
    log.event("one")
    log.close()
    reader, writer = os.pipe()
    log = DecisionLog(writer)
    log.event("two")
    log.reopen()
    log.event("three")
    log.close()
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert [json.loads(line)["event"] for line in pipe] == ["two", "three"]
    assert json.loads(capfd.readouterr().out)["event"] == "one"


def test_a_reader_that_is_gone_is_no_error():
    """A pipe whose reader has gone costs its lines, and the count says how many."""
    reader, writer = os.pipe()
    os.close(reader)
    log = DecisionLog(writer)
    for _ in range(100):
        log.event("x")
    assert log.close() == 100
    os.close(writer)


def test_a_full_non_blocking_pipe_is_waited_for():
    """An inherited stdout that is non-blocking gets every line, as its reader takes them."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    log = DecisionLog(writer)
    for number in range(3000):
        log.event("x", number=number, filling="." * 100)
    taken = []

    def take():
        with os.fdopen(reader) as pipe:
            taken.extend(json.loads(line)["number"] for line in pipe)

    thread = threading.Thread(target=take)
    thread.start()
    assert log.close(limit=30) == 0
    os.close(writer)
    thread.join()
    assert taken == list(range(3000))


def test_a_slow_disk_never_holds_the_caller(path, disk):
    """While a write hangs, lines queue up to the limit and are counted beyond; later all is accounted for."""
    log = DecisionLog(path, queue_limit=10)
    disk.gate.clear()
    log.event("first")
    disk.reached.wait()
    for _ in range(25):
        log.event("x")
    assert log.dropped == 15
    disk.gate.set()
    log.flush()
    assert log.close() == 0
    events = [line["event"] for line in lines(path)]
    assert events.count("x") == 10
    assert [line["count"] for line in lines(path) if line["event"] == "log-dropped"] == [15]
    assert problems(lines(path)[-1]) == []


@pytest.mark.parametrize("room", [*range(0, 120, 7), 200, 500])
def test_a_full_disk_loses_lines_but_tears_none(path, disk, room):
    """However far a full disk let a line get, every line is whole in the end, and those lost are counted."""
    log = DecisionLog(path)
    disk.room = room
    for number in range(10):
        log.event("x", number=number)
    log.flush()
    for number in range(10, 15):
        log.event("x", number=number)
    log.flush()
    lost = log.dropped
    disk.room = None
    log.event("again")
    log.flush()
    assert log.close() == 0
    written = lines(path)
    counts = [line["count"] for line in written if line["event"] == "log-dropped"]
    kept = [line["number"] for line in written if line["event"] == "x"]
    assert sum(counts) == lost
    assert len(kept) + lost == 15
    assert kept == sorted(kept)
    assert written[-1]["event"] == "again"


def test_losses_are_reported_when_there_is_room_again_without_a_new_line(path, disk, monkeypatch):
    """The report does not wait for the next line: the writer tries again by itself."""
    monkeypatch.setattr(module, "RETRY", 0.001)
    log = DecisionLog(path)
    disk.room = 0
    log.event("x")
    log.flush()
    disk.room = None
    while log.dropped:
        log.flush()
    log.close()
    assert [(line["event"], line.get("count")) for line in lines(path)] == [("log-dropped", 1)]


def test_dev_full_is_survived():
    """On a device that is always full every line is lost and counted, and nothing is raised."""
    log = DecisionLog("/dev/full")
    for _ in range(50):
        log.event("x")
    log.flush()
    assert log.dropped == 50
    assert log.close() == 50


def test_reopen_follows_a_rotation(log, path):
    """After the file is moved away and the log opened again, lines go to a new file."""
    log.event("before")
    log.flush()
    os.rename(path, path + ".1")
    log.event("still")
    log.flush()
    log.reopen()
    log.event("after")
    log.flush()
    assert [line["event"] for line in lines(path + ".1")] == ["before", "still"]
    assert [line["event"] for line in lines(path)] == ["after"]


def test_a_reopen_that_fails_keeps_the_old_file(log, path):
    """Where the path has become unusable the old file goes on, and a line in it says why."""
    log.event("before")
    log.flush()
    os.rename(path, path + ".1")
    os.mkdir(path)
    log.reopen()
    log.flush()
    log.event("after")
    log.flush()
    written = lines(path + ".1")
    assert [line["event"] for line in written] == ["before", "log-reopen", "after"]
    assert "Is a directory" in written[1]["reason"]


def test_close_writes_what_waits_and_may_be_called_twice_by_many(path):
    """Closing from many threads at once writes every line once; lines after it go nowhere."""
    log = DecisionLog(path)
    for _ in range(500):
        log.event("x")
    threads = [threading.Thread(target=log.close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.event("late")
    assert log.close() == 0
    assert log.flush()
    assert [line["event"] for line in lines(path)] == ["x"] * 500


def test_close_does_not_wait_for_ever(path, disk):
    """A disk that hangs holds the close no longer than its limit, and what is lost is said."""
    log = DecisionLog(path)
    disk.gate.clear()
    log.event("first")
    disk.reached.wait()
    log.event("second")
    assert not log.flush(limit=0)
    assert log.close(limit=0) >= 1
    disk.gate.set()
    log._thread.join()


def test_lines_of_many_threads_are_all_there(log, path):
    """Threads that log at the same time lose nothing and tear nothing."""

    def work(name):
        for number in range(200):
            log.event(name, number=number)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.flush()
    written = lines(path)
    for number in range(5):
        assert [line["number"] for line in written if line["event"] == f"t{number}"] == list(range(200))


def test_a_forked_child_writes_nothing_and_may_close(path, disk):
    """Lines that waited at a fork are written once, by the parent; the child can close at once."""
    log = DecisionLog(path)
    disk.gate.clear()
    log.event("parent")
    disk.reached.wait()
    log.event("waiting")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 on: fork beside threads
        child = os.fork()
    if child == 0:
        try:
            log.event("child")
            log.close()
        finally:
            os._exit(0 if log.dropped == 0 and log.flush() else 1)
    _pid, status = os.waitpid(child, 0)
    disk.gate.set()
    log.close()
    assert status == 0
    assert [line["event"] for line in lines(path)] == ["parent", "waiting"]


def test_the_table_is_well_formed():
    """Names are words, types are known, and every string has a limit."""
    for name, field in FIELDS.items():
        assert re.fullmatch("[a-z_]+", name)
        assert field.type in ("string", "integer", "number", "boolean")
        assert 1 <= field.since <= VERSION
        assert field.limit > 0
        assert field.meaning
