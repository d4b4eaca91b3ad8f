"""What a plain program sees of UDP: sending, receiving, connecting, waiting, errors, event loops, duplicates, forks."""

import array
import asyncio
import contextlib
import errno
import os
import select
import socket
import threading

from harness import PATIENCE, is_readable, main, raises

INET = (socket.AF_INET, socket.AF_INET6)
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def server(family=socket.AF_INET):
    """Return a socket bound to loopback."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(PATIENCE)
    sock.bind((LOOPBACK[family], 0))
    return sock


@contextlib.contextmanager
def pair(family=socket.AF_INET):
    """Yield a client that has sent one datagram to a server, the server, and both addresses as each sees the other."""
    with server(family) as peer, socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        there = peer.getsockname()
        assert sock.sendto(b"first", there) == 5
        data, here = peer.recvfrom(100)
        assert data == b"first"
        yield sock, peer, here, there


def closed_address(family=socket.AF_INET):
    """Return a loopback address where no socket is."""
    with server(family) as sock:
        return sock.getsockname()


def check_send_and_receive():
    """sendto and recvfrom carry data and addresses both ways, over IPv4 and IPv6."""
    for family in INET:
        with pair(family) as (sock, peer, here, there):
            assert peer.sendto(b"answer", here) == 6
            assert sock.recvfrom(100) == (b"answer", there)
            assert here[1] == sock.getsockname()[1]
            assert len(here) == len(there) == (2 if family == socket.AF_INET else 4)


def check_fresh():
    """A new socket has the type, options and names of one, and no peer."""
    for family in INET:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            assert (sock.family, sock.type, sock.proto) == (family, socket.SOCK_DGRAM, 0)
            assert sock.getsockname() == (("0.0.0.0", 0) if family == socket.AF_INET else ("::", 0, 0, 0))
            assert isinstance(sock, socket.socket)
            assert repr(sock).startswith("<socket.socket fd="), repr(sock)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_DGRAM
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == socket.IPPROTO_UDP
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == family
            with raises(OSError, errno.ENOTCONN):
                sock.getpeername()
            with raises(OSError, errno.EDESTADDRREQ):
                sock.send(b"x")
            with raises(OSError, errno.EDESTADDRREQ):
                sock.sendall(b"x")
            with raises(OSError, errno.EDESTADDRREQ):
                sock.sendmsg([b"x"])
            for call in (lambda: sock.listen(), lambda: sock.accept()):
                with raises(OSError, errno.EOPNOTSUPP):
                    call()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP) as sock:
        assert (sock.type, sock.proto, sock.gettimeout()) == (socket.SOCK_DGRAM, socket.IPPROTO_UDP, 0.0)


def check_lowest_number():
    """A socket has the lowest free fd number."""
    low = os.dup(0)
    os.close(low)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert sock.fileno() == low


def check_names():
    """Hosts by name, by bytes and in odd spellings reach the same server."""
    with pair() as (sock, peer, here, there):
        for host in ("localhost", b"127.0.0.1", bytearray(b"127.0.0.1"), "0x7f.1", "127.1", "", "0.0.0.0"):
            assert sock.sendto(b"x", (host, there[1])) == 1
            assert peer.recvfrom(10) == (b"x", here)


def check_answer_to_the_wildcard():
    """What is sent to 0.0.0.0 goes to loopback, and its answer comes from there."""
    with server() as peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.sendto(b"x", ("0.0.0.0", peer.getsockname()[1]))
        peer.sendto(b"y", peer.recvfrom(10)[1])
        assert sock.recvfrom(10) == (b"y", peer.getsockname())


def check_connected():
    """A connected socket sends and receives without addresses, and knows both names."""
    for family in INET:
        with server(family) as peer, socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(peer.getsockname())
            assert sock.getpeername() == peer.getsockname()
            assert sock.getsockname()[0] == LOOPBACK[family]
            assert sock.send(b"one") == 3
            assert sock.sendall(b"two") is None
            assert sock.sendmsg([b"th", b"ree"]) == 5
            assert [peer.recvfrom(10) for _ in range(3)] == [
                (data, sock.getsockname()) for data in (b"one", b"two", b"three")
            ]
            peer.sendto(b"back", sock.getsockname())
            assert sock.recv(10) == b"back"


def check_connect_again():
    """A second connect leads to the new address, and connect_ex returns 0."""
    with server() as one, server() as two, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert sock.connect_ex(one.getsockname()) == 0
        assert sock.connect_ex(two.getsockname()) == 0
        assert sock.getpeername() == two.getsockname()
        sock.send(b"x")
        assert two.recv(10) == b"x"
        sock.sendto(b"y", one.getsockname())  # Linux lets a connected socket send elsewhere
        assert one.recv(10) == b"y"


def check_only_the_peer_is_heard():
    """A connected socket gets nothing from others."""
    with server() as peer, server() as other, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(peer.getsockname())
        other.sendto(b"noise", sock.getsockname())
        peer.sendto(b"voice", sock.getsockname())
        assert sock.recv(10) == b"voice"
        sock.setblocking(False)
        with raises(BlockingIOError):
            sock.recv(10)


def check_refused():
    """The port where no socket is: a connected socket gets ECONNREFUSED at a receive, once, and at a later send."""
    for family in INET:
        address = closed_address(family)
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(address)
            sock.send(b"x")
            with raises(ConnectionRefusedError, errno.ECONNREFUSED):
                sock.recv(10)
            sock.send(b"x")
            assert is_readable(sock)
            with raises(ConnectionRefusedError, errno.ECONNREFUSED):
                sock.send(b"x")
            sock.send(b"x")
            assert is_readable(sock)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
            sock.setblocking(False)
            with raises(BlockingIOError):
                sock.recv(10)
        with socket.socket(family, socket.SOCK_DGRAM) as sock:  # not connected: nobody tells
            sock.sendto(b"x", address)
            sock.sendto(b"x", address)


def check_sizes():
    """Every size arrives whole, none and the largest too; one byte more is EMSGSIZE."""
    for family, most in ((socket.AF_INET, 65507), (socket.AF_INET6, 65527)):
        with pair(family) as (sock, peer, here, there):
            for size in (0, 1, 4095, 4096, 9000, most - 1, most):
                data = os.urandom(size)
                for given in (data, bytearray(data), memoryview(data)):
                    assert sock.sendto(given, there) == size
                    assert peer.recvfrom(70000) == (data, here)
                peer.sendto(data, here)
                assert sock.recvfrom(70000) == (data, there)
            for given in (bytes(most + 1), bytearray(70000), bytes(100_000)):
                with raises(OSError, errno.EMSGSIZE):
                    sock.sendto(given, there)
                with raises(OSError, errno.EMSGSIZE):
                    sock.sendmsg([given], [], 0, there)
            sock.sendto(b"goes on", there)
            assert peer.recv(10) == b"goes on"


def check_truncation():
    """What does not fit is cut off and gone; recvmsg says so, and MSG_TRUNC asks for the true length."""
    with pair() as (sock, peer, here, there):
        for _ in range(8):
            peer.sendto(b"0123456789", here)
        assert sock.recv(4) == b"0123"
        assert sock.recvfrom(0) == (b"", there)
        assert sock.recvmsg(4) == (b"0123", [], socket.MSG_TRUNC, there)
        assert sock.recvmsg(10) == (b"0123456789", [], 0, there)
        buffer = bytearray(4)
        assert sock.recv_into(buffer, 0, socket.MSG_TRUNC) == 10
        assert bytes(buffer) == b"0123"
        assert sock.recvfrom_into(buffer, 2) == (2, there)
        one, two = bytearray(3), bytearray(4)
        assert sock.recvmsg_into([one, two]) == (7, [], socket.MSG_TRUNC, there)
        assert bytes(one + two) == b"0123456"
        assert sock.recvfrom(100) == (b"0123456789", there)


def check_peek():
    """MSG_PEEK leaves the datagram where it is, in every call that receives."""
    peek = socket.MSG_PEEK
    with pair() as (sock, peer, here, there):
        peer.sendto(b"data", here)
        buffer = bytearray(10)
        assert sock.recv(2, peek) == b"da"
        assert sock.recvfrom(10, peek) == (b"data", there)
        assert sock.recv_into(buffer, 10, peek) == 4
        assert sock.recvfrom_into(buffer, flags=peek) == (4, there)
        assert sock.recvmsg(10, 0, peek) == (b"data", [], 0, there)
        assert sock.recvmsg_into([buffer], 0, peek) == (4, [], 0, there)
        assert sock.recv_into(buffer, 1, peek | socket.MSG_TRUNC) == 4
        assert sock.recv(10) == b"data"


def check_into_any_buffer():
    """Writable buffers of every kind take a datagram: arrays, slices, matrices; nothing behind it is touched."""
    with pair() as (sock, peer, here, _there):

        def arrives(*args, **kwargs):
            peer.sendto(b"abcd", here)
            return sock.recv_into(*args, **kwargs)

        numbers = array.array("i", [0, 7])
        assert arrives(numbers) == 4
        assert numbers.tobytes() == b"abcd" + array.array("i", [7]).tobytes()
        matrix = memoryview(bytearray(6)).cast("B", (2, 3))
        assert arrives(matrix) == 4
        assert matrix.tobytes() == b"abcd\0\0"
        buffer = bytearray(b"........")
        assert arrives(memoryview(buffer)[2:7]) == 4
        assert bytes(buffer) == b"..abcd.."
        assert arrives(buffer=buffer, nbytes=3, flags=0) == 3
        assert sock.recv_into(bytearray()) == 0  # C does not even ask
        with raises(ValueError):
            sock.recv_into(buffer, 9)
        with raises(ValueError):
            sock.recvfrom_into(buffer, -1)
        with raises(TypeError):
            sock.recv_into(b"read only")


def check_empty_datagrams():
    """A datagram of no bytes is one: it is received, polled for and peeked at."""
    with pair() as (sock, peer, here, there):
        peer.sendto(b"", here)
        assert is_readable(sock)
        assert sock.recvfrom(10, socket.MSG_PEEK) == (b"", there)
        assert sock.recvfrom(10) == (b"", there)
        sock.sendall(b"") if sock.connect(there) else None
        assert sock.send(b"") == 0
        assert peer.recvfrom(10)[0] == b""


def check_waiting():
    """Time-outs, non-blocking mode and MSG_DONTWAIT are a native socket's."""
    with pair() as (sock, peer, here, _there):
        sock.settimeout(0.01)
        for call in (lambda: sock.recv(1), lambda: sock.recvfrom(1), lambda: sock.recvmsg(1)):
            with raises(socket.timeout) as timed:
                call()
            assert str(timed.error) == "timed out"
        sock.settimeout(None)
        with raises(BlockingIOError, errno.EAGAIN):
            sock.recvfrom(1, socket.MSG_DONTWAIT)
        sock.setblocking(False)
        with raises(BlockingIOError, errno.EAGAIN):
            sock.recvfrom_into(bytearray(1))
        assert not is_readable(sock, 0)
        assert select.select([], [sock], [], 0)[1]
        sock.setblocking(True)
        threading.Timer(0.05, peer.sendto, (b"late", here)).start()
        assert sock.recv(10) == b"late"


