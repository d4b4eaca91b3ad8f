"""What libraries do with options when they set a connection up, as they do it: all of it works as natively.

Like the others it imports nothing of outgate. Checks of libraries that are not there end at once.
"""

import asyncio
import errno
import http.client
import http.server
import importlib
import os
import socket
import ssl
import struct
import threading

from harness import PATIENCE, Echo, black_hole, listener, main, pair, raises, talk

ECHO = Echo(own_process=True)
KEEP_ALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 5))


class Page(http.server.BaseHTTPRequestHandler):
    """Answer every GET with a line."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Answer."""
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"yes")

    def log_message(self, *_):
        """Say nothing."""


def web():
    """Start a web server and return its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address


WEB = web()


def library(name):
    """Return a library, or ``None`` where this Python does not have it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


# --- the standard library ---------------------------------------------------------------------------------------------


def check_asyncio_streams():
    """An asyncio connection has TCP_NODELAY from asyncio itself, and its transport's socket takes options."""

    async def go():
        reader, writer = await asyncio.open_connection(*ECHO.address)
        sock = writer.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            assert sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value
        writer.write(b"abc")
        assert await reader.readexactly(3) == b"abc"
        writer.close()
        await writer.wait_closed()

    asyncio.run(go())


def check_http_client():
    """http.client sets TCP_NODELAY and goes on."""
    connection = http.client.HTTPConnection(*WEB, timeout=PATIENCE)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"yes"
    assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    connection.close()


def check_ssl_asks_for_the_type():
    """ssl reads SO_TYPE, and refuses what is no stream with words of its own."""
    context = ssl.create_default_context(cafile=os.environ["TEST_AUTHORITY"])
    with socket.socket() as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        with context.wrap_socket(sock, server_hostname="localhost") as secure:
            secure.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert secure.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def check_servers():
    """Servers of the standard library set SO_REUSEADDR, SO_REUSEPORT and IPV6_V6ONLY before they listen."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as server:
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        assert server.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 0

    async def go():
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, reuse_port=True)
        server.close()
        await server.wait_closed()

    asyncio.run(go())


def check_dualstack():
    """socket.has_dualstack_ipv6 finds what the host has."""
    assert socket.has_dualstack_ipv6()


# --- as libraries do it -----------------------------------------------------------------------------------------------


def check_amqp():
    """All options of the TCP level that the oldest AMQP library knows are read from one socket and set on it again."""
    names = "CORK DEFER_ACCEPT KEEPCNT KEEPIDLE KEEPINTVL LINGER2 MAXSEG NODELAY QUICKACK SYNCNT WINDOW_CLAMP"
    with socket.create_connection(ECHO.address, timeout=PATIENCE) as sock:
        found = {name: sock.getsockopt(socket.SOL_TCP, getattr(socket, "TCP_" + name)) for name in names.split()}
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in {**found, "NODELAY": 1, "USER_TIMEOUT": 1000}.items():
            sock.setsockopt(socket.SOL_TCP, getattr(socket, "TCP_" + name), value)
        talk(sock)


def check_raise_only():
    """A keepalive time is read, and lowered only if it is higher, as the MongoDB driver does."""
    with socket.socket() as sock:
        for name, value in KEEP_ALIVE:
            if sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) > value:
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
                assert sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value


def check_what_an_event_loop_reads():
    """trio and anyio read family, protocol, type and whether it listens, and set what they want before connect."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(family) as sock:
            read = {name: sock.getsockopt(socket.SOL_SOCKET, getattr(socket, "SO_" + name)) for name in
                    ("DOMAIN", "PROTOCOL", "TYPE", "ACCEPTCONN", "ERROR")}  # fmt: skip
            assert read == {
                "DOMAIN": family,
                "PROTOCOL": socket.IPPROTO_TCP,
                "TYPE": socket.SOCK_STREAM,
                "ACCEPTCONN": 0,
                "ERROR": 0,
            }
            sock.setsockopt(socket.IPPROTO_TCP, 25, 2**14)  # TCP_NOTSENT_LOWAT
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT


