"""``outgate log`` shows what was decided, for people and for programs, whatever a log has in it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.cli.logline import in_words
from outgate.cli.main import main
from outgate.lookout.loglines import Wanted, parse, since
from outgate.testing.running import RunningGate
from support.commands import OUTGATE, environment, outgate, serving

Capture = pytest.CaptureFixture[str]

ALLOWED = {
    "v": 1, "time": "2026-03-01T12:00:00.000Z", "event": "decision", "lease": "00ff-1", "app": "blog", "pid": 7,
    "uid": 1000, "program": "agent.py", "host": "example.com", "port": 443, "name": "example.com", "transport": "tcp",
    "address": "93.184.215.14", "class": "public", "verdict": "allow", "rule": "public", "policy": 1, "path": "direct",
}  # fmt: skip
DENIED = {
    **ALLOWED, "time": "2026-03-01T12:00:01.000Z", "app": "shop", "host": "10.0.0.5", "port": 5432, "lease": None,
    "address": "10.0.0.5", "class": "private", "verdict": "deny", "rule": "non-public",
    "reason": 'shop → 10.0.0.5:5432 (tcp) denied: 10.0.0.5 (private); rule "non-public"',
    "cure": 'to permit: except = ["10.0.0.5:5432"]',
}  # fmt: skip
REPORTED = {**DENIED, "time": "2026-03-01T12:00:02.000Z", "verdict": "report", "host": "db.corp", "pid": 8}
ENDED = {
    **ALLOWED, "time": "2026-03-01T12:00:03.000Z", "event": "end", "connected": True, "connect_ms": 1.5,
    "sent": 1234567, "received": 5, "duration": 2.5, "how": "closed",
}  # fmt: skip
STARTED = {"v": 1, "time": "2026-03-01T11:59:59.000Z", "event": "start", "pid": 6, "policy": 1, "source": "x.toml"}
LINES = [STARTED, ALLOWED, DENIED, REPORTED, ENDED]


def written(path: Path, lines: list[Any]) -> str:
    """Write lines, as JSON unless they are bytes already, and return the path."""
    path.write_bytes(b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines))
    return str(path)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A log with one line of each kind; times are shown in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    return written(tmp_path / "log", LINES)


def test_one_line_a_decision(path: str, capsys: Capture) -> None:
    """A decision is one line with everything one asks about it, and a refusal has its reason and its cure."""
    assert main(["log", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"^\S+ \S+  ", "", line) for line in lines] == [
        'blog  7 agent.py  allow   example.com:443 (93.184.215.14)  rule "public"',
        'shop  7 agent.py  deny    10.0.0.5:5432  10.0.0.5 (private); rule "non-public"; '
        'to permit: except = ["10.0.0.5:5432"]',
        'shop  8 agent.py  report  db.corp:5432 (10.0.0.5)  10.0.0.5 (private); rule "non-public"; '
        'to permit: except = ["10.0.0.5:5432"]',
    ]
    assert all(re.match(r"2026-03-0\d \d\d:\d\d:\d\d  ", line) for line in lines)


def test_everything(path: str, capsys: Capture) -> None:
    """With --all the ends of connections and the events of the gate are shown, too."""
    assert main(["log", "--all", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("start  pid 6, policy 1, source x.toml")
    assert lines[4].endswith("closed  sent 1,234,567, received 5  after 2.500 s")
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--denied"], [2, 3]),
        (["--app", "blog"], [1]),
        (["--app", "blog", "--all"], [1, 4]),
        (["--app", "nobody"], []),
        (["--reason", "NON-public"], [2, 3]),
        (["--reason", "10.0.0.5 (private)"], [2, 3]),
        (["--reason", "closed", "--all"], [4]),
        (["--since", "2026-03-01T12:00:02Z"], [3]),
        (["--since", "2026-03-01T13:00:02+01:00", "--all"], [3, 4]),
        (["--since", "2026-03-02"], []),
        (["--since", "1s"], []),
        (["--denied", "--app", "shop", "--since", "2000-01-01"], [2, 3]),
    ],
)
def test_which_lines(path: str, capsys: Capture, options: list[str], shown: list[int]) -> None:
    """Each option leaves out what it says; together they leave out what any of them does."""
    assert main(["log", "--json", *options, path]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [LINES[number] for number in shown]


@pytest.mark.parametrize("options", [[], ["--denied"], ["--all"], ["--denied", "--app", "blog"]])
def test_a_quota_that_is_used_up_is_a_refusal(tmp_path: Path, capsys: Capture, options: list[str]) -> None:
    """What a quota refuses has no decision: the event that says so is shown with them."""
    used_up = {"v": 1, "time": "2026-03-01T12:00:04.000Z", "event": "quota-exceeded", "app": "blog", "use": "3 of 3"}
    assert main(["log", "--json", *options, written(tmp_path / "log", [used_up])]) == 0
    assert json.loads(capsys.readouterr().out) == used_up


def test_json_is_what_stands_in_the_file(tmp_path: Path) -> None:
    """With --json lines go through byte by byte, whatever their order and blanks."""
    line = b'{ "event":"decision","verdict" : "allow", "x":"\xc3\xa9\\u0007" }\n'
    done = subprocess.run([*OUTGATE, "log", "--json", written(tmp_path / "log", [line])], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, line, b"")


GARBAGE = [
    b"\n",
    b'{"torn',
    b"\xff\xfe\x00\n",
    b"[]\n",
    b"7\n",
    b'{"no": "event"}\n',
    b'{"event": 7}\n',
    b"[" * 5000 + b"\n",
]


def test_garbage_is_counted(tmp_path: Path, capsys: Capture) -> None:
    """What is no line of a log is left out and counted, an empty line is nothing, and the rest is shown."""
    assert main(["log", written(tmp_path / "log", [ALLOWED, *GARBAGE, DENIED, b'{"event": "decision", "ver'])]) == 0
    seen = capsys.readouterr()
    assert len(seen.out.splitlines()) == 2
    assert seen.err == "outgate: warning: 7 lines are cut short, or no line of a log\n"


def test_a_last_line_without_its_end(tmp_path: Path, capsys: Capture) -> None:
    """A last line that is whole but for its line end is shown."""
    assert main(["log", written(tmp_path / "log", [json.dumps(ALLOWED).encode()])]) == 0
    seen = capsys.readouterr()
    assert (len(seen.out.splitlines()), seen.err) == (1, "")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(st.dictionaries(st.sampled_from([*DENIED, *ENDED]), values), st.sampled_from(["decision", "end", "else\x1b[2J"]))
def test_hostile_lines_are_inert(line: dict[str, Any], event: str) -> None:
    """Whatever stands in a line, its words are printable and on one line, and nothing is raised."""
    words = in_words({**line, "event": event})
    assert words.isprintable()
    parsed = parse(json.dumps({**line, "event": event}).encode())
    assert parsed is not None
    assert isinstance(Wanted("a", True, "2026", "b", True).has(parsed), bool)


def test_hostile_names_in_a_real_log(capsys: Capture) -> None:
    """What a program puts into a host or its name reaches no terminal."""
    host = "\\x1b]0;pwned\\x07\\u202egro.live"
    code = f"import socket\ntry: socket.create_connection(('{host}', 80))\nexcept OSError: pass"
    with RunningGate() as gate:
        with gate.program("-c", code) as program:
            program.communicate(timeout=30)
        path = written(Path(gate.folder) / "copy", gate.log.all())
        assert main(["log", "--all", path]) == 0
    assert capsys.readouterr().out.replace("\n", "").isprintable()


NOW = datetime.fromisoformat("2026-03-01T12:00:00+01:00")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", "2026-03-01T10:58:30.000Z"),
        ("15m", "2026-03-01T10:45:00.000Z"),
        ("2h", "2026-03-01T09:00:00.000Z"),
        ("3d", "2026-02-26T11:00:00.000Z"),
        ("1w", "2026-02-22T11:00:00.000Z"),
        ("2026-02-28", "2026-02-27T23:00:00.000Z"),
        ("2026-02-28T12:30", "2026-02-28T11:30:00.000Z"),
        ("2026-02-28T12:30:01.5Z", "2026-02-28T12:30:01.500Z"),
    ],
)
def test_since(text: str, moment: str) -> None:
    """A span before now, or a time of ISO 8601, is the moment that it says, as the log writes it."""
    assert since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "5", "m", "1.5h", "5 m", "yesterday", "2026-13-01", "9999999d", "999999w"])
def test_since_what_is_no_time(text: str, path: str, capsys: Capture) -> None:
    """What is no time is a wrong call; "" is none."""
    if text:
        with pytest.raises(SystemExit) as caught:
            main(["log", "--since", text, path])
        assert caught.value.code == 2
        assert "is no time" in capsys.readouterr().err
    else:
        assert main(["log", "--since", text, path]) == 0


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1)), st.integers(0, 10**6))
def test_since_compares_as_text(moment: datetime, seconds: int) -> None:
    """Moments as the log writes them are ordered as texts as they are as times, to the millisecond."""
    earlier = moment - timedelta(seconds=seconds) if moment.year > 1971 else moment
    texts = [since(each.isoformat() + "Z", NOW) for each in (earlier, moment)]
    assert texts == sorted(texts)


def test_colours_where_somebody_looks(path: str) -> None:
    """On a terminal verdicts have their colours, and in a pipe nothing has."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [*OUTGATE, "log", path], stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm"), timeout=30
    )
    os.close(theirs)
    text = b""
    while chunk := _read(ours):
        text += chunk
    os.close(ours)
    assert done.returncode == 0
    assert b"\x1b[32mallow \x1b[0m" in text
    assert b"\x1b[31mdeny  \x1b[0m" in text
    assert b"\x1b[33mreport\x1b[0m" in text
    assert "\x1b" not in outgate("log", path).stdout


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # EIO: the last who had the terminal has ended
        return b""


