"""Leave a network in several ways and say what came of each, as JSON: python leave.py PLACES."""

import asyncio
import functools
import hashlib
import json
import socket
import sys
import threading

places = json.loads(sys.argv[1])
PORT = places["port"]
MEGABYTE = hashlib.shake_128(b"leave").digest(1_000_000)


def attempt(function):
    """Return what a function returns, or what it raises."""
    try:
        return function()
    except OSError as e:
        return {"error": type(e).__name__, "code": getattr(e, "code", None), "errno": e.errno, "text": str(e)}


def greeted(host, port=PORT):
    """Return what the far end says first, and whether a megabyte comes back as it went."""
    with socket.create_connection((host, port), timeout=20) as sock, sock.makefile("rb") as file:
        first = file.readline().decode().strip()
        sending = threading.Thread(target=sock.sendall, args=(MEGABYTE,))
        sending.start()
        came = file.read(len(MEGABYTE))
        sending.join()
        return [first, came == MEGABYTE, list(sock.getpeername()[:2])]


async def talk(host):
    """Return what the far end says first, in an event loop, several at once."""

    async def one():
        reader, writer = await asyncio.open_connection(host, PORT)
        writer.write(b"hello\n")
        lines = [(await reader.readline()).decode().strip() for _ in range(2)]
        writer.close()
        return lines

    return await asyncio.gather(*(one() for _ in range(5)))


result = {
    "by name": attempt(lambda: greeted(places["name"])),
    "by address": attempt(lambda: greeted(places["address"])),
    "in a loop": attempt(lambda: asyncio.run(talk(places["address"]))),
    "nobody there": attempt(lambda: greeted(places["address"], places["closed"])),
    "the proxy itself": attempt(lambda: greeted(*places["proxy"])),
    "datagram": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (places["address"], 9))),
}
for name in places.get("more", ()):
    result[name] = attempt(functools.partial(greeted, name))
print(json.dumps(result))
