"""Try things with sockets, and say what came of each, one line of JSON: python attempts.py [--at-once] STEPS.

STEPS is a JSON list of lists: a word below and its arguments.
"""

import asyncio
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor


class Text(str):
    """A text that claims to be another one, to whoever asks it nicely."""

    def __str__(self):
        return "www.corp.example"

    def __eq__(self, other):
        return other == "www.corp.example"

    def __hash__(self):
        return hash("www.corp.example")

    def encode(self, *_):
        return b"www.corp.example"

    def lower(self):
        return "www.corp.example"


def connect(host, port, of=socket.AF_INET):
    """Connect a bare socket to what is given, and to nothing else."""
    with socket.socket(socket.AF_INET6 if of == 6 else socket.AF_INET) as sock:
        sock.settimeout(5)
        sock.connect((host, port))
        return sock.getpeername()[0]


def create(host, port):
    """Connect to the first address that answers, as libraries do."""
    with socket.create_connection((host, port), timeout=5) as sock:
        return sock.getpeername()[0]


def stream(host, port):
    """Connect as asyncio does, which looks up on a thread and connects without blocking."""

    async def open_and_close():
        _, writer = await asyncio.open_connection(host, port)
        peer = writer.get_extra_info("peername")[0]
        writer.close()
        await writer.wait_closed()
        return peer

    return asyncio.run(open_and_close())


def datagram(host, port):
    """Send one datagram."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        return sock.sendto(b"outgate", (host, port))


def lookup(host, port):
    return sorted({info[4][0] for info in socket.getaddrinfo(host, port)})


def canonical(host):
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)[0][3]


def in_a_loop(word, *arguments):
    """Look up as asyncio does."""

    async def ask():
        return await getattr(asyncio.get_running_loop(), word)(*arguments)

    return asyncio.run(ask())


def in_trio(word, *arguments):
    """Look up as trio does, on a thread of its own, with the class of sockets that it makes anew."""
    import trio

    async def ask():
        return await getattr(trio.socket, word)(*arguments)

    return trio.run(ask)


def trio_stream(host, port):
    """Connect as trio does, to the first address of a name that answers."""
    import trio

    async def open_and_close():
        stream = await trio.open_tcp_stream(host, port)
        async with stream:
            return stream.socket.getpeername()[0]

    return trio.run(open_and_close)


def neighbour(host, address, port):
    """Look up one name, and connect to an address whatever the answer was."""
    socket.getaddrinfo(host, port)
    return connect(address, port, 6 if ":" in address else 4)


WORDS = {
    "connect": connect,
    "connect6": lambda host, port: connect(host, port, 6),
    "bytes": lambda host, port: connect(host.encode(), port),
    "disguised": lambda host, port: connect(Text(host), port),
    "create": create,
    "stream": stream,
    "datagram": datagram,
    "lookup": lookup,
    "neighbour": neighbour,
    "canonical": canonical,
    "nameinfo": lambda host, port, flags=0: socket.getnameinfo((host, port), flags),
    "loop_lookup": lambda host, port: sorted({info[4][0] for info in in_a_loop("getaddrinfo", host, port)}),
    "loop_nameinfo": lambda host, port: in_a_loop("getnameinfo", (host, port)),
    "trio_lookup": lambda host, port: sorted({info[4][0] for info in in_trio("getaddrinfo", host, port)}),
    "trio_nameinfo": lambda host, port: in_trio("getnameinfo", (host, port)),
    "trio_stream": trio_stream,
    "byname": socket.gethostbyname,
    "byname_ex": lambda host: socket.gethostbyname_ex(host)[2],
    "byaddr": lambda host: socket.gethostbyaddr(host)[0],
    "getfqdn": socket.getfqdn,
}


def attempt(step):
    word, *arguments = step
    try:
        return {"error": None, "result": WORDS[word](*arguments)}
    except (OSError, ValueError, OverflowError, TypeError) as error:  # a UnicodeError is a ValueError
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return {"error": kinds[0], "kinds": kinds, "errno": getattr(error, "errno", None), "text": str(error)}


steps = json.loads(sys.argv[-1])
if sys.argv[1] == "--at-once":
    with ThreadPoolExecutor(len(steps)) as pool:
        print(json.dumps(list(pool.map(attempt, steps))))
else:
    print(json.dumps([attempt(step) for step in steps]))