def check_selectors():
    """select, poll and epoll tell of datagrams, also where the socket was registered before its first use."""
    with server() as peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, select.epoll() as epoll:
        epoll.register(sock, select.EPOLLIN)
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        assert epoll.poll(0) == poll.poll(0) == []
        sock.sendto(b"x", peer.getsockname())
        peer.sendto(b"y", peer.recvfrom(10)[1])
        assert epoll.poll(PATIENCE) == [(sock.fileno(), select.EPOLLIN)]
        assert poll.poll(PATIENCE) == [(sock.fileno(), select.POLLIN)]
        assert sock.recv(10) == b"y"
        assert epoll.poll(0) == []


def check_sendmsg():
    """sendmsg gathers, to an address and to the peer, from any iterable."""
    with pair() as (sock, peer, _here, there):
        assert sock.sendmsg([b"a", bytearray(b"b"), memoryview(b"c")], [], 0, there) == 3
        assert peer.recv(10) == b"abc"
        assert sock.sendmsg((part for part in (b"d", b"e")), (), 0, there) == 2
        assert peer.recv(10) == b"de"
        assert sock.sendmsg([], [], 0, there) == 0
        assert peer.recv(10) == b""


def check_wrong_arguments():
    """What C refuses is refused, with C's words."""
    with pair() as (sock, _peer, _here, there):
        calls = (
            *(lambda: sock.sendto(), lambda: sock.sendto(b"x"), lambda: sock.sendto(b"x", 0, there, 1)),
            *(
                lambda: sock.sendto("text", there),
                lambda: sock.sendto(b"x", "0", there),
                lambda: sock.sendto(b"x", None),
            ),
            *(lambda: sock.sendto(b"x", ("127.0.0.1",)), lambda: sock.sendto(b"x", ("127.0.0.1", "80"))),
            *(lambda: sock.sendto(b"x", ("127.0.0.1", 65536)), lambda: sock.sendto(b"x", ("127.0.0.1", -1))),
            *(
                lambda: sock.send(),
                lambda: sock.send("text"),
                lambda: sock.send(b"x", 1.5),
                lambda: sock.send(b"x", 1, 2),
            ),
            *(lambda: sock.recv(), lambda: sock.recv(-1), lambda: sock.recv("1"), lambda: sock.recv(1, "0")),
            *(lambda: sock.recvfrom(-1), lambda: sock.recvfrom(None), lambda: sock.recvfrom(1, 2, 3)),
            *(lambda: sock.recvmsg(-1), lambda: sock.recvmsg(1, -1), lambda: sock.recvmsg_into(5)),
            *(lambda: sock.recvmsg_into([b"read only"]), lambda: sock.recv_into(5), lambda: sock.recvfrom_into()),
            *(lambda: sock.sendmsg(5), lambda: sock.sendmsg(["text"]), lambda: sock.sendmsg([b"x"], 5)),
            *(lambda: sock.sendmsg([b"x"], [], "0"), lambda: sock.sendmsg([b"x"], [], 0, 5), lambda: sock.sendmsg()),
            *(lambda: sock.connect(5), lambda: sock.connect_ex(("127.0.0.1", 65536)), lambda: sock.shutdown("x")),
            *(lambda: sock.setsockopt(1, 2), lambda: sock.setsockopt(1, 2, 1.5), lambda: sock.getsockopt("1", 2)),
        )
        for number, call in enumerate(calls):
            try:
                call()
            except (TypeError, ValueError, OverflowError):
                continue
            raise AssertionError(f"call {number} was not refused")
        assert sock.sendto(b"fine", there) == 4


