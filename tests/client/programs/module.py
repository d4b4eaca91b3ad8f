"""What the module offers around its sockets: duplicates, files, buffers, time-outs, servers, interfaces, numbers."""

import array
import builtins
import contextlib
import copy
import errno
import fcntl
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import warnings
import weakref

from harness import PATIENCE, black_hole, closed_address, is_readable, listener, main, pair, raises

KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
INET = (socket.AF_INET, socket.AF_INET6)


def read(sock, size):
    """Return so many bytes of a connection."""
    got = b""
    while len(got) < size:
        more = sock.recv(size - len(got))
        assert more, f"closed after {len(got)} of {size} bytes"
        got += more
    return got


@contextlib.contextmanager
def datagram_pair():
    """Yield a connected UDP socket and its peer."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as left,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as right,
    ):
        right.bind(("127.0.0.1", 0))
        left.connect(right.getsockname())
        left.send(b"")
        right.connect(right.recvfrom(1)[1])
        for sock in (left, right):
            sock.settimeout(PATIENCE)
        yield left, right


def in_a_python(code, *arguments):
    """Run code in a fresh interpreter of the same kind and return what it prints."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stderr, done.returncode) == ("", 0), done.stderr
    return done.stdout


# --- the object -------------------------------------------------------------------------------------------------------


