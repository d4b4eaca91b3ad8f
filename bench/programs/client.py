"""Measure one thing from inside an unmodified program, and print the figures as JSON.

The same file runs natively, in the environment that loads outgate's client, and through a peer (``peer``: see
:mod:`routes`). Arguments: the name of a case, and its parameters as a JSON object.
"""

import contextlib
import itertools
import json
import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List

import opening
import routes
from opening import WARM_UP
from routes import Route

_MIB = 1 << 20
#: Seconds after which a case of many round trips is content with what it has.
_PATIENCE = 2.0


def _say(**figures: Any) -> None:
    print(json.dumps(figures), flush=True)


def _connect(port: int, peer: Route = None, host: str = "127.0.0.1") -> socket.socket:
    return routes.opener(peer)(host, port)


def _datagram_socket(peer: Route = None) -> socket.socket:
    if peer is None:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    import socks

    sock = socks.socksocket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.set_proxy(socks.SOCKS5, "127.0.0.1", peer[1])
    return sock


def send(port: int, size: int, streams: int = 1, peer: Route = None, host: str = "127.0.0.1", lent: str = "") -> None:
    """Send ``size`` bytes in 1 MiB calls, over streams in a thread each, until the other end has read all.

    Over the socket of a descriptor, where one is lent. Prints bytes a second.
    """
    data = bytes(_MIB)

    def run(sock: socket.socket) -> None:
        for _ in range(size // streams // _MIB):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)

    _stream(run, port, size, streams, peer, host, lent)


def receive(
    port: int, size: int, streams: int = 1, peer: Route = None, host: str = "127.0.0.1", lent: str = ""
) -> None:
    """Receive ``size`` bytes that are sent in 1 MiB calls, over streams in a thread each; as :func:`send`."""

    def run(sock: socket.socket) -> None:
        buffer = bytearray(_MIB)
        share = size // streams
        sock.sendall(share.to_bytes(8, "big"))
        got = 0
        while got < share:
            more = sock.recv_into(buffer)
            if not more:
                raise EOFError(f"{got} of {share} bytes")
            got += more

    _stream(run, port, size, streams, peer, host, lent)


def _stream(
    run: Callable[[socket.socket], None], port: int, size: int, streams: int, peer: Route, host: str, lent: str
) -> None:
    open_one = routes.opener(peer)
    with ThreadPoolExecutor(streams) as threads, contextlib.ExitStack() as stack:
        socks = [stack.enter_context(_adopt(lent) if lent else open_one(host, port)) for _ in range(streams)]
        begun = time.perf_counter()
        list(threads.map(run, socks))  # raises what one of them raised
        _say(rate=size / (time.perf_counter() - begun))


def _adopt(text: str) -> socket.socket:
    import outgate

    return outgate.adopt(text)


def lend(port: int, count: int) -> None:
    """Open connections, and print a descriptor of each, which is all that is left of it."""
    import outgate

    texts = []
    for _ in range(count):
        with _connect(port) as sock:
            texts.append(outgate.descriptor(sock))
    _say(texts=texts)


def redeem(texts: List[str]) -> None:
    """Take the socket of each descriptor, and close it. Prints the time of each in us."""
    clock = time.perf_counter_ns
    times = []
    for text in texts:
        begun = clock()
        sock = _adopt(text)
        times.append((clock() - begun) / 1000)
        sock.close()
    _say(times=times)


def round_trips(
    port: int,
    count: int,
    size: int = 64,
    peer: Route = None,
    host: str = "127.0.0.1",
    warm_up: int = WARM_UP,
    lent: str = "",
) -> None:
    """Send some bytes and wait for them, with TCP_NODELAY. Prints the time of each in us.

    Over the socket of a descriptor, where one is lent. Fewer than ``count`` where they take longer than
    :data:`_PATIENCE` together: a proxy may wait 40 ms with each.
    """
    data = bytes(size)
    clock = time.perf_counter_ns
    times = []
    with _adopt(lent) if lent else _connect(port, peer, host) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        end = clock() + _PATIENCE * 1e9
        while len(times) < warm_up + count and (len(times) <= warm_up or clock() < end):
            begun = clock()
            sock.sendall(data)
            got = 0
            while got < size:
                got += len(sock.recv(size - got))
            times.append((clock() - begun) / 1000)
    _say(times=times[warm_up:])


def datagrams(port: int, control: int, count: int, peer: Route = None) -> None:
    """Send 64-byte datagrams in a loop to a sink that counts. Prints how many arrived, and how many a second."""
    data = bytes(64)
    address = ("127.0.0.1", port)
    with _connect(control) as counter, _datagram_socket(peer) as sock:

        def arrived() -> "tuple[int, int]":
            counter.sendall(b"?")
            answer = counter.recv(16, socket.MSG_WAITALL)
            return int.from_bytes(answer[:8], "big"), int.from_bytes(answer[8:], "big")

        sendto = sock.sendto
        sendto(data, address)  # the first asks for the way
        time.sleep(0.05)
        before = arrived()[0]
        begun = time.monotonic_ns()
        for _ in range(count):
            sendto(data, address)
        last, now = arrived(), None
        while last != now:  # what is still on its way
            time.sleep(0.05)
            last, now = arrived(), last
        _say(arrived=last[0] - before, rate=(last[0] - before) * 1e9 / (last[1] - begun))


def datagram_round_trips(port: int, count: int, peer: Route = None) -> None:
    """Send 64-byte datagrams and wait for each. Prints how many a second."""
    data = bytes(64)
    address = ("127.0.0.1", port)
    with _datagram_socket(peer) as sock:
        sock.settimeout(5)
        for at in range(WARM_UP + count):
            if at == WARM_UP:
                begun = time.perf_counter()
            sock.sendto(data, address)
            sock.recvfrom(2048)
        _say(rate=count / (time.perf_counter() - begun))


def request(count: int) -> None:
    """Ask the gate to close a socket that it does not know: the cheapest request that has a reply. Times in us."""
    from outgate.client import channel

    clock = time.perf_counter_ns
    message = {"op": "close", "sock": 0, "shared": False}
    times = []
    for _ in range(WARM_UP + count):
        begun = clock()
        channel.request(message)
        times.append((clock() - begun) / 1000)
    _say(times=times[WARM_UP:])


def passing_on(port: int, count: int) -> None:
    """Share a socket, redeem it, and pickle it there and back; in turns with a bare request. Times in us."""
    import pickle

    import outgate
    from outgate.client import channel

    with _connect(port) as sock:
        texts: List[str] = []
        calls = {
            "bare": lambda: channel.request({"op": "close", "sock": 0, "shared": False}),
            "share": lambda: texts.append(outgate.descriptor(sock)),
            "redeem": lambda: outgate.adopt(texts[-1]),
            "pickle": lambda: pickle.loads(pickle.dumps(sock)),
        }
        clock = time.perf_counter_ns
        times: Dict[str, List[float]] = {name: [] for name in calls}
        for _ in range(WARM_UP + count):
            for name, call in calls.items():
                begun = clock()
                made = call()
                times[name].append((clock() - begun) / 1000)
                if hasattr(made, "close"):
                    made.close()
    _say(**{name: each[WARM_UP:] for name, each in times.items()})


def park(ports: List[int], counts: List[int]) -> None:
    """Share connections and close them, so that nobody has them: up to each number in turn, when a line comes in."""
    import outgate

    parked, every = 0, itertools.cycle(ports)
    _say(ready=True)
    for count in counts:
        sys.stdin.readline()
        while parked < count:
            with _connect(next(every)) as sock:
                outgate.descriptor(sock)
            parked += 1
        _say(parked=parked)
    sys.stdin.readline()


def look_ups(count: int, denied: str) -> None:
    """Ask for what the gate remembers, and for what it refuses; in turns with a bare request. Times in us."""
    from outgate.client import channel
    from outgate.client.names import getaddrinfo  # as C's: what the socket module adds is enums of its own

    def connect_refused() -> None:
        with socket.socket() as sock:
            try:
                sock.connect(("169.254.169.254", 80))
            except PermissionError:
                return
        raise AssertionError("it was not refused")

    def look_up_refused() -> None:
        try:
            getaddrinfo(denied, 80)
        except PermissionError:
            return
        raise AssertionError("it was not refused")

    calls = {
        "bare": lambda: channel.request({"op": "close", "sock": 0, "shared": False}),
        "cached": lambda: getaddrinfo("localhost", 80, socket.AF_INET, socket.SOCK_STREAM),
        "refused_look_up": look_up_refused,
        "refused_connect": connect_refused,
    }
    clock = time.perf_counter_ns
    times: Dict[str, List[float]] = {name: [] for name in calls}
    for _ in range(WARM_UP + count):
        for name, call in calls.items():
            begun = clock()
            call()
            times[name].append((clock() - begun) / 1000)
    _say(**{name: taken[WARM_UP:] for name, taken in times.items()})


def hold(ports: List[int], counts: List[int]) -> None:
    """Hold each number of connections in turn: on to the next when a line comes in."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    every = itertools.cycle([("127.0.0.1", port) for port in ports])
    for _ in range(WARM_UP):
        socket.create_connection(next(every)).close()
    held: List[socket.socket] = []
    _say(ready=True)
    for count in counts:
        sys.stdin.readline()
        while len(held) < count:
            sock = socket.socket()
            sock.connect(next(every))
            held.append(sock)
        _say(held=len(held))
    sys.stdin.readline()


def drip(ports: List[int], counts: List[int], interval: float = 0.5) -> None:
    """Hold that many connections, and send a byte on each of them again and again, until a line comes in."""
    import resource
    import threading

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    _say(ready=True)
    held, every = [], itertools.cycle(ports)
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(interval):
            for sock in held:
                sock.send(b"x")

    for count in counts:
        sys.stdin.readline()
        while len(held) < count:
            held.append(socket.create_connection(("127.0.0.1", next(every))))
        _say(held=len(held))
    sender = threading.Thread(target=send)
    sender.start()
    sys.stdin.readline()
    ended.set()
    sender.join()


_CASES = {
    "drip": drip,
    "send": send,
    "receive": receive,
    "round_trips": round_trips,
    "datagrams": datagrams,
    "datagram_round_trips": datagram_round_trips,
    "request": request,
    "look_ups": look_ups,
    "hold": hold,
    "passing_on": passing_on,
    "lend": lend,
    "redeem": redeem,
    "park": park,
}


#: The cases that return their figures.
_RETURNING = {
    "open": opening.opens,
    "births": opening.births,
    "connects": opening.connects,
    "open_polled": opening.polled_opens,
    "open_refused": opening.refused_opens,
    "cost": opening.cost,
    "rate": opening.rate,
    "handshakes": lambda **parameters: _web().handshakes(**parameters),
    "requests": lambda **parameters: _web().requests_each(**parameters),
}


def _web() -> Any:
    """Return the module of TLS and HTTP, which takes longer to load than most cases run."""
    import web

    return web


def main(name: str, parameters: Dict[str, Any]) -> None:
    """Run one case, on one core if the parameters name one."""
    core = parameters.pop("core", None)
    if core is not None:
        os.sched_setaffinity(0, {core})
    if name in _RETURNING:
        _say(**_RETURNING[name](**parameters))
    else:
        _CASES[name](**parameters)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
