"""``outgate top`` shows what a gate does, live in a terminal that it gives back as it was, and as a table in a pipe."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gate.test_meter_close import Program
from outgate.cli.main import main
from outgate.cli.topframe import View, frame, plain
from outgate.lookout.rates import SORTS, Look, figures
from outgate.testing.running import RunningGate
from support import peers
from support.commands import OUTGATE, environment, outgate

Capture = pytest.CaptureFixture[str]
PATIENCE = 20.0

BUSY = """
s.sendall(b"hello")
s.recv(5)
try:
    socket.create_connection(("10.0.0.1", 80))
except PermissionError:
    pass
say(open=True)
told()
"""


def counts(uptime: float, boot: str = "aa", **apps: dict[str, int]) -> dict[str, Any]:
    """Return an answer to STAT."""
    zero = dict.fromkeys(["processes", "connects", "denied", "open", "sent", "received"], 0)
    return {
        "version": "1.2", "boot": boot, "uptime": uptime, "policy": 3, "processes": 2,
        "apps": {name: zero | each for name, each in apps.items()},
    }  # fmt: skip


def socket_row(lease: str, app: str, sent: int, received: int) -> dict[str, Any]:
    """Return a row of LIST."""
    return {
        "lease": lease, "app": app, "pid": 7, "uid": 0, "program": "agent\x1b[2J", "age": 3.0, "idle": None,
        "sent": sent, "received": received, "tenure": "held", "transport": "udp", "host": "", "address": "2001:db8::1",
        "port": 53, "path": "relay", "state": "open", "holders": [],
    }  # fmt: skip


QUOTAS = [
    {"resource": "connect", "per": "minute", "share": 0.1, "retry_after": 12.0, "limit": 10},
    {"resource": "bytes_sent", "per": "day", "share": 0.82, "retry_after": 7384.0, "limit": 100},
    {"resource": "open_sockets", "per": None, "share": 0.9, "retry_after": None, "limit": 40},
]


def test_figures_of_two_looks() -> None:
    """Rates are what was counted between two looks by the gate's own clock, for each app, each socket, and all."""
    before = Look(
        counts(10.0, blog={"connects": 5, "sent": 1000}, shop={"denied": 1}), {}, [socket_row("aa-1", "blog", 4, 0)]
    )
    apps = {"blog": {"connects": 10, "sent": 3000, "open": 2}, "shop": {"denied": 2, "received": 6, "open": 1}}
    sockets = [socket_row("aa-2", "shop", 9, 9), socket_row("aa-1", "blog", 8, 2)]
    seen = figures(before, Look(counts(12.0, **apps), {"blog": QUOTAS}, sockets, more=True))
    blog, shop = seen.apps
    assert (blog.name, blog.opens_per_s, blog.denied_per_s, blog.sent_per_s, blog.limit) == ("blog", 2.5, 0, 1000, 40)
    assert blog.quota is QUOTAS[1]
    assert (shop.name, shop.denied_per_s, shop.received_per_s, shop.limit, shop.quota) == ("shop", 0.5, 3, None, None)
    assert (seen.total.open, seen.total.opens_per_s, seen.total.sent, seen.total.received_per_s) == (3, 2.5, 3000, 3)
    assert [(each.row["lease"], each.sent_per_s) for each in seen.sockets] == [("aa-1", 2.0), ("aa-2", None)]
    assert seen.more
    assert json.loads(json.dumps(seen.as_json()))["apps"]["blog"]["sent_per_s"] == 1000


@pytest.mark.parametrize(
    "before",
    [
        None,
        Look(counts(1.0, "bb", blog={})),
        Look(counts(12.0, blog={})),
        Look(counts(1.0)),
        Look(counts(1.0, blog={"connects": 9, "denied": 9, "sent": 9, "received": 9})),
    ],
    ids=["the first look", "another gate", "no time", "a new app", "a smaller count"],
)
def test_no_rate_where_there_is_none(before: Look | None) -> None:
    """Where two looks are not two of one counter there is no rate, rather than a wrong one."""
    now = Look(counts(12.0, blog={"connects": 5, "denied": 5, "sent": 5, "received": 5}))
    (blog,) = figures(before, now).apps
    assert {blog.opens_per_s, blog.denied_per_s, blog.sent_per_s, blog.received_per_s} == {None}


