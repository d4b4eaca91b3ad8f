"""The handlers of logging that send records over the network, natively and over both paths, against real servers."""

from __future__ import annotations

import logging
import pickle
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.corp import CORP
from support.fenced import PROGRAMS, events, run
from support.lab import Lab
from support.servers import dovecot
from support.world import DOMAIN, PRIVATE4, WWW, World

NATIVE, DIRECT, RELAY = PATHS = ("native", "direct", "relay")
MAIL, WEB = (f"{host}.{DOMAIN}" for host in ("mail", "www"))
PATIENCE = 30.0


class Receiver(NamedTuple):
    """Where a handler sends to, and a function that waits for what has a mark in it and returns it, a line each."""

    host: str
    port: int
    arrived: Callable[[str], list[str]]
    words: tuple[str, ...] = ()


def _messages(data: bytes) -> Iterator[str]:
    """Read what SocketHandler and DatagramHandler send: four bytes of length, and a pickled dictionary."""
    while data:
        size = int.from_bytes(data[:4], "big")
        yield logging.makeLogRecord(pickle.loads(data[4 : 4 + size])).getMessage()
        data = data[4 + size :]


def _stream(lab: Lab) -> Receiver:
    listener = lab.world.far.socket()
    listener.bind((WWW[0], 0))
    listener.listen()
    listener.settimeout(PATIENCE)

    def arrived(_: str) -> list[str]:
        with listener, listener.accept()[0] as connection:
            connection.settimeout(PATIENCE)
            return list(_messages(b"".join(iter(lambda: connection.recv(65536), b""))))

    return Receiver(*listener.getsockname(), arrived)


def _datagram(lab: Lab) -> Receiver:
    receiver = lab.world.far.socket(kind=socket.SOCK_DGRAM)
    receiver.bind((WWW[0], 0))
    receiver.settimeout(PATIENCE)

    def arrived(_: str) -> list[str]:
        with receiver:
            return list(_messages(b"".join(receiver.recv(65536) for _ in range(3))))

    return Receiver(*receiver.getsockname(), arrived)


def _syslog(lab: Lab, transport: str) -> Receiver:
    def arrived(mark: str) -> list[str]:
        # Which of its inputs, facility and severity, and the message.
        lines = [line.split(maxsplit=2) for line in lab.rsyslog.wait_for(mark, 3)]
        assert {tuple(line[:2]) for line in lines} == {(f"im{transport}", "local3.err")}
        return [line[2] for line in lines]

    assert lab.rsyslog.messages
    return Receiver(MAIL, 514, arrived)


def _web(lab: Lab) -> Receiver:
    path = lab.world.folder / "nginx/nginx-access.log"

    def asked(mark: str) -> list[str]:
        found = [line for line in path.read_text().splitlines() if mark in line]
        if len(found) < 3:
            raise OSError(f"{len(found)} of 3 requests are in {path.name}")
        return found

    def arrived(mark: str) -> list[str]:
        lab.world.servers["nginx"].wait_until(lambda: asked(mark))
        requests = [line.split('"')[1] for line in asked(mark)]
        # The message before its arguments were put in, and these, each a field of the form.
        assert all(request.startswith("GET /hello?name=program&msg=%25s+number+%25d&") for request in requests)
        return [f"{mark} number {number}" for number in range(3) if f"{number}%29&" in requests[number]]

    return Receiver(WEB, 80, arrived)


def _mail(lab: Lab) -> Receiver:
    path = lab.world.folder / "postfix/mail.log"
    seen = path.stat().st_size if path.exists() else 0

    def sent() -> None:
        if path.read_text()[seen:].count("status=sent") < 3:
            raise OSError(f"fewer than 3 messages are in {path.name}")

    def arrived(mark: str) -> list[str]:
        lab.world.servers["postfix"].wait_until(sent)
        return [f"{mark} number {number}" for number in range(3)]  # nobody keeps them

    return Receiver(f"smtp.{CORP}", 587, arrived, (dovecot.USER, dovecot.PASSWORD))


KINDS: dict[str, Callable[[Lab], Receiver]] = {
    "stream": _stream,
    "datagram": _datagram,
    "syslog-tcp": lambda lab: _syslog(lab, "tcp"),
    "syslog-udp": lambda lab: _syslog(lab, "udp"),
    "http": _web,
    "smtp": _mail,
}
UDP = ("datagram", "syslog-udp")


def _command(mark: str, kind: str, receiver: Receiver) -> tuple[str, ...]:
    program = str(PROGRAMS / "libraries/logging_send.py")
    return (sys.executable, program, mark, kind, receiver.host, str(receiver.port), *receiver.words)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", KINDS)
def test_records_arrive(
    request: pytest.FixtureRequest, world: World, lab: Lab, log: Path, kind: str, path: str
) -> None:
    """Three records arrive in order and whole, the program says nothing else, and the gate has seen each connection."""
    if kind == "smtp":
        request.getfixturevalue("corp").postfix
    mark = uuid.uuid4().hex
    receiver = KINDS[kind](lab)
    command = _command(mark, kind, receiver)
    if path == NATIVE:
        done = world.run(*command)
        assert done.stderr == ""
    else:
        done = run(world, log, *command, options=("--path", path))
        assert len(done.stderr.splitlines()) == 1, done.stderr
        (transport,) = {line["transport"] for line in events(log, "decision") if line["port"] == receiver.port}
        assert transport == ("udp" if kind in UDP else "tcp")
        assert {end["how"] for end in events(log, "end")} == {"closed"}
    assert (done.stdout, done.returncode) == ("sent\n", 0)
    assert receiver.arrived(mark) == [f"{mark} number {number}" for number in range(3)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_refused_is_shown(world: World, log: Path, kind: str) -> None:
    """A handler prints or raises the refusal and its cure where it does with any error, and nothing is sent."""
    receiver = Receiver(PRIVATE4, 514, lambda _: [], ("user", "password") if kind == "smtp" else ())
    with world.watch() as watch:
        done = run(world, log, *_command("mark", kind, receiver))
        assert watch.to(PRIVATE4) == []
    assert events(log, "decision")
    assert {line["verdict"] for line in events(log, "decision")} == {"deny"}
    if kind == "stream":  # it drops records while nobody takes them, whatever the reason, and says nothing natively too
        assert len(done.stderr.splitlines()) == 1
        return
    assert "PolicyDenied: " in done.stderr
    assert f'to permit: except = ["{"udp://" if kind in UDP else ""}{PRIVATE4}:514"]' in done.stderr
