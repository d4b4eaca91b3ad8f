"""What the kernel tells of sockets that are no more, and who waits for it."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from outgate.core import notices
from outgate.gate.kernel import births, meter
from outgate.gate.kernel.notices import Notices
from outgate.gate.restart import finals
from outgate.gate.restart.finals import Finals
from outgate.testing.running import PATIENCE
from support import peers

#: As in the kernel's own list of netlink sockets: the groups of a member.
_TCP = "00000005"


@pytest.fixture
def told() -> Iterator[Notices]:
    """A socket to the kernel's notices."""
    with closing(Notices()) as made:
        assert made.why == ""
        yield made


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: the end that dialled, and the other."""
    with peers.pair(request.param) as made:
        yield made


def hear(told: Notices, cookie: int, patience: float = PATIENCE) -> meter.Reading | None:
    """Return the last reading of a socket when it is told, ``None`` where it is not within the time."""
    waiting = select.poll()
    waiting.register(told.fileno(), select.POLLIN)
    while waiting.poll(1000 * patience):  # others of this network are told of as well
        for packet in told.take(100)[0]:
            notice = notices.parse(packet)
            assert notice is not None
            if notice.cookie == cookie:
                return meter.parse(notice.info)
    return None


def test_nothing_is_told_while_a_duplicate_is_held(told: Notices, pair: tuple[socket.socket, socket.socket]) -> None:
    """Whoever had it before: so the gate, which keeps one of each socket, cannot hear of a program's close so."""
    one, other = pair
    cookie = births.cookie_of(one)
    assert told.join()
    one.sendall(bytes(1234))
    other.sendall(bytes(99))
    assert (len(one.recv(99, socket.MSG_WAITALL)), len(other.recv(1234, socket.MSG_WAITALL))) == (99, 1234)
    with one.dup() as duplicate:
        one.close()
        marker = socket.create_server(("127.0.0.1", 0))
        mark = births.cookie_of(marker)
        marker.close()
        assert hear(told, mark) is not None  # what is told comes in order
        duplicate.sendall(bytes(6))
        assert len(other.recv(6, socket.MSG_WAITALL)) == 6
    other.close()
    assert hear(told, cookie) == meter.Reading(meter.CLOSE, 1240, 99)


def test_a_connection_that_is_taken_apart(told: Notices, pair: tuple[socket.socket, socket.socket]) -> None:
    """A close with linger zero clears the counters, and so they are told."""
    one, _ = pair
    cookie = births.cookie_of(one)
    assert told.join()
    one.sendall(bytes(1234))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
    assert hear(told, cookie) == meter.Reading(meter.CLOSE, 0, 0)


def test_what_is_lost_is_said(told: Notices) -> None:
    """More notices than there is room for are lost, and that is told with the next look."""
    _give_room(told, 1)  # the least that the kernel gives
    assert told.join()
    waiting = select.poll()
    waiting.register(told.fileno(), select.POLLERR)
    for _ in range(1000):
        socket.create_server(("127.0.0.1", 0)).close()
        if waiting.poll(0):
            break
    assert waiting.poll(1000 * PATIENCE)
    assert told.take(1)[1]
    _give_room(told, 1 << 20)  # others of this network are told of as well
    told.take(1000)
    marker = socket.create_server(("127.0.0.1", 0))
    mark = births.cookie_of(marker)
    marker.close()
    assert hear(told, mark) is not None  # and it goes on


def _give_room(told: Notices, size: int) -> None:
    own = socket.socket(fileno=told.fileno())
    try:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    finally:
        own.detach()


def test_a_kernel_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why is said, and nothing else happens."""

    def refuse() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("outgate.gate.kernel.notices._open", refuse)
    with closing(Notices()) as told:
        assert "Operation not permitted" in told.why
        assert not told.join()
        assert told.take(1) == ([], False)
        told.leave()


def _groups(fd: int) -> str:
    """Return the groups of a netlink socket, as the kernel lists them."""
    inode = str(Path(f"/proc/self/fd/{fd}").stat().st_ino)
    lines = (line.split() for line in Path("/proc/self/net/netlink").read_text().splitlines())
    return next(words[3] for words in lines if words[-1] == inode)


def _until(loop: asyncio.AbstractEventLoop, is_so: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not is_so():
            await asyncio.sleep(0.005)

    loop.run_until_complete(asyncio.wait_for(wait(), PATIENCE))


def test_who_waits_is_told(pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who awaits an end has the last reading; the kernel is asked to tell as long as anything is awaited."""
    monkeypatch.setattr(finals, "LINGER", 0.0)
    one, other = pair
    loop = asyncio.new_event_loop()
    told = Notices()
    heard: list[meter.Reading] = []
    with closing(loop):
        ends = Finals(loop, told)
        assert _groups(told.fileno()) == "00000000"
        assert ends.expect(births.cookie_of(other), heard.append)
        assert ends.expect(births.cookie_of(one), heard.append)
        assert _groups(told.fileno()) == _TCP
        ends.forget(births.cookie_of(other))
        one.sendall(bytes(7))
        other.recv(7, socket.MSG_WAITALL)
        one.close(), other.close()
        _until(loop, lambda: bool(heard))
        assert heard == [meter.Reading(meter.CLOSE, 7, 0)]
        _until(loop, lambda: _groups(told.fileno()) == "00000000")
        with socket.create_server(("127.0.0.1", 0)) as again:  # and once more
            assert ends.expect(births.cookie_of(again), heard.append)
        _until(loop, lambda: len(heard) == 2)
        with socket.create_server(("127.0.0.1", 0)) as given_up:
            assert ends.expect(births.cookie_of(given_up), heard.append)
            ends.forget(births.cookie_of(given_up))
            _until(loop, lambda: _groups(told.fileno()) == "00000000")
        ends.stop()
        assert len(heard) == 2