@pytest.mark.parametrize(
    ("key", "order"),
    [("n", "abc"), ("o", "cba"), ("c", "bac"), ("d", "cab"), ("s", "bac"), ("r", "abc"), ("u", "acb")],
)
def test_sorting(key: str, order: str) -> None:
    """Each key sorts by its figure, the largest first, and equals by name."""
    before = Look(counts(1.0, a={}, b={}, c={}))
    now = counts(
        2.0,
        a={"open": 1, "received": 5},
        b={"open": 2, "connects": 7, "sent": 7},
        c={"open": 3, "denied": 1},
    )
    quotas = {"a": QUOTAS[1:2], "c": QUOTAS[:1]}
    assert "".join(app.name for app in figures(before, Look(now, quotas), key).apps) == order


def test_one_app() -> None:
    """With an app only it, its sockets and its sums are shown."""
    now = Look(counts(2.0, a={"open": 1}, b={"open": 5}), {}, [socket_row("1", "a", 0, 0), socket_row("2", "b", 0, 0)])
    seen = figures(None, now, app="a")
    assert ([app.name for app in seen.apps], seen.total.open) == (["a"], 1)
    assert [each.row["lease"] for each in seen.sockets] == ["1"]


@given(st.integers(0, 40), st.integers(0, 200), st.integers(0, 30), st.integers(0, 40), st.integers(0, 60))
def test_a_frame_fits_every_screen(lines: int, columns: int, apps: int, sockets: int, selected: int) -> None:
    """A frame has no more lines than the screen and none wider, is inert, and has the marked app on it."""
    names = {f"app{number:02}": {"open": number} for number in range(apps)}
    rows = [socket_row(str(number), "app01", 1, 1) for number in range(sockets)]
    seen = figures(None, Look(counts(1.0, **names), {"app01": QUOTAS}, rows), "n")
    drawn = frame(seen, View("n", selected=selected), columns, lines)
    assert len(drawn) <= lines
    for line in drawn:
        text = "".join(piece for piece, _ in line)
        assert len(text) <= columns
        assert text.isprintable()
    marked = [text for line in drawn for text, style in line if style == "marked"]
    if selected < apps and lines >= 9 and columns >= 5:
        assert [text[:5] for text in marked] == [f"app{selected:02}"]
    assert len(frame(None, View(problem="gone"), columns, lines)) <= lines


def test_a_plain_table() -> None:
    """For a pipe there is a line an app and a line a socket, with bars in ASCII and nothing that a terminal obeys."""
    now = Look(
        counts(1.0, blog={"open": 2, "sent": 1234567}), {"blog": QUOTAS}, [socket_row("aa-1", "blog", 4, 0)], more=True
    )
    lines = plain(figures(None, now))
    assert lines[4].split() == [
        *("blog", "0", "2", "40", "-", "-", "-", "-", "1.23", "MB", "0", "B"),
        *("########--", "82%", "bytes_sent/day,", "resets", "in", "2", "h", "3", "min"),
    ]
    assert lines[7].split()[:6] == ["aa-1", "blog", "7", "agent\\x1b[2J", "[2001:db8::1]:53", "udp"]
    assert lines[8] == "and more; outgate ps shows all"
    assert all(line.isprintable() for line in lines)


# --- against a real gate ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gate() -> Iterator[RunningGate]:
    """A gate with a program that has a connection open, and was refused another."""
    with RunningGate() as gate, peers.echo() as peer, Program(gate, peer, BUSY) as program:
        assert program.said() == {"open": True}
        gate.wait_for(event="decision", verdict="deny")
        yield gate
        program.tell()


