"""Transports for datagrams keep what a socket does not take yet, and end as they should."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from outgate.client import endpoints
from outgate.testing.running import RunningGate

#: More than a Unix socket takes of datagrams that nobody reads (net.unix.max_dgram_qlen is 10 or some more).
MANY = 2000


class Told(asyncio.DatagramProtocol):
    """Note in order what a transport tells."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append("made")

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def error_received(self, error: Exception) -> None:
        self.told.append(type(error))

    def connection_lost(self, error: Exception | None) -> None:
        self.told.append("lost")
        self.ended.set_result(error)


def on_a_pair(test: Callable[[endpoints.Endpoint, Told, socket.socket], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a transport on one end of a pair, its protocol, and the other end."""

    async def run() -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        left.setblocking(False)
        with right:
            right.settimeout(20)
            loop = asyncio.get_running_loop()
            endpoint, told = await endpoints.open(loop, Told, left, None)
            await test(endpoint, told, right)
        assert left.fileno() == -1

    asyncio.run(asyncio.wait_for(run(), 30))


async def _receive(right: socket.socket) -> bytes:
    return await asyncio.get_running_loop().run_in_executor(None, right.recv, 65536)


def test_what_is_not_taken_is_kept_in_order() -> None:
    """Past the high water mark the protocol is paused, below the low one resumed, and all arrives in order."""

    async def test(endpoint: endpoints.Endpoint, told: Told, right: socket.socket) -> None:
        endpoint.set_write_buffer_limits(high=1000, low=100)
        for number in range(MANY):
            endpoint.sendto(number.to_bytes(4, "big"))
        kept = endpoint.get_write_buffer_size()
        assert 1000 < kept <= MANY * 4
        assert told.told == ["made", "pause"]
        for number in range(MANY):
            assert int.from_bytes(await _receive(right), "big") == number
        assert endpoint.get_write_buffer_size() == 0
        assert told.told == ["made", "pause", "resume"]
        endpoint.close()
        assert await told.ended is None

    on_a_pair(test)


def test_close_sends_what_is_kept_and_abort_does_not() -> None:
    """A transport that is closed ends when the last kept datagram has gone, one that is aborted at once."""

    async def closed(endpoint: endpoints.Endpoint, told: Told, right: socket.socket) -> None:
        for number in range(MANY):
            endpoint.sendto(number.to_bytes(4, "big"))
        endpoint.close()
        assert (endpoint.is_closing(), "lost" in told.told) == (True, False)
        for number in range(MANY):
            assert int.from_bytes(await _receive(right), "big") == number
        assert await told.ended is None

    async def aborted(endpoint: endpoints.Endpoint, told: Told, right: socket.socket) -> None:
        for number in range(MANY):
            endpoint.sendto(number.to_bytes(4, "big"))
        endpoint.abort()
        endpoint.abort()
        assert await told.ended is None
        assert endpoint.get_write_buffer_size() == 0
        right.setblocking(False)
        received = 0
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while right.recv(10):
                received += 1
        assert 0 < received < MANY

    on_a_pair(closed)
    on_a_pair(aborted)


def test_an_error_is_told_and_the_transport_goes_on() -> None:
    """What sending or receiving raises is told to the protocol; nothing ends."""

    async def test(endpoint: endpoints.Endpoint, told: Told, right: socket.socket) -> None:
        right.close()
        endpoint.sendto(b"to nobody")
        assert told.told[1:] in ([ConnectionRefusedError], [ConnectionResetError])
        assert not endpoint.is_closing()
        endpoint.abort()
        await told.ended

    on_a_pair(test)


def test_a_protocol_that_closes_at_once() -> None:
    """A transport that is closed in ``connection_made`` ends, and whoever waits for it gets both."""

    class Hasty(Told):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.close()

    async def run() -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        left.setblocking(False)
        with right:
            endpoint, told = await endpoints.open(asyncio.get_running_loop(), Hasty, left, None)
            await told.ended
        assert (told.told, endpoint.is_closing(), left.fileno()) == (["made", "lost"], True, -1)

    asyncio.run(run())


def test_a_protocol_that_fails_leaves_nothing_open() -> None:
    """What ``connection_made`` raises comes out, and the socket is closed."""

    class Broken(Told):
        def connection_made(self, transport: Any) -> None:
            raise ZeroDivisionError

    async def run() -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        left.setblocking(False)
        with right:
            with pytest.raises(ZeroDivisionError):
                await endpoints.open(asyncio.get_running_loop(), Broken, left, None)
            await asyncio.sleep(0)
        assert left.fileno() == -1

    asyncio.run(run())


PROGRAM = """
import asyncio, socket, sys, uvloop
class Told(asyncio.DatagramProtocol):
    def __init__(self):
        self.errors, self.ended = [], asyncio.get_running_loop().create_future()
    def error_received(self, error):
        self.errors.append(type(error).__name__)
    def connection_lost(self, error):
        self.ended.set_result(error)
async def main():
    loop = asyncio.get_running_loop()
    transport, told = await loop.create_datagram_endpoint(Told, family=socket.AF_INET)
    print("ready", flush=True)
    error = await told.ended
    print(told.errors, type(error).__name__, transport.is_closing())
uvloop.run(main())
"""


def test_an_endpoint_ends_with_its_gate() -> None:
    """Where the gate has ended the protocol is told once, and the transport is closed: nothing can come any more."""
    pytest.importorskip("uvloop")
    with RunningGate() as gate:
        command = [sys.executable, "-c", PROGRAM]
        program = subprocess.Popen(command, env=gate.environ(), stdout=subprocess.PIPE, text=True)
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
    said, _ = program.communicate(timeout=30)
    assert said == "['GateUnavailable'] GateUnavailable True\n"
