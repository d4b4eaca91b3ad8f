"""The gate's end of the line on which a program says what it wants fetched, and gets the answer."""

from __future__ import annotations

import asyncio
import contextlib
from _socket import MSG_DONTWAIT, MSG_NOSIGNAL
from _socket import socket as native
from collections.abc import Callable
from typing import Any

import msgspec

from outgate.core.formats import fetchline
from outgate.gate.kernel import births

_WRITE = MSG_DONTWAIT | MSG_NOSIGNAL


class Gone(Exception):
    """The program has closed its end, has ended, or says what nobody asked it for."""


class Line:
    """One line. It keeps nothing: a program that does not read holds back who sends."""

    def __init__(self, sock: native, dispose: Callable[[int], object]) -> None:
        """Take over the gate's end of a Unix stream.

        :param dispose: closes an fd that the program sends, where the kernel does not refuse it.
        """
        sock.setblocking(False)
        self._sock = sock
        self._fd = sock.fileno()
        self._receive = births.receiver(sock, dispose)
        self._loop = asyncio.get_running_loop()
        self._gone: Callable[[], object] | None = None

    async def read(self, size: int) -> bytes:
        """Return the next bytes, at least one and at most so many. Raises :class:`Gone`."""
        while True:
            try:
                data = self._receive(size)
            except (BlockingIOError, InterruptedError):
                await self._wait(self._loop.add_reader, self._loop.remove_reader)
                continue
            except OSError:
                raise Gone from None
            if not data:
                raise Gone
            return data

    async def read_text(self) -> bytes:
        """Return the text that comes next. Raises :class:`Gone`, also where it is none."""
        try:
            kind, size = fetchline.parse(await self._read_all(fetchline.HEADER))
        except ValueError:
            raise Gone from None
        if kind != fetchline.TEXT:
            raise Gone
        return await self._read_all(size)

    async def _read_all(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            parts += await self.read(size - len(parts))
        return bytes(parts)

    async def send(self, data: bytes | bytearray) -> None:
        """Send bytes, as fast as the program takes them. Raises :class:`Gone`."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view, _WRITE) :]
            except (BlockingIOError, InterruptedError):
                await self._wait(self._loop.add_writer, self._loop.remove_writer)
            except OSError:
                raise Gone from None

    async def say(self, text: dict[str, Any]) -> None:
        """Send a text. Raises :class:`Gone`."""
        await self.send(fetchline.frame(fetchline.TEXT, msgspec.json.encode(text)))

    def when_gone(self, tell: Callable[[], object]) -> None:
        """Call a function, once, when the program has gone; not between :meth:`ask` and :meth:`answered`."""
        self._gone = tell
        self.answered()

    async def ask(self, text: dict[str, Any]) -> None:
        """Send a text to which the program answers by itself. Raises :class:`Gone`."""
        self._loop.remove_reader(self._fd)
        await self.say(text)

    def answered(self) -> None:
        """Take note that all of an answer has been read: what is to be read now is the program's end."""
        self._loop.add_reader(self._fd, self._on_readable)

    def _on_readable(self) -> None:
        tell, self._gone = self._gone, None
        self._loop.remove_reader(self._fd)
        if tell is not None:
            tell()

    async def _wait(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        ready = self._loop.create_future()
        add(self._fd, _wake, ready)
        try:
            await ready
        finally:
            remove(self._fd)

    def close(self) -> native:
        """Let go of the socket and return it: unread fds in it may make its close slow."""
        self._gone = None
        with contextlib.suppress(RuntimeError, ValueError):  # the loop has ended
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
        return self._sock


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
