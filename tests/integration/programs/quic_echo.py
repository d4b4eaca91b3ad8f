"""Talk QUIC: python quic_echo.py HOST PORT AUTHORITY; sends a megabyte on a stream and prints what came back."""

import asyncio
import hashlib
import sys

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration


async def main():
    host, port, authority = sys.argv[1:]
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["echo"])
    configuration.load_verify_locations(authority)
    data = bytes(range(256)) * 4096
    async with connect(host, int(port), configuration=configuration) as client:
        reader, writer = await client.create_stream()
        writer.write(data)
        writer.write_eof()
        got = await reader.read()
    print(len(got), hashlib.sha256(got).digest() == hashlib.sha256(data).digest())


asyncio.run(main())
