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
import socket
import sys
import threading
import traceback

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


@contextlib.contextmanager
def raises(kind, number=None):
    """Demand this very type of exception, with this errno."""
    caught = []
    try:
        yield caught
    except BaseException as e:
        assert isinstance(e, kind), repr(e)
        if number is not None:
            assert e.errno == number, "%r: errno is %s" % (e, errno.errorcode.get(e.errno or 0))
        caught.append(e)
    else:
        raise AssertionError("%s was not raised" % (kind,))


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
    """A server on a thread that sends back what it gets, over any number of connections."""

    def __init__(self):
        self.sock = listener(512)
        self.address = self.sock.getsockname()
        self.accepted = 0
        self.poll = select.epoll()  # here, so that no number is taken at a moment of its own
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        poll, peers = self.poll, {}
        poll.register(self.sock, select.EPOLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self.sock.fileno():
                    peer, _ = self.sock.accept()
                    self.accepted += 1
                    peers[peer.fileno()] = peer
                    poll.register(peer, select.EPOLLIN)
                    continue
                try:
                    data = peers[fd].recv(65536)
                except ConnectionResetError:
                    data = b""
                if data:
                    peers[fd].sendall(data)
                else:
                    poll.unregister(fd)
                    peers.pop(fd).close()


def open_fds():
    """Return how many fds this process has."""
    return len(os.listdir("/proc/self/fd"))


def talk(sock, text=b"hello"):
    """Send to an echo and demand it back."""
    sock.sendall(text)
    got = b""
    while len(got) < len(text):
        more = sock.recv(len(text) - len(got))
        assert more, "closed after %r" % got
        got += more
    assert got == text, got


def is_readable(sock, seconds=PATIENCE):
    """Whether there is something to read, or the end, within that time."""
    return bool(select.select([sock], [], [], seconds)[0])
