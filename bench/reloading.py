"""Measure a reload with many live connections: how long judging them takes, and for how long it holds the loop.

Run by hand, ``python -m bench.reloading [COUNT [DESTINATIONS]]``: prints one JSON object. A gate in this process has
the connections as a direct app's, to so many addresses of this host; a ticker that is called every turn of the loop
sees the longest turn, before the reload and while the connections are judged, and the longest time that the loop waited
for the thread that reads the configuration. Two reloads: one that denies nothing, one that denies all.
"""

import asyncio
import gc
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from outgate.core import lease as life
from outgate.core.policy.again import Opened, again
from outgate.gate.configuration import config
from outgate.gate.configuration.settings import Settings
from outgate.gate.decisionlog.log import DecisionLog
from outgate.gate.kernel import births
from outgate.gate.kernel.listening import listen
from outgate.gate.live import reloading
from outgate.gate.main import new_loop
from outgate.gate.registry import Process
from outgate.gate.server import Gate

_LISTENERS = 4
_BACKLOG = 4096
_CONFIG = """version = 1
[gate]
log_rate = 0
state = "state"
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
open_sockets = 100000
except = [{rules}]
"""
#: Rules of the policy, beside the one that decides: none of them matches.
_OTHERS = [f"10.{number}.0.0/16:5432" for number in range(50)]


class Ticker:
    """Sees how long turns of the loop are, in processor time of its thread: of what else runs it knows nothing.

    :param clock: another clock, for what it has to wait for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.thread_time) -> None:
        self._loop = loop
        self._clock = clock
        self.turns: list[float] = []
        self._last = clock()
        self._handle = loop.call_soon(self._tick)

    def _tick(self) -> None:
        now = self._clock()
        self.turns.append(now - self._last)
        self._last = now
        self._handle = self._loop.call_soon(self._tick)

    def begin(self) -> None:
        """Forget what was seen so far."""
        self.turns = []
        self._last = self._clock()

    def take(self) -> dict[str, float]:
        """Return the longest turn and the median so far, in milliseconds, and begin anew."""
        turns, self.turns = sorted(self.turns), []
        return {"longest": round(turns[-1] * 1000, 3), "median": round(turns[len(turns) // 2] * 1000, 5)}


def main(count: int, destinations: int) -> dict[str, Any]:
    """Open the connections, reload twice and return what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "outgate.toml")
        gate, log, servers, process = set_up(folder, path)
        loop = gate.loop
        for number in range(count):
            port = servers[number % destinations % _LISTENERS].getsockname()[1]
            open_connection(gate, process, port, number % destinations)
        found: dict[str, Any] = {"connections": count, "destinations": destinations, "other_rules": len(_OTHERS)}

        reads: list[float] = []

        def read(before: Settings) -> Settings:
            began = time.thread_time()
            settings = config.reload(before)
            reads.append(time.thread_time() - began)
            return settings

        gate.reloader = read
        gate._rounds.stop()  # what they take each second is not the reload's

        async def measure() -> None:
            ticker, waits = Ticker(loop), Ticker(loop, time.perf_counter)
            await asyncio.sleep(1.0)
            found["bare"] = ticker.take()
            for name, rules in (("allows", (*_OTHERS, "127.0.0.0/8")), ("denies", _OTHERS)):
                _write(path, *rules)
                waits.begin()
                answer = await reloading.reload(gate)
                assert answer["ok"], answer
                longest_wait = waits.take()["longest"]
                began, used = time.perf_counter(), time.thread_time()
                ticker.begin()
                counts = await gate.rejudging.finished()
                judged, used = time.perf_counter() - began, time.thread_time() - used
                assert counts is not None
                assert counts.cut == (count if name == "denies" else 0), counts
                found[name] = {
                    "read_processor_ms": round(reads[-1] * 1000, 3),
                    "read_longest_wait_ms": longest_wait,
                    "judge_ms": round(judged * 1000, 3),
                    "processor_ms": round((reads[-1] + used) * 1000, 3),
                    "turn_ms": ticker.take(),
                }

        loop.run_until_complete(measure())
        found["log_dropped"] = log.dropped
        tear_down(gate, log, servers)
    return found


def set_up(folder: str, path: str) -> tuple[Gate, DecisionLog, list[socket.socket], Process]:
    """Make a gate in this process with an app ``blog``, its log, servers to connect to, and a process of the app.

    :param path: where its configuration is written.
    """
    _write(path, *_OTHERS, "127.0.0.0/8")
    loop = new_loop()
    log = DecisionLog(os.path.join(folder, "log"))
    settings = config.load(path)
    settings = replace(settings, gate=replace(settings.gate, log=os.path.join(folder, "log")))
    gate = Gate(settings, listen(os.path.join(folder, "gate.sock"), 0o600), log, loop)
    gc.freeze()  # as outgate.gate.main does
    gate._sweep.stop()  # it would find that no program has them
    servers = [socket.create_server(("0.0.0.0", 0), backlog=_BACKLOG) for _ in range(_LISTENERS)]
    process = Process(gate.registry.apps["blog"], "bench", os.getpid(), os.getuid(), os.getgid())
    process.channels = 1
    gate.registry.join(process)
    return gate, log, servers, process


def tear_down(gate: Gate, log: DecisionLog, servers: list[socket.socket]) -> None:
    """End what :func:`set_up` made."""
    gate.stop()
    log.close()
    gate.loop.close()
    for server in servers:
        server.close()


def _write(path: str, *rules: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(_CONFIG.format(uid=os.getuid(), rules=", ".join(f'"{each}"' for each in rules)))


def open_connection(gate: Gate, process: Process, port: int, number: int) -> None:
    """Open one more, as a program would have."""
    address = f"127.{1 + number // 65536 % 250}.{number // 256 % 256}.{number % 256}"
    sock, cookie = births.make(4, None)
    lease = gate.registry.add(process, sock, cookie, 4)
    sock.connect((address, port))
    lease.see(life.DIAL)
    lease.see(life.CONNECTED)
    lease.number, lease.begun, lease.connect_ms = 1, time.monotonic(), 0.1
    lease.asked, lease.address = (address, port), address
    lease.decision = again(process.app.settings.policy, Opened("tcp", address, address, port))
    process.app.open += 1


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    print(json.dumps(main(*numbers, *(10_000, 1_000)[len(numbers) :]), indent=2))
