"""A growing file is read line by line, over every kind of rotation, and what is torn is counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.lookout import tailing
from outgate.lookout.tailing import Tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with two lines."""
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\n")
    return path


def append(path: Path, text: bytes) -> None:
    """Append to the file, or make it."""
    with path.open("ab") as file:
        file.write(text)


def until_quiet(lines: Iterator[bytes | None]) -> list[bytes]:
    """Return the lines until it would wait for more."""
    return list(iter(lambda: next(lines), None))


def test_lines_of_a_file(path: Path) -> None:
    """Whole lines are given without their ends, and what stands behind the last end is kept apart."""
    append(path, b"\nthr")
    tail = Tail(str(path))
    assert list(tail.lines()) == [b"one", b"two", b""]
    append(path, b"ee\nfour")
    assert list(tail.lines()) == [b"three"]
    assert (tail.rest(), tail.rest(), tail.torn) == (b"four", b"", 0)
    tail.close()


@given(st.lists(st.binary().filter(lambda line: b"\n" not in line)), st.integers(0, 100), st.integers(1, 40))
def test_the_last_part_begins_with_a_whole_line(lines: list[bytes], last: int, chunk: int) -> None:
    """Whatever is asked for of the end, it begins where a line begins, and is the end of the file."""
    text = b"".join(line + b"\n" for line in lines)
    read, write = os.memfd_create("log"), tailing._CHUNK
    tailing._CHUNK = chunk
    try:
        os.write(read, text)
        tail = Tail(f"/proc/self/fd/{read}", last)
        found = list(tail.lines())
        tail.close()
    finally:
        tailing._CHUNK = write
        os.close(read)
    assert found == lines[len(lines) - len(found) :]
    size = sum(len(line) + 1 for line in found)
    assert size <= last or size == len(text)
    if len(found) < len(lines):
        assert size + len(lines[len(lines) - len(found) - 1]) + 1 > last


def test_what_is_appended(path: Path) -> None:
    """Lines that come later are given as they come; a line without its end is waited for."""
    tail = Tail(str(path))
    lines = tail.follow()
    assert until_quiet(lines) == [b"one", b"two"]
    append(path, b"three\nfo")
    assert until_quiet(lines) == [b"three"]
    append(path, b"ur\n")
    assert until_quiet(lines) == [b"four"]
    tail.close()


def test_a_rename(path: Path) -> None:
    """After a rename it reads what is still written to the old file, and the new one once its writer is there."""
    tail = Tail(str(path))
    lines = tail.follow()
    until_quiet(lines)
    old = path.rename(path.with_name("log.1"))
    append(old, b"three\n")
    assert until_quiet(lines) == [b"three"]
    path.touch()  # "create" of logrotate, before the writer is told
    append(old, b"four\n")
    assert until_quiet(lines) == [b"four"]
    append(old, b"five\n")
    append(path, b"six\n")
    assert until_quiet(lines) == [b"five", b"six"]
    append(path, b"seven\n")
    assert until_quiet(lines) == [b"seven"]
    assert tail.torn == 0
    tail.close()


def test_a_rename_to_another_folder(path: Path, tmp_path: Path) -> None:
    """What is written to the old file is seen where it has gone to another folder."""
    tail = Tail(str(path))
    lines = tail.follow()
    until_quiet(lines)
    (tmp_path / "old").mkdir()
    old = path.rename(tmp_path / "old" / "log")
    append(old, b"three\n")
    assert until_quiet(lines) == [b"three"]
    append(path, b"four\n")
    assert until_quiet(lines) == [b"four"]
    tail.close()


def test_two_rotations_while_nobody_looked(path: Path) -> None:
    """A file that was replaced twice between two looks costs what stood in the one between, and nothing else."""
    tail = Tail(str(path))
    lines = tail.follow()
    until_quiet(lines)
    for name in ("log.2", "log.1"):
        append(path, f"before {name}\n".encode())
        path.rename(path.with_name(name))
    append(path, b"now\n")
    assert until_quiet(lines) == [b"before log.2", b"now"]
    tail.close()


def test_a_truncation(path: Path) -> None:
    """A file that was cut to nothing is read from its beginning, and half a line that was cut off is counted."""
    append(path, b"half a li")
    tail = Tail(str(path))
    lines = tail.follow()
    assert until_quiet(lines) == [b"one", b"two"]
    os.truncate(path, 0)
    append(path, b"anew\n")
    assert until_quiet(lines) == [b"anew"]
    assert tail.torn == 1
    tail.close()


def test_a_file_that_is_deleted_and_comes_again(path: Path) -> None:
    """A file whose last name has gone is read on, and the next of its name when there is one."""
    with path.open("ab") as writer:
        tail = Tail(str(path))
        lines = tail.follow()
        until_quiet(lines)
        path.unlink()
        writer.write(b"three\n")
    assert until_quiet(lines) == [b"three"]
    path.write_bytes(b"four\n")
    assert until_quiet(lines) == [b"four"]
    tail.close()


def test_what_is_no_line(path: Path) -> None:
    """What has no end within the longest line is dropped to the next end, counted, and costs no memory."""
    append(path, b"x" * (3 * tailing.LONGEST) + b"\nthree\n")
    tail = Tail(str(path))
    assert list(tail.lines()) == [b"one", b"two", b"three"]
    assert tail.torn == 1
    tail.close()


def test_it_wakes_when_something_happens(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's word of an appended line, of a new file and of a truncation ends the wait, without a clock."""
    monkeypatch.setattr(tailing, "_LOOK", 3600.0)  # so that only the kernel's word ends it
    tail = Tail(str(path))
    lines = tail.follow()
    until_quiet(lines)
    for number in range(3):
        append(path, b"more\n")
        assert next(lines) == b"more"
        assert next(lines) is None
        old = path.rename(path.with_name(f"log.{number}"))
        append(old, b"old\n")
        assert next(lines) == b"old"
        assert next(lines) is None
        append(path, b"new, and longer than what follows\n")
        assert until_quiet(lines)[-1:] == [b"new, and longer than what follows"]
        os.truncate(path, 0)
        append(path, b"cut\n")
        assert b"cut" in (until_quiet(lines) or until_quiet(lines))
    tail.close()


def test_where_there_is_no_watch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has too many watches follows by looking again."""
    monkeypatch.setattr(tailing, "_CLOEXEC", 0x7F000000)  # flags that inotify_init1 refuses
    monkeypatch.setattr(tailing, "_POLL", 0.001)
    tail = Tail(str(path))
    lines = tail.follow()
    assert until_quiet(lines) == [b"one", b"two"]
    append(path, b"three\n")
    assert until_quiet(lines) == [b"three"]
    tail.close()


def test_no_file(tmp_path: Path) -> None:
    """A path that is not there raises what the kernel says."""
    with pytest.raises(FileNotFoundError):
        Tail(str(tmp_path / "none"))


def test_a_fifo_without_a_writer_holds_nobody(tmp_path: Path) -> None:
    """A FIFO in the place of a log is read like a pipe that has ended."""
    os.mkfifo(tmp_path / "fifo")
    tail = Tail(str(tmp_path / "fifo"))
    assert (tail.is_file, list(tail.lines())) == (False, [])
    tail.close()