def check_closed():
    """After close every call is EBADF."""
    with pair() as (sock, _peer, _here, there):
        sock.close()
        for call in (
            lambda: sock.sendto(b"x", there),
            lambda: sock.recvfrom(1),
            lambda: sock.recv_into(bytearray(1)),
            lambda: sock.recvmsg(1),
            lambda: sock.getsockname(),
            lambda: sock.send(b"x"),
            lambda: sock.sendmsg([b"x"]),
        ):
            with raises(OSError, errno.EBADF):
                call()


def check_shutdown():
    """shutdown needs a peer; afterwards a receive gives nothing at once and a send is EPIPE."""
    with pair() as (sock, _peer, _here, there):
        sock.connect(there)
        sock.settimeout(None)
        sock.shutdown(socket.SHUT_RDWR)
        assert sock.recv(10) == b""
        with raises(BrokenPipeError, errno.EPIPE):
            sock.send(b"x")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, raises(OSError, errno.ENOTCONN):
        sock.shutdown(socket.SHUT_WR)


def check_bind():
    """bind to the wildcard or loopback with port 0 gives a port, which stays; a second bind is EINVAL."""
    for family in INET:
        for host in ("", LOOPBACK[family]):
            with socket.socket(family, socket.SOCK_DGRAM) as sock, server(family) as peer:
                sock.bind((host, 0))
                port = sock.getsockname()[1]
                assert port
                with raises(OSError, errno.EINVAL):
                    sock.bind((host, 0))
                sock.sendto(b"x", peer.getsockname())
                assert peer.recvfrom(10)[1][1] == port == sock.getsockname()[1]


