"""Fetch with httpx, then several at once with its asynchronous client: python httpx_get.py HOST."""

import asyncio
import sys

import httpx

base = f"https://{sys.argv[1]}"
with httpx.Client(timeout=30) as web:
    print(web.get(base + "/hello").text.strip())


async def main() -> None:
    async with httpx.AsyncClient(timeout=30) as web:
        answers = await asyncio.gather(*(web.get(base + "/hello") for _ in range(5)))
    print([answer.status_code for answer in answers])


asyncio.run(main())
