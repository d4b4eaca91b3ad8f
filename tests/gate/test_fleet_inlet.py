"""What a program sends to another gate is taken out whole and in order, and a byte always lies unread."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.gate.fleet.inlet import Inlet
from outgate.gate.relay.carry import Tools

Ends = tuple[Inlet, socket.socket, socket.socket]


@pytest.fixture(params=("", "fds"))
def tools(request: pytest.FixtureRequest) -> Iterator[Tools]:
    """What an inlet shares with others, on a kernel that refuses fds, and on one where each read has room for them."""
    made = Tools(os.close if request.param else None)
    yield made
    made.close()


@pytest.fixture
def ends(tools: Tools) -> Iterator[Ends]:
    """An inlet in whose queue a byte lies that is nobody's, its socket, and the program's."""
    inside, program = socket.socketpair()
    with inside, program:
        program.send(b"\0")
        inlet = Inlet(tools, inside)
        inlet.hold(1)
        yield inlet, inside, program


def taken(inlet: Inlet, most: int) -> bytes:
    """Return what an inlet takes."""
    view = memoryview(bytearray(most + 1))
    count = inlet.take(view, most)
    assert inlet.held == 1 or not count
    return bytes(view[1 : 1 + count])


def test_nothing_is_there(ends: Ends) -> None:
    """Without anything new it says so, as often as it is asked."""
    inlet, _, program = ends
    for word in (b"", b"one", b"t"):
        if word:
            program.send(word)
            assert taken(inlet, 100) == word
        for _ in range(2):
            with pytest.raises(BlockingIOError):
                inlet.take(memoryview(bytearray(10)), 9)
        assert inlet.unsent == 0


@given(st.lists(st.tuples(st.binary(max_size=20), st.integers(1, 15)), max_size=20))
def test_all_bytes_come_in_order(steps: list[tuple[bytes, int]]) -> None:
    """However it is written and taken, in small pieces or large, all comes once; then the end of file."""
    tools = Tools()
    inside, program = socket.socketpair()
    with inside, program:
        inlet = Inlet(tools, inside)
        came = b""
        for written, most in steps:
            program.send(written)
            if inlet.unsent:
                piece = taken(inlet, most)
                assert 0 < len(piece) <= most
                came += piece
        program.shutdown(socket.SHUT_WR)
        while piece := taken(inlet, 7):
            came += piece
        assert came == b"".join(written for written, _ in steps)
        assert len(inside.recv(10)) == (1 if came else 0)
    tools.close()


def test_a_sudden_end_is_a_reset(ends: Ends) -> None:
    """Whatever was taken: a program whose gate is gone suddenly reads of a reset, and of no end of file."""
    inlet, inside, program = ends
    data = os.urandom(100_000)
    program.send(data)
    assert taken(inlet, len(data)) == data
    inside.close()
    with pytest.raises(ConnectionResetError):
        program.recv(1)


def test_what_comes_after_the_look_is_found(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that come between the question how many there are and the look are taken, and no byte twice."""
    inlet, _, program = ends
    program.send(b"late")
    monkeypatch.setattr(Inlet, "_waiting", lambda self: self.held)
    assert [taken(inlet, 10) for _ in range(4)] == [b"l", b"a", b"t", b"e"]
    monkeypatch.undo()
    program.send(b"r")
    assert taken(inlet, 10) == b"r"


def test_fds_on_the_way_are_closed(ends: Ends, tmp_path: Path, tools: Tools) -> None:
    """Where the kernel lets them come, an fd between bytes is disposed of, and the bytes behind it come."""
    if tools.dispose is None:
        pytest.skip("there they are refused")
    inlet, _, program = ends
    closed: list[int] = []
    tools.dispose = closed.append
    with (tmp_path / "file").open("wb") as file:
        sent = array.array("i", [file.fileno()])
        program.sendmsg([b"abc"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, sent)])
        program.send(b"def")
    came = b""
    while len(came) < 6:
        came += taken(inlet, 10)
    assert came == b"abcdef"
    assert closed
    os.close(closed[0])
