"""The file of what a gate has open: whose it is, what is believed of it, and what becomes of it on a full disk."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from outgate.errors import ConfigError
from outgate.gate.restart import statefile
from outgate.gate.restart.records import Ended, Header, Reserved, line, replay
from outgate.gate.restart.statefile import StateFile
from outgate.gate.restart.writer import Begin, Commit, Fresh, Writer

HEADER = line(Header(1, "kernel", 7, "b00t", 0, 1000, 2000, b"k" * 32))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[StateFile]:
    """The file of a gate."""
    with closing(StateFile(str(tmp_path / "state" / "leases"))) as made:
        yield made


# --- whose it is ------------------------------------------------------------------------------------------------------


def test_one_gate_has_it(file: StateFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second gate is told that another one has the file, and gets it when that has gone."""
    monkeypatch.setattr(statefile, "PATIENCE", 0.0)
    with pytest.raises(ConfigError, match=r"^gate\.state: another gate says in .*/leases what it has open"):
        StateFile(file.path)
    file.close()
    StateFile(file.path).close()


def test_a_gate_that_goes_and_takes_its_file_along(file: StateFile) -> None:
    """The lock that a gate removes at its end is not the one that the next gate makes and has."""
    file.remove()
    with closing(StateFile(file.path)) as other:
        assert os.path.samestat(os.fstat(other.fileno()), os.stat(file.path + ".lock"))


def test_no_file_is_nothing(file: StateFile) -> None:
    """A first gate finds nothing, which is nothing to complain of."""
    assert file.read() == (b"", "")


def test_what_others_may_read_is_not_believed(file: StateFile) -> None:
    """A file with the key of descriptors in it that others can read, or write, is refused with its mode."""
    Path(file.path).write_bytes(HEADER)
    os.chmod(file.path, 0o644)
    assert file.read() == (b"", f"{file.path} is not the gate's alone: its owner is {os.getuid()}, its mode 0644")
    os.chmod(file.path, 0o600)
    assert file.read() == (HEADER, "")


@pytest.mark.integration
def test_what_another_user_owns_is_not_believed(file: StateFile) -> None:
    """A file that another user could have written is refused."""
    Path(file.path).write_bytes(HEADER)
    os.chmod(file.path, 0o600)
    os.chown(file.path, 65534, 65534)
    assert file.read() == (b"", f"{file.path} is not the gate's alone: its owner is 65534, its mode 0600")


def test_what_is_no_file(file: StateFile, tmp_path: Path) -> None:
    """A symbolic link, a folder and a pipe that nobody writes to are refused, and none of them is waited for."""
    path = Path(file.path)
    (tmp_path / "elsewhere").write_bytes(HEADER)
    path.symlink_to(tmp_path / "elsewhere")
    assert file.read()[1] == f"{path}: Too many levels of symbolic links"
    path.unlink()
    path.mkdir()
    assert file.read()[1] == f"{path} is not a file"
    path.rmdir()
    os.mkfifo(path, 0o600)
    assert file.read()[1] == f"{path} is not a file"


# --- writing ----------------------------------------------------------------------------------------------------------


class Heard:
    """What a writer says of its file."""

    def __init__(self) -> None:
        self.said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def next(self) -> str:
        """Return the next thing, waiting for it."""
        return self.said.get(timeout=20)


def logged(mark: threading.Event) -> None:
    """Be a log that has written everything."""
    mark.set()


def ended(id: int, serial: int) -> Ended:
    """Return the record of an end."""
    return Ended(id, serial, 10, 20, 0.5, None, "closed")


def said_anew(writer: Writer) -> None:
    """Have a writer write a file from the beginning."""
    for item in (Begin(), Fresh(HEADER), Commit()):
        writer.put(item)


def test_what_is_put_is_in_the_file(file: StateFile) -> None:
    """The file has what it was begun with and what came after, the marks of logged ends last, and is the gate's own."""
    writer = Writer(file, logged, Heard().said.put)
    said_anew(writer)
    writer.put(line(Reserved(5)))
    writer.put(Reserved(6))
    writer.put(ended(1, 2))
    writer.close()
    text = Path(file.path).read_bytes()
    assert text.startswith(HEADER + line(Reserved(5)) + line(Reserved(6)) + line(ended(1, 2)))
    assert text.endswith(b'["logged",[[1,2]]]\n')
    assert os.stat(file.path).st_mode & 0o777 == 0o600
    assert not os.path.exists(file.path + ".new")


def test_an_end_is_marked_when_the_log_has_it(file: StateFile) -> None:
    """That an end is logged is written down after the log has said so, and not before."""
    marks: queue.SimpleQueue[threading.Event] = queue.SimpleQueue()
    writer = Writer(file, marks.put, Heard().said.put)
    said_anew(writer)
    writer.put(ended(1, 2))
    mark = marks.get(timeout=20)
    assert b"logged" not in Path(file.path).read_bytes()
    mark.set()
    writer.put(ended(3, 1))
    last = marks.get(timeout=20)  # asked for when the first has been written down
    assert b'["logged",[[1,2]]]' in Path(file.path).read_bytes()
    last.set()
    writer.close()


def test_events_while_it_is_said_anew(file: StateFile) -> None:
    """What happens while a new file is being said stands in it, and until then in the old one as well."""
    writer = Writer(file, logged, Heard().said.put)
    said_anew(writer)
    for item in (Begin(), Fresh(HEADER), line(Reserved(5)), Fresh(line(Reserved(6)))):
        writer.put(item)
    writer.put(Commit())
    writer.put(line(Reserved(7)))
    writer.close()
    assert Path(file.path).read_bytes() == HEADER + b"".join(line(Reserved(each)) for each in (5, 6, 7))


def test_a_file_that_is_never_finished_takes_no_place(file: StateFile) -> None:
    """A gate that dies while it says its file anew leaves the old one, which is still true."""
    writer = Writer(file, logged, Heard().said.put)
    said_anew(writer)
    writer.put(line(Reserved(5)))
    for item in (Begin(), Fresh(HEADER), Fresh(line(Reserved(6)))):
        writer.put(item)
    writer.close()
    assert Path(file.path).read_bytes() == HEADER + line(Reserved(5))


@pytest.mark.integration
def test_a_full_disk(tmp_path: Path) -> None:
    """On a full disk a gate says so once, its file stays readable, and is whole again when there is room."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        heard = Heard()
        with closing(StateFile(str(folder / "leases"))) as file:
            writer = Writer(file, logged, heard.said.put)
            said_anew(writer)
            records = [line(Reserved(number)) for number in range(10_000, 14_000)]
            for record in records:
                writer.put(record)
            assert heard.next() == "No space left on device"
            assert writer.failed
            past = replay(Path(file.path).read_bytes())
            assert past.damaged <= 1  # the line that was cut short
            assert 10_000 < past.reserved < 13_999
            os.truncate(file.path, 0)  # somebody makes room
            said_anew(writer)
            assert heard.next() == ""
            writer.put(records[-1])
            writer.close()
            assert Path(file.path).read_bytes() == HEADER + records[-1]
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
