"""The running gate that tests use does what its words say."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from outgate.gate.ledger import spool
from outgate.testing.names import FixedNames
from outgate.testing.running import RunningGate
from support import peers
from support.raw import RawChannel

pytestmark = pytest.mark.slow


def test_bad_configuration() -> None:
    """A gate that cannot start raises with what it said on standard error."""
    gate = RunningGate(config="version = 1\n[apps.Blog]\n")
    with pytest.raises(RuntimeError, match="not a name for an app"):
        gate.start()
    with pytest.raises(AssertionError):
        gate.pid
    gate.__exit__()


def test_reload() -> None:
    """A new configuration text is in force after reload(), a bad one is refused and leaves the old one."""

    def text(rules: str) -> str:
        return f"version = 1\n[apps.blog]\nuid = [{os.getuid()}]\nbilling = true\ntrusted = true\nexcept = [{rules}]\n"

    with RunningGate(config=text("")) as gate, peers.sink() as peer, RawChannel(gate.socket) as channel:
        ((id, sock),) = channel.new()
        with sock:
            assert channel.connect(id, peer.address)["error"]["code"] == "policy-denied"
            assert gate.reload("nonsense")["ok"] is False
            assert "expected '='" in gate.wait_for(event="reload-failed")["reason"].lower()
            assert channel.connect(id, peer.address)["error"]["code"] == "policy-denied"
            gate.write_config(text('"127.0.0.1"'))
            gate.signal(signal.SIGHUP)
            assert gate.wait_for(event="reload")["policy"] == 2
            assert "lease" in channel.connect(id, peer.address)
            assert gate.wait_for(event="decision", verdict="allow")["policy"] == 2


def test_its_ledger_is_its_own() -> None:
    """What its ledger does not take stays in its own folder, where no other gate finds it, after a reload too."""
    text = f"""
version = 1
[ledger]
url = "missing/ledger.sqlite"
[apps.blog]
uid = [{os.getuid()}]
billing = true
trusted = true
except = ["127.0.0.1"]
"""
    with RunningGate(config=text) as gate, peers.echo() as peer:
        assert gate.reload(text + "quotas = { connect = { day = 9 } }\n")["warnings"] == []
        with RawChannel(gate.socket) as channel:
            ((id, sock),) = channel.new()
            with sock:
                channel.connect(id, peer.address)
                sock.sendall(b"word")
                assert sock.recv(4, socket.MSG_WAITALL) == b"word"
            gate.wait_for(event="end")
        assert gate.stop() == 0
        (path,) = Path(gate.folder, "state").glob("ledger-*.spool")
        left = spool.load(str(path))
        assert left is not None
        assert [sum(counts[0] for of in each.rows.values() for counts in of.values()) for each in left.batches] == [4]


def test_wait_says_what_there_is() -> None:
    """A wait for a line that does not come ends with the last lines, at once where the gate has ended."""
    with RunningGate() as gate:
        with pytest.raises(TimeoutError, match=r"within 0\.01 s(.|\n)*'start'"):
            gate.wait_for(event="never", limit=0.01)
        gate.kill()
        with pytest.raises(TimeoutError, match="the log ended"):
            gate.wait_for(event="never")
        gate.restart()
        assert gate.app()["held"] == 0


def test_names() -> None:
    """The gate's resolver knows the table and localhost, in any spelling, and no other name."""
    with RunningGate(names={"Peer.test": ["127.0.0.1", "::1"]}) as gate, RawChannel(gate.socket) as channel:
        answer = channel.ask("resolve", call="getaddrinfo", args=["peer.TEST.", 80, 0, socket.SOCK_STREAM])["answer"]
        assert [item[4][0] for item in answer] == ["127.0.0.1", "::1"]
        assert channel.ask("resolve", call="gethostbyname_ex", args=["localhost"])["answer"][2] == ["127.0.0.1"]
        assert channel.ask("resolve", call="gethostbyaddr", args=["::1"])["answer"][0] == "localhost"
        assert channel.ask("resolve", call="getaddrinfo", args=["far.test", 80])["errno"] == socket.EAI_NONAME
        with peers.sink() as peer:
            ((id, sock),) = channel.new()
            with sock:
                assert "lease" in channel.connect(id, ("peer.test", peer.port))


def test_names_judge_arguments_as_c_does() -> None:
    """Wrong arguments raise what the C library's own functions raise."""
    names = FixedNames()
    with pytest.raises(TypeError):
        names.getaddrinfo(7, 80)
    with pytest.raises(UnicodeError):
        names.getaddrinfo("x" * 64, 80)
    with pytest.raises(socket.herror):
        names.gethostbyaddr("192.0.2.1")
