"""A whole gate on a disk that is full, with its journal, its quotas and its ledger: nothing that is open is lost."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gate.test_restart import Program, written
from outgate.core.bill.windows import slices
from outgate.gate.ledger import checking
from outgate.gate.ledger.reading import Reader
from outgate.gate.restart import records
from outgate.testing.running import RunningGate
from support import peers

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to mount a small file system")

CONFIG = """
version = 1
[ledger]
url = "state/ledger.sqlite"
gate = "here"
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
except = ["127.0.0.1"]
quotas = {{ connect = {{ day = 100000 }} }}
"""
SIZE = 512 * 1024

WORKS = """
    socks = [socket.create_connection(peer) for _ in range(3)]
    def move():
        for sock in socks:
            sock.sendall(bytes(1000))
            assert len(sock.recv(1000, socket.MSG_WAITALL)) == 1000
    move()
    say()
    while (word := told()) != "end":
        move()
        for _ in range(int(word)):
            with socket.create_connection(peer) as passing:
                passing.sendall(bytes(10))
                assert len(passing.recv(10, socket.MSG_WAITALL)) == 10
        say()
    for sock in socks:
        sock.close()
"""


def _mount(*arguments: object) -> None:
    call = ctypes.CDLL(None, use_errno=True)
    function = call.mount if len(arguments) > 1 else call.umount
    if function(*(each.encode() if isinstance(each, str) else each for each in arguments)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of :data:`SIZE` bytes."""
    path = tmp_path / "disk"
    path.mkdir()
    _mount("none", str(path), "tmpfs", 0, f"size={SIZE}")
    try:
        yield path
    finally:
        _mount(str(path))


@pytest.fixture
def gate(disk: Path) -> Iterator[RunningGate]:
    """A gate that keeps there what outlives it."""
    made = RunningGate(config=CONFIG.format(uid=os.getuid()))
    os.symlink(disk, os.path.join(made.folder, "state"))
    with made:
        yield made
        assert made.faults == []


def fill(disk: Path) -> Path:
    """Write until nothing more goes, and return the file."""
    path = disk / "somebody-elses"
    with open(path, "wb", buffering=0) as file:
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            file.write(bytes(1))
    return path


def booked(disk: Path) -> list[int]:
    """Return the bytes that the ledger has, sent and received, which must agree with itself."""
    with Reader.open(f"sqlite:///{disk / 'ledger.sqlite'}") as reader:
        assert list(checking.differences(reader.connection)) == []
        extent = reader.extent()
        used = reader.used(slices(extent.first, extent.last, "", ZoneInfo("UTC"), tiered=False))
        return [sum(each.counts[way] for each in used) for way in (0, 1)]


def is_whole_again(gate: RunningGate, disk: Path, peer: peers.Peer) -> None:
    """See that a gate that has ended has booked every byte that the peers have seen, and left nothing for later."""
    gate.wait_for_counts("blog", open=0)
    assert gate.stop() == 0, gate.stderr()
    received = sum(connection.wait().received for connection in peer.connections)
    assert booked(disk) == [received, received]
    assert list(disk.glob("*.spool*")) == []


def test_a_full_disk_holds_up_nobody_and_nothing_is_lost(gate: RunningGate, disk: Path) -> None:
    """What is open goes on, and so do new opens; the gate says what it cannot write, and later that it can again."""
    with peers.echo() as peer, Program(gate, WORKS, peer.port) as program:
        program.said()
        filled = fill(disk)
        program.tell("300")
        program.said()
        gate.wait_for(event="ledger-failed")
        gate.wait_for(event="state-failed")
        program.tell("10")
        program.said()
        filled.unlink()
        gate.wait_for(event="ledger-back")
        gate.wait_for(event="state-kept")
        program.tell("end")
        program.end()
        is_whole_again(gate, disk, peer)


def test_a_gate_starts_on_a_full_disk(gate: RunningGate, disk: Path) -> None:
    """It says what it cannot write, serves, and takes up what is open by what the disk still says.

    When there is room the ledger has every byte: those of before, those while no gate ran, and those since.
    """
    with peers.echo() as peer, Program(gate, WORKS, peer.port) as program:
        program.said()
        gate.wait_for_counts("blog", open=3)
        written(gate, records.Opened, count=3)
        filled = fill(disk)
        gate.kill()
        program.tell("0")
        program.said()
        gate.start()
        gate.wait_for(event="state-failed")
        gate.wait_for(event="ledger-failed")
        assert gate.log.all(event="returned")[0]["leases"] == 3
        program.tell("5")
        program.said()
        filled.unlink()
        gate.wait_for(event="ledger-back")
        gate.wait_for(event="state-kept")
        program.tell("5")
        program.said()
        program.tell("end")
        program.end()
        is_whole_again(gate, disk, peer)


def test_a_gate_starts_with_files_that_cannot_be_read(gate: RunningGate, disk: Path) -> None:
    """Garbage in every file of the state: each is named, none is overwritten, and what is open lives."""
    garbage = b"\x00garbage\xff" * 500
    with peers.echo() as peer, Program(gate, WORKS, peer.port) as program:
        program.said()
        gate.kill()
        files = [path for path in disk.iterdir() if path.is_file()]
        for path in files:
            path.write_bytes(garbage)
        gate.start()
        program.tell("5")
        program.said()
        program.tell("end")
        program.end()
        said = str([line for line in gate.log.all() if line["event"].endswith(("-refused", "-failed"))])
        read = [path.name for path in files if not path.name.endswith(("-wal", "-shm", ".lock"))]
        assert len(read) == 3
        assert all(name in said for name in read), said
        kept = [path.name for path in disk.iterdir() if path.is_file() and path.read_bytes() == garbage]
        assert all(any(name in each for each in kept) for name in read), kept
