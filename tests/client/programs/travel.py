"""Sockets that are pickled and opened again, in the same process: natively there is no such thing."""

import copy
import errno
import gc
import io
import os
import pickle
import select
import socket
import ssl
import threading
import warnings

from harness import (
    PATIENCE,
    Echo,
    black_hole,
    closed_address,
    is_readable,
    listener,
    main,
    open_fds,
    pair,
    raises,
    talk,
)

import outgate

ECHO = Echo()


def ways():
    """Yield every way to pickle and open again: each protocol, by C and by Python."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield lambda value, p=protocol: pickle.loads(pickle.dumps(value, p))
        yield lambda value, p=protocol: pickle._loads(pickle._dumps(value, p))
    yield copy.copy
    yield copy.deepcopy


def reopened(value):
    """Pickle and open again."""
    return pickle.loads(pickle.dumps(value))


def text_of(kind, call, *arguments):
    """Return what an exception of exactly this kind says."""
    with raises(kind) as seen:
        call(*arguments)
    assert type(seen.error) is kind, repr(seen.error)
    return str(seen.error)


def connected(family=socket.AF_INET):
    """Return a client and its peer."""
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family) as server:
        server.bind((host, 0))
        server.listen()
        client = socket.socket(family)
        client.connect(server.getsockname())
        peer, _ = server.accept()
    peer.settimeout(PATIENCE)
    return client, peer


def check_connected():
    """A connected socket comes out of every protocol as one with the same addresses, which moves bytes both ways."""
    for family in (socket.AF_INET, socket.AF_INET6):
        sock, peer = connected(family)
        with sock, peer:
            for way in ways():
                with way(sock) as other:
                    assert type(other) is type(sock)
                    for fact in ("family", "type", "proto"):
                        assert getattr(other, fact) == getattr(sock, fact), fact
                    assert other.getpeername() == sock.getpeername() == peer.getsockname()
                    assert other.getsockname() == sock.getsockname() == peer.getpeername()
                    other.sendall(b"ping")
                    assert peer.recv(4) == b"ping"
                    peer.sendall(b"pong")
                    assert other.recv(4) == b"pong"
            sock.sendall(b"last")
            assert peer.recv(4) == b"last"


def check_closing_one_leaves_the_other():
    """The peer sees the end when the last of three copies is closed, in whichever order."""
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        with pair() as (sock, peer):
            socks = [sock, reopened(sock), reopened(sock)]
            for n in order[:2]:
                socks[n].close()
                assert not is_readable(peer, 0.05)
            socks[order[2]].sendall(b"x")
            assert peer.recv(2) == b"x"
            socks[order[2]].close()
            assert peer.recv(1) == b""


def check_a_pickle_opens_many_times():
    """One pickle opened ten times gives ten sockets of one connection."""
    with socket.create_connection(ECHO.address) as sock:
        data = pickle.dumps(sock)
        copies = [pickle.loads(data) for _ in range(10)]
        assert len({each.fileno() for each in copies}) == 10
        for each in copies:
            talk(each)
            each.close()
        talk(sock)


def check_the_original_may_be_closed_first():
    """A pickle keeps its connection while nobody has it, and opening it gives it back."""
    with pair() as (sock, peer):
        data = pickle.dumps(sock)
        sock.close()
        assert not is_readable(peer, 0.1)
        peer.sendall(b"waits")
        with pickle.loads(data) as other:
            assert other.recv(9) == b"waits"
        assert peer.recv(1) == b""


def check_unconnected():
    """An unconnected socket may be connected by its copy; the original is connected then, and cannot be again."""
    for way in ways():
        with socket.socket() as sock, way(sock) as other:
            with raises(OSError, errno.ENOTCONN):
                other.getpeername()
            other.connect(ECHO.address)
            talk(other)
            talk(sock)
            assert sock.getpeername() == other.getpeername()
            with raises(OSError, errno.EISCONN):
                sock.connect(ECHO.address)


def check_connecting():
    """A connect that has begun goes on in the copy, which sees how it ends."""
    with socket.socket() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(ECHO.address) in (0, errno.EINPROGRESS)
        with reopened(sock) as other:
            assert select.select([], [other], [], PATIENCE)[1]
            assert other.connect_ex(ECHO.address) in (0, errno.EISCONN)
            assert other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            other.settimeout(PATIENCE)
            talk(other)


def check_connecting_to_nobody():
    """A connect that nobody answers is still in progress in the copy."""
    with black_hole() as address, socket.socket() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(address) == errno.EINPROGRESS
        with reopened(sock) as other:
            assert not select.select([], [other], [], 0)[1]
            assert other.connect_ex(address) == errno.EALREADY


def check_failed():
    """After a refused connect the copy is unconnected, and can connect elsewhere."""
    with socket.socket() as sock:
        with raises(ConnectionRefusedError):
            sock.connect(closed_address())
        with reopened(sock) as other:
            other.connect(ECHO.address)
            talk(other)


def check_reset():
    """The copy of a connection that its peer has reset says so."""
    import struct

    with pair() as (sock, peer), reopened(sock) as other:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        assert is_readable(other)
        with raises(ConnectionResetError):
            other.recv(1)


def check_half_closed():
    """The end of what one side sends holds in the copy, and the other way goes on."""
    with pair() as (sock, peer):
        sock.shutdown(socket.SHUT_WR)
        assert peer.recv(1) == b""
        with reopened(sock) as other:
            with raises(BrokenPipeError):
                other.sendall(b"x")
            peer.sendall(b"still")
            assert other.recv(9) == b"still"


def check_udp():
    """UDP sockets come out of every protocol connected as they went in, and both send and receive."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as peer, socket.socket(family, socket.SOCK_DGRAM) as sock:
            peer.bind((host, 0))
            peer.settimeout(PATIENCE)
            sock.settimeout(PATIENCE)
            with reopened(sock) as other:
                other.sendto(b"unconnected", peer.getsockname())
                data, origin = peer.recvfrom(99)
                assert data == b"unconnected"
                peer.sendto(b"back", origin)
                assert sock.recv(9) == b"back"
            sock.connect(peer.getsockname())
            for way in ways():
                with way(sock) as other:
                    assert (other.family, other.type, other.proto) == (sock.family, sock.type, sock.proto)
                    assert other.getpeername() == sock.getpeername()
                    assert other.getsockname() == sock.getsockname()
                    other.send(b"dgram")
                    data, origin = peer.recvfrom(99)
                    assert (data, origin[:2]) == (b"dgram", sock.getsockname()[:2])
                    peer.sendto(b"answer", origin)
                    assert other.recvfrom(9)[0] == b"answer"


