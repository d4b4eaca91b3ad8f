"""Programs that go on while one gate takes the place of another."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import outgate as package
from support.commands import Served, environment

CONFIG = """
version = 1
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
path = "{path}"
except = ["127.0.0.1"]
"""

#: Some connections that carry without a pause, an idle one, a parked descriptor, a UDP socket and one not connected.
PROGRAM = """
import hashlib, json, os, pickle, socket, sys, threading
import outgate
peer = ("127.0.0.1", int(sys.argv[1]))
def say(value):
    print(json.dumps(value), flush=True)
ended = threading.Event()
outcomes = []
def carry():
    s = socket.create_connection(peer)
    sent, received, count = hashlib.sha1(), hashlib.sha1(), 0
    def read():
        while data := s.recv(65536):
            received.update(data)
    reader = threading.Thread(target=read)
    reader.start()
    while not ended.is_set():
        data = os.urandom(20_000)
        s.sendall(data)
        sent.update(data)
        count += len(data)
    s.shutdown(socket.SHUT_WR)
    reader.join()
    s.close()
    outcomes.append([sent.hexdigest() == received.hexdigest(), count])
threads = [threading.Thread(target=carry) for _ in range(4)]
for thread in threads:
    thread.start()
idle = socket.create_connection(peer)
born = socket.socket()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.connect(("127.0.0.1", int(sys.argv[2])))
udp.send(b"one")
udp.recv(9)
lent = socket.create_connection(peer)
parked = outgate.descriptor(lent)
lent.close()
say("ready")
for line in sys.stdin:
    idle.sendall(b"idle")
    got = [idle.recv(9).decode()]
    udp.send(b"two")
    got.append(udp.recv(9).decode())
    new = socket.create_connection(peer)
    new.sendall(b"new")
    got.append(new.recv(9).decode())
    new.close()
    say(got)
born.connect(peer)
adopted = outgate.adopt(parked)
for s in (born, adopted):
    s.sendall(b"late")
    assert s.recv(9) == b"late"
    s.close()
ended.set()
for thread in threads:
    thread.join()
idle.close()
udp.close()
say(outcomes)
"""


class Echo:
    """What sends every datagram back."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            data, source = self._sock.recvfrom(65536)
            if not data:
                return
            self._sock.sendto(data, source)

    def __enter__(self) -> Echo:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.sendto(b"", self._sock.getsockname())
        self._thread.join()
        self._sock.close()


class Program:
    """A program with the client that goes on while gates change."""

    def __init__(self, gate: Served, *arguments: object, code: str = PROGRAM) -> None:
        source = Path(package.__file__).parent
        env = environment(OUTGATE_SOCKET=gate.socket, PYTHONPATH=str(source / "client" / "autoload"))
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", code, *map(str, arguments)]
        self.process = subprocess.Popen(command, env=env, text=True, stdin=pipe, stdout=pipe, stderr=pipe)

    def said(self) -> Any:
        """Return the next thing it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return json.loads(line)

    def ask(self) -> Any:
        """Have it use what it has, and say what came of that."""
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()
        return self.said()

    def finish(self) -> Any:
        """Have it end everything; return what it says last."""
        output, errors = self.process.communicate(timeout=30)
        assert (self.process.returncode, errors) == (0, "")
        return json.loads(output)


def config(tmp_path: Path, path: str = "auto", uid: int | None = None) -> str:
    """Write a configuration and return its path."""
    file = tmp_path / "outgate.toml"
    file.write_text(CONFIG.format(uid=os.getuid() if uid is None else uid, path=path))
    return str(file)


ONE = """
import json, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def opens():
    try:
        socket.create_connection(s.getpeername()).close()
    except OSError as e:
        return getattr(e, "code", repr(e))
    return "opened"
print('"ready"', flush=True)
for line in sys.stdin:
    s.sendall(b"x")
    print(json.dumps([s.recv(1).decode(), opens()]), flush=True)
print('"end"', flush=True)
"""