def check_options():
    """Options are set and read; those of the kernel's socket are in force there."""
    with pair() as (sock, peer, _here, _there):
        for level, option, value in (
            (socket.SOL_SOCKET, socket.SO_BROADCAST, 1),
            (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
            (socket.IPPROTO_IP, socket.IP_TTL, 33),
            (socket.IPPROTO_IP, socket.IP_TOS, 0x10),
        ):
            sock.setsockopt(level, option, value)
            assert sock.getsockopt(level, option) == value
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 30000)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 60000
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE, 4) == (2).to_bytes(4, "little")
        with raises(OSError):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 4000)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        with server() as peer:
            sock.sendto(b"x", ("::ffff:127.0.0.1", peer.getsockname()[1]))
            _data, address = peer.recvfrom(10)
            peer.sendto(b"y", address)
            sock.settimeout(PATIENCE)
            assert sock.recvfrom(10) == (b"y", ("::ffff:127.0.0.1", peer.getsockname()[1], 0, 0))


def check_duplicates():
    """dup(), os.dup and detach() share one socket; it goes on until the last is closed."""
    with pair() as (sock, peer, here, there):
        copy = sock.dup()
        raw = socket.socket(fileno=os.dup(sock.fileno()))
        moved = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
        for one in (copy, raw, moved):
            assert (one.family, one.type) == (socket.AF_INET, socket.SOCK_DGRAM)
            assert one.sendto(b"x", there) == 1
            assert peer.recvfrom(10) == (b"x", here)
            peer.sendto(b"y", here)
            one.settimeout(PATIENCE)
            assert one.recvfrom(10) == (b"y", there)
            one.close()