def check_receive_time_out():
    """SO_RCVTIMEO ends a receive, as LDAP and DICOM libraries use it."""
    with pair() as (client, _):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 10_000))
        assert struct.unpack("ll", client.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16))[0] == 0
        with raises(BlockingIOError, errno.EAGAIN):
            client.recv(1)


def check_connect_time_out():
    """SO_SNDTIMEO ends a blocking connect with EINPROGRESS, and a second one with EALREADY."""
    with black_hole() as address, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 10_000))
        with raises(BlockingIOError, errno.EINPROGRESS):
            sock.connect(address)
        with raises(BlockingIOError, errno.EALREADY):
            sock.connect(address)
    with black_hole() as address, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 10_000))
        assert sock.connect_ex(address) == errno.EINPROGRESS
        assert sock.connect_ex(address) == errno.EALREADY


def check_numbers_of_other_types():
    """Level and number may be anything with an __index__, such as a bool or an enum."""

    class One:
        def __index__(self):
            return 1

    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, One(), 1)
        assert sock.getsockopt(socket.IPPROTO_TCP, True) == 1
        sock.setsockopt(One(), socket.SO_KEEPALIVE, True)
        assert sock.getsockopt(One(), socket.SO_KEEPALIVE) == 1


def check_closed():
    """Options of a closed socket are EBADF."""
    sock = socket.socket()
    sock.close()
    with raises(OSError, errno.EBADF):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with raises(OSError, errno.EBADF):
        sock.getsockopt(socket.SOL_SOCKET, 36)


def check_others_sockets():
    """Options of Unix sockets, of listeners and of what they accept are the kernel's alone."""
    left, right = socket.socketpair()
    with left, right:
        left.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        assert left.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED) == 1
        assert struct.unpack("3i", left.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0] == os.getpid()
    with listener() as server, socket.create_connection(server.getsockname()):
        accepted, _ = server.accept()
        with accepted:
            for sock in (server, accepted):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 1)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) == 1


def check_ancillary_data():
    """What may ride along does, and so does nothing at all."""
    with pair() as (client, peer):
        for ancillary in ((), [], [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("i", 3))], iter(())):
            assert client.sendmsg([b"x"], ancillary) == 1
            assert peer.recv(1) == b"x"


# --- libraries themselves ---------------------------------------------------------------------------------------------


def check_urllib3():
    """urllib3 applies the options it is given."""
    urllib3 = library("urllib3")
    if urllib3 is None:
        return
    wanted = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    wanted += [(socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in KEEP_ALIVE]
    with urllib3.HTTPConnectionPool(*WEB, socket_options=wanted) as pool:
        assert pool.request("GET", "/").data == b"yes"
        connection = pool._get_conn()
        for level, number, value in wanted:
            assert connection.sock.getsockopt(level, number) == value
        connection.close()


def check_requests():
    """requests fetches a page, with its own options and with an adapter's."""
    requests = library("requests")
    if requests is None:
        return

    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args, **kwargs):
            kwargs["socket_options"] = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (6, socket.TCP_USER_TIMEOUT, 900)]
            super().init_poolmanager(*args, **kwargs)

    with requests.Session() as session:
        session.trust_env = False
        url = "http://{}:{}/".format(*WEB)
        assert session.get(url, timeout=PATIENCE).text == "yes"
        session.mount("http://", Adapter())
        assert session.get(url, timeout=PATIENCE).text == "yes"


def check_httpx():
    """httpx fetches a page with options of the program's."""
    httpx = library("httpx")
    if httpx is None:
        return
    transport = httpx.HTTPTransport(socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)])
    with httpx.Client(transport=transport, trust_env=False) as client:
        assert client.get("http://{}:{}/".format(*WEB)).text == "yes"


def check_redis():
    """redis-py sets TCP_NODELAY and keepalive with its times."""
    redis = library("redis")
    if redis is None:
        return
    times = {getattr(socket, name): value for name, value in KEEP_ALIVE}
    host, port = ECHO.address
    connection = redis.Connection(host=host, port=port, socket_keepalive=True, socket_keepalive_options=times)
    sock = connection._connect()
    with sock:
        assert {number: sock.getsockopt(socket.IPPROTO_TCP, number) for number in times} == times
        talk(sock)


if __name__ == "__main__":
    main(globals())
