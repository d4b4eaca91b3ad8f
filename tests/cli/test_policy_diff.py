"""``outgate policy diff``: what a new configuration would change of what a log says there was."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from outgate.cli.main import main
from support.commands import outgate

Capture = pytest.CaptureFixture[str]

OLD = """\
version = 1
[gate]
log = "decisions.jsonl"
[apps.blog]
uid = ["a-user-that-no-host-has"]
billing = true
trusted = true
except = ["10.0.0.5:5432"]
[apps.shop]
billing = false
"""
NEW = OLD.replace('except = ["10.0.0.5:5432"]', 'except = ["10.0.0.6"]\ndeny = ["evil.example"]')


def line(host: str, port: int, address: str = "", time: str = "2026-03-01T10:00:00.000Z", **fields: object) -> str:
    """Return a line of a log."""
    known = {"v": 1, "time": time, "event": "decision", "app": "blog", "transport": "tcp", "host": host, "port": port}
    return json.dumps({**known, "address": address or host, "verdict": "allow", **fields}) + "\n"


LOG = (
    line("10.0.0.5", 5432) * 3
    + line("10.0.0.6", 22, verdict="deny")
    + line("evil.example", 443, "93.184.215.14", name="evil.example")
    + line("93.184.215.14", 443) * 4
    + line("93.184.215.14", 443, app="shop", verdict="deny")
    + json.dumps({"v": 1, "time": "2026-03-01T10:00:00.000Z", "event": "log-folded", "denied": 5})
    + "\nnonsense\n"
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """The two configurations, and the log that both name beside them."""
    for name, text in (("old.toml", OLD), ("new.toml", NEW), ("decisions.jsonl", LOG)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path / "old.toml"), str(tmp_path / "new.toml")


def test_what_changes(files: tuple[str, str], capsys: Capture) -> None:
    """What is newly denied comes first with its cure, then what is newly allowed; the exit status is 1."""
    assert main(["policy", "diff", *files]) == 1
    done = capsys.readouterr()
    assert done.out.splitlines() == [
        "newly denied: 2 destinations, 4 connections",
        '  3  blog  10.0.0.5:5432                     allow by "10.0.0.5:5432" → deny by "non-public" (built-in)',
        '  to permit: except = ["10.0.0.5:5432"]',
        '  1  blog  evil.example:443 (93.184.215.14)  allow by "public" → deny by "evil.example" (apps.blog.deny[0])',
        '  to permit: except = ["evil.example:443"]',
        "newly allowed: 1 destination, 1 connection",
        '  1  blog  10.0.0.6:22  deny by "non-public" → allow by "10.0.0.6" (apps.blog.except[0])',
    ]
    assert "1 line not understood" in done.err
    assert "5 lines not in the log" in done.err


def test_nothing_is_newly_denied(files: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    """Where nothing changes, and where something is only newly allowed, the exit status is 0."""
    old, _ = files
    assert main(["policy", "diff", old, old]) == 0
    assert capsys.readouterr().out == "no verdict changes: 10 connections, 5 destinations\n"
    (tmp_path / "paid.toml").write_text(OLD.replace("billing = false", "billing = true"), encoding="utf-8")
    assert main(["policy", "diff", old, str(tmp_path / "paid.toml")]) == 0
    assert "newly allowed: 1 destination" in capsys.readouterr().out


def test_json(files: tuple[str, str], capsys: Capture) -> None:
    """--json has every change with both decisions, and what is missing in the log."""
    assert main(["policy", "diff", "--json", *files]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["connections"], found["misread"], found["lost"]) == (False, 10, 1, 5)
    first = found["changes"][0]
    assert (first["direction"], first["count"], first["host"], first["port"]) == ("newly-denied", 3, "10.0.0.5", 5432)
    assert first["before"]["verdict"] == "allow"
    assert first["after"]["cure"] == 'to permit: except = ["10.0.0.5:5432"]'


def test_logs_app_and_since(files: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    """Several logs are read, compressed ones too; --app and --since leave the others out."""
    with gzip.open(tmp_path / "earlier.gz", "wb") as file:
        file.write(line("10.0.0.5", 5432, time="2026-01-01T10:00:00.000Z").encode())
    logs = ["--log", str(tmp_path / "earlier.gz"), "--log", str(tmp_path / "decisions.jsonl")]
    for arguments, count in (([], 11), (["--since", "2026-02-01T00:00Z"], 10), (["--app", "shop"], 1)):
        main(["policy", "diff", "--json", *logs, *arguments, *files])
        assert json.loads(capsys.readouterr().out)["connections"] == count


def test_an_app_that_is_gone(files: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    """Every connection of an app that the new configuration has no more is newly denied."""
    (tmp_path / "none.toml").write_text('version = 1\n[gate]\nlog = "decisions.jsonl"\n', encoding="utf-8")
    assert main(["policy", "diff", files[0], str(tmp_path / "none.toml")]) == 1
    assert 'deny by "no app"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("log", "error"),
    [("-", "goes to standard output"), ("journald", "goes to the journal"), ("nowhere.jsonl", "No such file")],
)
def test_no_log(files: tuple[str, str], tmp_path: Path, log: str, error: str) -> None:
    """A log that cannot be read is exit status 2, with what to do."""
    (tmp_path / "other.toml").write_text(OLD.replace("decisions.jsonl", log), encoding="utf-8")
    done = outgate("policy", "diff", files[0], str(tmp_path / "other.toml"))
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr
    done = outgate("policy", "diff", "--json", files[0], str(tmp_path / "other.toml"))
    assert done.returncode == 2
    assert error in json.loads(done.stdout)["error"]


def test_wrong_files_and_calls(files: tuple[str, str], tmp_path: Path) -> None:
    """A configuration that is none, and a time that is none, are exit status 2."""
    bad = tmp_path / "bad.toml"
    bad.write_text("version = 1\n[apps.blog]\nallow = [7]\n", encoding="utf-8")
    assert outgate("policy", "diff", files[0], str(bad)).returncode == 2
    assert outgate("policy", "diff", *files, "--since", "yesterday").returncode == 2
    assert outgate("policy", "diff", files[0]).returncode == 2


def test_a_hostile_log_is_inert(files: tuple[str, str], tmp_path: Path) -> None:
    """What a program chose cannot reach the terminal as anything but text."""
    log = tmp_path / "hostile.jsonl"
    log.write_text(line("\x1b]0;x\x07\n.example", 443, "10.0.0.5") + line("10.0.0.5", 5432), encoding="utf-8")
    done = outgate("policy", "diff", *files, "--log", str(log))
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
