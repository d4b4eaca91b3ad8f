"""The programs of ``examples/programs`` do what they say: with real servers, under the default policy, as they are."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from outgate.core.profiles import PROFILES
from support.corp import CORP, SMTP, Corp
from support.fenced import events, run
from support.servers import chrony, dovecot
from support.world import DOMAIN, MAIL, WWW, ZONE, World

CONFIG = """\
version = 1
[apps.mail]
uid = [{uid}]
billing = true
trusted = true
profile = "{profile}"
"""
PROGRAMS = Path(__file__).parents[2] / "examples" / "programs"


def example(name: str, *words: str) -> tuple[str, ...]:
    """Return the command of a program of the examples."""
    return (sys.executable, str(PROGRAMS / name), *words)


def test_poplib(world: World, log: Path) -> None:
    """poplib reads a mailbox of Dovecot's."""
    done = run(world, log, *example("mail.py", f"mail.{DOMAIN}", "110", dovecot.USER, dovecot.PASSWORD))
    assert done.returncode == 0, done.stderr
    assert re.match(r"3 messages, \d+ bytes: ", done.stdout)


@pytest.mark.parametrize("profile", PROFILES)
def test_smtplib(world: World, corp: Corp, log: Path, tmp_path: Path, profile: str) -> None:
    """smtplib submits to Postfix with local_hostname, and without but for app-engine; port 25 is refused, and why."""
    assert corp.postfix
    config = tmp_path / "outgate.toml"
    config.write_text(CONFIG.format(uid=os.getuid(), profile=profile))
    words = (f"smtp.{CORP}", dovecot.USER, f"{dovecot.USER}@{CORP}", "b@far.example")
    environ = (f"SMTP_PASSWORD={dovecot.PASSWORD}",)
    done = run(world, log, "env", *environ, *example("submit.py", *words), options=("--config", str(config)))
    assert done.returncode == 0, done.stderr
    without, given, refused = done.stdout.splitlines()
    if profile == "default":
        assert without == f"without local_hostname: sent, as worker.{CORP}"
    else:
        assert without.startswith("without local_hostname: NotImplementedError: ")
    assert given == "with local_hostname: sent, as worker.example.com"
    assert refused.startswith("port 25: PermissionError: [Errno 13] ")
    assert '"*:25"' in refused
    made = [(line["verdict"], line["port"]) for line in events(log, "decision") if line["transport"] == "tcp"]
    assert {*made} == {("allow", 587), ("deny", 25)}
    assert {line["address"] for line in events(log, "end")} <= {*SMTP}


@pytest.fixture
def clock(world: World) -> Iterator[str]:
    """The name of a server that tells the time: chrony."""
    folder = world.folder / "chrony-example"
    folder.mkdir(exist_ok=True)
    server = chrony.start(world.far, folder, WWW[0])
    try:
        server.wait_until(lambda: chrony.ask(world.near, WWW[0]))
        yield f"www4.{DOMAIN}"
    finally:
        server.stop()


def test_ntp(world: World, log: Path, clock: str) -> None:
    """A clock is compared with chrony's over UDP, under a policy that lets nothing else out."""
    done = run(world, log, *example("clock.py", clock), options=("--allow", "udp://public:123"))
    assert done.returncode == 0, done.stderr
    (off,) = re.fullmatch(rf"{clock}, stratum \d+: this clock is (\S+) s (?:ahead|behind)\n", done.stdout).groups()
    assert float(off) < 20, "the clocks are the same, but for what a busy host adds"
    (end,) = (line for line in events(log, "end") if line["port"] == 123)
    assert (end["sent"], end["received"], end["datagrams_sent"]) == (48, 48, 1)


#: Address → what its whois server answers.
ANSWERS = {
    WWW[0]: f"% the first one\r\nrefer:        mail4.{DOMAIN}\r\n",
    MAIL[0]: "domain:       sample.example\r\nholder:       Nobody in Particular\r\n",
}


@pytest.fixture
def whois(world: World) -> Iterator[list[bytes]]:
    """Serve whois on port 43 of two hosts, the first of which refers to the second; gives what they are asked."""
    asked: list[bytes] = []
    threads = []
    listeners = []
    for address, answer in ANSWERS.items():
        listener = world.far.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, 43))
        listener.listen()
        listeners.append(listener)
        threads.append(threading.Thread(target=_answer, args=(listener, answer, asked)))
        threads[-1].start()
    yield asked
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
    for thread, listener in zip(threads, listeners, strict=True):
        thread.join()
        listener.close()


def _answer(listener: socket.socket, answer: str, asked: list[bytes]) -> None:
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:  # it is over
            return
        with sock, sock.makefile("rb") as file:
            asked.append(file.readline())
            sock.sendall(answer.encode())


def test_whois(world: World, log: Path, whois: list[bytes]) -> None:
    """whois goes from the server that is named to the one that it refers to, under a policy for that port alone."""
    words = example("whois.py", "sample.example", f"www4.{DOMAIN}")
    done = run(world, log, *words, options=("--allow", "tcp://public:43"))
    assert done.returncode == 0, done.stderr
    assert whois == [b"sample.example\r\n"] * 2
    assert done.stdout.splitlines()[-1] == "holder:       Nobody in Particular"
    made = [(line["port"], line["address"]) for line in events(log, "decision")]
    assert made == [(43, ZONE[f"www4.{DOMAIN}"][0]), (43, ZONE[f"mail4.{DOMAIN}"][0])]
