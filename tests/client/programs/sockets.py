"""What a plain program sees of its sockets: numbers, modes, connects, duplicates, ends."""

import errno
import fcntl
import gc
import os
import select
import selectors
import signal
import socket
import sys
import threading
import time
import warnings

from harness import PATIENCE, Echo, black_hole, closed_address, is_readable, listener, main, pair, raises, talk

ECHO = Echo(own_process=True)  # so that it takes no fd numbers here


# --- creation and numbers ---------------------------------------------------------------------------------------------


def lowest_free(count):
    """Return the numbers that the next fds will have."""
    taken = [os.dup(0) for _ in range(count)]
    for fd in taken:
        os.close(fd)
    return taken


def check_lowest_numbers():
    """socket() takes the lowest free fd number, each time, in both families."""
    expected = lowest_free(3)
    made = [socket.socket(socket.AF_INET6 if n == 1 else socket.AF_INET) for n in range(3)]
    assert [sock.fileno() for sock in made] == expected, (made, expected)
    made[1].close()
    with socket.socket() as again:
        assert again.fileno() == expected[1]
    for sock in made:
        sock.close()


def check_lowest_number_over_many():
    """A hundred sockets held at once have the lowest free numbers, the pool's refills notwithstanding."""
    expected = lowest_free(100)
    made = [socket.socket() for _ in range(100)]
    numbers = [sock.fileno() for sock in made]
    for sock in made:
        sock.close()
    assert numbers == expected, (numbers, expected)


def check_attributes():
    """Family, type, protocol, repr and defaults are those of a fresh socket."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
            assert (sock.family, sock.type, sock.proto) == (family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            assert sock.gettimeout() is None
            assert sock.getblocking()
            assert not sock.get_inheritable()
            assert fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK == 0
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
            assert repr(sock).startswith("<socket.socket fd="), repr(sock)
    with socket.socket() as sock:
        assert sock.getsockname() == ("0.0.0.0", 0)
        with raises(OSError, errno.ENOTCONN):
            sock.getpeername()
        with raises(OSError, errno.ENOTCONN):
            sock.recv(1)


def check_type_flags():
    """SOCK_NONBLOCK in the type makes a non-blocking socket, and the type itself is clean."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
        assert sock.type == socket.SOCK_STREAM
        assert sock.gettimeout() == 0.0
        assert fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK


def check_default_timeout():
    """setdefaulttimeout() counts for new sockets, and never for the client's own channels."""
    socket.setdefaulttimeout(5.5)
    try:
        with socket.create_connection(ECHO.address) as sock:
            assert sock.gettimeout() == 5.5
            assert fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK
            talk(sock)
        socket.setdefaulttimeout(0.0)
        with socket.socket() as sock:
            assert sock.gettimeout() == 0.0
            assert sock.connect_ex(ECHO.address) in (0, errno.EINPROGRESS)
    finally:
        socket.setdefaulttimeout(None)


