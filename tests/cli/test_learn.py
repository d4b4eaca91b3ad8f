"""``outgate learn`` and ``outgate run --learn``: what was reached becomes a policy that a gate takes."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.test_observations import asked, line
from outgate.cli.main import main
from support import peers
from support.commands import OUTGATE, PATIENCE, Run, environment, outgate, python
from support.peers import Peer

Capture = pytest.CaptureFixture[str]

LINES = (
    line(),
    line(**asked("db.corp", "10.0.0.5"), verdict="report", rule="non-public", time="2026-11-21T10:00:00.000Z"),
    line(**asked("evil.example", "8.8.8.8"), verdict="deny", rule="evil.example"),
)


def write_log(path: Path, *lines: object) -> str:
    """Write a decision log and return its path."""
    path.write_text("".join(json.dumps(each) + "\n" for each in lines), encoding="utf-8")
    return str(path)


@pytest.fixture
def log(tmp_path: Path) -> str:
    """A decision log of app ``blog`` with something allowed, something reported and something refused."""
    return write_log(tmp_path / "decisions.jsonl", *LINES)


def policy_of(text: str) -> dict[str, Any]:
    """Return what a learned policy says of its apps."""
    apps: dict[str, Any] = tomllib.loads(text)["apps"]
    return apps


class TestLearn:
    """Learning from logs that are there."""

    def test_standard_output(self, log: str, capsys: Capture) -> None:
        """The policy goes to standard output and one line on it to standard error."""
        assert main(["learn", log]) == 0
        output = capsys.readouterr()
        app = policy_of(output.out)["blog"]
        assert (app["allow"], app["except"]) == (["tcp://api.example:443"], ["tcp://db.corp:443"])
        assert output.out.startswith(f"# Learned by outgate learn from {log}.\n# Connections and attempts: 3, 2026")
        assert output.err == (
            "outgate learn: 2 destinations of app blog (1 would have been denied, 1 refused and left out)\n"
        )

    def test_the_file_is_a_configuration(self, log: str, tmp_path: Path, capsys: Capture) -> None:
        """What ``-o`` writes is taken by ``outgate check``, with and without a limit on look-ups."""
        for options in ([], ["--names"]):
            path = tmp_path / f"policy{len(options)}.toml"
            assert main(["learn", log, "-o", str(path), *options]) == 0
            assert main(["check", "--strict", str(path)]) == 0
            assert path.stat().st_mode & 0o022 == 0
        assert capsys.readouterr().out.count("1 app, 0 warnings") == 2

    def test_a_file_is_not_overwritten(self, log: str, tmp_path: Path, capsys: Capture) -> None:
        """A file that is there stays as it is, unless ``--force`` says otherwise."""
        path = tmp_path / "policy.toml"
        path.write_text("mine", encoding="utf-8")
        assert main(["learn", log, "-o", str(path)]) == 2
        assert path.read_text(encoding="utf-8") == "mine"
        assert "--force" in capsys.readouterr().err
        assert main(["learn", log, "-o", str(path), "--force"]) == 0
        assert "blog" in policy_of(path.read_text(encoding="utf-8"))
        assert sorted(each.name for each in tmp_path.iterdir()) == ["decisions.jsonl", "policy.toml"]

    def test_a_device_is_written_and_not_replaced(self, log: str, tmp_path: Path, capsys: Capture) -> None:
        """``-o`` with a FIFO or a device writes into it."""
        path = tmp_path / "fifo"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        assert main(["learn", log, "-o", str(path), "--force"]) == 0
        assert "blog" in policy_of(os.read(reader, 65536).decode())
        os.close(reader)
        assert path.is_fifo()
        capsys.readouterr()

    def test_a_file_that_cannot_be_written(self, log: str, tmp_path: Path, capsys: Capture) -> None:
        """A folder that is not there is said, with exit status 2."""
        assert main(["learn", log, "-o", str(tmp_path / "no" / "policy.toml")]) == 2
        assert "cannot be written: No such file or directory" in capsys.readouterr().err

    def test_several_logs(self, log: str, tmp_path: Path, capsys: Capture) -> None:
        """Rotated logs, compressed or not, and standard input are one log."""
        packed = tmp_path / "decisions.jsonl.1.gz"
        packed.write_bytes(gzip.compress(json.dumps(line(port=80)).encode()))
        done = outgate("learn", log, packed, "-", stdin=None, input=json.dumps(line(port=8080)))
        assert done.returncode == 0
        assert policy_of(done.stdout)["blog"]["allow"] == ["tcp://api.example:80,443,8080"]

    def test_json(self, log: str, tmp_path: Path, capsys: Capture) -> None:
        """``--json`` has the rules and the evidence for each."""
        path = tmp_path / "policy.toml"
        assert main(["learn", log, "--json", "-o", str(path)]) == 0
        answer = json.loads(capsys.readouterr().out)
        (app,) = answer["apps"]
        assert (answer["file"], answer["connections"], app["allow"]) == (str(path), 3, ["tcp://api.example:443"])
        entry = next(each for each in app["entries"] if each["list"] == "except")
        assert (entry["count"], entry["addresses"], entry["classes"]) == (1, ["10.0.0.5"], ["private"])
        assert policy_of(path.read_text(encoding="utf-8"))["blog"]["allow"] == app["allow"]

    @pytest.mark.parametrize(
        ("options", "allow", "except_"),
        [
            (["--include-denied"], ["tcp://api.example:443", "tcp://evil.example:443"], ["tcp://db.corp:443"]),
            (["--suffix", "example"], ["tcp://*.example:443"], ["tcp://db.corp:443"]),
            (["--suffix", "*.example", "--suffix", ".corp"], ["tcp://*.example:443"], ["tcp://*.corp:443"]),
            (["--since", "2026-11-21"], [], ["tcp://db.corp:443"]),
            (["--since", "2026-11-21T12:00+02:00"], [], ["tcp://db.corp:443"]),
        ],
    )
    def test_options(self, log: str, capsys: Capture, options: list[str], allow: list[str], except_: list[str]) -> None:
        """The options widen and narrow what is learned."""
        assert main(["learn", log, *options]) == 0
        app = policy_of(capsys.readouterr().out)["blog"]
        assert (app["allow"], app.get("except", [])) == (allow, except_)

    def test_networks(self, tmp_path: Path, capsys: Capture) -> None:
        """``--cidr`` and ``--cidr6`` widen addresses without a name."""
        lines = [line(name=None, host=each, address=each) for each in ("8.8.8.8", "2606:4700::1")]
        log = write_log(tmp_path / "log", *lines)
        assert main(["learn", log, "--cidr", "24", "--cidr6", "32"]) == 0
        rules = policy_of(capsys.readouterr().out)["blog"]["allow"]
        assert rules == ["tcp://8.8.8.0/24:443", "tcp://[2606:4700::/32]:443"]

    def test_several_apps(self, tmp_path: Path, capsys: Capture) -> None:
        """Each app of the log has its table; ``--app`` takes one, and another is told with those there are."""
        log = write_log(tmp_path / "log", line(), line(app="shop", uid=7))
        assert main(["learn", log]) == 0
        assert list(policy_of(capsys.readouterr().out)) == ["blog", "shop"]
        assert main(["learn", log, "--app", "shop"]) == 0
        assert list(policy_of(capsys.readouterr().out)) == ["shop"]
        assert main(["learn", log, "--app", "bolg"]) == 1
        assert "no decision on app 'bolg'" in (errors := capsys.readouterr().err)
        assert "there are: blog, shop" in errors

    def test_lines_that_are_not_understood(self, tmp_path: Path, capsys: Capture) -> None:
        """What is no line of a log is counted, told, and noted in the file: cut off, garbage, or of megabytes."""
        path = tmp_path / "log"
        good = json.dumps(line()).encode()
        rest = [b"\xff\x00", b"[" * 100_000, b"7", b"", b'"' + b"x" * (3 << 20) + b'"', good[:50]]
        path.write_bytes(b"\n".join([good, *rest]))
        assert main(["learn", str(path)]) == 0
        output = capsys.readouterr()
        assert "5 lines not understood" in output.err
        assert "# Careful: 5 lines not understood." in output.out
        assert policy_of(output.out)["blog"]["allow"] == ["tcp://api.example:443"]

    def test_a_policy_that_is_too_large(self, tmp_path: Path, capsys: Capture) -> None:
        """Comments go where the file would be larger than a gate reads; where that is not enough it says what to do."""
        long = ".".join(["x" * 60] * 3)
        lines = [line(**asked(f"n{number}.{long}", "8.8.8.8")) for number in range(4500)]
        log = write_log(tmp_path / "log", *lines)
        assert main(["learn", log]) == 0
        text = capsys.readouterr().out
        assert "# The comments are left out" in text
        assert len(policy_of(text)["blog"]["allow"]) == 4500
        assert main(["learn", write_log(tmp_path / "log", *lines, *(each | {"app": "shop"} for each in lines))]) == 2
        assert "learn of one app, or ask for --suffix or --cidr" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "status", "sentence"),
        [
            (["/nonexistent"], 2, "/nonexistent: No such file or directory"),
            (["/"], 2, "/: Is a directory"),
            (["/dev/null"], 1, "no decision on a program in /dev/null"),
            (["/dev/null", "--since", "yesterday"], 2, "--since yesterday: write 7d"),
            (["/dev/null", "--suffix", "a b"], 2, "--suffix a b: "),
            (["/dev/null", "--suffix", "*"], 2, "--suffix *: "),
            (["/dev/null", "--cidr", "33"], 2, "--cidr 33: a prefix length"),
            (["/dev/null", "--cidr6", "0"], 2, "--cidr6 0: a prefix length"),
            (["/dev/null", "--force"], 2, "--force is about the file of -o"),
            ([], 2, "LOG"),
        ],
    )
    def test_wrong_calls(self, arguments: list[str], status: int, sentence: str) -> None:
        """A log that cannot be read, or has nothing in it, and options that cannot be, are said, with a status."""
        done = outgate("learn", *arguments)
        assert (done.returncode, done.stdout) == (status, "")
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_damaged_archive(self, tmp_path: Path, capsys: Capture) -> None:
        """A compressed log that is cut off, or none, is an error with its name."""
        path = tmp_path / "log.gz"
        for data in (gzip.compress(b"x" * 9999)[:-9], b"no archive"):
            path.write_bytes(data)
            assert main(["learn", str(path)]) == 2
            assert capsys.readouterr().err.startswith(f"outgate learn: {path}: ")


# --- outgate run --learn ----------------------------------------------------------------------------------------------

#: A program that connects to its arguments, host and port in turn, and says what came of each.
DIALS = """
import socket
for host, port in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(b"x")
            tell(sock.recv(1).decode())
    except OSError as error:
        tell(type(error).__name__)