def check_timeouts():
    """The time-out travels: none, zero and some, whatever the default of the process is."""
    for timeout in (None, 0.0, 2.5):
        for default in (None, 7.0):
            with socket.create_connection(ECHO.address) as sock:
                sock.settimeout(timeout)
                data = pickle.dumps(sock)
                socket.setdefaulttimeout(default)
                try:
                    with pickle.loads(data) as other:
                        assert other.gettimeout() == timeout
                        assert other.getblocking() == (timeout != 0)
                finally:
                    socket.setdefaulttimeout(None)


def check_options():
    """Options are the connection's, and so those of the copy; set by either."""
    options = ((socket.IPPROTO_TCP, socket.TCP_NODELAY), (socket.SOL_SOCKET, socket.SO_KEEPALIVE))
    with socket.create_connection(ECHO.address) as sock:
        for level, number in options:
            sock.setsockopt(level, number, 1)
        with reopened(sock) as other:
            for level, number in options:
                assert other.getsockopt(level, number)
            other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
            assert not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def check_one_object_twice():
    """One object twice in a pickle is one object after, also below a file."""
    with socket.create_connection(ECHO.address) as sock:
        file = sock.makefile("rwb")
        for way in ways():
            if way is copy.copy:
                continue  # of the list alone
            first, second, below = way([sock, sock, file])
            assert first is second
            first.sendall(b"line\n")
            assert below.readline() == b"line\n"
            assert _socket_below(below) is first
            below.close()
            talk(first)
            first.close()
        file.close()


def _socket_below(file):
    """Return the socket of a file: a pair of C's has it, and nobody else."""
    parts = [part for each in gc.get_referents(file) for part in (each, *gc.get_referents(each))]
    (raw,) = {part for part in parts if type(part) is socket.SocketIO}
    return raw._sock