def check_options_before_connect():
    """Options set before connect are in force after it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
        sock.connect(ECHO.address)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
        talk(sock)


def check_subclass():
    """A subclass of socket.socket with an own constructor and connect works."""

    class Mine(socket.socket):
        def __init__(self):
            super().__init__(socket.AF_INET, socket.SOCK_STREAM)
            self.calls = 0

        def connect(self, address):
            self.calls += 1
            super().connect(address)

    with Mine() as sock:
        sock.connect(ECHO.address)
        talk(sock)
        assert sock.calls == 1
    with Mine() as sock:
        assert sock.connect_ex(ECHO.address) == 0
        assert sock.calls == 0


# --- connect ----------------------------------------------------------------------------------------------------------


def check_connect_and_talk():
    """Blocking, with a timeout, by name, by bytes and over IPv6-less tuples: connects and carries bytes."""
    for timeout in (None, PATIENCE):
        for host in ("127.0.0.1", "localhost", b"127.0.0.1", bytearray(b"127.0.0.1"), "0x7f.1", "127.1", ""):
            with socket.socket() as sock:
                sock.settimeout(timeout)
                sock.connect((host, ECHO.address[1]))
                assert sock.getpeername() == ECHO.address, sock.getpeername()
                talk(sock)


def check_second_connect():
    """A second connect says EISCONN, by connect and connect_ex, to the same and to another address."""
    with socket.create_connection(ECHO.address) as sock:
        for address in (ECHO.address, closed_address()):
            with raises(OSError, errno.EISCONN):
                sock.connect(address)
            assert sock.connect_ex(address) == errno.EISCONN
        talk(sock)


def check_refused_then_connect():
    """After a refused connect the same socket connects elsewhere."""
    for timeout in (None, PATIENCE):
        with socket.socket() as sock:
            sock.settimeout(timeout)
            for _ in range(3):
                with raises((ConnectionRefusedError, ConnectionAbortedError)):
                    sock.connect(closed_address())
                # Natively a connect with a timeout leaves the first failure to be told a second time.
                assert sock.connect_ex(closed_address()) in (errno.ECONNREFUSED, timeout and errno.ECONNABORTED)
            sock.connect(ECHO.address)
            talk(sock)


def check_refused_without_blocking():
    """A non-blocking connect to nobody is writable, tells ECONNREFUSED once, and the socket connects again."""
    for ask in ("SO_ERROR", "connect"):
        with socket.socket() as sock:
            sock.setblocking(False)
            began = sock.connect_ex(closed_address())
            assert began in (errno.EINPROGRESS, errno.ECONNREFUSED), began
            if began == errno.EINPROGRESS:
                assert select.select([], [sock], [], PATIENCE)[1]
                if ask == "SO_ERROR":
                    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
                else:
                    assert sock.connect_ex(closed_address()) == errno.ECONNREFUSED
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            sock.settimeout(PATIENCE)
            end = sock.connect_ex(ECHO.address)
            if end == errno.ECONNABORTED:  # as natively where SO_ERROR had been read
                end = sock.connect_ex(ECHO.address)
            assert end == 0, errno.errorcode.get(end)
            talk(sock)


def check_non_blocking():
    """connect raises EINPROGRESS, is writable when done, then SO_ERROR is 0 and a connect says EISCONN."""
    with socket.socket() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(ECHO.address) in (0, errno.EINPROGRESS)
        assert select.select([], [sock], [], PATIENCE)[1]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert sock.connect_ex(ECHO.address) in (0, errno.EISCONN)
        assert sock.connect_ex(ECHO.address) == errno.EISCONN
        sock.settimeout(PATIENCE)
        talk(sock)


def check_in_progress():
    """While a connect is in progress another says EALREADY at once, whatever the mode; a time-out is a time-out."""
    with black_hole() as nowhere:
        with socket.socket() as sock:
            sock.setblocking(False)
            assert sock.connect_ex(nowhere) == errno.EINPROGRESS
            assert sock.connect_ex(nowhere) == errno.EALREADY
            with raises(BlockingIOError, errno.EALREADY):
                sock.connect(nowhere)
            sock.settimeout(PATIENCE)
            with raises(BlockingIOError, errno.EALREADY):
                sock.connect(nowhere)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        with socket.socket() as sock:
            sock.settimeout(0.02)
            with raises(socket.timeout) as caught:
                sock.connect(nowhere)
            assert str(caught.error) == "timed out"
            assert caught.error.errno is None
            assert sock.connect_ex(nowhere) == errno.EALREADY
        with socket.socket() as sock:
            sock.settimeout(0.02)
            assert sock.connect_ex(nowhere) == errno.EAGAIN
        with raises(socket.timeout):
            socket.create_connection(nowhere, timeout=0.02)


def check_registered_before_connect():
    """A socket registered before connect is reported by select, poll, epoll and selectors when it is connected."""
    for kind in ("select", "poll", "epoll", "DefaultSelector", "SelectSelector"):
        with socket.socket() as sock:
            sock.setblocking(False)
            if kind == "select":
                sock.connect_ex(ECHO.address)
                assert select.select([], [sock], [], PATIENCE)[1] == [sock]
            elif kind == "poll":
                poll = select.poll()
                poll.register(sock, select.POLLOUT)
                poll.poll(0)
                sock.connect_ex(ECHO.address)
                assert wait(lambda poll=poll: [e for _, e in poll.poll(1000) if e == select.POLLOUT])
            elif kind == "epoll":
                with select.epoll() as epoll:
                    epoll.register(sock, select.EPOLLOUT | select.EPOLLET)
                    epoll.poll(0)
                    sock.connect_ex(ECHO.address)
                    assert wait(lambda: [e for _, e in epoll.poll(1) if e == select.EPOLLOUT])
            else:
                with getattr(selectors, kind)() as selector:
                    key = selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, "mine")
                    sock.connect_ex(ECHO.address)
                    assert wait(lambda: [k for k, e in selector.select(1) if e == selectors.EVENT_WRITE]) == [key]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            sock.settimeout(PATIENCE)
            talk(sock)


def wait(ready):
    """Call until it gives something, for a while."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        got = ready()
        if got:
            return got
    return None


