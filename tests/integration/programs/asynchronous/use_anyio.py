"""Use anyio's streams, TLS and datagrams: python use_anyio.py BACKEND HOST TCP UDP [DENIED].

BACKEND is ``asyncio``, ``uvloop`` or ``trio``.
"""

import socket
import ssl
import sys

import anyio
import telling

BACKEND, HOST, TCP, UDP, *DENIED = sys.argv[1:]
DATA = bytes(range(256)) * 4000


async def stream():
    """Send and read at once over whichever address answers first."""
    received = bytearray()
    async with await anyio.connect_tcp(HOST, int(TCP)) as stream, anyio.create_task_group() as tasks:
        assert stream.extra(anyio.abc.SocketAttribute.remote_port) == int(TCP)

        async def feed():
            await stream.send(DATA)
            await stream.send_eof()

        tasks.start_soon(feed)
        async for chunk in stream:
            received += chunk
    return received == DATA


async def tls():
    options = {"ssl_context": ssl.create_default_context(), "tls_standard_compatible": False}
    async with await anyio.connect_tcp(HOST, 443, **options) as stream:
        await stream.send(f"GET /hello HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        return b"".join([chunk async for chunk in stream]).splitlines()[-1].decode()


async def datagrams():
    address = (await anyio.getaddrinfo(HOST, int(UDP), family=socket.AF_INET, type=socket.SOCK_DGRAM))[0][4]
    async with await anyio.create_udp_socket(family=socket.AF_INET) as sock:
        await sock.sendto(DATA[:1000], *address)
        assert await sock.receive() == (DATA[:1000], address)
    async with await anyio.create_connected_udp_socket(*address) as sock:
        await sock.send(b"connected")
        return (await sock.receive()).decode()


async def main():
    for each in (stream, tls, datagrams):
        print(each.__name__, await each())
    for host in DENIED:
        try:
            await anyio.connect_tcp(host, 80)
        except OSError as error:
            telling.tell_refusal(error)


if BACKEND == "trio":
    anyio.run(main, backend="trio")
else:
    anyio.run(main, backend_options={"use_uvloop": BACKEND == "uvloop"})