def check_fork():
    """A child sends and receives on what it inherited, to old and new destinations, and the parent goes on."""
    with pair() as (sock, peer, here, there), server() as other:
        child = os.fork()
        if not child:
            status = 1
            try:
                sock.sendto(b"old", there)
                sock.sendto(b"new", other.getsockname())
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
                    own.sendto(b"own", there)
                sock.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert peer.recvfrom(10) == (b"old", here)
        assert other.recvfrom(10) == (b"new", here)
        assert peer.recvfrom(10)[0] == b"own"
        sock.sendto(b"still", there)
        assert peer.recvfrom(10) == (b"still", here)


def check_connected_by_a_child():
    """A socket that a child has connected is connected for the parent too."""
    with server() as peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        child = os.fork()
        if not child:
            sock.connect(peer.getsockname())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert sock.getpeername() == peer.getsockname()
        sock.send(b"x")
        assert peer.recv(10) == b"x"


def check_flood_is_not_lost_between():
    """A blocking program that sends a hundred at a time and waits for word loses nothing on the way."""
    with pair() as (sock, peer, here, there):
        for _ in range(20):
            for number in range(100):
                sock.sendto(number.to_bytes(2, "big"), there)
            assert [peer.recv(10) for _ in range(100)] == [number.to_bytes(2, "big") for number in range(100)]
            peer.sendto(b"next", here)
            assert sock.recv(10) == b"next"


