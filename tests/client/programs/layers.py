"""What the layers above socket see: TLS before and after connect, asyncio, http.client, socketserver's client side."""

import asyncio
import errno
import http.client
import http.server
import os
import select
import socket
import ssl
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from harness import PATIENCE, Echo, black_hole, closed_address, listener, main, raises, talk

ECHO = Echo(own_process=True)


def tls_echo():
    """Start a TLS server that sends back what it gets, and return its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["TEST_CERTIFICATE"])
    server = listener()

    def talk_back(peer):
        try:
            with context.wrap_socket(peer, server_side=True) as secure:
                while True:
                    data = secure.recv(65536)
                    if not data:
                        return
                    secure.sendall(data)
        except OSError:
            pass

    def serve():
        while True:
            threading.Thread(target=talk_back, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()


TLS = tls_echo()
TRUST = ssl.create_default_context(cafile=os.environ["TEST_AUTHORITY"])


# --- TLS --------------------------------------------------------------------------------------------------------------


def check_wrap_after_connect():
    """A connected socket is wrapped, talks, and the plain object has no fd any more."""
    sock = socket.create_connection(TLS, timeout=PATIENCE)
    with TRUST.wrap_socket(sock, server_hostname="localhost") as secure:
        assert sock.fileno() == -1
        assert secure.version().startswith("TLS")
        talk(secure)
    with raises(OSError, errno.EBADF):
        secure.getpeername()


def check_wrap_before_connect():
    """A socket wrapped first shakes hands at connect and at connect_ex, and refuses a second connect by itself."""
    for method in ("connect", "connect_ex"):
        with TRUST.wrap_socket(socket.socket(), server_hostname="localhost") as secure:
            secure.settimeout(PATIENCE)
            assert getattr(secure, method)(TLS) in (None, 0)
            talk(secure)
            with raises(ValueError):
                secure.connect(TLS)


def check_wrap_before_refused_connect():
    """A wrapped socket whose connect is refused says so, and may connect again."""
    with TRUST.wrap_socket(socket.socket(), server_hostname="localhost") as secure:
        with raises(ConnectionRefusedError):
            secure.connect(closed_address())
        secure.connect(TLS)
        talk(secure)


def check_untrusted_certificate():
    """A certificate that is not trusted is refused by the program, and its socket is closed."""
    with raises(ssl.SSLCertVerificationError), socket.create_connection(TLS) as sock:
        ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")


def check_many_tls():
    """Thirty TLS connections on eight threads each hear their own echo."""

    def one(number):
        sock = socket.create_connection(TLS, timeout=PATIENCE)
        with TRUST.wrap_socket(sock, server_hostname="localhost") as secure:
            talk(secure, b"%d" % number * 100)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(30)))


# --- asyncio ----------------------------------------------------------------------------------------------------------


async def _stream_talk(address, **options):
    reader, writer = await asyncio.wait_for(asyncio.open_connection(*address, **options), PATIENCE)
    writer.write(b"hello")
    await writer.drain()
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    await writer.wait_closed()


def check_asyncio_streams():
    """Fifty streams at once, plain and TLS, by address and by name."""

    async def work():
        name = ("localhost", ECHO.address[1])
        await asyncio.gather(*(_stream_talk(ECHO.address if n % 2 else name) for n in range(40)))
        await asyncio.gather(*(_stream_talk(TLS, ssl=TRUST, server_hostname="localhost") for _ in range(10)))

    asyncio.run(work())


def check_asyncio_sock_calls():
    """loop.sock_connect, sock_sendall and sock_recv on a socket of one's own."""

    async def work():
        loop = asyncio.get_running_loop()
        for _ in range(20):
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, ECHO.address)
                await loop.sock_sendall(sock, b"mine")
                assert await loop.sock_recv(sock, 10) == b"mine"

    asyncio.run(work())


def check_asyncio_errors():
    """A refused connect raises ConnectionRefusedError, a cancelled one ends, and happy eyeballs finds the way."""

    async def work():
        with raises(ConnectionRefusedError):
            await asyncio.open_connection(*closed_address())
        with black_hole() as nowhere, raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.open_connection(*nowhere), 0.05)
        await _stream_talk(("localhost", ECHO.address[1]), happy_eyeballs_delay=0.01)

    asyncio.run(work())


def check_asyncio_reader_closed():
    """A socket closed while the loop still watches it brings no event for the next owner of its number."""

    async def work():
        loop = asyncio.get_running_loop()
        for _ in range(10):
            spurious = []
            sock = socket.create_connection(ECHO.address)
            sock.setblocking(False)
            sock.send(b"x")
            assert select.select([sock], [], [], PATIENCE)[0]
            loop.add_reader(sock.fileno(), spurious.append, 1)
            loop.remove_reader(sock.fileno())
            sock.close()
            with socket.create_connection(ECHO.address) as again:
                again.setblocking(False)
                loop.add_reader(again.fileno(), spurious.append, 2)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                loop.remove_reader(again.fileno())
            assert not spurious

    asyncio.run(work())


def check_asyncio_getaddrinfo():
    """loop.getaddrinfo and getnameinfo answer on their threads."""

    async def work():
        loop = asyncio.get_running_loop()
        answers = await asyncio.gather(
            *(loop.getaddrinfo("localhost", n, family=socket.AF_INET, type=socket.SOCK_STREAM) for n in range(1, 20))
        )
        assert [a[0][4] for a in answers] == [("127.0.0.1", n) for n in range(1, 20)]
        host, port = await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        assert (host, port) == ("127.0.0.1", "80")

    asyncio.run(work())


# --- what is built on socket ------------------------------------------------------------------------------------------


def check_http():
    """http.client and urllib.request speak to a server of the standard library."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        client = http.client.HTTPConnection(*server.server_address, timeout=PATIENCE)
        for _ in range(3):
            client.request("GET", "/")
            assert client.getresponse().read() == b"hello"
        client.close()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{server.server_address[1]}/", timeout=PATIENCE) as answer:
            assert answer.read() == b"hello"
        server.shutdown()
        thread.join()


if __name__ == "__main__":
    main(globals())
