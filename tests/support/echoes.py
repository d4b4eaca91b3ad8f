"""A thousand connections at a time: a server that counts each of them, and a program that keeps all of them busy."""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import threading
from typing import Any

from outgate.testing.running import RunningGate

_CHUNK = 65536

#: Opens so many sockets to a port and has an echo of its own length going round on each, until it is told otherwise on
#: standard input: ``lap`` answers when each has gone round once more, ``finish`` closes them all and tells the counts.
PROGRAM = """
import json, random, selectors, socket, sys
port, count = int(sys.argv[1]), int(sys.argv[2])
random.seed(port * count)

class Talk:
    def __init__(self, size):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.data, self.sent, self.received, self.laps = bytes(size), 0, 0, 0
        self.left, self.waits = size, size
        selector.register(self.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self)
    def step(self, is_last):
        while self.left:
            try:
                done = self.sock.send(self.data[:self.left])
            except BlockingIOError:
                break
            self.sent, self.left = self.sent + done, self.left - done
        try:
            got = len(self.sock.recv(65536))
        except BlockingIOError:
            got = 0
        else:
            assert got, "end of file"
        self.received, self.waits = self.received + got, self.waits - got
        if not self.waits:
            self.laps += 1
            if is_last:
                selector.unregister(self.sock)
                running.discard(self)
                return
            self.left = self.waits = len(self.data)
        selector.modify(self.sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if self.left else 0), self)

selector = selectors.DefaultSelector()
talks = [Talk(random.randrange(1, 3000)) for _ in range(count)]
running = set(talks)
selector.register(sys.stdin, selectors.EVENT_READ)
target, is_last = 1, False
while running:
    for key, _ in selector.select():
        if key.fileobj is not sys.stdin:
            key.data.step(is_last)
            continue
        word = sys.stdin.readline().strip()
        if word == "lap":
            target = max(talk.laps for talk in talks) + 1
        else:
            is_last = True
            selector.unregister(sys.stdin)
    if target and all(talk.laps >= target for talk in talks):
        target = 0
        print("lap", flush=True)
for talk in talks:
    talk.sock.close()
print(json.dumps([[talk.sent, talk.received] for talk in talks]), flush=True)
"""


class Echoes:
    """A server that sends everything back and counts it, however many connections there are; a context manager.

    :ivar counts: bytes received and sent back, of each connection that has ended, in the order of their ends.
    :ivar broken: errors of connections.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.port: int = self._listener.getsockname()[1]
        self.counts: list[tuple[int, int]] = []
        self.broken: list[OSError] = []
        self._selector = selectors.DefaultSelector()
        self._stop, self._stopped = socket.socketpair()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="echoes")

    def __enter__(self) -> Echoes:
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._stopped, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.close()
        self._thread.join()
        self._listener.close()
        self._stopped.close()
        self._selector.close()

    def wait_for(self, count: int, limit: float = 30.0) -> list[tuple[int, int]]:
        """Return the counts of so many ended connections, waiting for them."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.counts) >= count, limit):
                raise TimeoutError(f"{len(self.counts)} of {count} connections have ended")
            return list(self.counts)

    def _run(self) -> None:
        open_: dict[socket.socket, list[int]] = {}
        while True:
            for key, _ in self._selector.select():
                sock = key.fileobj
                if sock is self._stopped:
                    for each in open_:
                        each.close()
                    return
                assert isinstance(sock, socket.socket)
                if sock is self._listener:
                    accepted, _ = sock.accept()
                    open_[accepted] = [0, 0]
                    self._selector.register(accepted, selectors.EVENT_READ)
                else:
                    self._echo(sock, open_)

    def _echo(self, sock: socket.socket, open_: dict[socket.socket, list[int]]) -> None:
        try:
            data = sock.recv(_CHUNK)
            if data:
                open_[sock][0] += len(data)
                sock.sendall(data)  # a few KiB at most are on their way: it does not wait
                open_[sock][1] += len(data)
                return
        except OSError as e:
            self.broken.append(e)
        self._selector.unregister(sock)
        sock.close()
        received, sent = open_.pop(sock)
        with self._changed:
            self.counts.append((received, sent))
            self._changed.notify_all()


class Busy:
    """The program, with so many sockets."""

    def __init__(self, gate: RunningGate, port: int, count: int) -> None:
        self.process = gate.program("-c", PROGRAM, str(port), str(count), stderr=subprocess.PIPE)
        self._heard()

    def lap(self) -> None:
        """Wait until every socket has gone round once more."""
        self._tell("lap")
        self._heard()

    def finish(self) -> list[tuple[int, int]]:
        """End it, and return the bytes that each socket has sent and received."""
        self._tell("finish")
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        counts: list[list[Any]] = json.loads(out.splitlines()[-1])
        return [(sent, received) for sent, received in counts]

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.communicate()

    def _tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def _heard(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == "lap\n", self.process.communicate()[1]
