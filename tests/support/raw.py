"""Speak to a gate packet by packet, as a client never would.

Standard library and the messages only: ``tests/gate/victim.py`` runs it in interpreters with nothing else.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
from collections.abc import Iterable
from typing import Any

#: Seconds until a missing reply is taken for a hang.
PATIENCE = 20.0
_ROOM = socket.CMSG_SPACE(64 * 4)


class RawChannel:
    """One channel to a gate.

    :param token: of the process to join; a fresh one by default.
    :param role: ``request`` or ``anchor``.
    :ivar fds: born sockets that came with replies, as sockets, until somebody takes them.
    """

    def __init__(self, path: str, token: str | None = None, role: str = "request", parents: Iterable[str] = ()) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(path)
        self.token = token or os.urandom(16).hex()
        self.hello: dict[str, Any] | None = {
            "v": [1, 1], "role": role, "token": self.token, "parents": list(parents), "program": "raw",
        }  # fmt: skip
        self.fds: list[socket.socket] = []

    def __enter__(self) -> RawChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel and every socket that came over it and was not taken."""
        self.sock.close()
        while self.fds:
            self.fds.pop().close()

    def send(self, packet: bytes | dict[str, Any], fds: Iterable[int] = ()) -> None:
        """Send one packet as it is: no hello is added."""
        data = packet if isinstance(packet, bytes) else json.dumps(packet).encode()
        rights = array.array("i", fds)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
        self.sock.sendmsg([data], ancillary)

    def post(self, op: str, **fields: Any) -> None:
        """Send a request, with the hello if it is the first."""
        message = {"op": op, **fields}
        if self.hello is not None:
            message["hello"], self.hello = self.hello, None
        self.send(message)

    def receive(self) -> dict[str, Any] | None:
        """Return the next reply, or ``None`` at the channel's end. Raises ``TimeoutError`` when neither comes."""
        try:
            packet, ancillary, _, _ = self.sock.recvmsg(1 << 17, _ROOM)
        except ConnectionResetError:  # the gate left packets of ours unread; what it said before comes after this error
            packet, ancillary, _, _ = self.sock.recvmsg(1 << 17, _ROOM)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array("i", data[: len(data) - len(data) % 4])
                self.fds += [socket.socket(fileno=number) for number in numbers]
        return json.loads(packet) if packet else None

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a request and return its reply. Raises ``ConnectionError`` if the channel ends instead."""
        try:
            self.post(op, **fields)
            reply = self.receive()
        except BrokenPipeError:  # it had ended it before
            reply = None
        if reply is None:
            raise ConnectionError(f"the gate ended the channel at {op}")
        return reply

    def new(self, count: int = 1, family: int = 4) -> list[tuple[int, socket.socket]]:
        """Return born sockets with their ids. The caller closes them."""
        reply = self.ask("new", family=family, count=count)
        ids = reply["ids"]
        taken, self.fds = self.fds[-len(ids) :], self.fds[: -len(ids)]
        return list(zip(ids, taken))  # noqa: B905 - 3.9 has no strict=

    def connect(self, id: int, address: tuple[str, int]) -> dict[str, Any]:
        """Ask to dial and return the reply."""
        return self.ask("connect", sock=id, host=address[0], port=address[1])

    def share(self, id: int, sock: socket.socket) -> dict[str, Any]:
        """Ask for a descriptor, hand the socket over if that is asked for, and return the last reply."""
        reply = self.ask("share", sock=id)
        if reply.get("hand"):
            self.send({"op": "hand", "sock": id}, fds=[sock.fileno()])
            reply = self.receive() or {}
        return reply

    def redeem(self, text: str) -> socket.socket:
        """Return the socket of a descriptor, and say that it has come. The caller closes it."""
        reply = self.ask("redeem", descriptor=text)
        assert "error" not in reply, reply
        sock = self.fds.pop()
        assert "error" not in self.ask("have", descriptor=text)
        return sock

    def refusal(self) -> str:
        """Read until the channel ends and return the reason that the gate gave, or ``""`` if it gave none."""
        why = ""
        while (reply := self.receive()) is not None:
            if reply.get("end"):
                why = reply["error"]["facts"].get("why", reply["error"]["code"])
        return why

    def finish(self) -> list[dict[str, Any]]:
        """Send no more, and return every reply until the gate ends the channel, too."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        replies = []
        while (reply := self.receive()) is not None:
            replies.append(reply)
        return replies
