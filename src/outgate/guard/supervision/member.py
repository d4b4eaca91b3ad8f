"""Be the client of the gate for one process of the guarded tree: its channels, its pool of born sockets.

The gate knows each process of the tree as one of its own, by the pid that the guard says it has, so that log, ``ps``
and what its parents have narrowed hold as they do for a program with a client. When it ends so do its channels, and the
gate looks who else holds its sockets.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from outgate import errors
from outgate.client.packets import Channel, Gone
from outgate.core.formats import messages, quickjson

#: Born sockets of the first batch, for programs that need one or two, and of those after it.
_FIRST, _MORE = 2, messages.MAX_BORN
#: A batch is asked for when so few are left.
_LOW = 2
#: What a gate says of a socket that an earlier one made, which has ended.
_UNKNOWN = "unknown-descriptor"
#: Request channels that wait for the next request.
_FREE = 8


class Born(NamedTuple):
    """A socket that the gate made, and that nobody has yet.

    :ivar link: what ``/proc/PID/fd/N`` says of it, whoever has it.
    """

    fd: int
    id: int
    cookie: int
    link: str


class Refused(Exception):
    """The gate refused, or is not there.

    :ivar number: the errno for the program.
    """

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class Member:
    """One process of the tree.

    :param path: of the gate's socket.
    :param process: its pid.
    :param parents: tokens of those it descends from, the next first.
    :param program: its name.
    :param labels: what its bytes are booked under.
    :param waits: called before we wait for the gate.
    """

    def __init__(
        self,
        path: str,
        process: int,
        parents: tuple[str, ...],
        program: str,
        labels: str,
        waits: Callable[[], None],
    ) -> None:
        self.process = process
        self.token = os.urandom(16).hex()
        self.parents = parents[:8]
        self._path = path
        self._program = program
        self._labels = labels
        self._waits = waits
        self._anchor: Channel | None = None
        self._free: list[Channel] = []
        self._pools: dict[int, list[Born]] = {4: [], 6: []}
        self._taken = 0
        self._lock = threading.Lock()
        self.has_ended = False

    # --- what the gate is asked ---------------------------------------------------------------------------------------

    def request(self, message: dict[str, Any]) -> dict[str, Any]:
        """Ask the gate and return its reply.

        :raises Refused: what it refused, or that it does not answer.
        """
        return self._ask(message)[0]

    def _ask(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        op = message["op"]
        for _ in range(2):  # what a gate has left behind that ended, and one that is there
            try:
                channel = self._post(message)
                self._waits()
                try:
                    if op == messages.NEW:
                        channel.wait(op)
                        packet, fds = channel.receive_fds()
                    else:
                        packet, fds = channel.receive(op), []
                except BaseException:
                    channel.drop()
                    raise
            except Gone:
                self._forget()
                continue
            except OSError:  # not there, or not within the limit
                break
            reply: dict[str, Any] = quickjson.loads(packet.decode())
            if "hello" in reply:
                channel.greeted = True
            if reply.get("end") or len(self._free) >= _FREE:
                channel.drop()
            else:
                self._free.append(channel)
            refusal = reply.get("error")
            if refusal is not None:
                raise Refused(_number_of(refusal["code"], refusal["facts"]))
            return reply, fds
        raise Refused(errno.ENETDOWN)

    def _post(self, message: dict[str, Any]) -> Channel:
        self._reach()
        try:
            channel = self._free.pop()
        except IndexError:
            channel = Channel(self._path)
        channel.send(_encode(message if channel.greeted else {**message, "hello": self._hello("request")}))
        return channel

    def _reach(self) -> Channel:
        """Return the channel of what has no answer. Raises :class:`Gone`, ``OSError``."""
        anchor = self._anchor
        if anchor is None:
            anchor = Channel(self._path)
            anchor.send(_encode({"op": messages.HELLO, "hello": self._hello("anchor")}))
            self._anchor = anchor
        return anchor

    def _hello(self, role: str) -> dict[str, Any]:
        return {
            "v": [messages.OLDEST, messages.VERSION],
            "role": role,
            "token": self.token,
            "parents": self.parents,
            "pid": self.process,
            "program": self._program,
            "labels": self._labels,
        }

    def _forget(self) -> None:
        """Let go of what a gate has given us that has ended: its channels, and sockets that nobody can dial."""
        with self._lock:
            anchor, self._anchor = self._anchor, None
            channels = [*self._free, *([anchor] if anchor is not None else [])]
            self._free.clear()
            born = [each for pool in self._pools.values() for each in pool]
            for pool in self._pools.values():
                pool.clear()
        for channel in channels:
            channel.drop()
        for each in born:
            os.close(each.fd)

    def closed(self, id: int) -> None:
        """Say that the process has a socket no more; whether others have it the gate finds out."""
        anchor = self._anchor
        if anchor is not None:
            with contextlib.suppress(Gone, OSError):
                anchor.send(_encode({"op": messages.CLOSE, "sock": id, "shared": True}))

    def refused(self, call: str, transport: str, host: str = "", port: int = 0) -> None:
        """Say what the guard has refused by itself, for ``outgate why --last``; where no gate answers nobody asks."""
        message = {"op": messages.REFUSED, "call": call, "transport": transport, "host": host, "port": port}
        with contextlib.suppress(Gone, OSError):
            self._reach().send(_encode(message))

    def end(self) -> None:
        """Say that the process has ended, by the end of its channels."""
        self.has_ended = True
        self._forget()

    # --- born sockets -------------------------------------------------------------------------------------------------

    def take(self, version: int) -> Born:
        """Return a socket that the gate has made.

        :param version: 4 or 6, of IP.
        :raises Refused: the gate gives none.
        """
        self._taken += 1
        anchor = self._anchor
        if anchor is not None and anchor.has_ended():
            self._forget()  # what a dead gate made cannot be dialled
        while True:
            try:
                return self._pools[version].pop()
            except IndexError:
                self._fill(version)

    def refill(self, version: int) -> None:
        """See to it that more are there before they are needed. What goes wrong is said when they are."""
        if self._taken >= _FIRST and len(self._pools[version]) <= _LOW and not self.has_ended:
            with contextlib.suppress(Refused):
                self._fill(version)

    def make_udp(self, version: int) -> tuple[int, int]:
        """Return the id of a UDP socket of the gate's, and the fd of our end of its pair. Raises :class:`Refused`."""
        reply, fds = self._ask({"op": messages.NEW, "family": version, "count": 1, "kind": "udp"})
        if not fds:
            raise Refused(errno.EMFILE)
        return reply["ids"][0], fds[0]

    def _fill(self, version: int) -> None:
        count = _MORE if self._taken >= _FIRST else _FIRST
        reply, fds = self._ask({"op": messages.NEW, "family": version, "count": count})
        if reply.get("relay"):
            for fd in fds:
                os.close(fd)
            raise Refused(errno.ENETDOWN)
        links = (f"socket:[{os.fstat(fd).st_ino}]" for fd in fds)
        born = [Born(*each) for each in zip(fds, reply["ids"], reply["cookies"], links, strict=False)]
        with self._lock:
            self._pools[version] += born
        if not born:
            raise Refused(errno.EMFILE)


def _number_of(code: str, facts: dict[str, Any]) -> int:
    """Return the errno of a refusal."""
    if code == _UNKNOWN:
        return errno.ENETDOWN
    return getattr(errors.build(code, facts), "errno", None) or errno.EACCES


def _encode(message: dict[str, Any]) -> bytes:
    return quickjson.dumps(message).encode("ascii")
