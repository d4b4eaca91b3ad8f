"""`outgate ps` and `kill` of sockets that are with, or of, another gate."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from outgate.cli.main import main
from outgate.core.formats import messages
from outgate.lookout import ask
from outgate.testing.running import RunningGate
from support import peers
from support.driven import Driven, Refused
from support.fleets import fleet


def listed(gate: RunningGate) -> list[dict[str, Any]]:
    """Return the rows of `outgate ps`."""
    return ask.request(gate.socket, {"op": messages.LIST, "after": -1})["answer"]["sockets"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_a_socket_is_shown_at_both_gates_and_ended_at_either(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At A it says which gate has it, at B whose it is; a kill at B is B's program's alone, one at A everybody's."""
    with peers.echo() as peer, fleet(path=path) as gates, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        front.do(f"sock = socket.create_connection({peer.address!r}, 15); import outgate, os")
        text = front.do("text = outgate.descriptor(sock)") or front.do("text")
        for _ in range(2):
            worker.do(f"import outgate, os; sock = outgate.adopt({text!r}); sock.settimeout(15)")
            worker.do("sock.sendall(b'hello')")
            assert worker.do("sock.recv(5, socket.MSG_WAITALL).decode()") == "hello"
            (own,), (guest,) = listed(gates["a"]), listed(gates["b"])
            assert (own["gate"], own["elsewhere"]) == ("", ["b"])
            assert own["holders"] == [front.do("os.getpid()")]
            assert (guest["gate"], guest["lease_there"], guest["elsewhere"]) == ("a", own["lease"], [])
            assert (guest["app"], guest["path"], guest["state"]) == ("worker", "relay", "open")
            assert (guest["host"], guest["address"], guest["port"]) == (own["host"], own["address"], own["port"])
            assert (guest["sent"], guest["received"]) == (5, 5)
            assert guest["holders"] == [guest["pid"]] == [worker.do("os.getpid()")]
            assert 0 <= guest["idle"] <= guest["age"]
            assert main(["ps", "--socket", gates["a"].socket]) == 0
            assert main(["ps", "--socket", gates["b"].socket]) == 0
            shown = capsys.readouterr().out
            assert f"{own['pid']} at gate b" in shown
            assert "relay, of gate a" in shown

            kill = {"op": messages.KILL, "lease": guest["lease"]}
            assert ask.request(gates["b"].socket, kill)["answer"] == {"ok": True, "lease": guest["lease"]}
            with pytest.raises(Refused) as refused:
                worker.do("sock.recv(1)")
            assert refused.value.errno == errno.ECONNRESET
            with pytest.raises(Refused) as refused:
                worker.do("sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)")
            assert (refused.value.code, "outgate kill at gate b" in str(refused.value)) == ("cut", True)
            worker.do("sock.close()")
            assert listed(gates["b"]) == []
            assert gates["b"].wait_for(event="fleet-lost", reason="killed")["gate"] == "a"
            gates["a"].wait_for_counts("worker", processes=1)  # B's has left
            assert listed(gates["a"])[0]["elsewhere"] == []
            front.do("sock.sendall(b'still here')")
            assert front.do("sock.recv(10, socket.MSG_WAITALL).decode()") == "still here"
        front.do("sock.close()")


def test_pages_go_through_all_kinds_of_sockets() -> None:
    """Sockets of both gates are shown in the order of their age, page by page, each once."""
    with peers.echo() as peer, fleet() as gates, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        front.do(f"socks = [socket.create_connection({peer.address!r}, 15) for _ in range(60)]; import outgate")
        texts = front.do("texts = [outgate.descriptor(each) for each in socks]") or front.do("texts")
        worker.do("import outgate; socks = []")
        for text in texts:
            worker.do(f"socks.append(socket.create_connection({peer.address!r}, 15))")
            worker.do(f"socks.append(outgate.adopt({text!r}))")
        first = ask.request(gates["b"].socket, {"op": messages.LIST, "after": -1})["answer"]
        second = ask.request(gates["b"].socket, {"op": messages.LIST, "after": first["next"]})["answer"]
        rows = [*first["sockets"], *second["sockets"]]
        assert sorted(row["gate"] for row in rows) == [""] * 60 + ["a"] * 60
        numbers = [int(row["lease"].split("-")[1]) for row in rows]
        assert numbers == sorted(set(numbers))
        pid = worker.do("__import__('os').getpid()")
        assert {tuple(row["holders"]) for row in rows} == {(pid,)}
        worker.do("[each.close() for each in socks]")
        front.do("[each.close() for each in socks]")
