"""Use tornado's web client and streams: python use_tornado.py LOOP HOST TCP MAIL [DENIED]."""

import asyncio
import ssl
import sys

import telling
from tornado.httpclient import AsyncHTTPClient
from tornado.tcpclient import TCPClient

LOOP, HOST, TCP, MAIL, *DENIED = sys.argv[1:]
DATA = bytes(range(256)) * 4000


async def main():
    client = AsyncHTTPClient(max_body_size=1 << 24)
    for scheme in ("http", "https"):
        hello = await client.fetch(f"{scheme}://{HOST}/moved", ca_certs=None)
        print(hello.code, hello.body.decode().strip())
    many = await asyncio.gather(*(client.fetch(f"https://{HOST}/hello") for _ in range(20)))
    print({(each.code, each.body) for each in many})
    upload = await client.fetch(f"http://{HOST}/upload", method="POST", body=bytes(1_000_000))
    print(upload.body.decode().strip())

    stream = await TCPClient().connect(HOST, int(TCP))
    feeding = stream.write(DATA)
    print(await stream.read_bytes(len(DATA)) == DATA)
    await feeding
    stream.close()

    stream = await TCPClient().connect(MAIL, 143)
    await stream.read_until(b"\r\n")
    await stream.write(b"a STARTTLS\r\n")
    await stream.read_until(b"\r\n")
    stream = await stream.start_tls(False, ssl.create_default_context(), server_hostname=MAIL)
    await stream.write(b"b LOGOUT\r\n")
    print((await stream.read_until(b"b OK")).split()[1].decode())
    stream.close()
    for host in DENIED:
        try:
            await TCPClient().connect(host, 80)
        except OSError as error:
            telling.tell_refusal(error)


telling.run(main())
