"""``outgate drain``: nothing new is opened, what is open goes on, and the gate stops when that has ended."""

from __future__ import annotations

import json
import threading

import pytest

from gate.test_meter_close import Program
from outgate.cli.main import main
from outgate.testing.running import RunningGate
from support import peers

Capture = pytest.CaptureFixture[str]

CODE = """
say(open=True)
told()
s.sendall(b"goes on")
echoed = s.recv(7).decode()
def opens():
    try:
        socket.create_connection(s.getpeername()).close()
    except OSError as e:
        return type(e).__name__, getattr(e, "code", "")
    return "opened", ""
say(echoed=echoed, new=opens())
told()
say(new=opens())
told()
s.close()
"""


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_it_waits_for_what_is_open(path: str, capsys: Capture) -> None:
    """An open connection goes on, a new one is refused until that is taken back, and its close stops the gate."""
    with RunningGate(path=path) as gate, peers.echo() as peer, Program(gate, peer, CODE) as program:
        assert program.said() == {"open": True}
        assert main(["drain", "--socket", gate.socket, "--timeout", "0", "--json"]) == 1
        assert json.loads(capsys.readouterr().out) == {"v": 1, "ok": False, "stopped": False, "open": 1}
        program.tell()
        assert program.said() == {"echoed": "goes on", "new": ["GateUnavailable", "draining"]}

        assert main(["drain", "--socket", gate.socket, "--cancel"]) == 0
        program.tell()
        assert program.said() == {"new": ["opened", ""]}

        seen = len(gate.log)
        statuses: list[int] = []
        waiting = threading.Thread(target=lambda: statuses.append(main(["drain", "--socket", gate.socket])))
        waiting.start()
        gate.wait_for(event="drain", since=seen)
        program.tell()
        waiting.join(20)
        assert statuses == [0]
        assert gate.wait_for(event="end", port=peer.port, sent=7)["received"] == 7
        gate.wait_for(event="stop")


def test_nothing_open(capsys: Capture) -> None:
    """Where nothing is open the gate stops at once."""
    with RunningGate() as gate:
        assert main(["drain", "--socket", gate.socket]) == 0
        assert capsys.readouterr().out == "the gate has stopped\n"
        gate.wait_for(event="stop")


def test_no_gate(tmp_path: object, capsys: Capture) -> None:
    """Without a gate there is nothing to drain: exit status 1 and the reason."""
    assert main(["drain", "--socket", f"{tmp_path}/none.sock"]) == 1
    assert "no gate answers" in capsys.readouterr().err
