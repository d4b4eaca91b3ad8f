"""Connect to a name with addresses of both families, and print which answered: python one_family.py LOOP HOST PORT.

LOOP is ``asyncio``, ``uvloop``, ``trio``, ``anyio``, ``twisted`` or ``tornado``.
"""

import asyncio
import sys

import telling

LOOP, HOST, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])


async def by_asyncio():
    for options in ({}, {"happy_eyeballs_delay": 5}, {"happy_eyeballs_delay": 5, "interleave": 2}):
        if LOOP == "uvloop" and options:
            continue  # it has no such arguments
        _, writer = await asyncio.open_connection(HOST, PORT, **options)
        print(writer.get_extra_info("peername")[0])
        writer.close()
        await writer.wait_closed()


async def by_trio():
    import trio

    async with await trio.open_tcp_stream(HOST, PORT, happy_eyeballs_delay=5) as stream:
        print(stream.socket.getpeername()[0])


async def by_anyio():
    import anyio

    async with await anyio.connect_tcp(HOST, PORT, happy_eyeballs_delay=5) as stream:
        print(stream.extra(anyio.abc.SocketAttribute.remote_address)[0])


async def by_tornado():
    from tornado.tcpclient import TCPClient

    stream = await TCPClient().connect(HOST, PORT)
    print(stream.socket.getpeername()[0])
    stream.close()


def by_twisted():
    from twisted.internet import defer, endpoints, protocol, reactor, task

    async def main():
        endpoint = endpoints.HostnameEndpoint(reactor, HOST, PORT, attemptDelay=5)
        connected = await endpoint.connect(protocol.Factory.forProtocol(protocol.Protocol))
        print(connected.transport.getPeer().host)

    task.react(lambda _: defer.ensureDeferred(main()))


if LOOP == "twisted":
    by_twisted()
elif LOOP == "trio":
    import trio

    trio.run(by_trio)
else:
    telling.run({"anyio": by_anyio, "tornado": by_tornado}.get(LOOP, by_asyncio)())
