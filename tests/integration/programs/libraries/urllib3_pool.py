"""Use urllib3's pool: kept connections, threads, a redirect, retries, IPv6: python urllib3_pool.py HOST."""

import concurrent.futures
import hashlib
import sys

import urllib3
import urllib3.exceptions
import urllib3.util.connection

host = sys.argv[1]
with urllib3.PoolManager(maxsize=3, block=True, timeout=30, retries=urllib3.Retry(2, backoff_factor=0)) as pools:
    print(pools.request("GET", f"http://{host}/moved").data.decode().strip())
    print(pools.request("GET", f"http://{host}/nth").data.decode().strip())
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        answers = threads.map(lambda _: pools.request("GET", f"http://{host}/large").data, range(6))
        print({hashlib.sha256(data).hexdigest()[:16] for data in answers})
    pool = pools.connection_from_url(f"http://{host}/")
    print(pool.num_requests, pool.num_connections <= 3)
    try:
        pools.request("GET", f"http://{host}:9/")
    except urllib3.exceptions.MaxRetryError as error:
        print(type(error.reason).__name__, "Connection refused" in str(error))
# It probes by a bind to ::1 whether there is IPv6, and would never again use it if that failed.
print(urllib3.util.connection.HAS_IPV6)
