"""Use Redis without blocking: python use_redis.py LOOP HOST PASSWORD [DENIED]."""

import asyncio
import sys

import redis.asyncio
import telling

LOOP, HOST, PASSWORD, *DENIED = sys.argv[1:]


async def main():
    async with redis.asyncio.Redis(host=HOST, password=PASSWORD, decode_responses=True) as client:
        print(await client.ping(), await client.set("large", "x" * 1_000_000), len(await client.get("large")))
        async with client.pipeline() as pipe:
            for _ in range(100):
                pipe.incr("counter")
            pipe.getdel("counter")
            print((await pipe.execute())[-1])
        async with client.pubsub() as listener:
            await listener.subscribe("news")
            await listener.get_message(timeout=10)
            await client.publish("news", "hello")
            print((await listener.get_message(timeout=10, ignore_subscribe_messages=True))["data"])
        print(sum(await asyncio.gather(*(client.strlen("large") for _ in range(20)))))
    for host in DENIED:
        async with redis.asyncio.Redis(host=host, port=80) as client:
            try:
                await client.ping()
            except redis.exceptions.ConnectionError as error:
                telling.tell_refusal(error)


telling.run(main())
