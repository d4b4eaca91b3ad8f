"""The judge hears everything that arrives, and believes nobody; natively, every way to it works."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import outgate
from outgate.guard import judge as judge_module
from outgate.guard.judge import Judge
from outgate.guard.proof import Round
from outgate.guard.ways import table
from outgate.guard.ways.children import Told, describe, in_fork, in_program
from outgate.guard.ways.target import CLIENT, FENCE, SEAL, USER, V4, Target, Untried

ROOT = str(Path(outgate.__file__).parent.parent)

#: Ways that need something which a host may well lack: a program, a kernel's feature, a right.
OPTIONAL = {"nc", "curl", "perl", "bash", "uvloop", "ctypes-mptcp", "io-uring", "pidfd-getfd", "name"}


@pytest.fixture
def judge() -> Iterator[Judge]:
    """A judge who listens."""
    with Judge() as it:
        yield it


@pytest.fixture(scope="module")
def unheld() -> Round:
    """What became of all ways where nothing holds them."""
    with Judge() as it:
        return it.hear([], ROOT)


def script(path: Path, text: str) -> str:
    """Write an executable shell script and return its path."""
    path.write_text("#!/bin/sh\n" + text, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_the_table_is_whole() -> None:
    """Every way has a name and a title of its own and a level that stops it, and the judge can read its name."""
    assert len(table.ALL) == len(table.WAYS) + 1
    assert len({way.title for way in table.WAYS}) == len(table.WAYS)
    assert {way.stopped_by for way in table.WAYS} == {CLIENT, FENCE, USER, SEAL}
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in table.ALL)


@pytest.mark.slow
@pytest.mark.parametrize("name", [way.name for way in table.WAYS])
def test_every_way_works_unheld(unheld: Round, name: str) -> None:
    """Without outgate each way arrives under its own name, so that where it does not, something stopped it."""
    said = unheld.said[name]
    if name in OPTIONAL and name not in unheld.arrived:
        pytest.skip(said["text"])
    assert name in unheld.arrived, said


@pytest.mark.slow
def test_nothing_else_arrives(unheld: Round) -> None:
    """The program comes to its end without a word on standard error, and sends nothing that has no mark."""
    assert (unheld.status, unheld.strays, unheld.errors, unheld.client) == (0, 0, "", False)
    assert unheld.network == os.readlink("/proc/self/ns/net")
    assert unheld.arrived <= set(table.ALL)


def test_a_mark_may_come_in_pieces(judge: Judge, tmp_path: Path) -> None:
    """A mark that arrives in two segments is one mark, and what was sent when the program ends is not missed."""
    with socket.create_connection((V4, judge.port)) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        sock.sendall(judge.nonce.encode() + b":hal")
        sock.sendall(b"ves\n")
        udp.sendto(f"{judge.nonce}:packet\n".encode(), (V4, judge.port))
        heard = judge.hear([script(tmp_path / "quiet", "")], ROOT)
    assert (heard.arrived, heard.strays, heard.said) == ({"halves", "packet"}, 0, {})


def test_what_has_no_mark_is_counted(judge: Judge, tmp_path: Path) -> None:
    """A connection that says nothing, one that says something else, another nonce and a datagram are all strays."""
    silent = socket.create_connection((V4, judge.port))
    with silent, socket.create_connection((V4, judge.port)) as other, socket.create_connection((V4, judge.port)) as old:
        other.sendall(b"GET / HTTP/1.0\r\n\r\n")
        other.shutdown(socket.SHUT_WR)
        old.sendall(b"0123456789abcdef:connect\n")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.sendto(b"hello", (V4, judge.port))
        heard = judge.hear([script(tmp_path / "quiet", "")], ROOT)
    assert (heard.arrived, heard.strays) == (frozenset(), 4)


def test_rounds_do_not_mix(judge: Judge, tmp_path: Path) -> None:
    """What arrived in one round is not reported in the next."""
    assert judge.hear([], ROOT, ["connect"]).arrived == {"connect"}
    assert judge.hear([script(tmp_path / "quiet", "")], ROOT).arrived == frozenset()


def test_what_the_program_believes_is_kept_apart(judge: Judge, tmp_path: Path) -> None:
    """A program that claims to have arrived, and one that says no JSON, do not make anything arrive."""
    liar = script(tmp_path / "liar", """echo '{"way": "connect", "did": "dialled", "text": ""}'; echo nonsense""")
    heard = judge.hear([liar], ROOT)
    assert heard.said["connect"]["did"] == "dialled"
    assert heard.arrived == frozenset()


def test_a_program_that_fails(judge: Judge, tmp_path: Path) -> None:
    """Exit status and standard error of a program that does not get to dial are passed on."""
    heard = judge.hear([script(tmp_path / "broken", "echo oh dear >&2; exit 7")], ROOT)
    assert (heard.status, heard.errors) == (7, "oh dear")


def test_a_program_that_hangs_is_ended(judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not end is killed with everything it started, and the round says so."""
    monkeypatch.setattr(judge_module, "ROUND_LIMIT", 0.3)
    receiver, sender = os.pipe()
    hanging = script(tmp_path / "hanging", "sleep 600 & exec sleep 600")
    monkeypatch.setattr(judge_module.subprocess, "Popen", _keeping(sender))
    heard = judge.hear([hanging], ROOT)
    os.close(sender)
    assert os.read(receiver, 1) == b"", "nobody is left who holds the other end"
    os.close(receiver)
    assert heard.status == -1
    assert "did not end within 0.3 s" in heard.errors


