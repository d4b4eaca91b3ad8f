"""Use all of asyncio that has to do with sockets: python use_asyncio.py LOOP HOST HOST4 TCP UDP MAIL FILE [DENIED].

LOOP is ``asyncio`` or ``uvloop``; HOST has addresses of both families, of which HOST4 has one; TCP and UDP are ports of
it that send back what comes; it has a web server with TLS, and MAIL has IMAP with STARTTLS.
"""

import asyncio
import hashlib
import socket
import ssl
import sys
from pathlib import Path

import telling

LOOP, HOST, HOST4, TCP, UDP, MAIL, FILE, *DENIED = sys.argv[1:]
TCP, UDP, FILE = int(TCP), int(UDP), Path(FILE)
DATA = hashlib.shake_128(b"asyncio").digest(300_000)


async def streams():
    """Write with flow control and read to the end of file."""
    reader, writer = await asyncio.open_connection(HOST, TCP, limit=4096)
    assert writer.get_extra_info("peername")[1] == TCP
    assert writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    for start in range(0, len(DATA), 50_000):
        writer.write(DATA[start : start + 50_000])
        assert await reader.readexactly(50_000) == DATA[start : start + 50_000]
        await writer.drain()
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    return "to the end"


class Collect(asyncio.DatagramProtocol):
    """Put what comes into a queue."""

    def __init__(self):
        self.queue = asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address):
        self.queue.put_nowait((data, address))

    def error_received(self, error):
        self.queue.put_nowait((error, None))

    def connection_lost(self, error):
        self.lost.set_result(error)


async def datagrams():
    """Exchange datagrams over an endpoint that is connected, one that is not, and one on a socket of our own."""
    loop = asyncio.get_running_loop()
    address = (await loop.getaddrinfo(HOST4, UDP, type=socket.SOCK_DGRAM))[0][4]
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", 0))
    for to, options in (
        (None, {"remote_addr": (HOST4, UDP)}),
        (address, {"local_addr": ("0.0.0.0", 0)}),
        (address, {"family": socket.AF_INET}),
        (address, {"sock": sock}),
    ):
        transport, protocol = await loop.create_datagram_endpoint(Collect, **options)
        for size in (1, 1400, 60_000):
            transport.sendto(DATA[:size], to)
            assert await protocol.queue.get() == (DATA[:size], address)
        assert transport.get_extra_info("socket").getsockname()[1]
        transport.close()
        assert await protocol.lost is None
    return "four endpoints"


async def by_hand():
    """Use the loop's methods for sockets."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (HOST4, TCP))
        await loop.sock_sendall(sock, DATA[:1000])
        got = await loop.sock_recv(sock, 1000)
        while len(got) < 1000:
            got += await loop.sock_recv(sock, 1000)
        await loop.sock_sendall(sock, b"into")
        buffer = bytearray(4)
        filled = await loop.sock_recv_into(sock, buffer)
        assert (got, buffer[:filled]) == (DATA[:1000], b"into"[:filled])
    if LOOP == "uvloop":  # has no others
        return "streams"
    address = (await loop.getaddrinfo(HOST4, UDP, type=socket.SOCK_DGRAM))[0][4]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        assert await loop.sock_sendto(sock, b"first", address) == 5
        assert await loop.sock_recvfrom(sock, 100) == (b"first", address)
        await loop.sock_sendto(sock, b"second", address)
        buffer = bytearray(100)
        assert await loop.sock_recvfrom_into(sock, buffer) == (6, address)
        assert buffer[:6] == b"second"
    with socket.socket() as sock, FILE.open("rb") as file:
        sock.setblocking(False)
        await loop.sock_connect(sock, (HOST4, TCP))
        assert await loop.sock_sendfile(sock, file, 10, 20) == 20
        got = b""
        while len(got) < 20:
            got += await loop.sock_recv(sock, 20)
        assert got == FILE.read_bytes()[10:30]
    return "streams, datagrams, a file"


async def tls():
    """Speak HTTPS, over a name and over a socket that is connected already; send a file by TLS."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, (HOST4, 443))
    context = ssl.create_default_context()
    for options in ({"host": HOST, "port": 443}, {"sock": sock, "server_hostname": HOST4}):
        reader, writer = await asyncio.open_connection(ssl=context, **options)
        writer.write(f"GET /hello HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        assert (await reader.read()).endswith(b"hello from nginx\n")
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
        writer.close()
        await writer.wait_closed()
    return "TLSv1.2"


async def start_tls():
    """Begin in the clear and go on under TLS, as IMAP does (RFC 9051)."""
    reader, writer = await asyncio.open_connection(MAIL, 143)
    assert (await reader.readline()).startswith(b"* OK")
    writer.write(b"a STARTTLS\r\n")
    assert (await reader.readline()).startswith(b"a OK")
    await writer.start_tls(ssl.create_default_context(), server_hostname=MAIL)
    writer.write(b"b LOGOUT\r\n")
    lines = [await reader.readline(), await reader.readline()]
    writer.close()
    return lines[1].split()[1].decode()


async def eyeballs():
    """Try both families at once (RFC 8305)."""
    options = {} if LOOP == "uvloop" else {"happy_eyeballs_delay": 0.25, "interleave": 1}
    ended = []
    for more in (options, {"local_addr": ("0.0.0.0", 0), "family": socket.AF_INET}):
        _, writer = await asyncio.open_connection(HOST, TCP, **more)
        ended.append(writer.get_extra_info("peername")[1] == TCP)
        writer.close()
        await writer.wait_closed()
    return ended


async def file():
    """Have the kernel send a file."""
    if LOOP == "uvloop":  # cannot
        return 10_000
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(HOST, TCP)
    with FILE.open("rb") as data:
        sent = await loop.sendfile(writer.transport, data, 0, 10_000, fallback=False)
    assert await reader.readexactly(sent) == FILE.read_bytes()[:sent]
    writer.close()
    await writer.wait_closed()
    return sent


async def names():
    """Look up both ways."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(HOST, "https", type=socket.SOCK_STREAM)
    service = await loop.getnameinfo(found[0][4], socket.NI_NUMERICHOST)
    try:
        await loop.getaddrinfo("nosuch.outgate.test", 80)
    except socket.gaierror as error:
        return len(found), service[1], error.errno == socket.EAI_NONAME


async def ends():
    """See how a connect fails, and how one that is given up ends."""
    try:
        await asyncio.open_connection(HOST4, 9)
    except ConnectionRefusedError as error:
        refused = error.errno
    task = asyncio.ensure_future(asyncio.open_connection(HOST4, TCP))
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return refused, "cancelled"


async def denied(host):
    """Be refused by every call that connects or sends."""
    loop = asyncio.get_running_loop()
    try:
        await asyncio.open_connection(host, 80)
    except OSError as error:
        telling.tell_refusal(error)
    with socket.socket() as sock:
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, (host, 80))
        except OSError as error:
            telling.tell_refusal(error)
    if host[0].isdigit():
        transport, protocol = await loop.create_datagram_endpoint(Collect, family=socket.AF_INET)
        transport.sendto(b"x", (host, 80))
        telling.tell_refusal((await protocol.queue.get())[0])
        transport.close()


async def main():
    """Do all of that in debug mode, where asyncio checks more."""
    asyncio.get_running_loop().set_debug(True)
    for each in (streams, datagrams, by_hand, tls, start_tls, eyeballs, file, names, ends):
        print(each.__name__, await each())
    for host in DENIED:
        await denied(host)


telling.run(main())
