"""Write down what a version of outgate says and keeps, for every later one to be held against.

``python tests/compat/record.py`` makes ``tests/compat/VERSION/``, to be run once for each release, of its very tree:

- ``conversation-direct.json``, ``conversation-relay.json``: the packets of a program and a gate, as they crossed;
- ``takeover-direct.json``, ``takeover-relay.json``: what a gate hands to the next one;
- ``ledger.sql``, ``ledger.spool``, ``quotas.sql``, ``leases``: what a gate keeps, databases as the statements that make
  them again; ``usage.json``: what ``outgate usage`` says of the ledger.

``python tests/compat/record.py --of COMMIT NAME`` records an earlier commit, checked out into a temporary folder, as
``tests/compat/NAME``; the file ``commit`` in it says which.

``test_earlier.py`` has a gate answer the packets, a program be answered by them, and a gate take up what was kept;
``test_upgrade.py`` runs the commits themselves beside this tree.
"""

from __future__ import annotations

import argparse
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
#: Says which sources are recorded, where it is not this tree's.
SOURCES = "OUTGATE_RECORDED_SOURCES"
SRC = Path(os.environ.get(SOURCES) or HERE.parent.parent / "src")
for _folder in (SRC, HERE.parent):
    sys.path.insert(0, str(_folder))

from outgate import __version__  # noqa: E402
from outgate.core.formats import messages  # noqa: E402
from outgate.gate.takeover import state as takeover  # noqa: E402
from outgate.testing.running import RunningGate  # noqa: E402
from support import peers  # noqa: E402
from support.raw import RawChannel  # noqa: E402

#: What the program of a conversation prints.
PRINTED = "one 127.0.0.1\ntwo\nPolicyDenied\n127.0.0.1\n"
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


def run_program(path: str, port: int, src: Path = SRC) -> str:
    """Run the program, with the client of some sources, at a gate, and return what it prints."""
    environ = {**os.environ, "OUTGATE_SOCKET": path, "PYTHONPATH": str(src)}
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

#: A program that has a connection open when its gate ends.
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

#: A program that has one of each when its gate hands over: a connection, a way for datagrams, a parked connection, and
#: a socket that is not connected.
HAVING = """\
import outgate
outgate.install()
import pickle, socket, sys
peer = ("127.0.0.1", int(sys.argv[1]))
sock = socket.create_connection(peer, 10)
sock.sendall(bytes(1000))
sock.recv(1000, socket.MSG_WAITALL)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.sendto(b"four", ("127.0.0.1", int(sys.argv[2])))
parked = socket.create_connection(peer, 10)
parked.sendall(b"parked")
parked.recv(6, socket.MSG_WAITALL)
text = pickle.dumps(parked)
parked.close()
born = socket.socket()
print("open", flush=True)
sys.stdin.read()
"""

#: What both programs have sent when :func:`keep` ends: 6 bytes each, beside the holder's 1000.
KEPT = 6 + 1000 + 6
#: Stands in the spool for where the ledger is.
LEDGER = "$ledger"


@contextlib.contextmanager
def _running(code: str, path: str, *arguments: int) -> Any:
    """Have a program at a gate, which has said that it is as far."""
    environ = {**os.environ, "OUTGATE_SOCKET": path, "PYTHONPATH": str(SRC)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"open\n"
    try:
        yield
    finally:
        process.communicate()


def keep(folder: Path, state: Path) -> None:
    """Have a gate die with a connection open and its ledger locked, and copy what it has kept."""
    ledger = state / "ledger.sqlite"
    with peers.echo() as peer, RunningGate(config=KEEPING.format(uid=os.getuid(), folder=state)) as gate:
        own = Path(gate.folder, "state")
        run_program(gate.socket, peer.port)
        with _running(HOLDER, gate.socket, peer.port):
            _wait(lambda: _sum(ledger) == KEPT - 6)
            with contextlib.closing(sqlite3.connect(ledger, isolation_level=None)) as locking:
                locking.execute("BEGIN IMMEDIATE")
                run_program(gate.socket, peer.port)
                _wait(lambda: _spooled(own) == 6)
                gate.kill()
        for database in (ledger, own / "quotas.sqlite"):
            (folder / f"{database.stem}.sql").write_text(_statements(database))
        (leases,) = own.glob("leases-????????")
        (folder / "leases").write_bytes(leases.read_bytes())
        left = _spool(own)
        (folder / "ledger.spool").write_text(json.dumps({**left, "ledger": LEDGER}) + "\n")
    command = [sys.executable, "-m", "outgate", "usage", "--json", "--by", "app,destination", "--ledger", str(ledger)]
    said = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(SRC)}, capture_output=True, check=True).stdout
    (folder / "usage.json").write_text(json.dumps(json.loads(said), indent=1) + "\n")


