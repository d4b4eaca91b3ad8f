"""Use trio's streams, TLS and datagrams: python use_trio.py trio HOST TCP UDP [DENIED]."""

import ssl
import sys

import telling
import trio

_, HOST, TCP, UDP, *DENIED = sys.argv[1:]
DATA = bytes(range(256)) * 4000


async def stream():
    """Send and read at once over whichever address answers first."""
    received = bytearray()
    async with await trio.open_tcp_stream(HOST, int(TCP)) as stream, trio.open_nursery() as nursery:

        async def feed():
            await stream.send_all(DATA)
            await stream.send_eof()

        nursery.start_soon(feed)
        async for chunk in stream:
            received += chunk
    return received == DATA


async def tls():
    async with await trio.open_ssl_over_tcp_stream(HOST, 443, https_compatible=True) as stream:
        await stream.send_all(f"GET /hello HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        return b"".join([chunk async for chunk in stream]).splitlines()[-1].decode()


async def with_context():
    context = ssl.create_default_context()
    stream = trio.SSLStream(await trio.open_tcp_stream(HOST, 443), context, server_hostname=HOST)
    await stream.do_handshake()
    version = stream.version()
    await trio.aclose_forcefully(stream)
    return version


async def datagrams():
    address = (await trio.socket.getaddrinfo(HOST, int(UDP), trio.socket.AF_INET, trio.socket.SOCK_DGRAM))[0][4]
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.sendto(DATA[:1000], address)
        assert await sock.recvfrom(2000) == (DATA[:1000], address)
        await sock.connect(address)
        await sock.send(b"connected")
        return (await sock.recv(100)).decode()


async def main():
    for each in (stream, tls, with_context, datagrams):
        print(each.__name__, await each())
    for host in DENIED:
        try:
            await trio.open_tcp_stream(host, 80)
        except OSError as error:
            telling.tell_refusal(error)


trio.run(main)
