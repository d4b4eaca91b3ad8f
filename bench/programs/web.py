"""Do what programs do over connections: TLS handshakes, and requests by the libraries they use."""

import asyncio
import ssl
import time
from typing import Any, Callable, Dict

from opening import WARM_UP, Figures
from routes import Route, opener


def handshakes(port: int, count: int, authority: str, peer: Route = None) -> Figures:
    """Open a connection and begin TLS on it, with a full handshake each. Returns the times in us.

    :param authority: the file of the certificate that has signed the server's.
    """
    open_one = opener(peer)
    context = ssl.create_default_context(cafile=authority)
    clock = time.perf_counter_ns
    times = []
    for _ in range(WARM_UP // 5 + count):
        begun = clock()
        with context.wrap_socket(open_one("127.0.0.1", port), server_hostname="localhost"):
            times.append((clock() - begun) / 1000)
    return {"times": times[-count:]}


def requests_each(library: str, port: int, count: int, keep: bool) -> Figures:
    """GET one after the other, over a connection that is kept or over one each. Returns how many a second."""
    return {"rate": _LIBRARIES[library](f"http://127.0.0.1:{port}/", count, keep)}


def _timed(get: Callable[[], Any], count: int) -> float:
    for _ in range(WARM_UP // 5):
        get()
    begun = time.perf_counter()
    for _ in range(count):
        get()
    return count / (time.perf_counter() - begun)


def _requests(url: str, count: int, keep: bool) -> float:
    import requests

    headers = {} if keep else {"Connection": "close"}
    with requests.Session() as session:
        session.trust_env = False  # no look at .netrc for each
        return _timed(lambda: session.get(url, headers=headers).content, count)


def _httpx(url: str, count: int, keep: bool) -> float:
    import httpx

    limits = httpx.Limits(max_keepalive_connections=1 if keep else 0)
    with httpx.Client(limits=limits, trust_env=False) as client:
        return _timed(lambda: client.get(url).content, count)


def _aiohttp(url: str, count: int, keep: bool) -> float:
    import aiohttp

    async def run() -> float:
        connector = aiohttp.TCPConnector(force_close=not keep)
        async with aiohttp.ClientSession(connector=connector) as session:
            begun = 0.0
            for at in range(WARM_UP // 5 + count):
                if at == WARM_UP // 5:
                    begun = time.perf_counter()
                async with session.get(url) as answer:
                    await answer.read()
            return count / (time.perf_counter() - begun)

    return asyncio.run(run())


_LIBRARIES: Dict[str, Callable[[str, int, bool], float]] = {
    "requests": _requests,
    "httpx": _httpx,
    "aiohttp": _aiohttp,
}