def check_object():
    """The class, its bases, slots, weak references, equality and the enums of its attributes are the module's own."""
    import _socket

    assert socket.socket.__slots__ == ["__weakref__", "_io_refs", "_closed"]
    assert (socket.socket.__module__, socket.socket.__qualname__) == ("socket", "socket")
    assert (_socket.socket.__module__, _socket.socket.__name__) == ("_socket", "socket")
    assert socket.SocketType is _socket.SocketType is _socket.socket
    assert issubclass(socket.socket, _socket.socket)
    assert socket.error is OSError
    assert issubclass(socket.gaierror, OSError)
    assert issubclass(socket.herror, OSError)
    for family in INET:
        for kind in KINDS:
            with socket.socket(family, kind) as sock:
                assert type(sock) is socket.socket
                assert isinstance(sock, socket.SocketType)
                assert sock.family is socket.AddressFamily(family)
                assert sock.type is socket.SocketKind(kind)
                assert (sock.proto, sock.timeout) == (0, None)
                assert sock == sock
                assert sock != socket
                assert {sock: 1}[sock] == 1
                assert weakref.ref(sock)() is sock
                assert not hasattr(sock, "__dict__")
                with raises(AttributeError):
                    sock.anything = 1
                for name in ("family", "type", "proto", "timeout"):
                    with raises(AttributeError):
                        setattr(sock, name, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in KINDS:
            assert weakref.ref(socket.socket(socket.AF_INET, kind))() is None


def check_arguments_of_the_constructor():
    """socket() takes its arguments by place and by name, enums and numbers, and refuses what is none."""
    stream, datagram = KINDS
    for made, kind in (
        (socket.socket(), stream),
        (socket.socket(type=datagram), datagram),
        (socket.socket(2, 2, 17), datagram),
        (socket.socket(family=socket.AF_INET6, type=stream, proto=socket.IPPROTO_TCP, fileno=None), stream),
        (socket.SocketType(socket.AF_INET, datagram, 0), datagram),
        (socket.SocketType(), stream),
    ):
        assert made.type == kind
        made.close()
    for wrong in (("x",), (2, "x"), (2, 1, "x"), (2.0,)):
        with raises(TypeError):
            socket.socket(*wrong)
    with raises(TypeError):
        socket.socket(fileno="x")
    with raises(ValueError):
        socket.socket(fileno=-1)
    with raises(OSError, errno.EBADF):
        socket.socket(fileno=100000)
    with open(os.devnull) as file, raises(OSError, errno.ENOTSOCK):
        socket.socket(fileno=file.fileno())
    with raises(OverflowError):
        socket.socket(1 << 40)


def check_keywords():
    """Calls that take no keywords take none, and those that take them take those."""
    with socket.socket() as sock:
        for call, names in (
            (sock.connect, "address"),
            (sock.connect_ex, "address"),
            (sock.bind, "address"),
            (sock.listen, "backlog"),
            (sock.shutdown, "how"),
            (sock.setsockopt, "level optname value"),
            (sock.getsockopt, "level optname"),
            (sock.sendto, "data address"),
            (sock.sendmsg, "buffers"),
            (sock.send, "data"),
            (sock.recv, "bufsize"),
            (sock.recvfrom, "bufsize"),
            (sock.recvmsg, "bufsize"),
            (socket.close, "fd"),
            (socket.gethostbyname, "hostname"),
            (socket.gethostbyname_ex, "hostname"),
            (socket.gethostbyaddr, "ip_address"),
            (socket.getnameinfo, "sockaddr flags"),
            (socket.if_nametoindex, "if_name"),
        ):
            with raises(TypeError):
                call(**dict.fromkeys(names.split(), 1))
        for call in (sock.getpeername, sock.getsockname, sock._accept, socket.if_nameindex):
            with raises(TypeError):
                call(1)
    assert socket.getaddrinfo(host="127.0.0.1", port=1, family=2, type=1, proto=0, flags=0)


def check_text():
    """repr() has the class, number, family, type and protocol, and says when it is closed."""
    for kind in KINDS:
        with socket.socket(socket.AF_INET, kind) as sock:
            text = repr(sock)
            assert text.startswith(f"<socket.socket fd={sock.fileno()}, family="), text
            assert text.endswith(f"proto=0, laddr={sock.getsockname()}>"), text
        text = repr(sock)
        assert text.startswith("<socket.socket [closed] fd=-1, family="), text
        assert text.endswith("proto=0>"), text
        assert str(sock) == text


def check_context():
    """The context manager hands the object over, closes it, lets what was raised pass, and does not close twice."""
    with raises(ZeroDivisionError), socket.socket() as sock:
        assert sock.__enter__() is sock
        raise ZeroDivisionError
    assert sock.fileno() == -1
    with socket.socket() as sock:
        sock.close()


def check_subclasses():
    """A subclass has attributes, slots and class arguments of its own, and dup() gives an object of it."""

    class Attributes(socket.socket):
        pass

    class Slots(socket.socket):
        __slots__ = ("mine",)

        def send(self, *arguments):
            self.mine = arguments
            return super().send(*arguments)

    with Attributes(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.mine = 1
        with sock.dup() as again:
            assert type(again) is Attributes
            assert not hasattr(again, "mine")
    with listener() as server, Slots() as sock:
        sock.connect(server.getsockname())
        assert sock.send(b"abc") == 3
        assert sock.mine == (b"abc",)
        with raises(AttributeError):
            sock.other = 1
        with sock.makefile("wb", 0) as file:
            file.write(b"def")
        assert sock.mine == (b"def",)


def check_enums_travel():
    """Families, types and flags are pickled and copied as what they are, those of a socket's attributes too."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        for value in (sock.family, sock.type, socket.MSG_PEEK, socket.AI_PASSIVE):
            again = pickle.loads(pickle.dumps(value))
            assert again == value
            assert type(again) is type(value) is not int
            assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(socket.socket)) is socket.socket
    assert pickle.loads(pickle.dumps(socket.gaierror(-2, "x"))).args == (-2, "x")


# --- numbers handed on ------------------------------------------------------------------------------------------------


def check_fromfd():
    """fromfd() duplicates: both objects talk, and the connection ends with the last; unconnected ones connect."""
    with pair() as (client, peer):
        with socket.fromfd(client.fileno(), client.family, client.type, client.proto) as again:
            assert again.fileno() != client.fileno()
            assert (again.family, again.type, again.proto) == (client.family, client.type, client.proto)
            assert again.getpeername() == client.getpeername() == peer.getsockname()
            assert not again.get_inheritable()
            again.sendall(b"one")
            client.sendall(b"two")
            assert read(peer, 6) == b"onetwo"
            client.close()
            assert not is_readable(peer, 0.02)
            again.sendall(b"x")
            assert peer.recv(1) == b"x"
        assert is_readable(peer)
        assert peer.recv(1) == b""
    with listener() as server, socket.socket() as sock:
        with socket.fromfd(sock.fileno(), socket.AF_INET, socket.SOCK_STREAM) as again:
            again.connect(server.getsockname())
        assert sock.getpeername() == server.getsockname()
        sock.sendall(b"x")
        with server.accept()[0] as peer:
            assert peer.recv(1) == b"x"
    with raises(OSError, errno.EBADF):
        socket.fromfd(100000, socket.AF_INET, socket.SOCK_STREAM)


def check_dup_keeps():
    """dup() keeps family, type, protocol and time-out, is not inheritable, and works for UDP as well."""
    for kind, proto in ((socket.SOCK_STREAM, socket.IPPROTO_TCP), (socket.SOCK_DGRAM, socket.IPPROTO_UDP)):
        for timeout in (None, 0.0, 3.25):
            with socket.socket(socket.AF_INET6, kind, proto) as sock:
                sock.settimeout(timeout)
                sock.set_inheritable(True)
                with sock.dup() as again:
                    assert (again.family, again.type, again.proto) == (socket.AF_INET6, kind, proto)
                    assert again.gettimeout() == timeout
                    assert not again.get_inheritable()
    with datagram_pair() as (left, right), left.dup() as again:
        left.close()
        again.send(b"x")
        assert right.recv(9) == b"x"
    fd = socket.dup(0)
    assert not os.get_inheritable(fd)
    socket.close(fd)
    with raises(OSError, errno.EBADF):
        socket.close(fd)
    with raises(OSError, errno.EBADF):
        socket.dup(fd)


def check_detach():
    """detach() leaves the object closed and the number open, twice gives -1, and the number goes on as a socket."""
    for make in (pair, datagram_pair):
        with make() as (client, peer):
            name = client.getsockname()
            fd = client.detach()
            assert (client.fileno(), client.detach()) == (-1, -1)
            assert "[closed]" in repr(client)
            for call in (lambda: client.send(b"x"), client.getpeername, lambda: client.settimeout(1)):
                with raises(OSError, errno.EBADF):
                    call()
            with socket.socket(fileno=fd) as again:
                assert (again.fileno(), again.family) == (fd, socket.AF_INET)
                assert again.getsockname() == name
                again.send(b"x")
                assert peer.recv(9) == b"x"


def check_inheritable():
    """Sockets are not inheritable until they are made so, by the method or by os."""
    for kind in KINDS:
        with socket.socket(socket.AF_INET, kind) as sock:
            assert not sock.get_inheritable()
            assert fcntl.fcntl(sock, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
            sock.set_inheritable(True)
            assert os.get_inheritable(sock.fileno())
            os.set_inheritable(sock.fileno(), False)
            assert not sock.get_inheritable()


def check_pairs():
    """socketpair() gives sockets of the class, connected, of every type that Unix sockets have, and no other family."""
    left, right = socket.socketpair()
    with left, right:
        assert type(left) is type(right) is socket.socket
        assert (left.family, left.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
        left.sendall(b"stream")
        assert right.recv(100) == b"stream"
        left.shutdown(socket.SHUT_WR)
        assert right.recv(1) == b""
        left.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        left, right = socket.socketpair(socket.AF_UNIX, kind, 0)
        with left, right:
            left.send(b"ab")
            left.send(b"c")
            assert [right.recv(100), right.recv(100)] == [b"ab", b"c"]
    with raises(OSError):
        socket.socketpair(socket.AF_INET)


def check_fds_sent():
    """send_fds() and recv_fds() hand files and sockets over a Unix pair; a socket goes on where it arrives."""
    left, right = socket.socketpair()
    end, other = os.pipe()
    with left, right, pair() as (client, peer), datagram_pair() as (one, two), socket.socket() as fresh:
        sent = [other, client.fileno(), one.fileno(), fresh.fileno()]
        assert socket.send_fds(left, [b"pay", b"load"], sent) == 7
        data, fds, flags, _ = socket.recv_fds(right, 100, 8)
        assert (data, len(fds), flags & socket.MSG_CTRUNC) == (b"payload", 4, 0)
        os.write(fds[0], b"x")
        assert os.read(end, 1) == b"x"
        os.close(fds[0])
        client.close()
        one.close()
        with socket.socket(fileno=fds[1]) as again:
            again.sendall(b"stream")
            assert read(peer, 6) == b"stream"
        with socket.socket(fileno=fds[2]) as again:
            assert (again.family, again.type) == (socket.AF_INET, socket.SOCK_DGRAM)
            again.send(b"datagram")
            assert two.recv(100) == b"datagram"
        with listener() as server, socket.socket(fileno=fds[3]) as again:
            fresh.close()
            again.connect(server.getsockname())
            assert again.getpeername() == server.getsockname()
    os.close(end)
    os.close(other)


# --- time-outs --------------------------------------------------------------------------------------------------------


def check_timeouts():
    """settimeout(), setblocking() and their questions agree, refuse what is no time, and show in the file's flags."""
    for kind in KINDS:
        with socket.socket(socket.AF_INET, kind) as sock:
            for value, seconds, blocks in ((None, None, True), (0, 0.0, False), (2, 2.0, True), (0.5, 0.5, True)):
                sock.settimeout(value)
                assert (sock.gettimeout(), sock.timeout, sock.getblocking()) == (seconds, seconds, blocks)
                assert bool(fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK) == (value is not None)
            sock.setblocking(True)
            assert (sock.gettimeout(), sock.getblocking()) == (None, True)
            sock.setblocking(False)
            assert (sock.gettimeout(), sock.getblocking()) == (0.0, False)
            for wrong, kind_of_error in ((-1, ValueError), ("x", TypeError), (float("nan"), ValueError)):
                with raises(kind_of_error):
                    sock.settimeout(wrong)
            with raises(OverflowError):
                sock.settimeout(1e300)
            assert sock.gettimeout() == 0.0


def check_timeouts_are_kept():
    """A receive and a send wait as long as they were told, say "timed out", and the socket goes on afterwards."""
    for make in (pair, datagram_pair):
        with make() as (sock, peer):
            sock.settimeout(0.02)
            for call in (
                lambda sock=sock: sock.recv(1),
                lambda sock=sock: sock.recv_into(bytearray(1)),
                lambda sock=sock: sock.recvfrom(1),
                lambda sock=sock: sock.recvmsg(1),
                lambda sock=sock: sock.recvmsg_into([bytearray(1)]),
            ):
                with raises(socket.timeout) as caught:
                    call()
                assert (str(caught.error), caught.error.errno) == ("timed out", None)
            sock.setblocking(False)
            with raises(BlockingIOError, errno.EAGAIN):
                sock.recv(1)
            sock.settimeout(PATIENCE)
            peer.send(b"x")
            assert sock.recv(9) == b"x"
    with pair() as (sock, peer):
        sock.settimeout(0.05)
        with raises(socket.timeout):
            sock.sendall(bytes(64 << 20))
        sock.setblocking(False)
        with raises(BlockingIOError, errno.EAGAIN):
            for _ in range(1000):
                sock.send(bytes(1 << 20))
    with listener() as server:
        server.settimeout(0.02)
        with raises(socket.timeout):
            server.accept()


DEFAULT = """
import _socket
_socket.setdefaulttimeout(7.5)
import socket, ssl, asyncio
assert socket.getdefaulttimeout() == 7.5
stream, datagram = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
left, right = socket.socketpair()
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
client = socket.create_connection(server.getsockname())
peer, _ = server.accept()
given = socket.create_connection(server.getsockname(), timeout=3)
again = client.dup()
for each in (stream, datagram, left, right, server, client, peer, again):
    print(each.gettimeout())
    each.close()
print(given.gettimeout())
given.close()
socket.setdefaulttimeout(None)
server = socket.socket()
print(server.gettimeout())
server.close()
"""


def check_default_timeout_before_import():
    """A default time-out set on _socket before socket is imported counts for every new socket, and can be unset."""
    assert in_a_python(DEFAULT).split() == ["7.5"] * 8 + ["3.0", "None"]


# --- files ------------------------------------------------------------------------------------------------------------


def check_modes_of_makefile():
    """makefile() gives for each mode and buffering the file that it natively gives, which reads and writes."""
    kinds = {
        "rb": io.BufferedReader,
        "wb": io.BufferedWriter,
        "rwb": io.BufferedRWPair,
        "b": io.BufferedReader,
        "r": io.TextIOWrapper,
        "w": io.TextIOWrapper,
        "rw": io.TextIOWrapper,
        "": io.TextIOWrapper,
    }
    for mode, kind in kinds.items():
        for buffering in (None, -1, 1, 4096, 0):
            with pair() as (sock, peer):
                binary, reads, writes = "b" in mode, "r" in mode or "w" not in mode, "w" in mode
                if buffering == 0 and not binary:
                    with raises(ValueError):
                        sock.makefile(mode, buffering)
                    continue
                text = {} if binary else {"encoding": "utf-8", "newline": "\n"}
                with sock.makefile(mode, buffering, **text) as file:
                    assert type(file) is (socket.SocketIO if buffering == 0 else kind), (mode, buffering, type(file))
                    assert (file.readable(), file.writable()) == (reads, writes)
                    line = b"l\xc3\xadne\n" if binary else "l\u00edne\n"
                    if writes:
                        file.write(line)
                        file.flush()
                        assert read(peer, 6) == b"l\xc3\xadne\n"
                    if reads:
                        peer.sendall(b"l\xc3\xadne\nrest")
                        peer.shutdown(socket.SHUT_WR)
                        assert file.readline() == line
                        assert file.read() == line[:0] + (b"rest" if binary else "rest")
                assert file.closed
                sock.send(b"")


def check_raw_files():
    """SocketIO has number, mode and name, gives None where nothing waits, and reads no more after a time-out."""
    with pair() as (sock, peer):
        raw = sock.makefile("rwb", 0)
        assert (raw.fileno(), raw.name, raw.mode) == (sock.fileno(), sock.fileno(), "rwb")
        assert (raw.readable(), raw.writable(), raw.seekable()) == (True, True, False)
        sock.setblocking(False)
        assert raw.read(1) is None
        assert raw.readinto(bytearray(4)) is None
        while raw.write(bytes(1 << 20)) is not None:
            pass
        sock.settimeout(0.02)
        with raises(socket.timeout):
            raw.read(1)
        with raises(OSError) as caught:
            raw.read(1)
        assert str(caught.error) == "cannot read from timed out object"
        raw.close()
        assert (raw.closed, raw.name) == (True, -1)
        for call in (raw.readable, raw.writable, raw.seekable, raw.fileno, lambda: raw.read(1)):
            with raises(ValueError):
                call()
        assert peer.recv(1) == b"\0"
    with pair() as (sock, peer), socket.SocketIO(sock, "r") as raw:
        sock._io_refs += 1
        assert raw.mode == "rb"
        with raises(io.UnsupportedOperation):
            raw.write(b"x")
    for wrong in ("x", "a", "r+", "U"):
        with socket.socket() as sock, raises(ValueError):
            sock.makefile(wrong)


def check_files_keep_it_open():
    """The connection lives until the last of socket and files is closed, in whichever order."""
    with pair() as (sock, peer):
        first, second = sock.makefile("rb"), sock.makefile("wb")
        sock.close()
        assert sock.fileno() >= 0
        second.write(b"late")
        second.close()
        assert read(peer, 4) == b"late"
        peer.sendall(b"later")
        assert first.read(5) == b"later"
        assert not is_readable(peer, 0.02)
        first.close()
        assert sock.fileno() == -1
        assert is_readable(peer)
        assert peer.recv(1) == b""


# --- sendfile ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def file_of(data):
    """Yield an unnamed file with this in it."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield file


def check_sendfile():
    """sendfile() sends all, or a part, by os.sendfile and by send(), and leaves the file where it stopped."""
    data = bytes(range(256)) * 8192
    for method in ("sendfile", "_sendfile_use_sendfile", "_sendfile_use_send"):
        for arguments, part in (
            ((), data),
            ((5000,), data[5000:]),
            ((0, 1000), data[:1000]),
            ((100, 70000), data[100:70100]),
            ((len(data) - 5, 100), data[-5:]),
        ):
            for timeout in (None, PATIENCE):
                with pair() as (sock, peer), file_of(data) as file:
                    sock.settimeout(timeout)
                    got = []
                    size = len(part)
                    thread = threading.Thread(target=lambda peer=peer, n=size, got=got: got.append(read(peer, n)))
                    thread.start()
                    assert getattr(sock, method)(file, *arguments) == len(part)
                    thread.join(PATIENCE)
                    assert got == [part]
                    assert file.tell() == (arguments[0] if arguments else 0) + len(part)


def check_sendfile_of_other_files():
    """What is no regular file goes by send(); empty ones, text, wrong counts and modes are as natively."""
    with pair() as (sock, peer):
        assert sock.sendfile(io.BytesIO(b"in memory"), 3) == 6
        assert read(peer, 6) == b"memory"
        with file_of(b"") as file:
            assert sock.sendfile(file) == 0
        with open(__file__, encoding="utf-8") as file, raises(ValueError):
            sock.sendfile(file)
        with file_of(b"x") as file:
            for count, kind in ((0, ValueError), (-1, ValueError), (1.0, TypeError)):
                with raises(kind):
                    sock.sendfile(file, 0, count)
            sock.setblocking(False)
            with raises(ValueError):
                sock.sendfile(file)
            sock.settimeout(0.05)
        with file_of(bytes(64 << 20)) as file, raises(socket.timeout):
            sock.sendfile(file)
    with datagram_pair() as (left, _), file_of(b"x") as file, raises(ValueError):
        left.sendfile(file)


def check_os_sendfile():
    """os.sendfile() on the number moves bytes of the connection; on one that is not connected yet it moves none."""
    with pair() as (sock, peer), file_of(b"0123456789") as file:
        assert os.sendfile(sock.fileno(), file.fileno(), 2, 5) == 5
        assert read(peer, 5) == b"23456"
    with socket.socket() as sock, file_of(b"x") as file:
        for call in (
            lambda: sock.sendfile(file),
            lambda: sock.sendfile(io.BytesIO(b"x")),
            lambda: os.sendfile(sock.fileno(), file.fileno(), 0, 1),
        ):
            with raises(OSError) as caught:
                call()
            assert caught.error.errno in (errno.EPIPE, errno.ENOTCONN), caught.error
    with black_hole() as nowhere, socket.socket() as sock, file_of(b"x") as file:
        sock.setblocking(False)
        assert sock.connect_ex(nowhere) == errno.EINPROGRESS
        with raises(BlockingIOError, errno.EAGAIN):
            os.sendfile(sock.fileno(), file.fileno(), 0, 1)
    with listener() as server, socket.socket() as sock, file_of(b"waits") as file:
        sock.setblocking(False)
        sock.connect_ex(server.getsockname())
        sock.settimeout(PATIENCE)
        assert sock.sendfile(file) == 5
        os.set_blocking(sock.fileno(), True)
        assert os.sendfile(sock.fileno(), file.fileno(), 0, 5) == 5
        with server.accept()[0] as peer:
            assert read(peer, 10) == b"waitswaits"
    for wrong in ((), (1,), ("x", 0, 0, 1), (100000, 0, 0, 1)):
        with raises((TypeError, OSError)):
            os.sendfile(*wrong)


# --- buffers ----------------------------------------------------------------------------------------------------------


def check_receive_into():
    """recv_into and recvfrom_into fill any writable buffer, as far as they are told, and judge their arguments."""
    for make in (pair, datagram_pair):
        with make() as (sock, peer):
            for call in ("recv_into", "recvfrom_into"):
                receive = getattr(sock, call)
                for buffer in (bytearray(9), memoryview(bytearray(9)), array.array("B", bytes(9))):
                    peer.send(b"abc")
                    got = receive(buffer)
                    assert got == 3 if call == "recv_into" else got[0] == 3
                    assert bytes(buffer) == b"abc" + bytes(6)
                numbers = array.array("i", [0, 0])
                peer.send(struct.pack("i", 258))
                receive(numbers)
                assert list(numbers) == [258, 0]
                buffer = bytearray(9)
                peer.send(b"ab")
                receive(buffer, 2)
                assert buffer == b"ab" + bytes(7)
                peer.send(b"cd")
                assert is_readable(sock)
                receive(buffer, 0, socket.MSG_PEEK)
                receive(memoryview(buffer)[4:], nbytes=2, flags=0)
                assert buffer == b"cd" + bytes(2) + b"cd" + bytes(3)
                with raises(ValueError):
                    receive(buffer, -1)
                with raises(ValueError):
                    receive(buffer, 10)
                for wrong in (b"read only", "text", 5):
                    with raises((TypeError, BufferError)):
                        receive(wrong)


def check_messages():
    """sendmsg, recvmsg and recvmsg_into gather and scatter, show what waits, and carry no ancillary data of TCP."""
    with pair() as (sock, peer):
        assert sock.sendmsg([b"ab", bytearray(b"cd"), memoryview(b"ef"), b""]) == 6
        assert read(peer, 6) == b"abcdef"
        assert sock.sendmsg(part for part in (b"x", b"y")) == 2
        assert sock.sendmsg([b"z"], [], 0, None) == 1
        assert read(peer, 3) == b"xyz"
        peer.sendall(b"0123456789")
        assert is_readable(sock)
        assert sock.recvmsg(4, 100, socket.MSG_PEEK)[:2] == (b"0123", [])
        assert sock.recvmsg(4)[:2] == (b"0123", [])
        buffers = [bytearray(2), bytearray(2), bytearray(9)]
        size, ancillary, flags, _ = sock.recvmsg_into(buffers, socket.CMSG_SPACE(16))
        assert (size, ancillary, flags & ~socket.MSG_EOR, buffers[0], buffers[1]) == (6, [], 0, b"45", b"67")
        assert buffers[2] == b"89" + bytes(7)
        for wrong in (5, [5], [b"x"], None):
            with raises((TypeError, BufferError)):
                sock.recvmsg_into(wrong)
        with raises(ValueError):
            sock.recvmsg(-1)
        with raises(ValueError):
            sock.recvmsg(1, -1)
        with raises(TypeError):
            sock.sendmsg(b"not a sequence of buffers")


def check_no_address_over_tcp():
    """Over TCP recvfrom, recvfrom_into, recvmsg and recvmsg_into give no address, at the end of the stream either."""
    with pair() as (sock, peer):
        for data in (b"x", b""):
            for call in (
                lambda: sock.recvfrom(1),
                lambda: sock.recvfrom_into(bytearray(1)),
                lambda: sock.recvmsg(1),
                lambda: sock.recvmsg_into([bytearray(1)]),
            ):
                if data:
                    peer.sendall(data)
                else:
                    peer.close()
                got = call()
                assert got[0] in (data, len(data)), got
                assert got[-1] is None, got


def check_waiting_bytes():
    """FIONREAD on a connection tells how many bytes wait."""
    with pair() as (sock, peer):
        assert fcntl.ioctl(sock, termios.FIONREAD, bytes(4)) == bytes(4)
        peer.sendall(b"12345")
        assert is_readable(sock)
        assert fcntl.ioctl(sock, termios.FIONREAD, bytes(4)) == struct.pack("i", 5)
        assert sock.recv(2) == b"12"
        assert fcntl.ioctl(sock, termios.FIONREAD, bytes(4)) == struct.pack("i", 3)


def check_flags_by_fcntl():
    """O_NONBLOCK set behind Python's back makes a call on the number not wait, and is taken back."""
    with pair() as (sock, _):
        flags = fcntl.fcntl(sock, fcntl.F_GETFL)
        fcntl.fcntl(sock, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        with raises(BlockingIOError):
            os.read(sock.fileno(), 1)
        assert not os.get_blocking(sock.fileno())
        os.set_blocking(sock.fileno(), True)
        assert os.get_blocking(sock.fileno())


# --- servers and clients in one call ----------------------------------------------------------------------------------


def check_create_server():
    """create_server() listens on one family or both, with SO_REUSEADDR; what it makes accepts."""
    assert socket.has_dualstack_ipv6() is True
    assert socket.has_ipv6 is True
    for options, host in (
        ({}, "127.0.0.1"),
        ({"family": socket.AF_INET6}, "::1"),
        ({"family": socket.AF_INET6, "dualstack_ipv6": True}, "127.0.0.1"),
        ({"backlog": 5}, "127.0.0.1"),
        ({"reuse_port": True}, "127.0.0.1"),
    ):
        where = host if "dualstack_ipv6" not in options else "::"
        with socket.create_server((where, 0), **options) as server:
            assert server.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
            assert server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            with socket.create_connection((host, server.getsockname()[1]), PATIENCE) as client:
                peer, address = server.accept()
                with peer:
                    assert type(peer) is socket.socket
                    assert address[1] == client.getsockname()[1]
                    client.sendall(b"x")
                    assert peer.recv(1) == b"x"
    with raises(ValueError):
        socket.create_server(("", 0), dualstack_ipv6=True)
    with socket.create_server(("127.0.0.1", 0)) as server, raises(OSError, errno.EADDRINUSE) as caught:
        socket.create_server(server.getsockname())
    assert "attempting to bind on address" in str(caught.error)


def check_one_port_for_each_family():
    """A server for IPv6 alone may have the port that one for IPv4 has, as event loops do it for both."""
    for left in reversed(range(20)):
        with socket.create_server(("0.0.0.0", 0)) as four, socket.socket(socket.AF_INET6) as six:
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                six.bind(("::", four.getsockname()[1]))
            except OSError as e:
                if e.errno == errno.EADDRINUSE and left:
                    continue  # some other program's, for IPv6
                raise
            six.listen()
            assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
            with socket.create_connection(("::1", four.getsockname()[1]), PATIENCE), six.accept()[0] as peer:
                assert peer.family == socket.AF_INET6
            return


def check_create_connection():
    """create_connection() takes source address and time-out, tries each address, and tells of the last or of all."""
    with listener() as server:
        address = server.getsockname()
        for options in (
            {},
            {"timeout": None},
            {"timeout": 4},
            {"source_address": ("", 0)},
            {"source_address": ("127.0.0.1", 0), "timeout": 4.0},
        ):
            with socket.create_connection(address, **options) as sock:
                assert sock.gettimeout() == options.get("timeout")
                assert sock.getpeername() == address
                assert sock.getsockname()[0] == "127.0.0.1"
        with socket.create_connection(("localhost", address[1])) as sock:
            assert sock.getpeername() == address
        with raises(OSError):
            socket.create_connection(address, source_address=("not an address", 0))
    nobody = closed_address()
    with raises(ConnectionRefusedError, errno.ECONNREFUSED):
        socket.create_connection(nobody)
    with raises(ConnectionRefusedError):
        socket.create_connection(("localhost", nobody[1]))
    if hasattr(builtins, "ExceptionGroup"):  # since 3.11
        with raises(builtins.ExceptionGroup) as caught:
            socket.create_connection(("localhost", nobody[1]), all_errors=True)
        assert {type(each) for each in caught.error.exceptions} == {ConnectionRefusedError}
        assert str(caught.error).startswith("create_connection failed"), caught.error


# --- interfaces and names ---------------------------------------------------------------------------------------------


def check_interfaces():
    """Interfaces have number and name both ways, loopback is among them, and strangers are errors."""
    every = socket.if_nameindex()
    assert "lo" in dict(every).values(), every
    for index, name in every:
        assert socket.if_nametoindex(name) == socket.if_nametoindex(os.fsencode(name)) == index
        assert socket.if_indextoname(index) == name
    with raises(OSError) as caught:
        socket.if_nametoindex("no such interface")
    assert str(caught.error) == "no interface with this name"
    with raises(OSError, errno.ENXIO):
        socket.if_indextoname(max(dict(every)) + 100000)
    for call, wrong in ((socket.if_nametoindex, 5), (socket.if_indextoname, "lo"), (socket.if_nameindex, 1)):
        with raises(TypeError):
            call(wrong)
    for wrong in (-1, 1 << 70):
        with raises(OverflowError):
            socket.if_indextoname(wrong)
    with raises(ValueError):
        socket.if_nametoindex("l\0o")


def check_numbers_of_services():
    """Services, protocols, byte orders and packed addresses are read as they are everywhere."""
    assert socket.getprotobyname("tcp") == socket.IPPROTO_TCP
    assert socket.getservbyname("https", "tcp") == 443
    assert socket.getservbyport(443) == "https"
    assert socket.ntohs(socket.htons(258)) == 258
    assert socket.ntohl(socket.htonl(65539)) == 65539
    assert socket.inet_ntoa(socket.inet_aton("127.1")) == "127.0.0.1"
    assert socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, "::1")) == "::1"
    assert socket.CMSG_LEN(4) <= socket.CMSG_SPACE(4)
    assert socket.gethostname() == os.uname().nodename
    assert socket.getfqdn("127.0.0.1")


main(globals())
