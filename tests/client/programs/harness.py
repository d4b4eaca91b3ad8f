"""Run the checks of a program and print how each ended; what the programs beside this file share.

The programs import nothing of outgate: natively and through a gate they must see the same. Python 3.9+, standard
library only.
"""

import contextlib
import errno
import faulthandler
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
import warnings

#: Seconds after which a wait is taken for a hang.
PATIENCE = 10.0


def main(namespace):
    """Call every ``check_…`` function of a namespace, or those named in the arguments; print a JSON line for each."""
    faulthandler.enable()
    faulthandler.dump_traceback_later(45, exit=True)
    for name, check in list(namespace.items()):
        if not name.startswith("check_") or (len(sys.argv) > 1 and name not in sys.argv[1:]):
            continue
        error = None
        try:
            check()
        except BaseException:
            error = traceback.format_exc()
        sys.stdout.write(json.dumps({"check": name, "error": error}) + "\n")
        sys.stdout.flush()
    faulthandler.cancel_dump_traceback_later()


class raises:
    """Demand this very type of exception, with this errno; ``error`` is it afterwards."""

    def __init__(self, kind, number=None):
        self.kind, self.number, self.error = kind, number, None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        assert error is not None, f"{self.kind} was not raised"
        assert isinstance(error, self.kind), repr(error)
        if self.number is not None:
            assert error.errno == self.number, f"{error!r}: errno is {errno.errorcode.get(error.errno or 0)}"
        self.error = error
        return True


def listener(backlog=128):
    """Return a listening socket on loopback."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(backlog)
    return sock


@contextlib.contextmanager
def pair():
    """Yield a connected client and its peer."""
    with listener() as server, socket.socket() as client:
        client.connect(server.getsockname())
        peer, _ = server.accept()
        with peer:
            peer.settimeout(PATIENCE)
            yield client, peer


def closed_address():
    """Return a loopback address where nobody listens."""
    with listener() as server:
        return server.getsockname()


@contextlib.contextmanager
def black_hole():
    """Yield an address that never answers: a listener whose queue is full drops what comes."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(listener(0))
        while True:
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
            if not select.select([], [filler], [], 0.1)[1]:
                yield server.getsockname()
                return


class Echo:
    """A server that sends back what it gets, over any number of connections, on a thread or in a process of its own."""

    def __init__(self, own_process=False):
        self.sock = listener(2048)
        self.address = self.sock.getsockname()
        self.poll = select.epoll()  # here, so that no number is taken at a moment of its own
        self.poll.register(self.sock, select.EPOLLIN)
        if not own_process:
            threading.Thread(target=self._serve, daemon=True).start()
            return
        end, self.parent_lives = os.pipe()
        if os.fork():
            os.close(end)
            self.poll.close()
            self.sock.close()
            return
        os.close(self.parent_lives)
        self.poll.register(end, select.EPOLLHUP)
        try:
            self._serve(end)
        finally:
            os._exit(0)

    def _serve(self, end=None):
        peers = {}
        while True:
            for fd, _ in self.poll.poll():
                if fd == end:
                    return
                if fd == self.sock.fileno():
                    peer, _ = self.sock.accept()
                    peers[peer.fileno()] = peer
                    self.poll.register(peer, select.EPOLLIN)
                    continue
                try:
                    data = peers[fd].recv(65536)
                    peers[fd].sendall(data)
                except (ConnectionResetError, BrokenPipeError):
                    data = b""
                if not data:
                    self.poll.unregister(fd)
                    peers.pop(fd).close()


def open_fds():
    """Return how many fds this process has."""
    return len(os.listdir("/proc/self/fd"))


def in_child(work):
    """Fork, do the work in the child, and return what it said: ``ok`` or what went wrong."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 3.12 warns of threads, which here only wait
        pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # a child that hangs must not outlive the test
        said = "ok"
        try:
            work()
        except BaseException:
            said = traceback.format_exc()
        os.write(write, said.encode()[-4000:])
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


def talk(sock, text=b"hello"):
    """Send to an echo and demand it back."""
    sock.sendall(text)
    got = b""
    while len(got) < len(text):
        more = sock.recv(len(text) - len(got))
        assert more, f"closed after {got!r}"
        got += more
    assert got == text, got


def is_readable(sock, seconds=PATIENCE):
    """Whether there is something to read, or the end, within that time."""
    return bool(select.select([sock], [], [], seconds)[0])
