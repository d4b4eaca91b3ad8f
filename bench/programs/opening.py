"""Open connections one after the other, or as many as possible in a while, and say how long each took."""

import itertools
import json
import os
import select
import socket
import threading
import time
from typing import Any, Callable, Dict, Iterator, List

from routes import Opener, Route, errors, opener

#: Opens before the first that counts.
WARM_UP = 50
_HOST = "127.0.0.1"
#: Sockets that are held at a time where only their making is measured.
_BATCH = 50

Figures = Dict[str, Any]


def opens(ports: List[int], count: int, peer: Route = None, host: str = _HOST, warm_up: int = WARM_UP) -> Figures:
    """Open and close one after the other. Returns the times of each open, and with close(), in us.

    :param host: a ``*`` in it is a number that is another one each time, so that no name is asked for twice.
    """
    open_one = opener(peer)
    opened, closed = [], []
    clock = time.perf_counter_ns
    destinations = _destinations(host, ports)
    for _ in range(warm_up + count):
        to, port = next(destinations)
        begun = clock()
        sock = open_one(to, port)
        at_open = clock()
        sock.close()
        at_close = clock()
        opened.append((at_open - begun) / 1000)
        closed.append((at_close - begun) / 1000)
    return {"open": opened[warm_up:], "close": closed[warm_up:]}


def _destinations(host: str, ports: List[int]) -> "Iterator[tuple[str, int]]":
    every = itertools.cycle(ports)
    if "*" not in host:
        return ((host, port) for port in every)
    return ((host.replace("*", f"{os.getpid()}-{number}"), port) for number, port in enumerate(every))


def births(count: int) -> Figures:
    """Make sockets, some at a time, and close them. Returns the times of each socket() in us."""
    clock = time.perf_counter_ns
    times = []
    for _ in range(0, WARM_UP + count, _BATCH):
        made = []
        for _ in range(_BATCH):
            begun = clock()
            made.append(socket.socket())
            times.append((clock() - begun) / 1000)
        for sock in made:
            sock.close()
    return {"times": times[WARM_UP:]}


def connects(ports: List[int], count: int, threads: int) -> Figures:
    """Connect and close one after the other in each of so many threads. Returns the times of each connect() in us."""
    clock = time.perf_counter_ns
    taken: List[List[float]] = [[] for _ in range(threads)]

    def run(at: int) -> None:
        times = taken[at]
        for port in itertools.islice(itertools.cycle(ports), at, at + WARM_UP + count):
            with socket.socket() as sock:
                begun = clock()
                sock.connect((_HOST, port))
                times.append((clock() - begun) / 1000)

    running = [threading.Thread(target=run, args=(at,)) for at in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return {"times": [each for times in taken for each in times[WARM_UP:]]}


def polled_opens(ports: List[int], count: int) -> Figures:
    """Open without blocking, and wait for the socket to be writable, as event loops do. Times in us."""
    clock = time.perf_counter_ns
    times = []
    for port in itertools.islice(itertools.cycle(ports), WARM_UP + count):
        begun = clock()
        sock = socket.socket()
        sock.setblocking(False)
        if sock.connect_ex((_HOST, port)):
            poll = select.poll()
            poll.register(sock, select.POLLOUT)
            poll.poll()
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
        times.append((clock() - begun) / 1000)
        sock.close()
    return {"open": times[WARM_UP:]}


def refused_opens(port: int, count: int) -> Figures:
    """Connect to a port at which nobody listens. Times in us."""
    clock = time.perf_counter_ns
    times = []
    for _ in range(WARM_UP + count):
        sock = socket.socket()
        begun = clock()
        try:
            sock.connect((_HOST, port))
        except ConnectionRefusedError:
            times.append((clock() - begun) / 1000)
        else:
            raise AssertionError("somebody listens there")
        sock.close()
    return {"open": times[WARM_UP:]}


def cost(ports: List[int], count: int, gate: int) -> Figures:
    """Open and close one after the other. Returns the processor time of each in us: the gate's, and this process's."""
    destinations = _destinations(_HOST, ports)
    clocks = {"gate": _clock_of(gate), "client": time.CLOCK_PROCESS_CPUTIME_ID}
    for _ in range(WARM_UP):
        socket.create_connection(next(destinations)).close()
    begun = {name: time.clock_gettime(clock) for name, clock in clocks.items()}
    for _ in range(count):
        sock = socket.socket()
        sock.connect(next(destinations))
        sock.close()
    return {name: (time.clock_gettime(clock) - begun[name]) * 1e6 / count for name, clock in clocks.items()}


def _clock_of(pid: int) -> int:
    """Return the clock of another process's processor time (clock_getcpuclockid(3))."""
    return ~pid << 3 | 2


def rate(ports: List[int], seconds: float, processes: int, threads: int, peer: Route = None) -> Figures:
    """Open and close for a while in so many processes, forked from this one, of so many threads each.

    Errors are counted and not raised. All begin together, when all are ready.
    """
    open_one = opener(peer)
    for port in ports:
        open_one(_HOST, port).close()
    (waiting, go), (results, result), (arriving, ready) = os.pipe(), os.pipe(), os.pipe()
    children = []
    for number in range(processes):
        child = os.fork()
        if not child:
            status = 1
            try:
                os.close(go)
                begin = _Beginning(ready, waiting)
                made = _rate_here(open_one, ports[number % len(ports) :] + ports, seconds, threads, errors(peer), begin)
                os.write(result, json.dumps(made).encode() + b"\n")  # shorter than PIPE_BUF, so whole
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    for fd in (waiting, result, ready):
        os.close(fd)
    for _ in children:
        os.read(arriving, 1)
    os.close(go)
    with open(results) as lines:
        made = [json.loads(line) for line in lines]
    failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
    if failed:
        raise ChildProcessError(f"{failed} of {processes} processes that open connections failed")
    return {name: sum(each[name] for each in made) for name in ("rate", "opens", "errors")}


class _Beginning:
    """Where processes wait for one another: each says that it is ready, and reads an end of file when all are."""

    def __init__(self, ready: int, waiting: int) -> None:
        self._ready = ready
        self._waiting = waiting

    def wait(self) -> None:
        """Return when all have come here."""
        os.write(self._ready, b".")
        os.read(self._waiting, 1)


def _rate_here(
    open_one: Opener,
    ports: List[int],
    seconds: float,
    threads: int,
    failures: "tuple[type[Exception], ...]",
    beginning: _Beginning,
) -> Figures:
    """Open and close in threads of this process, once all processes are ready."""
    opens = [0] * threads
    failed = [0] * threads
    begin, end = threading.Barrier(threads + 1), [0.0]

    def run(at: int) -> None:
        every = itertools.cycle(ports[at % len(ports) :] + ports)
        open_one(_HOST, next(every)).close()
        begin.wait()  # warm
        begin.wait()  # so is everybody else
        clock: Callable[[], float] = time.perf_counter
        while clock() < end[0]:
            try:
                open_one(_HOST, next(every)).close()
                opens[at] += 1
            except failures:
                failed[at] += 1

    running = [threading.Thread(target=run, args=(at,)) for at in range(threads)]
    for thread in running:
        thread.start()
    begin.wait()
    beginning.wait()
    begun = time.perf_counter()
    end[0] = begun + seconds
    begin.wait()
    for thread in running:
        thread.join()
    return {"opens": sum(opens), "errors": sum(failed), "rate": sum(opens) / (time.perf_counter() - begun)}
