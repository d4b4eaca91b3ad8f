"""Move megabytes to Redis and back, and hear what is published: python redis_transfer.py HOST PORT PASSWORD."""

import hashlib
import sys

import redis

host, port, password = sys.argv[1:]
# Protocol 3 begins with the number of the connection, so that not every run has as many bytes.
data = hashlib.shake_128(b"redis").digest(4_000_000)
with redis.Redis(host, int(port), password=password, socket_timeout=30, protocol=2) as cache:
    print(cache.set("transfer", data), cache.get("transfer") == data)
    with cache.pubsub() as heard:
        heard.subscribe("news")
        print(heard.get_message(timeout=30)["type"])
        print(cache.publish("news", data[:100_000]))
        print(heard.get_message(timeout=30)["data"] == data[:100_000])
    print(cache.blpop("nothing", timeout=0.01), cache.delete("transfer"))