def check_wildcard_bind():
    """A bind to the wildcard with port 0 gives a local port, kept over connect."""
    for address in (("", 0), ("0.0.0.0", 0), ("127.0.0.1", 0)):
        with socket.socket() as sock:
            sock.bind(address)
            port = sock.getsockname()[1]
            assert port
            sock.connect(ECHO.address)
            assert sock.getsockname()[1] == port
            talk(sock)
    with socket.create_connection(ECHO.address, source_address=("", 0)) as sock:
        talk(sock)


def check_port_is_free_after_close():
    """The port of a bound socket may be bound again as soon as close has returned."""
    for _ in range(20):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()
        sock.close()
        with socket.socket() as again:
            again.bind(address)


def check_a_port_of_closed_connections_is_free_to_servers():
    """With SO_REUSEADDR a port can be bound again though connections that it had have just been closed (socket(7))."""
    port = 0
    for _ in range(3):
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", port))
            server.listen()
            port = server.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
                server.accept()[0].close()  # first, so that it is this end that stays in TIME_WAIT
                assert client.recv(1) == b""


def check_threads_share_a_connect():
    """Of three threads that connect one socket one succeeds, the others hear EISCONN, and there is one connection."""
    for timeout in (None, PATIENCE):
        for _ in range(30):
            with listener() as server, socket.socket() as sock:
                sock.settimeout(timeout)
                ready, results = threading.Barrier(3), []

                def connect(sock=sock, server=server, ready=ready, results=results):
                    ready.wait()
                    results.append(sock.connect_ex(server.getsockname()))

                threads = [threading.Thread(target=connect) for _ in range(3)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert 0 in results, results
                assert set(results) <= {0, errno.EISCONN, errno.EALREADY}, results
                server.accept()[0].close()
                assert not is_readable(server, 0)


def check_many_threads():
    """Thirty-two threads open fifty connections each and every one of them carries its own bytes."""
    failures = []

    def work(number):
        try:
            for turn in range(50):
                with socket.create_connection(ECHO.address, timeout=PATIENCE) as sock:
                    talk(sock, b"%d/%d" % (number, turn))
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]


# --- fds handed on ----------------------------------------------------------------------------------------------------


def check_detach():
    """detach() hands the fd on: an object made from it connects, talks and closes."""
    with listener() as server:
        sock = socket.socket()
        fd = sock.detach()
        assert sock.fileno() == -1
        with raises(OSError, errno.EBADF):
            sock.connect(server.getsockname())
        with socket.socket(fileno=fd) as again:
            assert again.fileno() == fd
            assert (again.family, again.type) == (socket.AF_INET, socket.SOCK_STREAM)
            again.connect(server.getsockname())
            peer, _ = server.accept()
        with peer:
            assert is_readable(peer)
            assert peer.recv(1) == b""


def check_close_by_number():
    """socket.close(fd) closes: the peer sees the end."""
    with pair() as (client, peer):
        socket.close(client.detach())
        assert is_readable(peer)
        assert peer.recv(1) == b""


def check_dup():
    """A dup of a connected socket lives on after the original is closed, and ends the connection when it ends."""
    with pair() as (client, peer):
        again = client.dup()
        assert again.gettimeout() == client.gettimeout()
        client.close()
        again.sendall(b"still here")
        assert peer.recv(100) == b"still here"
        assert not is_readable(peer, 0.02)
        again.close()
        assert is_readable(peer)
        assert peer.recv(1) == b""


def check_dup_before_connect():
    """Of two fds of one unconnected socket either connects, and both are connected then."""
    for which in (0, 1):
        with listener() as server:
            both = [socket.socket()]
            both.append(both[0].dup())
            both[which].connect(server.getsockname())
            peer, _ = server.accept()
            with peer:
                with raises(OSError, errno.EISCONN):
                    both[1 - which].connect(server.getsockname())
                both[1 - which].sendall(b"x")
                assert peer.recv(1) == b"x"
                both[which].close()
                assert not is_readable(peer, 0.02)
                both[1 - which].close()
                assert is_readable(peer)


def check_os_dup():
    """os.dup() and os.dup2() of a connected socket keep the connection when the original is closed."""
    for two in (False, True):
        with pair() as (client, peer):
            fd = os.dup2(client.fileno(), 200) if two else os.dup(client.fileno())
            client.close()
            os.write(fd, b"fd")
            assert peer.recv(10) == b"fd"
            assert not is_readable(peer, 0.05)
            os.close(fd)
            assert is_readable(peer)
            assert peer.recv(1) == b""


