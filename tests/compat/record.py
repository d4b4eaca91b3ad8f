"""Write down what this version of outgate says and keeps, for every later one to be held against.

``python tests/compat/record.py`` makes ``tests/compat/VERSION/``, to be run once for each release, of its very tree:

- ``conversation-direct.json``, ``conversation-relay.json``: the packets of a program and a gate, as they crossed;
- ``ledger.sqlite``, ``ledger.spool``, ``quotas.sqlite``, ``leases``: what a gate keeps.

``test_earlier.py`` has a gate answer the packets, a program be answered by them, and a gate take up what was kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
for _folder in (HERE.parent.parent / "src", HERE.parent):
    sys.path.insert(0, str(_folder))

from outgate import __version__  # noqa: E402
from outgate.core.bill.tally import Destination  # noqa: E402
from outgate.core.formats import messages  # noqa: E402
from outgate.gate.ledger import spool  # noqa: E402
from outgate.gate.ledger.batch import Batch, Key, Totals  # noqa: E402
from outgate.testing.running import RunningGate  # noqa: E402
from support import peers  # noqa: E402

#: What is written in the place of the peer's port, which is another at every run.
PORT = "$port"

CONFIG = """\
version = 1
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
path = "{path}"
except = ["127.0.0.1"]
"""

#: The program of a conversation: it makes, connects, shares, redeems, is refused, resolves, and ends.
PROGRAM = """\
import outgate
outgate.install()
import pickle, socket, sys
port = int(sys.argv[1])
sock = socket.create_connection(("127.0.0.1", port), 10)
sock.sendall(b"one")
print(sock.recv(3).decode(), sock.getpeername()[0])
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
other = pickle.loads(pickle.dumps(sock))
other.sendall(b"two")
print(other.recv(3).decode())
try:
    socket.create_connection(("10.0.0.1", 22), 10)
except PermissionError as e:
    print(type(e).__name__)
print(socket.getaddrinfo("127.0.0.1", port)[0][4][0])
other.close()
sock.close()
"""


class Recorder:
    """Stand between programs and a gate, and keep what they say. Packets and fds go on as they are.

    :ivar said: channel by channel, (who, message, number of fds) as they came.
    """

    def __init__(self, path: str, gate: str) -> None:
        self._gate = gate
        self.said: list[list[tuple[str, Any, int]]] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(path)
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                far.connect(self._gate)
                said: list[tuple[str, Any, int]] = []
                self.said.append(said)
                for who, source, sink in (("program", near, far), ("gate", far, near)):
                    threading.Thread(target=_carry, args=(who, source, sink, said), daemon=True).start()

    def close(self) -> None:
        """Take no more channels."""
        self._listener.close()


def _carry(who: str, source: socket.socket, sink: socket.socket, said: list[tuple[str, Any, int]]) -> None:
    with contextlib.suppress(OSError):
        while True:
            packet, fds, _flags, _ = socket.recv_fds(source, messages.MAX_PACKET, 64)
            if not packet:
                break
            said.append((who, json.loads(packet), len(fds)))
            socket.send_fds(sink, [packet], fds)
            for fd in fds:
                os.close(fd)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def conversation(path: str, folder: Path) -> list[list[tuple[str, Any, int]]]:
    """Return what a program and a gate say to each other on a path."""
    config = CONFIG.format(uid=os.getuid(), path=path)
    with peers.echo() as peer, RunningGate(config=config) as gate:
        recorder = Recorder(str(folder / "between"), gate.socket)
        run_program(str(folder / "between"), peer.port)
        recorder.close()
        os.unlink(folder / "between")
        said: list[list[tuple[str, Any, int]]] = _without_port(recorder.said, peer.port)
        return said


def _without_port(value: Any, port: int) -> Any:
    """Return plain data with :data:`PORT` in the place of a port."""
    if isinstance(value, dict):
        return {key: _without_port(each, port) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_port(each, port) for each in value]
    if isinstance(value, str):
        return value.replace(f":{port}", f":{PORT}")
    return PORT if value == port and not isinstance(value, bool) else value


def run_program(path: str, port: int) -> str:
    """Run the program against a gate, and return what it prints."""
    environ = {**os.environ, "OUTGATE_SOCKET": path, "PYTHONPATH": str(HERE.parent.parent / "src")}
    command = [sys.executable, "-c", PROGRAM, str(port)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60).stdout


KEEPING = """\
version = 1
[gate]
state = "{folder}"
zone = "UTC"
[ledger]
gate = "recorded"
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
except = ["127.0.0.1"]
quotas = {{ bytes_sent = {{ day = "1 GB" }}, connect = {{ day = 1000 }} }}
"""

#: A program that has a connection open when its gate dies.
HOLDER = """\
import outgate
outgate.install()
import socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
sock.sendall(bytes(1000))
sock.recv(1000, socket.MSG_WAITALL)
print("open", flush=True)
sys.stdin.read()
"""


def keep(folder: Path, state: Path) -> None:
    """Have a gate die with a connection open, and copy what it has kept; and make the spool that it would leave."""
    config = KEEPING.format(uid=os.getuid(), folder=state)
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent.parent / "src")}
    with peers.echo() as peer, RunningGate(config=config) as gate:
        run_program(gate.socket, peer.port)
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(peer.port)],
            env={**environ, "OUTGATE_SOCKET": gate.socket},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        ledger = state / "ledger.sqlite"
        _wait(lambda: _sum(ledger) >= 1006)  # what the program and the holder have sent
        gate.kill()
        holder.communicate()
        own = Path(gate.folder, "state")
        for database in (ledger, own / "quotas.sqlite"):
            with contextlib.closing(sqlite3.connect(database)) as source:
                source.execute("VACUUM INTO ?", (str(folder / database.name),))
        (leases,) = own.glob("leases-????????")
        (folder / "leases").write_bytes(leases.read_bytes())
    key = Key(7, 1)
    rows = {
        1_700_000_000 // 60 * 60: {("blog", "job=17", Destination("tcp", "api.example", 443, "93.184.215.14")): ROW}
    }
    batch = Batch(1, 1_700_000_030.0, 0, rows, {key: Totals(500, 600, 700, 800)}, frozenset())
    spool.save(
        str(folder / "ledger.spool"),
        spool.Spooled("recorded", "run-before", SPOOLED_FOR, 1_700_000_000.0, [batch]),
    )


#: What the spool's only row counts, and the ledger that it is for.
ROW = [500, 600, 700, 800]
SPOOLED_FOR = "sqlite:///ledger.sqlite"


def _sum(ledger: Path) -> int:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db:
            return sum(sent for (sent,) in db.execute("SELECT sent FROM drafts"))
    except sqlite3.Error:
        return 0


def _wait(look: Any) -> None:
    end = time.monotonic() + 60
    while not look():
        assert time.monotonic() < end, "the ledger was not written"
        time.sleep(0.1)


def main() -> None:
    """Write the folder of this version."""
    version = ".".join(__version__.split(".")[:2])
    folder = HERE / version
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        for path in ("direct", "relay"):
            said = conversation(path, Path(scratch))
            lines = ",\n".join(
                "[\n" + ",\n".join(f" {json.dumps(each)}" for each in channel) + "\n]" for channel in said
            )
            (folder / f"conversation-{path}.json").write_text(f"[\n{lines}\n]\n")
        state = Path(scratch, "state")
        state.mkdir()
        keep(folder, state)


if __name__ == "__main__":
    main()
