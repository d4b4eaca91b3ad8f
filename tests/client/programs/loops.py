"""What a program sees of uvloop: connections, TLS, datagrams, names and servers, by every way to such a loop."""

import asyncio
import concurrent.futures
import contextlib
import errno
import os
import socket
import ssl
import threading

import uvloop
from harness import PATIENCE, Echo, closed_address, main, raises

ECHO = Echo(own_process=True)
TRUST = ssl.create_default_context(cafile=os.environ["TEST_AUTHORITY"])


def on_a_loop(check):
    """Make a plain check of a coroutine function, run by ``uvloop.run``."""

    def plain():
        uvloop.run(asyncio.wait_for(check(), PATIENCE))

    plain.__doc__ = check.__doc__
    return plain


async def exchange(reader, writer, data=b"hello"):
    """Send, half-close, and read to the end."""
    writer.write(data)
    writer.write_eof()
    assert await reader.read() == data
    writer.close()
    await writer.wait_closed()


class Collect(asyncio.DatagramProtocol):
    """Put what comes into a queue."""

    def __init__(self):
        self.queue = asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()
        self.pauses = []

    def datagram_received(self, data, address):
        self.queue.put_nowait((data, address))

    def error_received(self, error):
        self.queue.put_nowait(error)

    def pause_writing(self):
        self.pauses.append(True)

    def resume_writing(self):
        self.pauses.append(False)

    def connection_lost(self, error):
        self.lost.set_result(error)


@contextlib.contextmanager
def datagram_peer():
    """Yield a socket on loopback that is not the gate's to connect, with a time limit."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE)
        yield sock


# --- ways to a loop ---------------------------------------------------------------------------------------------------


async def _talk():
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    await exchange(*await asyncio.open_connection(*ECHO.address))


def check_new_event_loop():
    """A loop made by hand connects and closes."""
    loop = uvloop.new_event_loop()
    loop.run_until_complete(_talk())
    loop.close()


def check_run():
    """``uvloop.run`` connects."""
    uvloop.run(_talk())


def check_policy():
    """A program that sets uvloop's policy has its loops."""
    policy = uvloop.EventLoopPolicy()
    loop = policy.new_event_loop()
    loop.run_until_complete(_talk())
    loop.close()


def check_subclass():
    """A class of the program's own, built on uvloop's, connects too."""

    class Mine(uvloop.Loop):
        pass

    loop = Mine()
    loop.run_until_complete(_talk())
    loop.close()
    assert repr(uvloop.new_event_loop()).startswith("<uvloop.Loop ")


# --- connections ------------------------------------------------------------------------------------------------------


@on_a_loop
async def check_a_transport_tells_its_addresses():
    """Addresses, socket, kind and options of a transport are those of TCP."""
    _, writer = await asyncio.open_connection(*ECHO.address)
    assert writer.get_extra_info("peername") == ECHO.address
    name = writer.get_extra_info("sockname")
    assert name[0] == "127.0.0.1"
    sock = writer.get_extra_info("socket")
    assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM)
    assert (sock.getsockname(), sock.getpeername()) == (name, ECHO.address)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert (writer.can_write_eof(), writer.transport.is_closing()) == (True, False)
    writer.close()
    await writer.wait_closed()
    assert writer.transport.is_closing()


@on_a_loop
async def check_large_transfers():
    """Megabytes go both ways at once, with the flow control of streams."""
    data = os.urandom(3_000_000)
    reader, writer = await asyncio.open_connection(*ECHO.address)

    async def feed():
        for start in range(0, len(data), 200_000):
            writer.write(data[start : start + 200_000])
            await writer.drain()
        writer.write_eof()

    _, back = await asyncio.gather(feed(), reader.read())
    assert back == data
    writer.close()
    await writer.wait_closed()


@on_a_loop
async def check_the_peer_sees_the_end_at_once():
    """Closing and aborting a transport reach the peer, though libuv closes the fd in C."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(PATIENCE)
        loop = asyncio.get_running_loop()
        for end in ("close", "abort"):
            _, writer = await asyncio.open_connection(*server.getsockname())
            peer, _ = await loop.run_in_executor(None, server.accept)
            peer.settimeout(PATIENCE)
            getattr(writer.transport, end)()
            assert await loop.run_in_executor(None, peer.recv, 10) == b""
            peer.close()


@on_a_loop
async def check_a_socket_of_the_programs_own():
    """A socket that the program connected is handed over, and is closed with the transport."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, ECHO.address)
    number = sock.fileno()
    reader, writer = await asyncio.open_connection(sock=sock)
    assert sock.fileno() == number
    assert sock.getpeername() == ECHO.address
    await exchange(reader, writer)
    assert sock.fileno() == -1
    with raises(OSError, errno.EBADF):
        os.fstat(number)