def test_once(gate: RunningGate) -> None:
    """--once prints a table of two looks and ends."""
    done = outgate("top", "--once", "--interval", "0.1", "--socket", gate.socket)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("outgate ")
    assert lines[3].split()[:4] == ["app", "procs", "open", "limit"]
    assert lines[4].split()[:6] == ["default", "1", "1", "4,000", "0.0", "0.0"]
    assert "-c" in lines[7]


def test_json(gate: RunningGate, capsys: Capture) -> None:
    """--json prints one object a look, with the figures as numbers."""
    assert main(["top", "--once", "--json", "--interval", "0.1", "--socket", gate.socket]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen["apps"]["default"]["open"] == seen["total"]["open"] == 1
    assert seen["apps"]["default"]["opens_per_s"] == 0.0
    assert [row["program"] for row in seen["sockets"]] == ["-c"]


def test_in_a_pipe_it_goes_on(gate: RunningGate) -> None:
    """Piped it prints a table every interval, until its reader has seen enough."""
    command = f"{' '.join(OUTGATE)} top --interval 0.05 --socket {gate.socket} | grep -m 3 ^default"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE, env=environment())
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["default"] * 3
    assert done.stderr == ""


@pytest.mark.parametrize("words", [["--interval", "0"], ["--interval", "x"], ["--interval", "nan"], ["--sort", "x"]])
def test_wrong_calls(words: list[str], capsys: Capture) -> None:
    """An interval that is none, and a key that sorts by nothing, are wrong calls."""
    with pytest.raises(SystemExit) as caught:
        main(["top", *words])
    assert caught.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_no_gate(capsys: Capture) -> None:
    """Without a gate it ends at once with exit status 1, and says what was tried."""
    for words in ([], ["--json"]):
        assert main(["top", "--socket", "/nowhere/gate.sock", *words]) == 1
    seen = capsys.readouterr()
    assert "no gate answers at /nowhere/gate.sock" in seen.err
    assert json.loads(seen.out)["ok"] is False


