"""Exchange messages over websockets, and with TLS: python use_websockets.py LOOP HOST PORT TLS_PORT [DENIED]."""

import asyncio
import ssl
import sys

import telling
import websockets

LOOP, HOST, PORT, TLS_PORT, *DENIED = sys.argv[1:]


async def talk(url, **options):
    async with websockets.connect(url, max_size=None, **options) as connection:
        for message in ("hello", b"bytes", "x" * 1_000_000):
            await connection.send(message)
            assert await connection.recv() == message
        for number in range(100):
            await connection.send(str(number))
        got = [int(await connection.recv()) for _ in range(100)]
        await (await connection.ping())
        return connection.subprotocol, sum(got)


async def main():
    print(await talk(f"ws://{HOST}:{PORT}/", subprotocols=["echo"]))
    context = ssl.create_default_context()
    both = await asyncio.gather(*(talk(f"wss://{HOST}:{TLS_PORT}/", ssl=context) for _ in range(5)))
    print(both)
    for host in DENIED:
        try:
            await talk(f"ws://{host}/")
        except OSError as error:
            telling.tell_refusal(error)


telling.run(main())
