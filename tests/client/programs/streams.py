"""Corners of TCP: what a socket says before it is connected, while it connects, and after its connection has failed."""

import errno
import os
import select
import signal
import socket
import struct
import sys
import threading

from harness import (
    PATIENCE,
    Echo,
    black_hole,
    closed_address,
    is_readable,
    listener,
    main,
    pair,
    raises,
    talk,
)

RESET = struct.pack("ii", 1, 0)


def read_all(sock):
    """Return what comes until the end."""
    got = b""
    while True:
        more = sock.recv(65536)
        if not more:
            return got
        got += more


def check_sends_before_connect_go_nowhere():
    """What is sent on a socket that is not connected fails, whatever the call, and never comes out of it later."""
    with listener() as server, socket.socket() as sock:
        with raises(BrokenPipeError):
            sock.send(b"early")
        with raises(BrokenPipeError):
            sock.sendall(b"early")
        with raises(BrokenPipeError):
            sock.sendto(b"early", server.getsockname())
        with raises(BrokenPipeError):
            sock.sendmsg([b"early"])
        with raises(BrokenPipeError):
            socket.socket.send(sock, b"early")
        sock.connect(server.getsockname())
        sock.sendall(b"late")
        sock.shutdown(socket.SHUT_WR)
        with server.accept()[0] as peer:
            assert read_all(peer) == b"late"


def check_receives_before_connect():
    """Every way to receive on a socket that is not connected is ENOTCONN."""
    with socket.socket() as sock:
        for receive in (
            lambda: sock.recv(1),
            lambda: sock.recv_into(bytearray(1)),
            lambda: sock.recvfrom(1),
            lambda: sock.recvfrom_into(bytearray(1)),
            lambda: sock.recvmsg(1),
            lambda: sock.recvmsg_into([bytearray(1)]),
            lambda: socket.socket.recv(sock, 1),
            lambda: socket.socket.recvfrom(sock, 1),
        ):
            with raises(OSError, errno.ENOTCONN):
                receive()


def check_exact_type():
    """A socket's type is socket.socket and nothing else; some event loops insist."""
    with socket.socket() as sock, listener() as server:
        assert type(sock) is socket.socket, type(sock)
        sock.connect(server.getsockname())
        assert type(sock) is socket.socket, type(sock)
        with sock.dup() as other:
            assert type(other) is socket.socket
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert type(sock) is socket.socket, type(sock)


class Plain(socket.socket):
    """Has slots of its own."""

    __slots__ = ("other", "tag")


class Registered(socket.socket):
    """Demands a word of its subclasses."""

    def __init_subclass__(cls, *, word, **kwargs):
        super().__init_subclass__(**kwargs)


class Leaf(Registered, word="yes"):
    """Keeps attributes, and an initializer of its own that counts what it receives."""

    def __init__(self, first, *args):
        self.first = first
        super().__init__(*args)
        self.received = 0

    def recv(self, *args):
        data = super().recv(*args)
        self.received += len(data)
        return data


class Meta(type):
    """Makes classes that know their names, and demands that each is new."""

    seen = set()  # noqa: RUF012

    def __new__(meta, name, bases, names):
        assert name not in meta.seen, f"{name} again"
        meta.seen.add(name)
        return super().__new__(meta, name, bases, names)


class WithMeta(socket.socket, metaclass=Meta):
    """Is of a metaclass."""


def check_odd_subclasses():
    """Subclasses with slots, initializers, class hooks and metaclasses keep type, attributes and methods."""
    echo = Echo()
    with Plain() as sock:
        sock.tag = 1
        sock.connect(echo.address)
        sock.other = 2
        talk(sock)
        assert (sock.tag, sock.other, type(sock)) == (1, 2, Plain)
    with Leaf("first", socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.connect(echo.address)
        talk(sock)
        assert (sock.first, sock.received, type(sock)) == ("first", 5, Leaf)
    with WithMeta() as sock:
        sock.connect(echo.address)
        talk(sock)
        assert type(sock) is WithMeta


def check_threads_connect_one_socket():
    """Threads that connect one socket at once make one connection, and nothing comes over it but what is sent."""
    for _ in range(40):
        with listener() as server, socket.socket() as sock:
            begin = threading.Barrier(4)
            numbers = []

            def go(sock=sock, begin=begin, numbers=numbers, server=server):
                begin.wait()
                numbers.append(sock.connect_ex(server.getsockname()))

            threads = [threading.Thread(target=go) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            assert 0 in numbers, numbers
            assert set(numbers) <= {0, errno.EISCONN, errno.EALREADY}, numbers
            sock.sendall(b"x")
            sock.shutdown(socket.SHUT_WR)
            server.settimeout(PATIENCE)
            with server.accept()[0] as peer:
                got = read_all(peer)
                assert got == b"x", (len(got), got[:10])


def check_second_connect_waits():
    """A connect that a signal ended goes on; a second one waits for it, as long as SO_SNDTIMEO says."""

    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with black_hole() as address, socket.socket() as sock:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with raises(Stop):
                sock.connect(address)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with raises(Stop):
                sock.connect(address)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 20000))
            with raises(BlockingIOError, errno.EALREADY):
                sock.connect(address)
            assert sock.connect_ex(address) == errno.EALREADY
            sock.settimeout(0.05)
            with raises(BlockingIOError, errno.EALREADY):
                sock.connect(address)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_while_connecting():
    """A socket that connects without end is neither writable nor readable, has no peer, no error, and sends nothing."""
    with black_hole() as address, socket.socket() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(address) == errno.EINPROGRESS
        assert select.select([sock], [sock], [], 0.05) == ([], [], [])
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        with raises(OSError, errno.ENOTCONN):
            sock.getpeername()
        assert sock.getsockname()[1] != 0
        for send in (
            lambda: sock.send(b"x"),
            lambda: sock.sendmsg([b"x"]),
            lambda: sock.sendall(b"x"),
            lambda: sock.sendto(b"x", address),
        ):
            with raises(BlockingIOError, errno.EAGAIN):
                send()
        with raises(BlockingIOError, errno.EAGAIN):
            sock.recv(1)
        assert sock.connect_ex(address) == errno.EALREADY
        sock.settimeout(0.05)
        with raises(socket.timeout):
            sock.send(b"x")
        with raises(socket.timeout):
            sock.recv(1)


