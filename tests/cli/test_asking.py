"""``status``, ``stats`` and ``reload`` ask a gate; what answers may also refuse, be silent, or be no gate."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import outgate as package
from cli.conftest import config_text
from outgate.cli.main import main
from outgate.core.formats import messages
from outgate.lookout import ask
from support import peers
from support.commands import Served, environment, outgate, python, serving
from support.raw import RawChannel

Capture = pytest.CaptureFixture[str]


@contextlib.contextmanager
def answering(path: Path, *packets: bytes) -> Iterator[str]:
    """Have something listen that sends these packets to whoever asks, and then ends the channel."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            for packet in packets:
                channel, _ = listener.accept()
                with channel:
                    channel.recv(messages.MAX_PACKET)
                    if packet:
                        channel.send(packet)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield str(path)
        thread.join()


def test_status(gate: Served, capsys: Capture) -> None:
    """A gate that answers is exit status 0, with who it is, its policy, and which app one is to it."""
    assert main(["status", "--socket", gate.socket]) == 0
    text = capsys.readouterr().out
    assert text.startswith("answers, outgate ")
    assert f"pid      {gate.process.pid}, up " in text
    assert "you are  app blog" in text
    assert "in use   0 processes, 0 channels" in text, "the one that asks is not counted"
    with RawChannel(gate.socket) as channel:
        channel.ask("stat")
        capsys.readouterr()
        assert main(["status", "--socket", gate.socket]) == 0
        assert "in use   1 process, 1 channel\n" in capsys.readouterr().out


