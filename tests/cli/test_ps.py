"""``outgate ps`` shows what is open and who holds it; ``outgate kill`` resets single connections, and says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gate.test_meter_close import Program
from outgate.cli.main import main
from outgate.testing.running import RunningGate
from support import peers

Capture = pytest.CaptureFixture[str]

OPEN = """
s.sendall(b"hello")
s.recv(5)
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.connect(s.getpeername())
u.send(b"abc")
say(open=True)
told()
def what(call):
    try:
        return repr(call())
    except OSError as e:
        return type(e).__name__
say(first=what(lambda: s.recv(1)), then=what(lambda: s.send(b"x")))
told()
say(again=what(lambda: s.connect(("127.0.0.1", int(sys.argv[1])))))
told()
"""


def listed(gate: RunningGate, capsys: Capture, *options: str) -> list[dict[str, Any]]:
    """Return what ``outgate ps --json`` shows."""
    capsys.readouterr()
    assert main(["ps", "--json", "--socket", gate.socket, *options]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is True
    return answer["sockets"]


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_what_is_open_and_its_end(path: str, capsys: Capture) -> None:
    """An open socket is shown with traffic and holders, reset when it is killed, and connects again by the gate."""
    with RunningGate(path=path) as gate, peers.echo() as peer, Program(gate, peer, OPEN) as program:
        assert program.said() == {"open": True}
        gate.stats()
        tcp, udp = listed(gate, capsys)
        assert {name: tcp[name] for name in ("app", "program", "transport", "path", "sent", "received", "state")} == {
            "app": "default", "program": "-c", "transport": "tcp", "path": path, "sent": 5, "received": 5,
            "state": "open",
        }  # fmt: skip
        assert tcp["holders"] == [tcp["pid"]] == [program.process.pid]
        assert (tcp["address"], tcp["port"], tcp["tenure"]) == ("127.0.0.1", peer.port, "held")
        assert 0 <= tcp["idle"] <= tcp["age"]
        assert (udp["transport"], udp["sent"], udp["port"]) == ("udp", 3, peer.port)
        assert listed(gate, capsys, "--app", "other") == []

        assert main(["ps", "--socket", gate.socket]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split()[:3] == ["lease", "app", "pid"]
        assert lines[1].split()[:5] == [tcp["lease"], "default", str(tcp["pid"]), f"127.0.0.1:{peer.port}", path]

        assert main(["kill", "--socket", gate.socket, tcp["lease"]]) == 0
        assert capsys.readouterr().out == f"{tcp['lease']} ended\n"
        assert main(["kill", "--json", "--socket", gate.socket, udp["lease"]]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["ok"], answer["leases"]) == (True, [{"lease": udp["lease"], "ok": True}])
        assert gate.wait_for(event="end", lease=tcp["lease"])["how"] == "killed"
        assert gate.wait_for(event="end", lease=udp["lease"])["how"] == "killed"
        program.tell()
        assert program.said() == {"first": "ConnectionResetError", "then": "BrokenPipeError"}
        assert listed(gate, capsys) == []
        assert main(["kill", "--json", "--socket", gate.socket, tcp["lease"]]) == 1
        (again,) = json.loads(capsys.readouterr().out)["leases"]
        assert (again["lease"], again["ok"]) == (tcp["lease"], False)
        connects = gate.stats()["apps"]["default"]["connects"]
        program.tell()
        if path == "direct":
            assert program.said() == {"again": "None"}
            assert gate.stats()["apps"]["default"]["connects"] == connects + 1, "and not by the kernel alone"
        else:
            program.said()
        program.tell()


def test_more_than_a_page(capsys: Capture) -> None:
    """More sockets than fit one reply are all shown, each once, the oldest first."""
    code = """
    others = [socket.create_connection(s.getpeername()) for _ in range(249)]
    say(open=True)
    told()
    """
    with RunningGate() as gate, peers.silent() as peer, Program(gate, peer, code) as program:
        assert program.said() == {"open": True}
        sockets = listed(gate, capsys)
        numbers = [int(row["lease"].partition("-")[2]) for row in sockets]
        assert len(numbers) == 250
        assert numbers == sorted(set(numbers))
        program.tell()


@pytest.mark.parametrize("name", ["", "nonsense", "-", "00000000-1", "{boot}-99999999999999999999999", "{boot}-x", "é"])
def test_kill_of_what_is_not_open(name: str, capsys: Capture) -> None:
    """A name of no open socket is exit status 1, and says so."""
    with RunningGate() as gate:
        boot = gate.stats()["boot"]
        assert main(["kill", "--socket", gate.socket, name.format(boot=boot)]) == 1
        assert "is open" in capsys.readouterr().err
