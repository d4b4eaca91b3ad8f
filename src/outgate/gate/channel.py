"""Serve one channel: read packets, run one request at a time, send replies; end it at the first thing that is wrong."""

from __future__ import annotations

import array
import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from outgate.core.formats import messages
from outgate.errors import GateError, OutgateError, ProtocolError
from outgate.gate import requests, wire
from outgate.gate.greeting import greeting
from outgate.gate.kernel import births, eager, queues
from outgate.gate.registry import Process

if TYPE_CHECKING:
    from outgate.gate.server import Gate

# Plain numbers: an IntFlag costs a microsecond each time it is combined with another.
_READ = int(socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
_WRITE = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
#: SCM_MAX_FD: the most fds one packet can carry. Room for fewer would let the kernel close the rest on our thread.
_STRAY_ROOM = socket.CMSG_SPACE(253 * 4)


class Peer:
    """The process at the other end of a channel, as the kernel knows it (SO_PEERCRED)."""

    __slots__ = ("gid", "pid", "uid")

    def __init__(self, pid: int, uid: int, gid: int) -> None:
        self.pid = pid
        self.uid = uid
        self.gid = gid


class Channel:
    """One accepted channel."""

    __slots__ = (
        "_after",
        "_busy",
        "_fd",
        "_gate",
        "_handed",
        "_refuses_fds",
        "_sock",
        "_strays",
        "_takes",
        "app_name",
        "carries_shared",
        "closed",
        "greeted_by",
        "is_anchor",
        "peer",
        "process",
    )

    def __init__(self, gate: Gate, sock: socket.socket, peer: Peer, strays: bool, app_name: str = "") -> None:
        self._gate = gate
        self._sock = sock
        self._fd = sock.fileno()
        self._busy = False
        self._after: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        #: Whether packets may carry fds (no SO_PASSRIGHTS, or one was asked for once), so that every receive needs
        #: room for them: the kernel would close those without on our thread, which may take as long as it likes.
        self._strays = strays
        self._refuses_fds = not strays
        #: How many the next packet may bring, and what it has brought: files of any kind.
        self._takes = 0
        self._handed: list[int] = []
        self.peer = peer
        #: Whose own socket it came by, "" where the user decides.
        self.app_name = app_name
        self.process: Process | None = None
        self.is_anchor = False
        #: Whether the last reply brought a shared socket, and may be unread (:mod:`outgate.gate.travel.underway`).
        self.carries_shared = False
        self.greeted_by = gate.loop.time() + messages.HELLO_LIMIT
        self.closed = False
        gate.loop.add_reader(self._fd, self._on_readable)

    @property
    def is_busy(self) -> bool:
        """Whether a request is at work, or has brought half of what it is to bring."""
        return self._busy or self._takes > 0

    @property
    def takes_strays(self) -> bool:
        """Whether a packet may carry fds that nobody asked for."""
        return self._strays

    def fileno(self) -> int:
        """Return the fd, or -1 when it is closed."""
        return -1 if self.closed else self._fd

    def pause(self) -> None:
        """Read nothing for now."""
        self._gate.loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Read again."""
        if not self.closed:
            self._gate.loop.add_reader(self._fd, self._on_readable)

    def hand_over(self, fds: list[int], batch: int, limit: float) -> bytes:
        """Send many fds and return what the other end says to that; b"" for nothing. Blocks, and it is meant to.

        :param batch: how many go in one packet.
        :param limit: seconds that each step may take.
        """
        packet = wire.encode({"fds": len(fds)})
        waiting = select.poll()
        waiting.register(self._fd, select.POLLOUT)
        try:
            for start in range(0, len(fds), batch):
                if not waiting.poll(limit * 1000):
                    return b""
                self._transmit(packet, fds[start : start + batch])
            waiting.modify(self._fd, select.POLLIN)
            return self._sock.recv(64, _READ) if waiting.poll(limit * 1000) else b""
        except OSError:
            return b""

    def after_reply(self, function: Callable[..., None], *args: Any) -> None:
        """Have something done once the reply to the request at work is on its way: the client need not wait for it."""
        self._after.append((function, args))

    def _on_readable(self) -> None:
        # One packet a turn: the loop calls again at once for the next, and looking for it here would cost more.
        try:
            size, view = self._receive()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close("reset")
            return
        if size == 0:
            self.close("")
            return
        if size > messages.MAX_PACKET:
            self.end(f"a packet of more than {messages.MAX_PACKET} bytes")
            return
        if self._busy:
            self.end("a request before the reply to the last")
            return
        try:
            request = wire.decode(view[:size])
            if request.hello is not None or self.process is None or self.is_anchor:
                self._greet(request)
        except ProtocolError as e:
            self.end(str(e))
            return
        except GateError as e:  # refused as a whole: no app, no common version
            self._gate.counts.refused("", type(request), e.code)
            self._send({"error": {"code": e.code, "facts": dict(e.facts)}, "end": True})
            self.close(e.code)
            return
        if self._handed and not isinstance(request, wire.BRINGS_FDS):
            self.end("file descriptors in a request")
            return
        if self.is_anchor:
            if not isinstance(request, wire.Hello):
                self._note(request)
            return
        if self.carries_shared and not self.has_unread():
            self._gate.underway.ended(self, read=True)
        self._busy = True
        eager.run(self._answer(request), self._gate.loop, self._gate.tasks)

    def _note(self, request: wire.Request) -> None:
        assert self.process is not None
        try:
            self._gate.one_way[type(request)](self._gate, self.process, request)
        except Exception as e:
            self._gate.fault(e, request)

    def _receive(self) -> tuple[int, memoryview]:
        buffer = self._gate.buffer
        if not self._strays:
            return self._sock.recv_into(buffer, 0, _READ), buffer
        size, ancillary, _, _ = self._sock.recvmsg_into((buffer,), _STRAY_ROOM, _READ)
        takes, self._takes = self._takes, 0
        count = 0
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i", data[: len(data) - len(data) % 4])
                if len(fds) <= takes and not self._handed:
                    self._handed = list(fds)
                    continue
                count += len(fds)
                for fd in fds:
                    self._gate.reception.stray_closer(self.peer.uid).put(fd)
        if count:
            self.end("file descriptors in a request")
            raise BlockingIOError
        return size, buffer

    def expect_fd(self, count: int = 1) -> None:
        """Let the next packet bring fds: the end of a relayed socket that its holder shares, or sockets given back."""
        self._takes, self._strays = count, True
        births.take_fds(self._sock)

    def take_handed(self) -> list[int]:
        """Return the fds that the request at work has brought, which are the caller's now, and take nothing more."""
        if self._refuses_fds:
            births.take_no_fds(self._sock)
        handed, self._handed = self._handed, []
        return handed

    def _greet(self, request: wire.Request) -> None:
        hello = request.hello
        if hello is None:
            if self.process is None:
                raise ProtocolError("the first packet has no hello")
        elif self.process is not None:
            raise ProtocolError("a second hello")
        else:
            asks = isinstance(request, wire.ABOUT_THE_GATE)
            self.process = self._gate.reception.join(self, hello, asks)
            self.is_anchor = hello.role == "anchor"
            self.process.channels += 1
        opens = hello is not None and isinstance(request, wire.Hello)
        if self.is_anchor and not opens and type(request) not in requests.ONE_WAY:
            raise ProtocolError("an anchor carries one-way packets only")

    async def _answer(self, request: wire.Request) -> None:
        fds: list[int] = []
        process = self.process
        assert process is not None
        gate = self._gate
        began = time.perf_counter()
        try:
            handler = gate.handlers.get(type(request))
            if handler is None:
                raise ProtocolError("hello is what opens an anchor")
            reply = await handler(gate, self, process, request)
            if isinstance(reply, tuple):
                reply, fds = reply
        except ProtocolError as e:
            self.end(str(e))
            return
        except GateError as e:
            reply = {"error": {"code": e.code, "facts": dict(e.facts)}}
        except (OutgateError, Exception) as e:
            gate.fault(e, request)
            self.end("a fault of the gate's own; its log has it")
            return
        self._busy = False
        gate.counts.replied(process.app.name, type(request), time.perf_counter() - began, reply)
        if "error" in reply:
            gate.refusals.replied(process, request, reply)
        if not self.closed:
            if request.hello is not None:
                reply["hello"] = greeting(gate, process)
            self._send(reply, fds)
        # Also where the client is gone by now: what it had us do is done, and belongs into the log.
        after, self._after = self._after, []
        for function, args in after:
            function(*args)

    def _send(self, reply: dict[str, Any], fds: list[int] | None = None) -> None:
        packet = wire.encode(reply)
        if len(packet) > messages.MAX_PACKET:
            packet = wire.encode({"errno": 90, "hello": reply.get("hello")})  # EMSGSIZE
        if fds and self.has_unread():
            self.end("born sockets asked for while an earlier reply waits to be read")
            return
        try:
            self._transmit(packet, fds)
        except BlockingIOError:
            self.end("replies are not read")
        except OSError:
            self.close("reset")

    def _transmit(self, packet: bytes, fds: list[int] | None = None) -> None:
        if fds:
            self._sock.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))], _WRITE)
        else:
            self._sock.send(packet, _WRITE)

    def close_after_reply(self, why: str) -> None:
        """Stop serving, but answer the request at work, if there is one."""
        if self._busy:
            self.after_reply(self.close, why)
        else:
            self.close(why)

    def has_unread(self) -> bool:
        """Tell whether a reply lies unread at the client's end."""
        if self.closed:
            return False
        return queues.unsent(self._fd) > 0

    def end(self, why: str) -> None:
        """End the channel with a reason; whatever else its process holds stays."""
        if self.closed:
            return
        self._gate.log.event(
            "channel-ended", pid=self.peer.pid, uid=self.peer.uid, app=self.process.app.name if self.process else "",
            reason=why,
        )  # fmt: skip
        with contextlib.suppress(OSError):  # gone, or has no room because nobody reads
            self._transmit(wire.encode({"error": {"code": "gate-refused-channel", "facts": {"why": why}}, "end": True}))
        self.close(why)

    def close(self, why: str) -> None:
        """Stop serving. Unread packets with fds in them make the close slow, so it is not done here."""
        if self.closed:
            return
        self.closed = True
        if self.carries_shared:
            self._gate.underway.ended(self, read=not why)  # an end of file: nothing was left unread
        self._gate.loop.remove_reader(self._fd)
        process = self.process
        closer = process.app.closer if process is not None else self._gate.reception.stray_closer(self.peer.uid)
        closer.put(self._sock)
        for fd in self._handed:
            closer.put(fd)
        self._gate.reception.left(self)


def peer_of(sock: socket.socket) -> Peer:
    """Return who connected, by SO_PEERCRED (unix(7)): the credentials at the time of connect(2)."""
    ids = array.array("i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Peer(ids[0], ids[1], ids[2])


def network_namespace(pid: int | str) -> tuple[int, int] | None:
    """Return what identifies the network namespace of a process, or ``None`` where it may not be read."""
    try:
        seen = os.stat(f"/proc/{pid}/ns/net")
    except OSError:
        return None
    return seen.st_dev, seen.st_ino
