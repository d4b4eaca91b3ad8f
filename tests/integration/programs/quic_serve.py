"""Serve QUIC: python quic_serve.py ADDRESS PORT CERTIFICATE KEY; sends back whatever comes on a stream."""

import asyncio
import sys

from aioquic.asyncio import serve
from aioquic.quic.configuration import QuicConfiguration


def echo(reader, writer):
    async def run():
        data = await reader.read()
        writer.write(data)
        writer.write_eof()

    tasks.add(asyncio.ensure_future(run()))


async def main():
    address, port, certificate, key = sys.argv[1:]
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
    configuration.load_cert_chain(certificate, key)
    await serve(address, int(port), configuration=configuration, stream_handler=echo)
    await asyncio.Event().wait()


tasks = set()
asyncio.run(main())