@on_a_loop
async def check_methods_for_sockets():
    """``sock_connect``, ``sock_sendall``, ``sock_recv`` and ``sock_recv_into`` work, by name as well."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("localhost", ECHO.address[1]))
        await loop.sock_sendall(sock, b"x" * 100_000)
        got = 0
        while got < 99_990:
            got += len(await loop.sock_recv(sock, 99_990 - got))
        while got < 100_000:
            got += await loop.sock_recv_into(sock, bytearray(100_000 - got))


@on_a_loop
async def check_refused_and_unknown():
    """A port where nobody listens, and a name that nobody has, fail as they do natively."""
    with raises(ConnectionRefusedError, errno.ECONNREFUSED):
        await asyncio.open_connection(*closed_address())
    with raises(socket.gaierror, socket.EAI_NONAME):
        await asyncio.open_connection("nosuch.invalid", 80)
    with raises(socket.gaierror, socket.EAI_NONAME):
        await asyncio.get_running_loop().getaddrinfo("nosuch.invalid", 80)


@on_a_loop
async def check_arguments_that_do_not_fit():
    """Arguments are refused as uvloop refuses them, before anything is looked up or connected."""
    loop = asyncio.get_running_loop()
    kind = asyncio.Protocol
    for wrong, options in (
        (ValueError, {}),
        (ValueError, {"host": "127.0.0.1", "port": 1, "sock": socket.socket()}),
        (ValueError, {"host": "", "port": 1, "ssl": True}),
        (ValueError, {"host": "127.0.0.1", "port": 1, "server_hostname": "x"}),
        (ValueError, {"host": "127.0.0.1", "port": 1, "ssl_handshake_timeout": 1}),
        (ValueError, {"host": "127.0.0.1", "port": 1, "local_addr": "x"}),
        (ValueError, {"sock": socket.socket(socket.AF_INET, socket.SOCK_DGRAM)}),
        (TypeError, {"host": 5, "port": 1}),
        (TypeError, {"host": "127.0.0.1", "port": 1, "happy_eyeballs_delay": 0.25}),
    ):
        with raises(wrong):
            await loop.create_connection(kind, **options)
        sock = options.get("sock")
        if sock is not None:
            sock.close()


@on_a_loop
async def check_a_connect_that_is_given_up():
    """A connect that is cancelled leaves no fd behind, and the loop goes on."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        task = asyncio.ensure_future(asyncio.open_connection(*ECHO.address))
        await asyncio.sleep(0)
        task.cancel()
        with raises(asyncio.CancelledError):
            await task
    await exchange(*await asyncio.open_connection(*ECHO.address))
    assert len(os.listdir("/proc/self/fd")) <= before + 8  # the pool of the client's


@on_a_loop
async def check_a_local_address():
    """A connect from the wildcard address, or loopback, with a port of the kernel's choice."""
    for local in (("0.0.0.0", 0), ("127.0.0.1", 0)):
        reader, writer = await asyncio.open_connection(*ECHO.address, local_addr=local)
        await exchange(reader, writer)


@on_a_loop
async def check_a_protocol_that_fails():
    """What a protocol's factory raises comes out, and nothing stays open."""

    def factory():
        raise ZeroDivisionError

    loop = asyncio.get_running_loop()
    with raises(ZeroDivisionError):
        await loop.create_connection(factory, *ECHO.address)


# --- TLS --------------------------------------------------------------------------------------------------------------


def _tls_server():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["TEST_CERTIFICATE"])
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()

    def answer(peer, plainly):
        with contextlib.suppress(OSError):
            if plainly:
                peer.sendall(b"go on\n")
                assert peer.recv(6) == b"TLS!!\n"
            with context.wrap_socket(peer, server_side=True) as secure:
                while data := secure.recv(65536):
                    secure.sendall(data)

    def serve(plainly):
        return lambda: answer(server.accept()[0], plainly)

    return server, serve


async def _over_tls(reader, writer):
    data = os.urandom(300_000)
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    writer.close()


