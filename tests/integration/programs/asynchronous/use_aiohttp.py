"""Fetch by aiohttp, with its resolver in threads: python use_aiohttp.py LOOP HOST [DENIED]."""

import asyncio
import hashlib
import ssl
import sys

import aiohttp
import telling

LOOP, HOST, *DENIED = sys.argv[1:]


async def text(client, url):
    async with client.get(url) as response:
        return response.status, await response.text()


async def main():
    connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver(), ssl=ssl.create_default_context())
    async with aiohttp.ClientSession(connector=connector) as client:
        print(await text(client, f"http://{HOST}/moved"))
        both = await asyncio.gather(*(text(client, f"https://{HOST}/hello") for _ in range(20)))
        print(len(both), set(both))
        digest = hashlib.sha256()
        async with client.get(f"https://{HOST}/large") as response:
            async for chunk in response.content.iter_chunked(100_000):
                digest.update(chunk)
        print(digest.hexdigest()[:16])
        async with client.post(f"http://{HOST}/upload", data=bytes(1_000_000)) as response:
            print((await response.text()).strip())
        for host in DENIED:
            try:
                await text(client, f"http://{host}/")
            except aiohttp.ClientConnectorError as error:
                telling.tell_refusal(error)


telling.run(main())
