"""Send back every message of a websocket: python serve_websockets.py HOST PORT TLS_PORT CERTIFICATE KEY."""

import asyncio
import ssl
import sys

from websockets.asyncio.server import serve

host, port, tls_port, certificate, key = sys.argv[1:]


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with (
        serve(echo, host, int(port), subprotocols=["echo"], max_size=None),
        serve(echo, host, int(tls_port), ssl=context, max_size=None),
    ):
        await asyncio.Future()


asyncio.run(main())