def test_status_in_json(gate: Served, capsys: Capture) -> None:
    """``--json`` has the same for a program to read."""
    assert main(["status", "--json", "--socket", gate.socket]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is True
    assert (answer["app"], answer["pid"], answer["socket"]) == ("blog", gate.process.pid, gate.socket)
    assert answer["processes"] == 0


def test_gate_by_environment(gate: Served, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Without ``--socket`` the gate that OUTGATE_SOCKET names is asked."""
    monkeypatch.setenv("OUTGATE_SOCKET", gate.socket)
    assert main(["status"]) == 0
    assert gate.socket in capsys.readouterr().out


@pytest.mark.parametrize("command", ["status", "stats", "reload"])
def test_nobody_answers(tmp_path: Path, command: str, capsys: Capture) -> None:
    """Where no gate answers the exit status is 1, with the path that was tried and how to start one."""
    path = str(tmp_path / "gate.sock")
    assert main([command, "--socket", path]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert f"no gate answers at {path}: No such file or directory; start one with: outgate serve" in output.err
    assert main([command, "--json", "--socket", path]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


@pytest.mark.parametrize(
    ("packet", "sentence"),
    [
        (b"", "closed the channel"),
        (b"\xff\x00", "is no gate"),
        (b"[1]", "is no gate"),
        (b"3", "is no gate"),
    ],
)
def test_something_else_answers(tmp_path: Path, packet: bytes, sentence: str, capsys: Capture) -> None:
    """What answers without being a gate is told as such, without a traceback."""
    with answering(tmp_path / "s", packet) as path:
        assert main(["status", "--socket", path]) == 1
    assert sentence in capsys.readouterr().err


def test_paths_that_cannot_be(capsys: Capture) -> None:
    """A path that no socket can have is a gate that does not answer."""
    for path in ("/" + "x" * 200, "/a\0b"):
        assert main(["status", "--socket", path]) == 1
        assert "no gate answers at" in capsys.readouterr().err


def test_refused(tmp_path: Path, capsys: Capture) -> None:
    """A gate that refuses this user answers, so status is 0 and says it; stats and reload fail with the reason."""
    refusal = json.dumps({"error": {"code": "no-app", "facts": {"uid": 7}}, "end": True}).encode()
    with answering(tmp_path / "s", *[refusal] * 4) as path:
        assert main(["status", "--socket", path]) == 0
        assert "refuses you: no app is configured for uid 7" in capsys.readouterr().out
        assert main(["status", "--json", "--socket", path]) == 0
        assert json.loads(capsys.readouterr().out)["refused"].startswith("no app is configured")
        for command in ("stats", "reload"):
            assert main([command, "--socket", path]) == 1
            assert "no app is configured for uid 7" in capsys.readouterr().err


def test_a_newer_gates_refusal(tmp_path: Path, capsys: Capture) -> None:
    """A refusal with a code that this version does not know is told by its code."""
    refusal = json.dumps({"error": {"code": "moon-phase", "facts": {}}}).encode()
    with answering(tmp_path / "s", refusal) as path:
        assert main(["stats", "--socket", path]) == 1
    assert "moon-phase" in capsys.readouterr().err


def test_the_operator_need_not_be_an_app(tmp_path: Path, capsys: Capture) -> None:
    """The gate's own user may ask for status, stats, why and a reload without being an app, and gets no socket."""
    path = tmp_path / "outgate.toml"
    path.write_text(config_text(os.getuid() + 10), encoding="utf-8")
    with serving(tmp_path, "--config", str(path)) as gate:
        for command in ("status", "stats", "reload"):
            assert main([command, "--socket", gate.socket]) == 0
        assert "you are  no app" in capsys.readouterr().out
        assert main(["why", "8.8.8.8:443", "--socket", gate.socket]) == 2
        assert "say which: blog, shop, unpaid" in capsys.readouterr().err
        assert main(["why", "8.8.8.8:443", "--app", "blog", "--socket", gate.socket]) == 0
        done = outgate("run", "--socket", gate.socket, "--", "true")
        assert done.returncode == 2
        assert f"no app for uid {os.getuid()}" in done.stderr
        code = "import socket\ntry: socket.socket()\nexcept PermissionError as e: tell(e.code)"
        env = environment(OUTGATE_SOCKET=gate.socket)
        env["PYTHONPATH"] = str(Path(package.__file__).parent / "client" / "autoload")
        done = outgate_python(code, env)
        assert json.loads(done) == "no-app"


def outgate_python(code: str, env: dict[str, str]) -> str:
    """Run a Python program with the client in an environment and return what it prints."""
    import subprocess

    return subprocess.run(python(code), env=env, capture_output=True, text=True, timeout=30, check=True).stdout


def test_stats(tmp_path: Path, config: Path, capsys: Capture) -> None:
    """Sockets, connects, refusals and bytes of an app are counted, in a table and in JSON."""
    file = tmp_path / "outgate.toml"
    with peers.echo() as peer, serving_loopback(tmp_path, file, peer.port) as gate:
        code = f"""
import socket
with socket.create_connection(("127.0.0.1", {peer.port})) as sock:
    sock.sendall(b"x" * 1234)
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(65536): pass
try: socket.create_connection(("169.254.169.254", 80))
except PermissionError: pass
"""
        done = outgate("run", "-q", "--socket", gate.socket, "--", *python(code))
        assert done.returncode == 0, done.stderr
        # One channel after another: the gate has read the end of the program's before it reads this one's request.
        assert main(["stats", "--json", "--socket", gate.socket]) == 0
        counts = json.loads(capsys.readouterr().out)["apps"]["blog"]
        assert (counts["connects"], counts["denied"], counts["open"]) == (1, 1, 0)
        assert (counts["sent"], counts["received"]) == (1234, 1234)
        assert counts["sockets"] >= 2
        assert main(["stats", "--socket", gate.socket]) == 0
        header, blog = (line.split() for line in capsys.readouterr().out.splitlines())
    row = dict(zip(header, blog, strict=True))
    assert (row["app"], row["connects"], row["denied"], row["sent"]) == ("blog", "1", "1", "1,234")


@contextlib.contextmanager
def serving_loopback(folder: Path, file: Path, port: int) -> Iterator[Served]:
    """Have a gate whose app ``blog``, this user's, may connect to one port of loopback."""
    file.write_text(
        f"version = 1\n[apps.blog]\nuid = [{os.getuid()}]\nbilling = true\ntrusted = true\n"
        f'except = ["127.0.0.1:{port}"]\n',
        encoding="utf-8",
    )
    with serving(folder, "--config", str(file)) as served:
        yield served


def test_stats_of_several_apps(gate: Served, capsys: Capture) -> None:
    """With several apps there is a line for each and one for all."""
    assert main(["stats", "--socket", gate.socket]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["app", "blog", "shop", "unpaid", "all"]


def test_reload(tmp_path: Path, capsys: Capture) -> None:
    """A reload puts the file as it is now in force, and a file that cannot be used leaves the old one."""
    file = tmp_path / "outgate.toml"
    file.write_text(config_text(os.getuid()), encoding="utf-8")
    with serving(tmp_path, "--config", str(file)) as gate:
        source = ["--socket", gate.socket]
        assert main(["why", "10.9.9.9:80", *source]) == 1
        file.write_text(config_text(os.getuid()).replace("10.2.0.0/16:5432", "10.9.9.9:80"), encoding="utf-8")
        assert main(["reload", *source]) == 0
        assert capsys.readouterr().out.endswith("policy 2 is in force; 0 open connections judged again\n")
        assert main(["why", "10.9.9.9:80", *source]) == 0
        file.write_text("version = 1\nsurprise = true\n", encoding="utf-8")
        assert main(["reload", *source]) == 1
        errors = capsys.readouterr().err
        assert "surprise: unknown key" in errors
        assert "policy 2 stays in force" in errors
        assert main(["reload", "--json", *source]) == 1
        assert json.loads(capsys.readouterr().out)["ok"] is False
        assert main(["why", "10.9.9.9:80", *source]) == 0


def test_reload_says_warnings(tmp_path: Path, capsys: Capture) -> None:
    """Warnings of the new file are said; what the command line of ``serve`` overrides is no change to warn about."""
    file = tmp_path / "outgate.toml"
    file.write_text(config_text(os.getuid()), encoding="utf-8")
    with serving(tmp_path, "--config", str(file)) as gate:
        assert main(["reload", "--socket", gate.socket]) == 0
        assert capsys.readouterr().err == ""
        file.write_text(config_text(os.getuid()).replace("9.9.9.0/24", "203.0.113.0/24"), encoding="utf-8")
        assert main(["reload", "--socket", gate.socket]) == 0
        assert "warning: apps.shop.allow[0]" in capsys.readouterr().err


def test_pages_are_asked_for_one_by_one() -> None:
    """Each is asked for behind the one before, and not before that is done with; one without a next is the last."""
    asked: list[dict[str, object]] = []

    def answer(message: dict[str, object]) -> dict[str, object]:
        asked.append(message)
        return {"rows": len(asked), **({} if len(asked) == 3 else {"next": f"n{len(asked)}"})}

    given = ask.paged(answer, {"op": messages.QUOTA, "app": "blog"})
    assert (next(given)["rows"], len(asked)) == (1, 1)
    assert [each["rows"] for each in given] == [2, 3]
    assert [each.get("after") for each in asked] == [None, "n1", "n2"]
    assert all((each["op"], each["app"]) == (messages.QUOTA, "blog") for each in asked)


def test_more_apps_than_fit_one_reply(tmp_path: Path) -> None:
    """Of a thousand apps with the longest names each is counted once, and status and stats are answered."""
    names = [f"{number:04}".ljust(63, "x") for number in range(1000)]
    tables = "\n".join(f"[apps.{name}]\nuid = [{40_000 + at}]\nbilling = true\n" for at, name in enumerate(names))
    path = tmp_path / "outgate.toml"
    path.write_text(f"version = 1\n{tables}")
    with serving(tmp_path, "--config", str(path)) as gate:
        assert outgate("status", "--socket", gate.socket).returncode == 0
        answer = json.loads(outgate("stats", "--json", "--socket", gate.socket).stdout)
        top = json.loads(outgate("top", "--once", "--json", "--interval", "0.05", "--socket", gate.socket).stdout)
    assert list(answer["apps"]) == names
    assert len(top["apps"]) == 1000