def check_errors_are_told_once():
    """A refused connect is in SO_ERROR once, and the socket may connect again, over and over."""
    echo = Echo()
    address = closed_address()
    with socket.socket() as sock:
        sock.setblocking(False)
        for _ in range(20):
            number = sock.connect_ex(address)
            assert number in (errno.EINPROGRESS, errno.ECONNREFUSED, errno.ECONNABORTED), number
            if number == errno.EINPROGRESS:
                assert select.select([], [sock], [], PATIENCE)[1]
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            with raises(OSError, errno.ENOTCONN):
                sock.getpeername()
        sock.setblocking(True)
        for _ in range(20):
            with raises(ConnectionRefusedError):
                sock.connect(address)
        sock.connect(echo.address)
        talk(sock)


def check_reset_at_once():
    """A peer that resets as soon as it has accepted is ECONNRESET, at the connect or later, and nothing else."""
    with listener() as server:

        def serve():
            for _ in range(30):
                peer, _ = server.accept()
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                peer.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        for turn in range(30):
            with socket.socket() as sock:
                sock.settimeout(PATIENCE)
                with raises(ConnectionResetError):
                    if turn % 2:
                        sock.connect(server.getsockname())
                    else:
                        sock.setblocking(False)
                        sock.connect_ex(server.getsockname())
                        assert select.select([], [sock], [], PATIENCE)[1]
                        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                        if number:
                            raise OSError(number, os.strerror(number))
                    assert is_readable(sock)
                    sock.recv(1)
        thread.join(PATIENCE)


def check_reset_in_the_middle():
    """A reset in mid-transfer is ECONNRESET after what came before it, and own names are still known."""
    with pair() as (sock, peer):
        own = sock.getsockname()
        peer.sendall(b"half")
        assert is_readable(sock)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.close()
        got = b""
        with raises(ConnectionResetError):
            while True:
                more = sock.recv(100)
                assert more, "a clean end"
                got += more
        assert sock.getsockname() == own
        with raises(BrokenPipeError):
            sock.send(b"x")


def check_reset_is_seen_without_asking():
    """A connection that was made and reset before the program looked has its names and its error, or says it."""
    with listener() as server, socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex(server.getsockname())
        peer, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.close()
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        assert poll.poll(PATIENCE * 1000)
        with raises(OSError, errno.ENOTCONN):
            sock.getpeername()


def check_refusal_wakes_a_reader():
    """A connect that fails wakes who waits to read, and leaves nothing behind that would be read after the next."""
    with listener() as server, socket.socket() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(closed_address()) in (errno.EINPROGRESS, errno.ECONNREFUSED)
        assert is_readable(sock)
        with raises(ConnectionRefusedError):
            sock.recv(10)
        assert is_readable(sock)
        sock.settimeout(PATIENCE)
        if sock.connect_ex(server.getsockname()) == errno.ECONNABORTED:  # the kernel says so once after such a recv
            sock.connect(server.getsockname())
        with server.accept()[0] as peer:
            peer.sendall(b"first")
            assert sock.recv(10) == b"first"


def check_peek_and_waitall():
    """MSG_PEEK leaves what it shows, MSG_WAITALL waits for all of it, MSG_TRUNC throws it away."""
    with pair() as (sock, peer):
        sock.settimeout(None)
        peer.sendall(b"abcdef")
        assert is_readable(sock)
        assert sock.recv(3, socket.MSG_PEEK) == b"abc"
        assert sock.recv(6, socket.MSG_WAITALL) == b"abcdef"
        threading.Timer(0.05, peer.sendall, (b"789",)).start()
        peer.sendall(b"123456")
        assert sock.recv(9, socket.MSG_WAITALL) == b"123456789"


