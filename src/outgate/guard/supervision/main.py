"""Be the guard of one tree of programs: answer its calls until its last process has ended."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from _socket import socket as native
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from outgate.core.guard import syscalls
from outgate.guard.supervision import tasks
from outgate.guard.supervision.answers import Answers
from outgate.guard.supervision.closes import Closes
from outgate.guard.supervision.loop import Loop
from outgate.guard.supervision.network import Network
from outgate.guard.supervision.notify import Gone, Listener
from outgate.guard.supervision.tcp import Tcp
from outgate.guard.supervision.tree import Tree
from outgate.guard.supervision.turns import Turns
from outgate.guard.supervision.udp import Udp
from outgate.guard.supervision.unixsockets import UnixSockets
from outgate.guard.supervision.waiting import Waiting

#: Threads that answer calls at first.
_FEW = 2


class Files(NamedTuple):
    """What the guard has of the tree from its start.

    :ivar process: the first one.
    :ivar network: its network namespace: device and inode.
    :ivar listener: of the filter.
    :ivar ends: fds of the cable of its network; none where it has no cable.
    :ivar closes: fd of what tells of UDP sockets of its network that are no more; none where the kernel does not tell.
    :ivar servers: fds of sockets of its network at the host's name servers' loopback addresses.
    """

    process: int
    network: tuple[int, int]
    listener: int
    ends: Sequence[int]
    closes: Sequence[int]
    servers: Sequence[int]


class Guard:
    """The guard of one tree.

    :param files: what was taken out of its first process.
    :param path: of the gate's socket.
    :param paths: Unix sockets that may be connected to, beside that.
    """

    def __init__(self, files: Files, path: str, paths: Sequence[str]) -> None:
        self._listener = Listener(files.listener)
        self._listener.wake_in_step()
        self._loop = Loop()
        self._turns = Turns(self._start_thread)
        tree = Tree(self._loop, path, self._turns.give_up)
        closes = Closes(self._loop)
        tcp = Tcp(self._listener, tree, Waiting(self._loop, self._listener), closes, self._turns.give_up)
        udp = None
        if files.ends:
            lists = (files.ends, files.closes, files.servers)
            ends, telling, servers = ([native(fileno=fd) for fd in fds] for fds in lists)
            udp = Udp(self._loop, tree, Network(files.process, files.network), ends, telling, servers)
        arch = syscalls.ARCHS[os.uname().machine]
        unix = UnixSockets((path, *paths), self._turns.give_up)
        self._answers = Answers(arch, self._listener, tasks.Threads(), tree, tcp, udp, unix)
        self._has_ended = False

    def run(self) -> None:
        """Answer until nobody has the filter any more."""
        self._loop.watch(self._listener.fd, 0, self._ended)
        for _ in range(_FEW):
            self._turns.add()
        self._loop.run(lambda: not self._has_ended)

    def _ended(self) -> None:
        self._has_ended = True

    def _start_thread(self) -> None:
        threading.Thread(target=self._answer_calls, daemon=True).start()

    def _answer_calls(self) -> None:
        while True:
            self._turns.take()
            try:
                call = self._listener.receive()
            except Gone:
                if self._listener.has_ended():
                    break
                continue
            except OSError:  # nobody has the filter any more
                break
            try:
                self._answers.answer(call)
            except Exception:  # a fault of ours: the program hears of it, and the other calls are answered
                with contextlib.suppress(OSError):
                    self._listener.answer(call.id, -errno.EIO)


def serve(guard: Guard) -> NoReturn:
    """Be the guard and end with the tree."""
    for each in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(each, signal.SIG_IGN)
    try:
        guard.run()
    finally:
        os._exit(0)