class Named(socket.socket):
    """A socket with attributes."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.seen = [1]


class Slotted(socket.socket):
    """A socket with slots, and one that its class names for itself."""

    __slots__ = ("__hidden", "shown")

    def hide(self, value):
        self.__hidden = value

    def seek(self):
        return self.__hidden


class Picky(socket.socket):
    """A socket that says itself what is kept of it."""

    def __getstate__(self):
        return {"kept": self.kept}

    def __setstate__(self, state):
        self.kept = state["kept"] + 1


class Refusing(socket.socket):
    """A socket that knows how to be pickled better than anybody."""

    def __reduce__(self):
        return (int, ("7",))


def check_subclasses():
    """A class of the program's own keeps its attributes, its slots, and its own ways of being pickled."""
    for way in ways():
        with Named("mine") as sock:
            sock.connect(ECHO.address)
            with way(sock) as other:
                assert type(other) is Named
                assert (other.name, other.seen) == ("mine", [1])
                talk(other)
        with Slotted() as sock:
            sock.shown = 1
            sock.hide(2)
            with way(sock) as other:
                assert (type(other), other.shown, other.seek()) == (Slotted, 1, 2)
        with Picky() as sock:
            sock.kept = 1
            with way(sock) as other:
                assert (type(other), other.kept) == (Picky, 2)
        with Refusing() as sock:
            assert way(sock) == 7


def check_the_sentinel():
    """What stands for the default time-out is the same object after."""
    for way in ways():
        assert way(socket._GLOBAL_DEFAULT_TIMEOUT) is socket._GLOBAL_DEFAULT_TIMEOUT
        plain = object()
        assert type(way(plain)) is object
        assert way(plain) is not plain
    assert b"outgate" not in pickle.dumps(socket._GLOBAL_DEFAULT_TIMEOUT)


def check_text():
    """A descriptor is plain text of one line, and adopting it gives the connection with the default time-out."""
    with socket.create_connection(ECHO.address, timeout=3) as sock:
        text = outgate.descriptor(sock)
        assert type(text) is str
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789."), text
        with outgate.adopt(text) as other:
            assert other.gettimeout() is None
            talk(other)
            talk(sock)
            talk(other)
        socket.setdefaulttimeout(4.0)
        try:
            with outgate.adopt(text) as other:
                assert other.gettimeout() == 4.0
                talk(other)
        finally:
            socket.setdefaulttimeout(None)


def check_text_that_is_none():
    """What is no descriptor of ours is refused in one and the same way, whatever it is; what is no text is an error."""
    from outgate.errors import UnknownDescriptor

    with socket.create_connection(ECHO.address) as sock:
        text = outgate.descriptor(sock)
        wrong = ["", "x", ".", "a.b.c.d.e.f", text[:-1], text + "0", text.upper(), " " + text, text + "\n", text * 9]
        wrong += ["\0", "é", "\ud800", "outgate1.0.0.0.0.0", text.replace("outgate1", "outgate2")]
        said = {text_of(UnknownDescriptor, outgate.adopt, each) for each in wrong}
        assert len(said) == 1, said
        for each in (None, b"", 5, [text]):
            text_of(TypeError, outgate.adopt, each)


def check_what_has_ended():
    """A pickle of a connection that all who had it have closed, after it was opened, says that there is none."""
    from outgate.errors import UnknownDescriptor

    sock = socket.create_connection(ECHO.address)
    data = pickle.dumps(sock)
    pickle.loads(data).close()
    sock.close()
    for attempt in range(20):  # a thread of the gate sees to its close, if nobody takes it meanwhile
        try:
            pickle.loads(data).close()
        except UnknownDescriptor:
            return
        select.select([], [], [], 0.05 * attempt)
    raise AssertionError("it opens for ever")


def _authority():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["TEST_CERTIFICATE"])
    return context


