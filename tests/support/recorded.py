"""Say again what a program or a gate of an earlier release said, to a gate or a program of today.

A conversation is what ``tests/compat/record.py`` has written down: channel by channel, (who, message, number of fds).
Names that a gate gives (of sockets, leases, descriptors) are others at every run; what stands for them is told by the
place where they come.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import itertools
import json
import os
import socket
import threading
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

from outgate.core.formats import messages
from outgate.gate.kernel import births
from support.raw import PATIENCE, RawChannel

#: A channel's packets.
Said = list[tuple[str, dict[str, Any], int]]

#: Stands for the peer's port.
PORT = "$port"
#: Keys whose values a gate makes up, or that depend on the host.
_OWN = frozenset(("ids", "cookies", "sock", "cookie", "lease", "descriptor", "boot", "gate", "guard", "own"))


def load(path: Path, port: int) -> list[Said]:
    """Return a conversation about a peer's port."""
    return [
        [(who, with_port(message, port), fds) for who, message, fds in said] for said in json.loads(path.read_text())
    ]


def with_port(value: Any, port: int) -> Any:
    """Return plain data with a port in the place of :data:`PORT`."""
    if isinstance(value, dict):
        return {key: with_port(each, port) for key, each in value.items()}
    if isinstance(value, list):
        return [with_port(each, port) for each in value]
    return port if value == PORT else value


def differences(then: Any, now: Any, place: str = "") -> list[str]:
    """Return where a message of today has not what one of then had; what it has beside that is none."""
    key = place.rpartition(".")[2]
    if isinstance(then, dict) and isinstance(now, dict):
        found = [f"{place}.{each} is missing" for each in then if each not in now]
        common = [each for each in then if each in now]
        return found + [text for each in common for text in differences(then[each], now[each], f"{place}.{each}")]
    if type(then) is not type(now) or (isinstance(then, list) and len(then) != len(now)):
        return [f"{place} was {then!r} and is {now!r}"]
    return [f"{place} was {then!r} and is {now!r}"] if then != now and key not in _OWN else []


class RecordedProgram:
    """A program of then, at a gate of today.

    :param path: the gate's socket.
    :param said: the conversation.
    :ivar differences: what the gate said otherwise than the one of then.
    :ivar echoed: what came back over the sockets that it was given.
    """

    def __init__(self, path: str, said: list[Said]) -> None:
        self.differences: list[str] = []
        self.echoed: list[bytes] = []
        self._names: dict[int | str, int | str] = {}
        self._sockets: dict[int | str, socket.socket] = {}
        token = os.urandom(16).hex()
        with contextlib.ExitStack() as stack:
            anchors = [each for each in said if _role(each) == "anchor"]
            others = [each for each in said if _role(each) == "request"]
            channels = [stack.enter_context(RawChannel(path, token)) for _ in said]
            rest = deque([(channel, each) for channel, each in zip(channels, anchors, strict=False)])
            for channel, each in rest:  # the first word comes first, the last ones when all else is said
                self._say(channel, each[0])
            for channel, each in zip(channels[len(anchors) :], others, strict=True):
                self._converse(channel, each)
            for channel, each in rest:
                for packet in each[1:]:
                    self._say(channel, packet)
            for sock in self._sockets.values():
                sock.close()

    def _converse(self, channel: RawChannel, said: Said) -> None:
        for number, (who, message, fds) in enumerate(said):
            if who == "program":
                if message["op"] == messages.SHARE:
                    self._use(message["sock"], b"one")
                self._say(channel, (who, message, fds))
                asked = message
                continue
            reply = channel.receive()
            while asked["op"] == messages.HARVEST and reply == {"errno": errno.EINPROGRESS}:
                self._say(channel, said[number - 1])
                reply = channel.receive()
            assert reply is not None, f"the gate ended the channel at {asked}"
            self.differences += differences(message, reply, asked["op"])
            assert len(channel.fds) == fds, asked
            self._learn(message, reply)
            self._take(asked, reply, channel)

    def _say(self, channel: RawChannel, packet: tuple[str, dict[str, Any], int]) -> None:
        _who, message, fds = packet
        message = copy.deepcopy(message)
        if "hello" in message:
            message["hello"]["token"] = channel.token
        for key in ("sock", "descriptor"):
            if key in message:
                message[key] = self._names[message[key]]
        channel.send(message, [self._sockets[message["sock"]].fileno() for _ in range(fds)])

    def _learn(self, then: dict[str, Any], now: dict[str, Any]) -> None:
        self._names.update(zip(then.get("ids", ()), now.get("ids", ()), strict=True))
        for key in ("sock", "descriptor"):
            if key in then:
                self._names[then[key]] = now[key]

    def _take(self, asked: dict[str, Any], reply: dict[str, Any], channel: RawChannel) -> None:
        """Do with what has come as the program did."""
        came, channel.fds = channel.fds, []
        if asked["op"] == messages.NEW:
            self._sockets.update(zip(reply["ids"], came, strict=True))
            self._relays = reply.get("relay", False)
        elif asked["op"] == messages.CONNECT and "error" not in reply and not self._relays:
            self._sockets[self._names[asked["sock"]]].connect(tuple(reply["addr"][:2]))
        elif asked["op"] == messages.REDEEM:
            self._sockets[reply["sock"]].close()
            self._sockets[reply["sock"]] = came[0]
            self._use(reply["sock"], b"two")

    def _use(self, name: int | str, data: bytes) -> None:
        sock = self._sockets[self._names.get(name, name)]
        sock.settimeout(PATIENCE)
        sock.sendall(data)
        self.echoed.append(sock.recv(len(data), socket.MSG_WAITALL))