def _spool(folder: Path) -> dict[str, Any]:
    paths = list(folder.glob("ledger-*.spool"))
    return json.loads(paths[0].read_text()) if paths else {"batches": []}  # type: ignore[no-any-return]


def _spooled(folder: Path) -> int:
    """Return how many bytes sent lie in the spool: the first of the four counts that end a row."""
    return sum(int(row[-4]) for batch in _spool(folder)["batches"] for row in batch["rows"])


def _statements(database: Path) -> str:
    """Return what makes a database again, with the number of its form."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        (number,) = db.execute("PRAGMA user_version").fetchone()
        return "\n".join([*db.iterdump(), f"PRAGMA user_version = {number};", ""])


def hand_over(path: str) -> str:
    """Return what a gate hands to the next one, which then does not take it."""
    with peers.echo() as peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        ports = (peer.port, datagrams.getsockname()[1])
        with (
            RunningGate(config=CONFIG.format(uid=os.getuid(), path=path)) as gate,
            _running(HAVING, gate.socket, *ports),
        ):
            datagrams.recv(9)
            with RawChannel(gate.socket) as taker:
                taker.post(messages.TAKE_OVER, version=takeover.VERSION)
                _packet, fds, _flags, _ = socket.recv_fds(taker.sock, messages.MAX_PACKET, 253)
            with open(fds[0], "rb") as memory:
                memory.seek(0)
                text = memory.read().decode()
            for fd in fds[1:]:
                os.close(fd)
            return json.dumps(json.loads(text), indent=1) + "\n"


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


def record(name: str) -> None:
    """Write the folder of a version."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        for path in ("direct", "relay"):
            said = conversation(path, Path(scratch))
            lines = ",\n".join(
                "[\n" + ",\n".join(f" {json.dumps(each)}" for each in channel) + "\n]" for channel in said
            )
            (folder / f"conversation-{path}.json").write_text(f"[\n{lines}\n]\n")
            (folder / f"takeover-{path}.json").write_text(hand_over(path))
        state = Path(scratch, "state")
        state.mkdir()
        keep(folder, state)


def check_out(commit: str, folder: Path) -> Path:
    """Return the sources of a commit, put into an empty folder.

    :raises LookupError: they are not to be had here; the text says why.
    """
    archive = ["git", "-C", str(HERE.parent.parent), "archive", "--format=tar", f"{commit}:src"]
    try:
        made = subprocess.run(archive, capture_output=True, check=True)
    except FileNotFoundError:
        raise LookupError("there is no git") from None
    except subprocess.CalledProcessError as error:
        raise LookupError(error.stderr.decode().strip()) from None
    subprocess.run(["tar", "-x", "-C", str(folder)], input=made.stdout, check=True)
    return folder


def main() -> None:
    """Write the folder of this version, or of a commit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", metavar="COMMIT", default="", help="record this commit, not the tree as it is")
    parser.add_argument("name", nargs="?", default=".".join(__version__.split(".")[:2]), help="of the folder to write")
    options = parser.parse_args()
    if not options.of:
        record(options.name)
        return
    find = ["git", "-C", str(HERE), "rev-parse", "--verify", f"{options.of}^{{commit}}"]
    commit = subprocess.run(find, capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        src = str(check_out(commit.strip(), Path(folder)))
        environ = {**os.environ, SOURCES: src, "PYTHONPATH": src}  # for its gates, and what they start
        subprocess.run([sys.executable, __file__, options.name], env=environ, check=True)
    (HERE / options.name / "commit").write_text(commit)


if __name__ == "__main__":
    main()