def test_follow_over_a_rotation(path: str) -> None:
    """--follow begins with the last lines, shows what comes as it comes, in the next file too, and ends with Ctrl-C."""
    for _ in range(20):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(ALLOWED) + "\n")
    command = [*OUTGATE, "log", "--follow", path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(TZ="UTC")
    ) as process:
        assert process.stdout is not None
        begun = [process.stdout.readline() for _ in range(10)]
        assert all("allow" in line for line in begun)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(DENIED) + "\n" + '{"event": "decision"')
        assert "10.0.0.5:5432" in process.stdout.readline()
        os.rename(path, path + ".1")
        written(Path(path), [{**ALLOWED, "host": "next.example"}, b"garbage\n"])
        assert "next.example:443" in process.stdout.readline()
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({**ALLOWED, "host": "last.example"}) + "\n")
        assert "last.example" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert (process.returncode, rest) == (130, "")
    assert errors == "outgate: warning: 2 lines are cut short, or no line of a log\n"


def test_the_log_of_the_gate_that_runs(tmp_path: Path, config: Path) -> None:
    """Without a file the gate is asked for its log, or the configuration."""
    with serving(tmp_path, "--config", str(config)) as gate:
        outgate("why", "10.0.0.1:80", "--socket", gate.socket)
        done = outgate("log", "--all", "--socket", gate.socket)
        assert (done.returncode, done.stderr) == (0, "")
        assert "start" in done.stdout
    elsewhere = tmp_path / "outgate.toml"
    elsewhere.write_text(f'version = 1\n[gate]\nlog = "{gate.log_path}"\n')
    assert outgate("log", "--all", "--config", elsewhere).stdout.splitlines()[0] in done.stdout