"""


@pytest.fixture
def peer() -> Iterator[Peer]:
    """An echo on loopback."""
    with peers.echo() as echo:
        yield echo


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """Where the policy goes; nothing is there."""
    return tmp_path / "policy.toml"


def test_what_was_reached_and_nothing_else(peer: Peer, policy: Path, tmp_path: Path) -> None:
    """A program under its learned policy reaches what it reached before, by name and by address, and nothing else."""
    program = python(DIALS, "localhost", str(peer.port), peer.host, str(peer.port))
    done = outgate("run", "--learn", policy, "--", *program)
    assert (done.returncode, done.stdout.split()) == (0, ['"x"', '"x"'])
    app = policy_of(policy.read_text(encoding="utf-8"))["default"]
    assert (app["allow"], app["except"]) == ([], [f"tcp://127.0.0.1:{peer.port}"])
    assert app["uid"] == [os.getuid()]
    text = policy.read_text(encoding="utf-8")
    assert "# loopback; asked for as localhost; 2 times, last " in text
    assert outgate("check", policy).returncode == 0
    with peers.echo() as other:
        program += [other.host, str(other.port)]
        held = outgate("run", "--config", policy, "--", *program)
    assert held.stdout.split() == ['"x"', '"x"', '"PolicyDenied"']


def test_one_line_at_the_end(peer: Peer, policy: Path) -> None:
    """The last line says how many destinations there are, how many would have been denied, and what to do next."""
    done = outgate("run", "--learn", policy, "--", *python(DIALS, peer.host, str(peer.port)))
    first, last = done.stderr.splitlines()
    assert first.endswith(", learning: nothing is refused")
    assert last == (
        f"outgate: learned 1 destination of app default (1 would have been denied); it is in {policy}; "
        f"next: outgate check {policy}, then outgate run --config {policy} -- ..."
    )
    done = outgate("run", "-q", "--force", "--learn", policy, "--", *python(DIALS, peer.host, str(peer.port)))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("status", [0, 1, 77])
def test_exit_status_passes_through(status: int, policy: Path) -> None:
    """The exit status is the program's; one that reached nothing leaves no file, and is told so."""
    done = outgate("run", "--learn", policy, "--", "sh", "-c", f"exit {status}")
    assert done.returncode == status
    assert "the program reached nothing" in done.stderr
    assert not policy.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_death_by_a_signal_passes_through(number: signal.Signals, policy: Path) -> None:
    """A program that a signal ends ends the command by the same signal."""
    done = outgate("run", "--learn", policy, "--", "sh", "-c", f"kill -{int(number)} $$")
    assert done.returncode == -number


