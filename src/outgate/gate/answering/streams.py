"""Answer at the host's own name servers over TCP as over UDP: judge each question, forward it there, bind the answer.

A program asks so where an answer does not fit into a datagram, or because it prefers to. Its socket is of the gate's
network, whoever else holds it, so the gate dials it to a listener of its own on loopback and is the name server there:
what is no question goes no further. The listener takes in nobody else, which it knows by the other end's address.

Sources: RFC 1035 section 4.2.2, RFC 5452, RFC 7766.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

from outgate.core import lease as life
from outgate.core.formats import dnsmessage
from outgate.gate.answering import questions

if TYPE_CHECKING:
    from outgate.core.formats.dnsmessage import Question
    from outgate.gate.registry import Lease
    from outgate.gate.server import Gate

#: Seconds that a program may take over a question, and over an answer; that the name server may take.
IDLE = 10.0
LIMIT = 15.0
#: The longest question, which is a name and few options; what says that it is longer is no question.
LONGEST = 4096
#: Connections of one app; beyond that the oldest is ended (RFC 7766 section 6.2.3 lets a server do so at any time).
MOST = 32
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_BACKLOG = 256
_BATCH = 64
#: Bytes of answers that the kernel keeps for who does not take them: the longest one.
_BUFFER = 1 << 16


class _NoQuestion(Exception):
    """What came is nothing that a name server would answer."""


class Answering:
    """The connections of all apps to name servers."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._listeners: dict[int, socket.socket] = {}
        #: What is dialled, and not taken in yet, with the name server that it was for.
        self._expected: dict[Lease, tuple[Any, ...]] = {}
        self._served: dict[Lease, asyncio.Task[None]] = {}

    def __contains__(self, lease: Lease) -> bool:
        """Whether what is at the other end of a connection is this, and not a name server."""
        return lease in self._served or lease in self._expected

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """Return what is at work."""
        return list(self._served.values())

    # --- connections --------------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Make the listeners before the gate enters its seal: what is made after it takes nothing in."""
        for family in _FAMILY:
            try:
                self._listener(family)
            except OSError:  # the host has no such family: who asks over it is told so
                continue

    def expect(self, lease: Lease, server: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return where a socket is to be dialled instead of a name server.

        :raises OSError: there is no loopback of its family, or no descriptor is left.
        """
        address: tuple[Any, ...] = self._listener(lease.family).getsockname()
        self._expected[lease] = server
        return address

    def _listener(self, family: int) -> socket.socket:
        made = self._listeners.get(family)
        if made is None:
            made = socket.socket(_FAMILY[family], socket.SOCK_STREAM)
            try:
                made.setblocking(False)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)  # of those that it takes in as well
                made.bind((_LOOPBACK[family], 0))
                made.listen(_BACKLOG)
            except BaseException:
                made.close()
                raise
            self._listeners[family] = made
            self._gate.loop.add_reader(made.fileno(), self._on_connection, made)
        return made

    def _on_connection(self, listener: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError:  # no descriptor is left: those that come wait
                self._gate.loop.remove_reader(listener.fileno())
                self._gate.loop.call_later(0.1, self._accept_again, listener)
                return
            self._take_in(sock, peer)

    def _take_in(self, sock: socket.socket, peer: tuple[Any, ...], is_first: bool = True) -> None:
        lease = self._whose(peer)
        if lease is not None:
            self._begin(lease, sock)
        elif is_first and self._expected:
            # Dialled aside (gate.aside): that thread's word of the socket's own address may still be on its way.
            self._gate.loop.call_later(0.05, self._take_in, sock, peer, False)
        else:
            sock.close()

    def _accept_again(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            self._gate.loop.add_reader(listener.fileno(), self._on_connection, listener)

    def _whose(self, peer: tuple[Any, ...]) -> Lease | None:
        for lease in tuple(self._expected):
            if lease.state == life.ENDED:
                del self._expected[lease]
                continue
            try:
                own = lease.sock.getsockname()
            except OSError:  # it is being closed
                continue
            if own[:2] == peer[:2]:
                return lease
        return None

    def _begin(self, lease: Lease, sock: socket.socket) -> None:
        server = self._expected.pop(lease)
        app = lease.process.app
        others = [each for each in self._served if each.process.app is app]
        for oldest in others[: len(others) - MOST + 1]:
            self._served.pop(oldest).cancel()
        task = self._gate.loop.create_task(self._serve(lease, server, sock))
        self._served[lease] = task
        task.add_done_callback(partial(self._ended, lease))

    def _ended(self, lease: Lease, task: asyncio.Task[None]) -> None:
        if self._served.get(lease) is task:
            del self._served[lease]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._gate.fault(error, lease)

    def stop(self) -> None:
        """End all of them; the tasks are the caller's to wait for."""
        for task in self.tasks:
            task.cancel()
        for listener in self._listeners.values():
            self._gate.loop.remove_reader(listener.fileno())
            listener.close()

    # --- questions ----------------------------------------------------------------------------------------------------

    async def _serve(self, lease: Lease, server: tuple[Any, ...], sock: socket.socket) -> None:
        """Answer one question after another, as long as there are any."""
        reader, writer = await _open(sock)
        try:
            while True:
                message = await asyncio.wait_for(_read(reader, LONGEST), IDLE)
                answer = await self._answer(lease, server, message)
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await asyncio.wait_for(writer.drain(), IDLE)
                await asyncio.sleep(0)  # many may have come at once, and others have questions as well
        except (OSError, TimeoutError, asyncio.IncompleteReadError, _NoQuestion):
            pass
        finally:
            writer.transport.abort()

    async def _answer(self, lease: Lease, server: tuple[Any, ...], message: bytes) -> bytes:
        process = lease.process
        end = dnsmessage.HEADER
        try:
            question = dnsmessage.question(message)
            end = question.end
            if question.type in dnsmessage.TRANSFERS:
                raise dnsmessage.Malformed(dnsmessage.REFUSED, "a zone is more than an answer")
            decision = questions.judge(process.app, process.narrowed, question)
        except dnsmessage.Malformed as e:
            if e.rcode is None:
                raise _NoQuestion from None
            return dnsmessage.refusal(message, e.rcode, end)
        questions.note(self._gate, process, question, server[1], decision, ("tcp", lease.way))
        if decision.denied:
            return dnsmessage.refusal(message, dnsmessage.REFUSED, end)
        try:
            answer = await asyncio.wait_for(self._forward(server, message, question), LIMIT)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return dnsmessage.refusal(message, dnsmessage.SERVFAIL, end)
        questions.bind(process.app, answer, question)
        return message[:2] + answer[2:]

    async def _forward(self, server: tuple[Any, ...], message: bytes, question: Question) -> bytes:
        """Return the server's answer, asked for from a port and by a number that the program does not know."""
        id = secrets.randbits(16)
        sock = socket.socket(_FAMILY[4 if len(server) == 2 else 6], socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await self._gate.loop.sock_connect(sock, server)
        except BaseException:
            sock.close()
            raise
        reader, writer = await _open(sock)
        try:
            writer.write(len(message).to_bytes(2, "big") + id.to_bytes(2, "big") + message[2:])
            while True:
                answer = await _read(reader)
                if dnsmessage.is_answer(answer, id, message, question.end):
                    return answer
        finally:
            writer.transport.abort()


async def _open(sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        reader, writer = await asyncio.open_connection(sock=sock, limit=LONGEST)
    except BaseException:
        sock.close()
        raise
    writer.transport.set_write_buffer_limits(0)
    return reader, writer


async def _read(reader: asyncio.StreamReader, longest: int = 0xFFFF) -> bytes:
    size = int.from_bytes(await reader.readexactly(2), "big")
    if size > longest:
        raise _NoQuestion
    return await reader.readexactly(size)
