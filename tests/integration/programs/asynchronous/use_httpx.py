"""Fetch by httpx without blocking, over HTTP/1.1 and HTTP/2: python use_httpx.py LOOP HOST [DENIED].

LOOP is ``asyncio``, ``uvloop`` or ``trio``.
"""

import asyncio
import hashlib
import sys

import httpx
import telling

LOOP, HOST, *DENIED = sys.argv[1:]


async def main():
    for http2 in (False, True):
        async with httpx.AsyncClient(http2=http2) as client:
            hello = await client.get(f"https://{HOST}/hello")
            print(hello.http_version, hello.text.strip())
            digest = hashlib.sha256()
            async with client.stream("GET", f"https://{HOST}/large") as response:
                async for chunk in response.aiter_bytes():
                    digest.update(chunk)
            print(digest.hexdigest()[:16])
            print((await client.post(f"https://{HOST}/upload", content=bytes(1_000_000))).text.strip())
            if LOOP != "trio":
                many = await asyncio.gather(*(client.get(f"https://{HOST}/hello") for _ in range(20)))
                print({(each.http_version, each.status_code) for each in many})
    async with httpx.AsyncClient() as client:
        for host in DENIED:
            try:
                await client.get(f"http://{host}/")
            except httpx.ConnectError as error:
                telling.tell_refusal(error)


if LOOP == "trio":
    import trio

    trio.run(main)
else:
    telling.run(main())