class Terminal:
    """A terminal with ``outgate top`` on it, and what it has drawn so far."""

    def __init__(self, gate: RunningGate, *options: str, columns: int = 160, lines: int = 30, **environ: str) -> None:
        self._ours, self._theirs = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self._theirs)
        words = ["top", "--interval", "0.1", "--socket", gate.socket, *options]
        # setsid gives it the terminal as its own, so that keys become signals and it hears of a new size.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *OUTGATE, *words], stdin=self._theirs, stdout=self._theirs, stderr=self._theirs,
            env=environment(TERM="xterm", **environ), close_fds=True,
        )  # fmt: skip
        self.seen = b""
        self._looked_at = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._ours)
        os.close(self._theirs)

    def resize(self, columns: int, lines: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    def wait_for(self, is_there: str | Callable[[list[str]], object]) -> list[str]:
        """Wait for the next frame with this text, or of which this is true, and return its lines without colours."""
        test = is_there if callable(is_there) else lambda lines: any(is_there in line for line in lines)
        while True:
            for drawn in re.compile(rb"\x1b\[H(.*?)\x1b\[J", re.DOTALL).finditer(self.seen, self._looked_at):
                self._looked_at = drawn.end()
                lines = re.sub(rb"\x1b\[[0-9;]*[mK]|\r", b"", drawn[1]).decode().split("\n")
                if test(lines):
                    return lines
            assert select.select([self._ours], [], [], PATIENCE)[0], self.seen[-4000:].decode(errors="replace")
            self.seen += os.read(self._ours, 65536)

    def end(self) -> int:
        """Return its exit status, once all it has drawn is read; the terminal must be as it was."""
        status = self.process.wait(PATIENCE)
        while select.select([self._ours], [], [], 0)[0]:
            self.seen += os.read(self._ours, 65536)
        assert self.seen.endswith(b"\x1b[?7h\x1b[?25h\x1b[?1049l"), self.seen[-200:]
        assert termios.tcgetattr(self._theirs) == self.before
        return status


def test_live(gate: RunningGate) -> None:
    """In a terminal apps and sockets are shown, keys sort and choose an app, and q gives the terminal back."""
    with Terminal(gate) as terminal:
        lines = terminal.wait_for("default")
        assert any(line.startswith("lease") for line in lines)
        assert "█" in "".join(lines) or "░" in "".join(lines)
        assert len(lines) <= 30
        for key, (name, _) in SORTS.items():
            terminal.press(key)
            terminal.wait_for(f"sort by {name}:")
        terminal.press("\x1b[B\x1b[A")
        terminal.press("\r")
        terminal.wait_for("only default, esc all")
        terminal.press("\x1b")
        terminal.wait_for("enter one app")
        terminal.press("q")
        assert terminal.end() == 0


def test_a_new_size(gate: RunningGate) -> None:
    """With a new size the next frame is of that size, without waiting for the next look, however small it is."""
    with Terminal(gate, "--interval", "3600") as terminal:
        terminal.wait_for("default")
        for columns, lines in ((40, 8), (10, 3), (1, 1)):
            terminal.resize(columns, lines)

            def fits(drawn: list[str], columns: int = columns, lines: int = lines) -> bool:
                return len(drawn) <= lines and max(map(len, drawn)) <= columns

            terminal.wait_for(fits)
        terminal.resize(200, 50)
        terminal.wait_for("default")
        terminal.press("q")
        assert terminal.end() == 0


@pytest.mark.parametrize(
    ("how", "status"),
    [
        (lambda terminal: terminal.press("\x03"), 130),
        (lambda terminal: terminal.process.send_signal(signal.SIGTERM), 128 + signal.SIGTERM),
        (lambda terminal: terminal.process.send_signal(signal.SIGHUP), 128 + signal.SIGHUP),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGHUP"],
)
def test_every_end_gives_the_terminal_back(gate: RunningGate, how: Callable[[Terminal], None], status: int) -> None:
    """Interrupted or told to end, it leaves the terminal as it was."""
    with Terminal(gate) as terminal:
        terminal.wait_for("default")
        how(terminal)
        assert terminal.end() == status


def test_ctrl_z(gate: RunningGate) -> None:
    """Ctrl-Z gives the terminal back, and when it goes on it takes it again."""
    with Terminal(gate) as terminal:
        terminal.wait_for("default")
        terminal.press("\x1a")
        # Nobody is there to continue what has no shell, so the kernel lets it go on at once.
        terminal.wait_for(lambda lines: b"\x1b[?1049l\x1b[?1049h" in terminal.seen)
        terminal.wait_for("default")
        terminal.press("q")
        assert terminal.end() == 0


def test_without_colours(gate: RunningGate) -> None:
    """NO_COLOR and an ASCII terminal are heeded; what is marked stays marked."""
    with Terminal(gate, NO_COLOR="1", PYTHONIOENCODING="ascii") as terminal:
        terminal.wait_for("default")
        terminal.press("q")
        assert terminal.end() == 0
        assert set(re.findall(rb"\x1b\[([0-9;]*)m", terminal.seen)) <= {b"7", b"0"}
        terminal.seen.decode("ascii")


def test_a_gate_that_goes_and_comes_again() -> None:
    """When the gate ends it says so and shows what it has seen last, and goes on when there is one again."""
    with RunningGate() as gate, Terminal(gate) as terminal:
        terminal.wait_for("default")
        gate.stop()
        lines = terminal.wait_for("it is tried again")
        assert any(line.startswith("default") for line in lines)
        gate.start()
        terminal.wait_for(lambda lines: "up 0 s" in lines[0] and "tried" not in lines[0])
        terminal.press("q")
        assert terminal.end() == 0