def check_tls_refuses():
    """A TLS connection says why it does not travel and what to do; it goes on as it was."""
    context = ssl.create_default_context(cafile=os.environ["TEST_AUTHORITY"])
    with listener() as server:
        ready = []

        def serve():
            plain, _ = server.accept()
            with _authority().wrap_socket(plain, server_side=True) as safe:
                ready.append(safe.version())
                safe.sendall(safe.recv(9))

        thread = threading.Thread(target=serve)
        thread.start()
        plain = socket.create_connection(server.getsockname())
        data = pickle.dumps(plain)
        pickle.loads(data).close()
        with context.wrap_socket(plain, server_hostname="localhost") as safe:
            for call in (pickle.dumps, pickle._dumps, outgate.descriptor, copy.copy):
                said = text_of(TypeError, call, safe)
                assert said.startswith("cannot pickle 'SSLSocket' object: the keys of its TLS connection"), said
                assert "wrap_socket()" in said
            with raises(TypeError):
                pickle.dumps(safe.makefile("rb"))
            safe.sendall(b"ping")
            assert safe.recv(9) == b"ping"
        thread.join(PATIENCE)


def check_foreign():
    """What is not the gate's refuses as natively: files of the disk, Unix sockets, closed ones; as a text too."""
    left, right = socket.socketpair()
    closed = socket.socket()
    closed.close()
    with left, right, open(os.devnull) as disk, open(os.devnull, "rb") as raw:
        native = {  # the words of each version for what no table of ours knows
            io.TextIOWrapper: text_of(TypeError, lambda: io.TextIOWrapper(io.BytesIO()).__reduce_ex__(4)),
            io.BufferedReader: text_of(TypeError, lambda: raw.__reduce_ex__(4)),
        }
        for file in (disk, raw, left.makefile("r"), left.makefile("rb")):
            with file:
                for call in (pickle.dumps, pickle._dumps, copy.copy):
                    assert text_of(TypeError, call, file) == native[type(file)]
        for sock in (left, closed):
            for protocol in range(2, 6):
                assert text_of(TypeError, pickle.dumps, sock, protocol) == "cannot pickle 'socket' object"
            assert "leaves through the gate" in text_of(TypeError, outgate.descriptor, sock)


def check_closed_with_open_files():
    """A socket that is closed while a file of it is open travels with the file, and ends with it."""
    with pair() as (sock, peer):
        file = sock.makefile("rwb")
        sock.close()
        other, ahead = reopened((file, sock))
        assert ahead._closed
        other.write(b"x")
        other.flush()
        assert peer.recv(9) == b"x"
        peer.sendall(b"line\n")
        assert other.readline() == b"line\n"
        other.close()
        assert ahead.fileno() == -1
        file.close()
        assert peer.recv(1) == b""


def check_resource_warnings():
    """A copy that is forgotten warns as any socket does, and its connection lives on in the original."""
    with socket.create_connection(ECHO.address) as sock:
        data = pickle.dumps(sock)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            other = pickle.loads(data)
            described = repr(other)
            del other
            gc.collect()
        assert [(each.category, str(each.message)) for each in seen] == [(ResourceWarning, f"unclosed {described}")]
        talk(sock)


def check_no_fd_leaks():
    """Fifty copies that are closed leave no fd behind, and neither do ten refusals."""
    from outgate.errors import UnknownDescriptor

    with socket.create_connection(ECHO.address) as sock:
        reopened(sock).close()
        talk(sock)  # the echo has accepted it
        before = open_fds()
        for _ in range(50):
            reopened(sock).close()
        for _ in range(10):
            text_of(UnknownDescriptor, outgate.adopt, "nothing")
        assert open_fds() <= before  # the echo may close what it has of earlier checks


def check_no_fd_left():
    """With no fd left, opening a pickle is EMFILE, and works again when there is one."""
    import resource

    with socket.create_connection(ECHO.address) as sock:
        data = pickle.dumps(sock)
        pickle.loads(data).close()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        taken = []

        def opened_with_none_left():
            try:
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                pass
            try:
                pickle.loads(data).close()
            except OSError as e:
                return e.errno
            return 0  # the echo has closed what it had of an earlier check

        try:
            assert errno.EMFILE in (opened_with_none_left() for _ in range(50))
        finally:
            for fd in taken:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with pickle.loads(data) as other:
            talk(other)


def check_threads_share_and_open_at_once():
    """Eight threads pickle one socket and open the pickles, all at once."""
    failures = []
    with pair() as (sock, _):

        def work():
            try:
                for _ in range(20):
                    with reopened(sock) as other:
                        assert other.getpeername() == sock.getpeername()
            except BaseException as e:
                failures.append(e)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(PATIENCE)
    assert not failures, failures[:2]


if __name__ == "__main__":
    main(globals())