@on_a_loop
async def check_tls():
    """TLS by name, over a socket of the program's own, and begun on a connection that is there."""
    server, serve = _tls_server()
    host, port = server.getsockname()
    loop = asyncio.get_running_loop()
    with concurrent.futures.ThreadPoolExecutor() as pool, server:
        ended = pool.submit(serve(False))
        await _over_tls(*await asyncio.open_connection("localhost", port, ssl=TRUST))
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, (host, port))
        ended = pool.submit(serve(False))
        await _over_tls(*await asyncio.open_connection(sock=sock, ssl=TRUST, server_hostname="localhost"))
        ended = pool.submit(serve(True))
        reader, writer = await asyncio.open_connection(host, port)
        assert await reader.readline() == b"go on\n"
        writer.write(b"TLS!!\n")
        transport = await loop.start_tls(
            writer.transport, writer.transport.get_protocol(), TRUST, server_hostname="localhost"
        )
        transport.write(b"under TLS")
        assert await reader.readexactly(9) == b"under TLS"
        transport.close()
        await loop.run_in_executor(None, ended.result)
        writer.close()  # what lay beneath TLS closes in a later turn, and asyncio warns of a writer that is still open


@on_a_loop
async def check_tls_for_another_name():
    """A certificate for another name is refused, and the connection closed."""
    server, serve = _tls_server()
    with concurrent.futures.ThreadPoolExecutor() as pool, server:
        ended = pool.submit(serve(False))
        with raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection(*server.getsockname(), ssl=TRUST, server_hostname="other.test")
        # The loop may close it in a later turn: it must not be held here until the peer has seen that.
        await asyncio.get_running_loop().run_in_executor(None, ended.result)


# --- datagrams --------------------------------------------------------------------------------------------------------


@on_a_loop
async def check_an_endpoint_that_is_connected():
    """It sends to its peer and to nobody else, and receives; its addresses are told."""
    loop = asyncio.get_running_loop()
    with datagram_peer() as peer:
        transport, protocol = await loop.create_datagram_endpoint(Collect, remote_addr=peer.getsockname())
        assert transport.get_extra_info("peername") == peer.getsockname()
        for addr in (None, peer.getsockname()):
            transport.sendto(b"there", addr)
            data, source = await loop.run_in_executor(None, peer.recvfrom, 100)
            assert (data, source) == (b"there", transport.get_extra_info("sockname"))
        peer.sendto(b"back", source)
        assert await protocol.queue.get() == (b"back", peer.getsockname())
        with raises(ValueError):
            transport.sendto(b"elsewhere", ("127.0.0.1", 9))
        transport.sendto(b"", None)  # uvloop sends no empty ones
        assert (transport.get_write_buffer_size(), transport.is_closing()) == (0, False)
        transport.close()
        transport.close()
        assert transport.is_closing()
        assert await protocol.lost is None
        transport.sendto(b"late")


@on_a_loop
async def check_an_endpoint_that_is_not_connected():
    """It sends to whoever is named, and refuses names that would have to be looked up."""
    loop = asyncio.get_running_loop()
    with datagram_peer() as peer:
        for options in ({"local_addr": ("127.0.0.1", 0)}, {"family": socket.AF_INET}):
            transport, protocol = await loop.create_datagram_endpoint(Collect, **options)
            for size in (1, 1400, 60_000):
                transport.sendto(bytes(size), peer.getsockname())
                data, source = await loop.run_in_executor(None, peer.recvfrom, 65536)
                assert len(data) == size
                peer.sendto(data, source)
                assert await protocol.queue.get() == (data, peer.getsockname())
            with raises(ValueError):
                transport.sendto(b"x", ("localhost", 9))
            with raises(ValueError):
                transport.sendto(b"x", ("::1", 9))
            transport.abort()
            assert await protocol.lost is None


@on_a_loop
async def check_an_endpoint_on_a_socket():
    """A socket of the program's own is handed over; options beside it are refused."""
    loop = asyncio.get_running_loop()
    with datagram_peer() as peer:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(peer.getsockname())
        with raises(ValueError):
            await loop.create_datagram_endpoint(Collect, sock=sock, family=socket.AF_INET)
        transport, protocol = await loop.create_datagram_endpoint(Collect, sock=sock)
        transport.sendto(b"there")
        data, source = await loop.run_in_executor(None, peer.recvfrom, 100)
        peer.sendto(b"back", source)
        assert (data, await protocol.queue.get()) == (b"there", (b"back", peer.getsockname()))
        transport.close()
        await protocol.lost
        with raises(ValueError), socket.socket() as stream:
            await loop.create_datagram_endpoint(Collect, sock=stream)


