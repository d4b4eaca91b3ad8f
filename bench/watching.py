"""Measure what it costs to watch a gate with many live sockets: ``outgate top``, ``outgate ps``, and the gate's part.

Run by hand, ``python -m bench.watching [COUNT [SECONDS]]``: prints one JSON object. A gate in this process has the
connections as a direct app's, as :mod:`bench.reloading` makes them. First nobody looks; then ``outgate top`` runs in a
terminal of 120 by 40, and as one table a second in a pipe; then ``outgate ps`` shows all. Counted is processor time, of
the command and, beyond what it takes while nobody looks, of this process with all its threads.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from typing import Any

from bench.reloading import open_connection, set_up, tear_down

_OUTGATE = (sys.executable, "-m", "outgate")
_TICKS = os.sysconf("SC_CLK_TCK")
#: Seconds that a command has to start, and that nothing is counted in.
_START = 3.0


def main(count: int, seconds: float) -> dict[str, Any]:
    """Open the connections, watch them, and return what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        gate, log, servers, process = set_up(folder, os.path.join(folder, "outgate.toml"))
        for number in range(count):
            open_connection(gate, process, servers[number % len(servers)].getsockname()[1], number % 1000)
        path = os.path.join(folder, "gate.sock")
        found: dict[str, Any] = {"connections": count, "seconds": seconds}

        async def measure() -> None:
            await asyncio.sleep(_START)
            began = time.process_time()
            await asyncio.sleep(seconds)
            idle = (time.process_time() - began) / seconds
            found["nobody_looks"] = {"gate_percent": _percent(idle)}
            for name, terminal in (("top", True), ("top_in_a_pipe", False)):
                with _watching(path, terminal) as (pid, seen):
                    await asyncio.sleep(_START)
                    spent, began = _processor_seconds(pid), time.process_time()
                    await asyncio.sleep(seconds)
                    spent, used = _processor_seconds(pid) - spent, time.process_time() - began
                more = used / seconds - idle
                assert b" 127.1.0." in b"".join(seen), "it has shown no sockets"
                found[name] = {"command_percent": _percent(spent / seconds), "gate_percent_more": _percent(more)}
            for name, options in (("ps", ()), ("ps_json", ("--json",))):
                wall, began = time.perf_counter(), time.process_time()
                spent = await asyncio.to_thread(_run, "ps", "--socket", path, *options)
                wall, used = time.perf_counter() - wall, time.process_time() - began
                found[name] = {
                    "wall_ms": round(wall * 1000),
                    "command_ms": round(spent * 1000),
                    "gate_ms_more": round((used - wall * idle) * 1000),
                }

        gate.loop.run_until_complete(measure())
        tear_down(gate, log, servers)
    return found


def _percent(share: float) -> float:
    return round(share * 100, 2)


@contextlib.contextmanager
def _watching(path: str, terminal: bool) -> Iterator[tuple[int, list[bytes]]]:
    """Have ``outgate top`` run, and give its pid and what it prints, as that comes."""
    ours, its = pty.openpty() if terminal else os.pipe()
    if terminal:
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("4H", 40, 120, 0, 0))
    command = subprocess.Popen(
        [*_OUTGATE, "top", "--socket", path], stdin=its if terminal else subprocess.DEVNULL, stdout=its
    )
    os.close(its)
    seen: list[bytes] = []
    reader = threading.Thread(target=_read_all, args=(ours, seen))
    reader.start()
    try:
        yield command.pid, seen
        assert command.poll() is None, "it has ended"
    finally:
        command.send_signal(signal.SIGINT)
        command.wait()
        reader.join()
        os.close(ours)


def _read_all(fd: int, seen: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # a terminal that is gone
        while piece := os.read(fd, 1 << 16):
            seen.append(piece)


def _processor_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _run(*arguments: str) -> float:
    """Run a command to its end and return the processor time that it took, in seconds."""
    command = subprocess.Popen([*_OUTGATE, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(command.pid, 0)
    command.returncode = os.waitstatus_to_exitcode(status)
    assert command.returncode == 0, command.returncode
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    print(json.dumps(main(*numbers, *(10_000, 20)[len(numbers) :]), indent=2))