def check_fcntl_dup():
    """fcntl(F_DUPFD) of a connected socket keeps the connection when the original is closed."""
    with pair() as (client, peer):
        fd = fcntl.fcntl(client, fcntl.F_DUPFD_CLOEXEC, 100)
        client.close()
        os.write(fd, b"fd")
        assert peer.recv(10) == b"fd"
        os.close(fd)
        assert is_readable(peer)


def check_closed_behind_our_back():
    """After os.close(sock.fileno()) the number's next owner is a socket of its own, and the old peer sees the end."""
    with pair() as (client, peer):
        fd = client.detach()
        os.close(fd)
        with socket.socket() as sock:
            assert sock.fileno() == fd
            sock.connect(ECHO.address)
            assert is_readable(peer)
            assert peer.recv(1) == b""
            talk(sock)


def check_closed_behind_our_back_in_threads():
    """Threads that close by os.close() what they detached do not touch each other's connections."""
    failures = []

    def work(number):
        try:
            for turn in range(60):
                sock = socket.create_connection(ECHO.address, timeout=PATIENCE)
                talk(sock, b"%d/%d" % (number, turn))
                os.close(sock.detach())
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:3]


def check_number_becomes_a_file():
    """A number that was a socket's and is a file's now is left alone by close."""
    client = socket.create_connection(ECHO.address)
    fd = client.detach()
    os.close(fd)
    file = os.open("/dev/null", os.O_RDWR)
    assert file == fd
    with socket.socket() as sock:
        sock.connect(ECHO.address)
        talk(sock)
    os.write(file, b"still a file")
    os.close(file)


def check_number_becomes_a_native_socket():
    """A number that was a TCP socket's and is a socket pair's now connects and closes natively."""
    client = socket.create_connection(ECHO.address)
    fd = client.detach()
    os.close(fd)
    left, right = socket.socketpair()
    with left, right:
        assert left.fileno() == fd
        left.sendall(b"x")
        assert right.recv(1) == b"x"
        with raises(FileNotFoundError):
            left.connect("/nowhere/at/all")


def check_number_becomes_a_unix_socket():
    """A number that was a TCP socket's and is a Unix socket's now (syslog, after a daemon's closerange) is that."""
    client = socket.create_connection(ECHO.address)
    fd = client.detach()
    os.close(fd)
    with socket.socket(socket.AF_UNIX) as sock:
        assert sock.fileno() == fd
        with raises(FileNotFoundError):
            sock.connect("/nowhere/at/all")


def check_connected_from_fileno():
    """A listening socket, what it accepts, and a socket pair are rebuilt from their numbers."""
    with listener() as server, socket.socket(fileno=server.detach()) as again:
        client = socket.create_connection(again.getsockname())
        peer, _ = again.accept()
        with client, socket.socket(fileno=peer.detach()) as rebuilt:
            rebuilt.sendall(b"x")
            assert client.recv(1) == b"x"


# --- ends -------------------------------------------------------------------------------------------------------------


def check_end_of_stream():
    """close() is seen by the peer, shutdown(SHUT_WR) too, with reading going on after it."""
    with pair() as (client, peer):
        client.shutdown(socket.SHUT_WR)
        assert peer.recv(1) == b""
        peer.sendall(b"after")
        assert client.recv(10) == b"after"
    with pair() as (client, peer):
        client.close()
        assert is_readable(peer)
        assert peer.recv(1) == b""
        assert client.fileno() == -1


def check_close_twice():
    """A second close is nothing, and a call after close says EBADF."""
    sock = socket.create_connection(ECHO.address)
    sock.close()
    sock.close()
    for call in (lambda: sock.send(b"x"), lambda: sock.connect(ECHO.address), lambda: sock.getsockopt(1, 4)):
        with raises(OSError, errno.EBADF):
            call()


def check_linger_zero_resets():
    """With SO_LINGER (1, 0) the reset is out when close has returned."""
    with pair() as (client, peer):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        peer.settimeout(0)
        with raises(ConnectionResetError):
            peer.recv(1)


def check_unread_data_resets():
    """close() with unread data resets the connection, as natively."""
    with pair() as (client, peer):
        peer.sendall(b"never read")
        assert is_readable(client)
        client.close()
        assert is_readable(peer)
        with raises(ConnectionResetError):
            peer.recv(1)


