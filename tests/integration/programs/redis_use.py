"""Use Redis with its own client, on one connection and in a pipeline: python redis_use.py HOST PORT PASSWORD."""

import sys

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

host, port, password = sys.argv[1:]
again = Retry(NoBackoff(), retries=1)  # by default it tries for seconds
with redis.Redis(host, int(port), password=password, socket_timeout=30, retry=again) as cache:
    print(cache.ping(), cache.set("large", b"x" * 1_000_000), len(cache.get("large")))
    with cache.pipeline() as pipe:
        for number in range(100):
            pipe.incrby("count", number)
        print(pipe.execute()[-1], cache.delete("count", "large"))