def check_subclass():
    """A subclass with methods of its own around the receiving ones is called, and finds the true ones behind."""

    class Counting(socket.socket):
        def __init__(self, *args):
            super().__init__(*args)
            self.calls = 0

        def recvfrom(self, *args):
            self.calls += 1
            return super().recvfrom(*args)

        def recv(self, *args):
            self.calls += 1
            return super().recv(*args)

    with server() as peer, Counting(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.sendto(b"x", peer.getsockname())
        here = peer.recvfrom(10)[1]
        for _ in range(2):
            peer.sendto(b"y", here)
        assert sock.recvfrom(10) == (b"y", peer.getsockname())
        assert sock.recv(10) == b"y"
        assert (sock.calls, type(sock).__name__) == (2, "Counting")


def check_called_by_the_class():
    """The methods called by the class and not by the object (as trio does) see no difference."""
    with pair() as (sock, peer, here, there):
        assert socket.socket.sendto(sock, b"x", there) == 1
        assert peer.recv(10) == b"x"
        for _ in range(4):
            peer.sendto(b"y", here)
        assert socket.socket.recvfrom(sock, 10) == (b"y", there)
        assert socket.socket.recvmsg(sock, 10) == (b"y", [], 0, there)
        assert socket.socket.recvfrom_into(sock, bytearray(10)) == (1, there)
        assert socket.socket.recvmsg_into(sock, [bytearray(10)]) == (1, [], 0, there)


def check_asyncio():
    """asyncio's datagram endpoints, unconnected, bound and connected, exchange datagrams and tell of errors."""

    class Protocol(asyncio.DatagramProtocol):
        def __init__(self, answers=False):
            self.answers = answers
            self.got = asyncio.Queue()
            self.errors = asyncio.Queue()

        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            self.got.put_nowait((data, address))
            if self.answers:
                self.transport.sendto(b"re: " + data, address)

        def error_received(self, error):
            self.errors.put_nowait(error)

    async def talk():
        loop = asyncio.get_running_loop()
        served, _peer = await loop.create_datagram_endpoint(lambda: Protocol(True), local_addr=("127.0.0.1", 0))
        there = served.get_extra_info("sockname")
        for options in ({"remote_addr": there}, {"local_addr": ("0.0.0.0", 0)}, {"family": socket.AF_INET}):
            transport, protocol = await loop.create_datagram_endpoint(Protocol, **options)
            for number in range(50):
                data = b"%d" % number
                transport.sendto(data, None if "remote_addr" in options else there)
                got = await asyncio.wait_for(protocol.got.get(), PATIENCE)
                assert got == (b"re: " + data, there), got
            transport.close()
        nowhere = closed_address()
        transport, protocol = await loop.create_datagram_endpoint(Protocol, remote_addr=nowhere)
        transport.sendto(b"x")
        assert isinstance(await asyncio.wait_for(protocol.errors.get(), PATIENCE), ConnectionRefusedError)
        transport.close()
        served.close()

    asyncio.run(talk())


def check_threads():
    """Threads that share a socket each send and receive whole datagrams."""
    with server() as peer, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        there = peer.getsockname()
        got = []

        def serve():
            for _ in range(200):
                data, address = peer.recvfrom(10000)
                peer.sendto(data, address)

        def ask(letter):
            for _ in range(50):
                sock.sendto(letter * 900, there)
                got.append(sock.recvfrom(10000))

        threads = [
            threading.Thread(target=serve),
            *(threading.Thread(target=ask, args=(b,)) for b in (b"a", b"b", b"c", b"d")),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 200
        assert all(address == there and len(data) == 900 and len(set(data)) == 1 for data, address in got)


if __name__ == "__main__":
    main(globals())