def _keeping(fd: int) -> object:
    """Return a Popen that hands an fd on, so that its end tells of the end of everybody who got it."""
    import subprocess

    native = subprocess.Popen

    def popen(*args: object, **kwargs: object) -> object:
        return native(*args, **kwargs, pass_fds=[fd])  # type: ignore[call-overload]

    return popen


def test_ipv6_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host without IPv6 the judge listens by IPv4 alone, and the IPv6 ways say that they cannot be tried."""
    monkeypatch.setattr(judge_module, "_has_ipv6", lambda: False)
    with Judge() as judge:
        assert not judge.ipv6
        heard = judge.hear([], ROOT, ["connect", "ipv6", "ctypes-ipv6"])
    assert heard.arrived == {"connect"}
    assert heard.said["ipv6"]["did"] == heard.said["ctypes-ipv6"]["did"] == "untried"


def test_a_port_that_is_half_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is free for one transport only is given up for another, and in the end the reason is told."""
    tries = []
    native = socket.socket.bind

    def bind(self: socket.socket, address: tuple[str, int]) -> None:
        tries.append(address[1])
        if address[1] and len(tries) < limit:
            raise OSError(errno.EADDRINUSE, "in use")
        native(self, address)

    monkeypatch.setattr(judge_module.socket.socket, "bind", bind, raising=False)
    limit = 6
    with Judge() as judge:
        assert judge.port
    limit = sys.maxsize
    with pytest.raises(OSError, match="no port is free"):
        Judge()


# How a way is carried out by a child, and told on.


def target() -> Target:
    """Return a target at which nothing listens."""
    return Target(ROOT, 9, "nonce", True)


def test_describe() -> None:
    """Refusals are told from failures by their code, causes are looked for in URLError, and numbers are named."""
    from urllib.error import URLError

    from outgate import errors

    refusal = errors.build("fast-open", {})
    assert describe(refusal)["did"] == "refused"
    assert describe(URLError(refusal))["code"] == "fast-open"
    assert describe(OSError(errno.ENETUNREACH, "x"))["errno"] == "ENETUNREACH"
    assert describe(OSError(errno.ENETUNREACH, "x"))["did"] == "failed"
    assert describe(TimeoutError())["text"] == "TimeoutError"
    assert describe(Untried("no such thing")) == {
        "did": "untried", "error": "", "errno": "", "code": "", "text": "no such thing",
    }  # fmt: skip
    assert describe(None, "well") == {"did": "dialled", "error": "", "errno": "", "code": "", "text": "well"}
    assert describe(Told(describe(refusal))) == describe(refusal)


def test_a_forked_child_tells() -> None:
    """What a forked child raised is told on in its words, and what it returned is returned."""

    def refused(_target: Target, _mark: bytes) -> None:
        raise OSError(errno.ECONNREFUSED, "no")

    with pytest.raises(Told) as told:
        in_fork(refused, target(), b"")
    assert told.value.words["errno"] == "ECONNREFUSED"
    assert in_fork(lambda _target, mark: mark.decode(), target(), b"said") == "said"


def test_a_forked_child_that_dies() -> None:
    """A child that dies without a word is a failure, not a success."""

    def die(_target: Target, _mark: bytes) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(OSError, match="said nothing"):
        in_fork(die, target(), b"")


def test_other_programs_tell() -> None:
    """A program that is not there is not tried; one that fails is told by its last line, or by its status."""
    with pytest.raises(Untried, match="no-such-program"):
        in_program(["no-such-program"])
    with pytest.raises(OSError, match=r"^second$"):
        in_program(["sh", "-c", "echo first >&2; echo second >&2; exit 1"])
    with pytest.raises(OSError, match="exit status 4"):
        in_program(["sh", "-c", "exit 4"])
    assert in_program(["cat"], b"given\n") == "given"


def test_the_judge_lets_go(judge: Judge) -> None:
    """A closed judge leaves its port to others."""
    judge.hear([], ROOT, ["connect"])
    judge.close()
    # Not by a server of our own there: a connection of another test may have been given the number meanwhile.
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [local for _, local, _, state, *_ in sockets if state == "0A"]
    assert not [local for local in listening if local.endswith(f":{judge.port:04X}")]
