"""Small parts of the server: what is printed, who has a port, pauses, headers, what a changed file touches."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from outgate.dev import front, instances, output, ports, server, sockets
from outgate.dev.appyaml import AppYaml
from outgate.dev.plan import Plan
from outgate.errors import ConfigError


class Terminal(io.StringIO):
    """A stream that says it is one, of an encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True


def test_lines_are_aligned_and_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal each service has a colour of its own, its instances the same; elsewhere and by NO_COLOR none."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    shown = Terminal("utf-8")
    printer = output.Printer(shown, 9)
    for who in ("front/0", "back/0", "front/1"):
        printer.line(who, "x")
    colours = [line.partition("m")[0] for line in shown.getvalue().splitlines()]
    assert colours[0] == colours[2] != colours[1]
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal("utf-8")
    output.Printer(plain, 9).line("front/0", "x")
    assert plain.getvalue() == "front/0   | x\n"


def test_what_the_encoding_lacks_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A character that the terminal's encoding lacks is escaped, and nothing raises."""
    monkeypatch.setenv("NO_COLOR", "1")
    shown = Terminal("ascii")
    output.Printer(shown).line("a", "→")
    assert shown.getvalue() == "a       | \\u2192\n"


def test_nobody_reads() -> None:
    """A closed stream ends nothing."""
    shown = io.StringIO()
    printer = output.Printer(shown)
    shown.close()
    printer.say("x")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"event": "decision", "verdict": "allow", "reason": "r"}, ""),
        ({"event": "end", "verdict": "deny"}, ""),
        ({"event": "decision", "verdict": "deny", "reason": "r", "cure": "to permit: c"}, "r; to permit: c"),
        ({"event": "decision", "verdict": "report", "reason": "r to permit: c", "cure": "c"}, "r to permit: c"),
        ({"event": "decision", "verdict": "deny"}, "refused"),
    ],
)
def test_refusals_of_the_gates_log(line: dict[str, str], sentence: str) -> None:
    """A decision that denies, or would, is a sentence with its cure; every other line is none."""
    assert output.refusal(line) == sentence


def test_who_has_a_port() -> None:
    """The process that listens at a port is found, and named where the port is asked for."""
    with ports.listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        assert ports.holder(port).startswith(f"process {os.getpid()} (")
        with pytest.raises(ConfigError, match=rf"port {port} is in use by process {os.getpid()} .*--port"):
            ports.listen("127.0.0.1", port)
    assert ports.holder(port) == ""


@pytest.mark.parametrize("host", ["no such host", "203.0.113.1"])
def test_an_address_that_is_not_ours(host: str) -> None:
    """An address that cannot be listened at is an error in a sentence."""
    with pytest.raises(ConfigError):
        ports.listen(host, 0)


def test_pauses_grow_to_half_a_minute() -> None:
    """What ends again and again is started less and less often."""
    assert [instances.pause(failures) for failures in (1, 2, 3, 6, 100)] == [1, 2, 4, 30, 30]


def test_socket_names_are_short_and_differ() -> None:
    """Whatever names apps and services have, paths of Unix sockets fit the kernel's 107 bytes and no two are equal."""
    folder = "/" + "x" * 74
    names = [
        sockets.gate(folder),
        *(make(folder, name) for name in ("a", "b" * 63) for make in (sockets.gate_of, sockets.tasks_of)),
        *(sockets.instance(folder, name, number) for name in ("a", "b" * 63) for number in (0, 19)),
    ]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 107


def test_which_services_a_change_touches() -> None:
    """A file in a service's folder is that service's, in a folder of two both's, and app.yaml is the plan's."""
    made = Plan(
        (AppYaml("a", "/a"), AppYaml("b", "/b", service="b"), AppYaml("c", "/b", service="c")), files=("/b/app.yaml",)
    )
    assert server.affected(made, {"/a/x.py"}) == (False, ["default"])
    assert server.affected(made, {"/b/x.py"}) == (False, ["b", "c"])
    assert server.affected(made, {"/b/app.yaml"}) == (True, [])
    assert server.affected(made, {"/ab/x.py"}) == (False, [])


def test_headers_that_pass_to_an_instance() -> None:
    """What is of one connection, of the front or of App Engine alone stays out; all else passes in its order."""
    given = [
        (b"host", b"localhost:1"),
        (b"connection", b"keep-alive, X-Hop"),
        (b"x-hop", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"X-APPENGINE-TaskName", b"t"),
        (b"x_appengine_taskname", b"t"),
        (b"x-forwarded-for", b"9.9.9.9"),
        (b"expect", b"100-continue"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
    ]
    passed = front.passed_on({"headers": given, "client": ("192.0.2.1", 5)})
    assert passed == [
        (b"host", b"localhost:1"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"Transfer-Encoding", b"chunked"),
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"localhost:1"),
        (b"X-AppEngine-User-IP", b"192.0.2.1"),
    ]


def test_orphans_are_ended() -> None:
    """A daemon that left its parent and its session is found and killed, and a child that is spared is not."""
    code = """
import subprocess, sys
from outgate.dev import descendants
descendants.adopt()
spared = subprocess.Popen(["sleep", "1000"])
subprocess.run(["sh", "-c", "setsid sleep 1000 & setsid sleep 1000 &"], check=True)
before = descendants.children()
descendants.end(frozenset({spared.pid}))
print(len(before), descendants.children() == {spared.pid}, spared.poll())
spared.kill(); spared.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "3 True None\n"


def test_a_childless_process_has_no_children() -> None:
    """Where nothing was started nothing is found."""
    code = "from outgate.dev import descendants; print(descendants.children())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "set()\n"