@on_a_loop
async def check_an_endpoint_hears_of_a_closed_port():
    """That nobody listens is told to the protocol, and the endpoint goes on."""
    loop = asyncio.get_running_loop()
    with datagram_peer() as peer:
        address = peer.getsockname()
    transport, protocol = await loop.create_datagram_endpoint(Collect, remote_addr=address)
    transport.sendto(b"anybody?")
    with raises(ConnectionRefusedError):
        raise await protocol.queue.get()
    assert not transport.is_closing()
    transport.close()
    await protocol.lost


@on_a_loop
async def check_limits_of_an_endpoint():
    """Water marks are kept as they are set, and wrong ones refused."""
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Collect, family=socket.AF_INET)
    transport.set_write_buffer_limits(high=1000)
    assert transport.get_write_buffer_limits() == (250, 1000)
    with raises(ValueError):
        transport.set_write_buffer_limits(high=1, low=2)
    other = asyncio.DatagramProtocol()
    transport.set_protocol(other)
    assert transport.get_protocol() is other
    transport.set_protocol(protocol)
    transport.close()
    await protocol.lost


@on_a_loop
async def check_arguments_of_endpoints():
    """Arguments that do not fit are refused as uvloop refuses them."""
    loop = asyncio.get_running_loop()
    for wrong, options in (
        (ValueError, {}),
        (TypeError, {"local_addr": "x"}),
        (TypeError, {"remote_addr": ("127.0.0.1",)}),
        (ValueError, {"family": socket.AF_INET, "reuse_address": True}),
    ):
        with raises(wrong):
            await loop.create_datagram_endpoint(Collect, **options)


# --- names and servers ------------------------------------------------------------------------------------------------


@on_a_loop
async def check_names():
    """Look-ups give what uvloop gives: one answer for a number, gaierrors and type errors."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    assert [each[4] for each in found] == [("127.0.0.1", 80)]
    assert ("127.0.0.1", 80) in [each[4] for each in await loop.getaddrinfo("localhost", "80")]
    assert (await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)) == (
        "127.0.0.1",
        "80",
    )
    host, service = await loop.getnameinfo(("127.0.0.1", 80))
    assert (host in ("localhost", "127.0.0.1"), service) == (True, "http"), (host, service)
    with raises(TypeError):
        await loop.getaddrinfo(5, 80)
    with raises(TypeError):
        await loop.getnameinfo("127.0.0.1")
    with raises(UnicodeError):
        await loop.getaddrinfo("a" * 70 + ".test", 80)


@on_a_loop
async def check_servers():
    """A server listens on loopback, for several addresses at once, and its port is free when it has closed."""

    ended = asyncio.Event()

    async def greet(reader, writer):
        writer.write(b"hello " + await reader.readexactly(3))
        writer.close()
        await writer.wait_closed()
        ended.set()

    async def served_and_left(host):
        nonlocal ended
        server = await asyncio.start_server(greet, host, 0, reuse_address=True)
        assert {sock.family for sock in server.sockets} <= {socket.AF_INET, socket.AF_INET6}
        for sock in server.sockets:
            address = sock.getsockname()
            if sock.family == socket.AF_INET:
                ended = asyncio.Event()
                reader, writer = await asyncio.open_connection("127.0.0.1", address[1])
                writer.write(b"you")
                assert await reader.read() == b"hello you"
                writer.close()
                await writer.wait_closed()
                await ended.wait()
        server.close()
        await server.wait_closed()
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                again.bind(("127.0.0.1", address[1]))
                again.listen()
            except OSError as e:
                return e
        return None

    for host in ("127.0.0.1", None, "localhost"):
        # A connection of some other program may be given the number just then, but not again and again.
        failures = [error for error in [await served_and_left(host) for _ in range(5)] if error]
        assert len(failures) < 5, failures


@on_a_loop
async def check_a_server_on_a_socket():
    """A socket that the program has bound, listening or not, serves."""
    for listens in (False, True):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        if listens:
            sock.listen()
        ended = asyncio.Event()

        async def greet(reader, writer, ended=ended):
            writer.write(await reader.read())
            writer.close()
            await writer.wait_closed()
            ended.set()

        server = await asyncio.start_server(greet, sock=sock)
        await exchange(*await asyncio.open_connection(*sock.getsockname()))
        await ended.wait()
        server.close()
        await server.wait_closed()


def check_loops_in_threads():
    """Loops of several threads connect at once."""

    async def many():
        for _ in range(10):
            await exchange(*await asyncio.open_connection(*ECHO.address))

    failed = []

    def work():
        try:
            uvloop.run(many())
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failed == []


def check_a_loop_after_fork():
    """A child makes a loop of its own and connects."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            uvloop.run(_talk())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


if __name__ == "__main__":
    main(globals())