def check_sendfile_and_file_objects():
    """sendfile, file objects and os.read and os.write on the number move the bytes of the connection."""
    with pair() as (sock, peer), open(__file__, "rb") as text:
        whole = text.read()
        text.seek(0)
        got = []
        thread = threading.Thread(target=lambda: got.append(read_all(peer)))
        thread.start()
        assert sock.sendfile(text) == len(whole)
        with sock.makefile("wb") as file:
            file.write(b"file")
        os.write(sock.fileno(), b"number")
        sock.shutdown(socket.SHUT_WR)
        thread.join(PATIENCE)
        assert got == [whole + b"filenumber"]
        peer.sendall(b"line\nrest")
        peer.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as file:
            assert (file.readline(), file.read()) == (b"line\n", b"rest")


def check_half_close_both_ways():
    """Either side may end its own way first, and goes on with the other."""
    for first in (0, 1):
        with pair() as sides:
            ender, other = sides[first], sides[1 - first]
            ender.settimeout(PATIENCE)
            other.settimeout(PATIENCE)
            ender.sendall(b"question")
            ender.shutdown(socket.SHUT_WR)
            assert read_all(other) == b"question"
            other.sendall(b"answer" * 10000)
            other.close()
            assert read_all(ender) == b"answer" * 10000


def check_large_both_ways():
    """Megabytes go both ways at once, to the byte."""
    block = bytes(range(256)) * 4096
    with pair() as (sock, peer):
        sock.settimeout(PATIENCE)
        got = {}

        def send(one):
            for _ in range(8):
                one.sendall(block)
            one.shutdown(socket.SHUT_WR)

        def receive(one):
            got[one] = read_all(one)

        threads = [threading.Thread(target=work, args=(one,)) for work in (send, receive) for one in (sock, peer)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert got[sock] == got[peer] == block * 8


def check_epoll_from_birth():
    """epoll tells of a refused connect by writable with an error, and of a made one by writable alone."""
    with listener() as server, select.epoll() as poll:
        for address, number in ((closed_address(), errno.ECONNREFUSED), (server.getsockname(), 0)):
            with socket.socket() as sock:
                sock.setblocking(False)
                if sock.connect_ex(address) == errno.EINPROGRESS:
                    poll.register(sock, select.EPOLLIN | select.EPOLLOUT)
                    events = dict(poll.poll(PATIENCE))
                    assert events[sock.fileno()] & select.EPOLLOUT
                    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == number
                    poll.unregister(sock)


def check_timeout_then_connect_elsewhere():
    """A connect that timed out is left behind by closing; the next socket is not touched by it."""
    echo = Echo()
    with black_hole() as address:
        for _ in range(3):
            with socket.socket() as sock:
                sock.settimeout(0.02)
                with raises(socket.timeout):
                    sock.connect(address)
        with socket.create_connection(echo.address, PATIENCE) as sock:
            talk(sock)


def check_pickle():
    """A socket that does not lead out is not pickled by accident."""
    import pickle

    one, other = socket.socketpair()
    with one, other, raises(TypeError) as caught:
        pickle.dumps(one)
    assert str(caught.error) == "cannot pickle 'socket' object", caught.error


def check_text():
    """repr() says what a socket is."""
    with pair() as (sock, _):
        text = repr(sock)
        assert text.startswith("<socket.socket fd="), text
        assert f"laddr={sock.getsockname()}, raddr={sock.getpeername()}>" in text, text


def check_fork_while_connected():
    """Parent and child talk over one connection; it ends when both have closed it."""
    with pair() as (sock, peer):
        pid = os.fork()
        if not pid:
            try:
                sock.sendall(b"child,")
                sock.close()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert peer.recv(100) == b"child,"
        assert not is_readable(peer, 0.05)
        assert sock.connect_ex(peer.getsockname()) == errno.EISCONN
        sock.sendall(b"parent")
        sock.close()
        assert read_all(peer) == b"parent"


def check_connected_by_the_parent():
    """A child that has a socket since before its parent connected it sees that it is connected."""
    with listener() as server, socket.socket() as sock:
        ready, go = os.pipe()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                os.read(ready, 1)
                if sock.connect_ex(server.getsockname()) == errno.EISCONN:
                    sock.sendall(b"child")
                    status = 0
            finally:
                os._exit(status)
        sock.connect(server.getsockname())
        os.write(go, b"x")
        assert os.waitpid(pid, 0)[1] == 0
        sock.close()
        with server.accept()[0] as peer:
            got = read_all(peer)
            assert got == b"child", (len(got), got[:10])
        os.close(ready)
        os.close(go)


if __name__ == "__main__":
    main(dict(vars(sys.modules["__main__"])))