def test_what_does_not_start(policy: Path) -> None:
    """A command that is not found, and a policy that is wrong, are told as without ``--learn``, and leave no file."""
    done = outgate("run", "--learn", policy, "--", "no-such-command")
    assert (done.returncode, "no-such-command: command not found" in done.stderr) == (127, True)
    done = outgate("run", "--learn", policy, "--allow", "pubic", "--", "echo", "started")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "pubic" in done.stderr
    assert not policy.exists()


class Rehearsal:
    """A program under ``run --learn`` that has connected to a peer and waits for the end of its standard input."""

    def __init__(self, policy: Path, peer: Peer, code: str = "sys.stdin.read()") -> None:
        program = python(DIALS + code, peer.host, str(peer.port))
        self.process = subprocess.Popen(
            [*OUTGATE, "run", "--learn", str(policy), "--", *program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, env=environment(),
        )  # fmt: skip
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()

    def end(self) -> tuple[int, str]:
        """Wait, and return exit status and what was printed on standard error."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors


@contextlib.contextmanager
def rehearsing(policy: Path, peer: Peer, code: str = "sys.stdin.read()") -> Iterator[Rehearsal]:
    """Have a program learned from while the block runs."""
    rehearsal = Rehearsal(policy, peer, code)
    try:
        yield rehearsal
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(rehearsal.process.pid, signal.SIGKILL)
        rehearsal.process.communicate(timeout=PATIENCE)


DEFAULT_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); tell(0); sys.stdin.read()"


@pytest.mark.parametrize("whom", ["group", "command"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_writes_what_was_learned(peer: Peer, policy: Path, whom: str, number: signal.Signals) -> None:
    """Ctrl-C, and a signal to the command alone, end the program by it, and what was learned is written."""
    with rehearsing(policy, peer, DEFAULT_SIGINT) as rehearsal:
        assert rehearsal.process.stdout.readline() == "0\n"
        send = os.killpg if whom == "group" else os.kill
        send(rehearsal.process.pid, number)
        status, errors = rehearsal.end()
    assert status == -number
    assert "learned 1 destination" in errors
    assert policy_of(policy.read_text(encoding="utf-8"))["default"]["except"] == [f"tcp://127.0.0.1:{peer.port}"]


def test_a_program_that_takes_its_time_over_an_interrupt(peer: Peer, policy: Path) -> None:
    """A program that catches Ctrl-C and goes on is learned from until its end."""
    code = """
import signal
def caught(*_):
    with socket.create_connection((sys.argv[1], int(sys.argv[2]))): pass
    os._exit(5)
signal.signal(signal.SIGINT, caught)
tell(0)
signal.pause()
"""
    with rehearsing(policy, peer, code) as rehearsal:
        assert rehearsal.process.stdout.readline() == "0\n"
        os.kill(rehearsal.process.pid, signal.SIGINT)
        assert rehearsal.end()[0] == 5
    assert "# loopback; 2 times" in policy.read_text(encoding="utf-8")


def test_children_that_outlive_the_program_are_learned_from(peer: Peer, policy: Path) -> None:
    """What a child reaches after the program's end is in the policy, and the exit status is the program's."""
    code = """
if os.fork():
    os._exit(3)
os.read(0, 1)
with socket.create_connection((sys.argv[1], int(sys.argv[2]))): pass
"""
    with rehearsing(policy, peer, code) as rehearsal:
        rehearsal.process.stdin.write("x")
        assert rehearsal.end()[0] == 3
    assert "# loopback; 2 times" in policy.read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_is_left_behind_need_not_be_waited_for(peer: Peer, policy: Path) -> None:
    """The command says that it waits for what the program left behind, and Ctrl-C then writes what is known."""
    code = "if os.fork(): os._exit(3)\nos.dup2(os.open(os.devnull, os.O_RDWR), 1)\nos.dup2(1, 2)\nos.read(0, 1)"
    with rehearsing(policy, peer, code) as rehearsal:
        line = ""
        while "left processes behind" not in line:
            line = rehearsal.process.stderr.readline()
            assert line
        os.kill(rehearsal.process.pid, signal.SIGINT)
        status, errors = rehearsal.end()
    assert status == 3
    assert "learned 1 destination" in errors
    assert policy.exists()


def test_the_program_has_no_fds_of_ours(policy: Path) -> None:
    """The program has the fds that it has without us, and no other."""
    listing = ["sh", "-c", "ls /proc/self/fd"]
    native = subprocess.run(listing, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    assert outgate("run", "--learn", policy, "--", *listing).stdout.split() == native.stdout.split()


def test_signals_pass_through(policy: Path) -> None:
    """The program ignores and blocks the signals that it would without us."""
    # By its path, as outgate is: from Python 3.13 on such are started by posix_spawn(3), which has signals of its own.
    grep = shutil.which("grep")
    assert grep is not None
    command = [grep, "-E", "SigIgn|SigBlk|SigCgt", "/proc/self/status"]
    native = subprocess.run(command, capture_output=True, text=True, check=True)
    assert outgate("run", "--learn", policy, "--", *command).stdout == native.stdout


def test_an_app_of_a_configuration(peer: Peer, policy: Path, tmp_path: Path) -> None:
    """With ``--config`` the policy is that app's, in report mode; what it would have denied is told."""
    config = tmp_path / "outgate.toml"
    config.write_text(
        'version = 1\n[gate]\nlog_allowed = false\n[apps.blog]\nbilling = true\ntrusted = true\n'
        'allow = []\nexcept = ["loopback:1"]\n', encoding="utf-8",
    )  # fmt: skip
    done = outgate("run", "--config", config, "--learn", policy, "--", *python(DIALS, peer.host, str(peer.port)))
    assert done.stdout == '"x"\n'
    assert "1 destination of app blog (1 would have been denied)" in done.stderr
    assert list(policy_of(policy.read_text(encoding="utf-8"))) == ["blog"]


def test_decisions_that_are_not_logged(peer: Peer, policy: Path, tmp_path: Path) -> None:
    """An app whose log leaves out what is allowed is learned from by the ends of its connections."""
    config = tmp_path / "outgate.toml"
    config.write_text(
        'version = 1\n[gate]\nlog_allowed = false\n[apps.blog]\nbilling = true\ntrusted = true\n'
        'except = ["loopback"]\n', encoding="utf-8",
    )  # fmt: skip
    outgate("run", "--config", config, "--learn", policy, "--", *python(DIALS, peer.host, str(peer.port)))
    assert "# loopback; once, last " in policy.read_text(encoding="utf-8")


def test_the_log_is_kept_on_demand(peer: Peer, policy: Path, tmp_path: Path) -> None:
    """With ``--log`` the log is there afterwards, and the same is learned from it."""
    log = tmp_path / "logs" / "decisions.jsonl"
    done = outgate("run", "--learn", policy, "--log", log, "--", *python(DIALS, peer.host, str(peer.port)))
    assert done.returncode == 0
    events = [json.loads(each)["event"] for each in log.read_text(encoding="utf-8").splitlines()]
    assert events == ["start", "decision", "end", "stop"]
    again = outgate("learn", log)
    assert policy_of(again.stdout) == policy_of(policy.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--learn", "{file}"], "is there already; name another file, or replace it with --force"),
        (["--learn", "{folder}", "--force"], "cannot be written"),
        (["--learn", "/nonexistent/policy.toml"], "/nonexistent/policy.toml cannot be written"),
        (["--force"], "--force is about the file of --learn"),
        (["--learn", "{new}", "--socket", "/x.sock"], "--learn is for a gate of the program's own"),
        (["--learn", "{new}", "--log", "{folder}"], "cannot be written: Is a directory"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, options: list[str], sentence: str) -> None:
    """What would come to nothing at the end is said before the program is started."""
    path = tmp_path / "policy.toml"
    path.write_text("mine", encoding="utf-8")
    names = {"file": path, "folder": tmp_path, "new": tmp_path / "new.toml"}
    done = outgate("run", *(each.format(**names) for each in options), "--", "echo", "started")
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert path.read_text(encoding="utf-8") == "mine"


def test_not_inside_another_gate(policy: Path) -> None:
    """A program under a gate cannot have nothing refused by learning from itself."""
    with Run([*OUTGATE, "run", "--learn", str(policy), "--", "true"]) as run:
        status, _, errors = run.end()
    assert status == 2
    assert "runs under a gate already" in errors


def test_closed_standard_fds(policy: Path) -> None:
    """A command that is started without 0, 1 and 2 runs its program all the same."""
    with peers.echo() as peer:
        program = python(DIALS.replace("tell(", "str("), peer.host, str(peer.port))
        shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *OUTGATE, "run", "--learn", str(policy), "--", *program]
        done = subprocess.run(shell, env=environment(), timeout=PATIENCE, check=False)
    assert done.returncode == 0
    assert "default" in policy_of(policy.read_text(encoding="utf-8"))


def test_sigchld_that_is_ignored(policy: Path) -> None:
    """Whoever starts the command with SIGCHLD ignored gets the program's status, and the program that disposition."""
    code = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    told = "import signal; tell(signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN); sys.exit(9)"
    done = subprocess.run(
        [sys.executable, "-c", code, *OUTGATE, "run", "-q", "--learn", str(policy), "--", *python(told)],
        env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (9, "true\n")


def test_the_example_of_the_page(tmp_path: Path, capsys: Capture) -> None:
    """The policy that docs/learning.md shows is, but for its head, what is learned of such a log, and can be used."""
    page = (Path(__file__).parents[2] / "docs" / "learning.md").read_text(encoding="utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]
    resolver = {"name": None, "host": "8.8.8.8", "address": "8.8.8.8", "transport": "udp", "port": 53}
    database = asked("db.corp", "10.0.0.5") | {"port": 5432, "program": "worker.py", "verdict": "report"}
    cache = asked("localhost", "127.0.0.1") | {"port": 6379, "verdict": "report", "time": "2026-11-20T09:59:01.5Z"}
    lines = (
        [line()] * 41 + [line(**resolver, program="worker.py", time="2026-11-20T09:12:44Z")] + [line(**database)] * 3
    )
    lines += [line(**cache, event="end", lease=name, connected=False) for name in ("1", "2")]
    log = write_log(tmp_path / "log", *(each | {"app": "default"} for each in lines))
    assert main(["learn", log]) == 0
    assert capsys.readouterr().out.partition("version")[2] == example.partition("version")[2]
    path = tmp_path / "policy.toml"
    path.write_text(example, encoding="utf-8")
    assert main(["check", str(path)]) == 0
