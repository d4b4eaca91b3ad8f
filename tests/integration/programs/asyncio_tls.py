"""Fetch a large file with asyncio streams over TLS: python asyncio_tls.py HOST."""

import asyncio
import hashlib
import ssl
import sys


async def main(host: str) -> None:
    reader, writer = await asyncio.open_connection(host, 443, ssl=ssl.create_default_context())
    writer.write(f"GET /large HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.read()
    print(head.split(b"\r\n")[0].decode(), len(body), hashlib.sha256(body).hexdigest()[:16])
    writer.close()
    await writer.wait_closed()


asyncio.run(main(sys.argv[1]))