def check_makefile():
    """makefile() reads lines and keeps the connection until the last of file and socket is closed."""
    with pair() as (client, peer):
        file = client.makefile("rwb")
        peer.sendall(b"one\ntwo\n")
        assert file.readline() == b"one\n"
        client.close()
        assert file.readline() == b"two\n"
        file.write(b"three\n")
        file.flush()
        assert peer.recv(100) == b"three\n"
        file.close()
        assert is_readable(peer)
        assert peer.recv(1) == b""


def check_epoll_forgets():
    """A non-blocking socket closed without unregistering is gone from epoll when close has returned."""
    with select.epoll() as epoll:
        for _ in range(20):
            with pair() as (client, peer):
                client.setblocking(False)
                epoll.register(client, select.EPOLLIN | select.EPOLLOUT)
                peer.sendall(b"readable")
                assert is_readable(client)
                client.close()
                assert epoll.poll(0) == []


def check_left_to_the_collector():
    """A socket that is dropped warns as natively, is closed, and the peer sees the end."""
    with pair() as (client, peer):
        dropped = socket.socket(fileno=client.detach())
        text = repr(dropped)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del dropped
            gc.collect()
        assert [str(w.message) for w in caught] == ["unclosed " + text], caught
        assert caught[0].category is ResourceWarning
        assert is_readable(peer)
        assert peer.recv(1) == b""


def check_collected_unconnected():
    """Unconnected sockets that are dropped, in a cycle too, free their numbers."""
    (lowest,) = lowest_free(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(50):
            cycle = [socket.socket()]
            cycle.append(cycle)
        del cycle
        gc.collect()
    with socket.socket() as sock:
        assert sock.fileno() == lowest


# --- interruptions that do not raise ----------------------------------------------------------------------------------


def check_signals_that_do_not_raise():
    """With a handler that only counts, connects go through however often it runs (PEP 475)."""
    count = 0

    def handler(number, frame):
        nonlocal count
        count += 1

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        for timeout in (None, PATIENCE):
            for _ in range(100):
                with socket.socket() as sock:
                    sock.settimeout(timeout)
                    sock.connect(ECHO.address)
                    talk(sock)
        with black_hole() as nowhere, socket.socket() as sock:
            sock.settimeout(0.05)
            begun = time.monotonic()
            with raises(socket.timeout):
                sock.connect(nowhere)
            assert time.monotonic() - begun >= 0.05
        socket.getaddrinfo("localhost", 80)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert count > 10


def check_audit_events():
    """socket.__new__ and socket.connect are audited once or more, with the object and the address as given."""
    seen = []
    sys.addaudithook(lambda event, args: seen.append((event, args)) if event.startswith("socket.") else None)
    with socket.socket() as sock:
        sock.connect(ECHO.address)
        assert any(e == "socket.__new__" and a[1:3] == (2, 1) for e, a in seen), seen
        assert ("socket.connect", (sock, ECHO.address)) in seen, seen
        seen.clear()


def check_audit_events_of_look_ups():
    """A look-up and a bind are audited once, under their own names and with the arguments as given."""
    near = ("127.0.0.1", 80)
    calls = (
        ("socket.getaddrinfo", ("localhost", 80, 0, 0, 0), lambda: socket.getaddrinfo("localhost", 80)),
        ("socket.gethostbyname", ("localhost",), lambda: socket.gethostbyname("localhost")),
        ("socket.gethostbyname", ("127.0.0.1",), lambda: socket.gethostbyname("127.0.0.1")),
        ("socket.gethostbyname", (b"localhost",), lambda: socket.gethostbyname_ex(b"localhost")),
        ("socket.gethostbyaddr", ("127.0.0.1",), lambda: socket.gethostbyaddr("127.0.0.1")),
        ("socket.getnameinfo", (near,), lambda: socket.getnameinfo(near, socket.NI_NUMERICSERV)),
    )
    seen = []
    looked = ("socket.bind", *(event for event, _, _ in calls))
    sys.addaudithook(lambda event, args: seen.append((event, args)) if event in looked else None)
    for event, arguments, call in calls:
        seen.clear()
        call()
        assert seen == [(event, arguments)], seen
    for family, address in ((socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("0:0::1", 0, 0, 0))):
        with socket.socket(family) as sock:
            seen.clear()
            sock.bind(address)
            assert seen == [("socket.bind", (sock, address))], seen
    looked = ()


main(globals())
