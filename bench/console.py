"""Measure the console with many live sockets: how long a page takes, and for how long it holds the gate's loop.

Run by hand, ``python -m bench.console [COUNT [REQUESTS]]``: prints one JSON object. A gate in this process has the
connections as a direct app's, as :mod:`bench.reloading` makes them; a console in a process of its own is asked over
HTTP, one request after the other, with and without pages that follow. A ticker sees the longest turn of the gate's
loop, in processor time, while nobody looks and while the pages are made.
"""

import asyncio
import http.client
import json
import os
import socket
import sys
import tempfile
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from bench.reloading import Ticker, open_connection, set_up, tear_down
from outgate.console.beside import Beside

_PAGES = {"overview": "/", "app": "/apps/blog", "log": "/log", "policy": "/policy"}
_FOLLOWING = 5


def main(count: int, requests: int) -> dict[str, Any]:
    """Open the connections, ask for each page and return what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "outgate.toml")
        gate, log, servers, process = set_up(folder, path)
        for number in range(count):
            open_connection(gate, process, servers[number % len(servers)].getsockname()[1], number % 1000)
        loop = gate.loop
        console = Beside("127.0.0.1:0")
        said: asyncio.Queue[str] = asyncio.Queue()
        console.start(
            os.path.join(folder, "gate.sock"), path, lambda text: loop.call_soon_threadsafe(said.put_nowait, text)
        )
        found: dict[str, Any] = {"connections": count, "requests": requests}

        async def measure() -> None:
            url = urlsplit((await said.get()).partition(" at ")[2])
            asking = await asyncio.to_thread(_Asking, url.port, url.query)
            ticker = Ticker(loop)
            await asyncio.sleep(2.0)
            found["bare_turn_ms"] = ticker.take()["longest"]
            for name, page in _PAGES.items():
                await asyncio.to_thread(asking.time, page, 3)
                ticker.begin()
                seen = await asyncio.to_thread(asking.time, page, requests)
                found[name] = {**seen, "longest_turn_ms": ticker.take()["longest"]}
            following = [await asyncio.to_thread(asking.follow, "/live") for _ in range(_FOLLOWING)]
            following += [await asyncio.to_thread(asking.follow, "/apps/blog/live?after=-1") for _ in range(_FOLLOWING)]
            ticker.begin()
            used = time.thread_time()
            await asyncio.sleep(10.0)
            found["following"] = {
                "pages": len(following),
                "longest_turn_ms": ticker.take()["longest"],
                "loop_with_ticker_s": round(time.thread_time() - used, 3),
            }
            for each in following:
                each.close()

        loop.run_until_complete(measure())
        console.stop()
        tear_down(gate, log, servers)
    return found


class _Asking:
    """A client of the console that keeps its connection, as a browser does."""

    def __init__(self, port: int, query: str) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        answer = self._get(f"/?{query}")
        self._cookie = answer.headers["set-cookie"].partition(";")[0]

    def _get(self, path: str) -> http.client.HTTPResponse:
        headers = {"cookie": getattr(self, "_cookie", "")}
        self._connection.request("GET", path, headers=headers)
        answer = self._connection.getresponse()
        self.size = len(answer.read())
        return answer

    def time(self, path: str, requests: int) -> dict[str, float]:
        """Ask so often, with a moment between, so that no answer is made of the look of the one before."""
        taken = []
        for _ in range(requests):
            threading.Event().wait(1.0)
            began = time.perf_counter()
            answer = self._get(path)
            taken.append((time.perf_counter() - began) * 1000)
            assert answer.status == 200, answer.status
        taken.sort()
        return {"median_ms": round(taken[len(taken) // 2], 1), "longest_ms": round(taken[-1], 1), "bytes": self.size}

    def follow(self, path: str) -> socket.socket:
        """Have a page followed, and return its connection."""
        sock = socket.create_connection(("127.0.0.1", self._port))
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {self._cookie}\r\n\r\n".encode())
        sock.recv(1 << 16)
        return sock


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    print(json.dumps(main(*numbers, *(10_000, 20)[len(numbers) :]), indent=2))