def test_where_no_gate_says(tmp_path: Path, capsys: Capture) -> None:
    """No gate, no file, a folder, and a log that is a gate's standard output are exit status 1 with the reason."""
    nowhere = str(tmp_path / "none")
    assert main(["log", "--socket", nowhere]) == 1
    assert "no gate answers at" in capsys.readouterr().err
    assert main(["log", nowhere]) == 1
    assert capsys.readouterr().err == f"outgate log: {nowhere}: No such file or directory\n"
    assert main(["log", str(tmp_path)]) == 1
    assert "Is a directory" in capsys.readouterr().err
    assert main(["log", "a\0b"]) == 1
    assert "null" in capsys.readouterr().err
    assert main(["log", "--json", nowhere]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
    with RunningGate() as gate:
        assert main(["log", "--socket", gate.socket]) == 1
    assert "outgate log -" in capsys.readouterr().err


def test_standard_input(path: str) -> None:
    """ "-" is standard input, as where a compressed log is read."""
    with open(path, "rb") as file:
        done = outgate("log", "--denied", "-", stdin=file)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    """Piped into head(1) it ends quietly."""
    path = written(tmp_path / "log", [ALLOWED] * 20_000)
    done = subprocess.run(
        ["sh", "-c", f"{' '.join(OUTGATE)} log {path} | head -n 1"], capture_output=True, text=True, timeout=30
    )
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")