def _role(said: Said) -> str:
    return str(next(message["hello"]["role"] for _, message, _ in said if "hello" in message))


class RecordedGate:
    """A gate of then, for a program of today; it ends with the ``with`` block. Its sockets are real.

    :param path: where it listens.
    :param said: the conversation.
    :param port: of the peer.
    :ivar unknown: what it was asked that nobody had asked of the one of then.
    """

    def __init__(self, path: str, said: list[Said], port: int) -> None:
        self.unknown: list[dict[str, Any]] = []
        self._peer = ("127.0.0.1", port)
        self._replies: dict[str, deque[tuple[dict[str, Any], int]]] = defaultdict(deque)
        for channel in said:
            for (_, asked, _), (who, reply, fds) in itertools.pairwise(channel):
                if who == "gate":
                    self._replies[asked["op"]].append((reply, fds))
        self._held: dict[int, Any] = {}
        self._cookies: dict[int, int] = {}
        self._inside: dict[int, Any] = {}
        self._given: dict[int, socket.socket] = {}
        self._outside: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(path)
        self._listener.listen(16)

    def __enter__(self) -> RecordedGate:
        self._begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for sock in self._given.values():  # else the program's ends would not be closed with the program's own
            sock.close()
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listener.close()
        for sock in (*self._held.values(), *self._inside.values(), *self._outside):
            sock.close()

    def _begin(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, name="recorded gate")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                channel, _ = self._listener.accept()
                self._begin(self._serve, channel)

    def _serve(self, channel: socket.socket) -> None:
        is_anchor = False
        with channel, contextlib.suppress(OSError):
            while True:
                packet, fds, _flags, _ = socket.recv_fds(channel, messages.MAX_PACKET, 64)
                if not packet:
                    return
                message = json.loads(packet)
                is_anchor = is_anchor or message.get("hello", {}).get("role") == "anchor"
                if message["op"] == messages.HAND:
                    self._given[message["sock"]] = socket.socket(fileno=fds[0])
                if is_anchor:
                    continue
                if not self._replies[message["op"]]:
                    self.unknown.append(message)
                    return
                reply, _count = self._replies[message["op"]].popleft()
                gives = self._do(message, reply)
                socket.send_fds(channel, [json.dumps(reply).encode()], gives)

    def _do(self, asked: dict[str, Any], reply: dict[str, Any]) -> list[int]:
        """Do what the gate of then did, and return the fds that go with the reply."""
        if asked["op"] == messages.NEW:
            made = [self._make(reply.get("relay", False), id) for id in reply["ids"]]
            reply["cookies"] = [self._cookies[id] for id in reply["ids"]]
            return [sock.fileno() for sock in made]
        if asked["op"] == messages.CONNECT and "error" not in reply:
            self._dial(asked["sock"])
        if asked["op"] == messages.REDEEM:
            reply["cookie"] = self._cookies[reply["sock"]]
            return [(self._given.get(reply["sock"]) or self._held[reply["sock"]]).fileno()]
        return []

    def _make(self, is_relay: bool, id: int) -> Any:
        if not is_relay:
            self._held[id], _ = births.make(4)
        else:
            self._inside[id], self._held[id] = socket.socketpair()
            self._held[id].setsockopt(socket.SOL_SOCKET, messages.RELAY_MARK, 1)
        self._cookies[id] = births.cookie_of(self._held[id])
        return self._held[id]

    def _dial(self, id: int) -> None:
        inside = self._inside.get(id)
        if inside is None:
            with contextlib.suppress(BlockingIOError):
                self._held[id].connect(self._peer)
            return
        outside = socket.create_connection(self._peer, PATIENCE)
        self._outside.append(outside)
        with contextlib.suppress(BlockingIOError):  # with what the program had made it full
            while inside.recv(1 << 16, socket.MSG_DONTWAIT):
                pass
        self._held[id].close()  # the program's alone now, whose end is then its end
        self._begin(_carry, inside, outside)
        self._begin(_carry, outside, inside)


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
