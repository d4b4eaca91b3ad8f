"""Fetch with many threads at once: python threads.py HOST."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor


def fetch(number: int) -> str:
    with socket.create_connection((sys.argv[1], 80), timeout=30) as sock:
        sock.sendall(f"GET /hello?{number} HTTP/1.0\r\n\r\n".encode())
        with sock.makefile("rb") as answer:
            return answer.read().split(b"\r\n\r\n")[1].decode().strip()


with ThreadPoolExecutor(8) as pool:
    print(sorted(set(pool.map(fetch, range(40)))))
