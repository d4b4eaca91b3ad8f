"""Move megabytes by asyncio, with half of a connection closed: python asyncio_transfer.py HOST ECHO DIGEST FILE.

ECHO and DIGEST are ports: one sends back what comes until an end of file, the other its SHA-256 afterwards. For each
connection it prints what it sent and received, in bytes, and whether that was right.
"""

import asyncio
import hashlib
import sys
from pathlib import Path


async def stream(host, port, data):
    """Write piece by piece with the flow control of streams, while the answer is read."""
    reader, writer = await asyncio.open_connection(host, port)

    async def feed():
        for start in range(0, len(data), 300_000):
            writer.write(data[start : start + 300_000])
            await writer.drain()
        writer.write_eof()

    _, back = await asyncio.gather(feed(), reader.read())
    writer.close()
    await writer.wait_closed()
    return len(data), len(back), back == data


async def send_file(host, port, path):
    """Have the kernel send a file, as web servers do."""
    reader, writer = await asyncio.open_connection(host, port)
    with path.open("rb") as file:
        sent = await asyncio.get_running_loop().sendfile(writer.transport, file)
    writer.write_eof()
    back = await reader.read()
    writer.close()
    await writer.wait_closed()
    return sent, len(back), back == hashlib.sha256(path.read_bytes()).digest()


async def main(host, echo, digest, path):
    both = await asyncio.gather(stream(host, echo, path.read_bytes()[:3_000_000]), send_file(host, digest, path))
    for line in both:
        print(*line)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])))
