"""However a program ends or loses its sockets, nothing is printed, and their leases end with them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from outgate.testing.running import RunningGate

#: Each leaves sockets open in another way; ``address`` is where somebody listens.
LEFT_OPEN = {
    "connected and not": "held = [socket.create_connection(address), socket.socket()]",
    "in a cycle": "held = [socket.create_connection(address)]; held.append(held)",
    "in a closure that lives in a module": "import json; s = socket.create_connection(address); json.keep = lambda: s",
    "with a file": "file = socket.create_connection(address).makefile('rwb')",
    "in a daemon thread": (
        "import threading; s = socket.create_connection(address)\n"
        "threading.Thread(target=s.recv, args=(1,), daemon=True).start()"
    ),
    "in a thread's own storage": "import threading; t = threading.local(); t.s = socket.create_connection(address)",
    "in an object with a finalizer": (
        "class Holder:\n    def __init__(self): self.s = socket.create_connection(address)\n"
        "    def __del__(self): self.s.close()\nholder = Holder()"
    ),
    "made at exit": "import atexit; held = []; atexit.register(lambda: held.append(socket.create_connection(address)))",
    "made by a finalizer at exit": (
        "class Late:\n    def __del__(self): self.s = socket.create_connection(address)\nlate = Late()\n"
        "held = socket.create_connection(address)"
    ),
    "wrapped and detached": "s = socket.create_connection(address); fd = s.detach()",
    "after an error": "held = socket.create_connection(address)\ntry: 1 / 0\nexcept ZeroDivisionError: pass",
    "with a non-blocking dial": "s = socket.socket(); s.setblocking(False); s.connect_ex(address)",
    "in a module that is older than ours": (
        "os.keep = socket.create_connection(address); os.also = os.keep.dup(), socket.socket()"
    ),
    "in an object with a finalizer in a module that is older than ours": (
        "class Holder:\n    def __init__(self): self.s = socket.create_connection(address)\n"
        "    def __del__(self): self.s.close()\nos.keep = Holder()"
    ),
    "with a file in a module that is older than ours": "os.keep = socket.create_connection(address).makefile('rwb')",
    "with an event loop": (
        "import asyncio\nasync def work(): return await asyncio.open_connection(*address)\n"
        "loop = asyncio.new_event_loop(); held = loop.run_until_complete(work())"
    ),
}


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    """A listening socket that nobody accepts on: the kernel connects, and that is all that is needed."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:
        yield server.getsockname()


def start(gate: RunningGate, address: tuple[str, int], code: str) -> subprocess.Popen[str]:
    """Start a program that finds ``address`` and ``socket``."""
    return gate.program("-c", f"import socket, sys, os\naddress = {address!r}\n{code}\n")


@pytest.mark.parametrize("how", LEFT_OPEN)
def test_nothing_is_printed_when_the_interpreter_ends(gate: RunningGate, address: tuple[str, int], how: str) -> None:
    """A program that leaves sockets open ends with status 0 and silence, and so do its leases."""
    before = len(gate.log)
    program = start(gate, address, LEFT_OPEN[how])
    said, complained = program.communicate(timeout=20)
    assert (program.returncode, said, complained) == (0, "", "")
    assert gate.wait_for(event="end", pid=program.pid, since=before)["port"] == address[1]


def test_warnings_are_those_of_native_sockets(gate: RunningGate, address: tuple[str, int]) -> None:
    """With warnings on, a program is told of the sockets it left open as it is natively, and of none of ours."""
    code = f"import socket\nheld = [socket.create_connection({address!r}), socket.socket()]\n"
    arguments = ("-X", "dev", "-W", "always", "-c", code)
    program = gate.program(*arguments)
    _, through_the_gate = program.communicate(timeout=20)
    native = subprocess.run([sys.executable, *arguments], capture_output=True, text=True).stderr

    def without_numbers(text: str) -> list[str]:
        return [line.partition(", laddr")[0] for line in text.splitlines() if "Object allocated" not in line]

    assert "ResourceWarning: unclosed <socket.socket" in native
    assert without_numbers(through_the_gate) == without_numbers(native)


def test_nothing_is_printed_when_the_gate_has_ended(address: tuple[str, int]) -> None:
    """Programs that outlive their gate, with sockets open in every way, end with status 0 and silence."""
    wait = "\nprint('open', flush=True); sys.stdin.read()"
    with RunningGate() as gate:
        # Those that make a socket at exit hear GateUnavailable.
        programs = {h: start(gate, address, code + wait) for h, code in LEFT_OPEN.items() if not h.startswith("made")}
        for program in programs.values():
            assert program.stdout is not None
            assert program.stdout.readline() == "open\n"
        gate.kill()
        ends = {how: (*program.communicate(timeout=20), program.returncode) for how, program in programs.items()}
    assert ends == dict.fromkeys(programs, ("", "", 0))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_leases(gate: RunningGate, address: tuple[str, int], number: signal.Signals) -> None:
    """A program ended by a signal has its lease ended."""
    before = len(gate.log)
    program = start(gate, address, "s = socket.create_connection(address); print('open', flush=True); sys.stdin.read()")
    assert program.stdout is not None
    assert program.stdout.readline() == "open\n"
    program.send_signal(number)
    program.communicate(timeout=20)
    assert gate.wait_for(event="end", pid=program.pid, since=before)["connected"]


def test_a_dropped_socket_ends_its_lease(gate: RunningGate, address: tuple[str, int]) -> None:
    """When the last reference to a socket goes, its lease ends while the program goes on."""
    before = len(gate.log)
    program = start(gate, address, "s = socket.create_connection(address); del s; print('gone', flush=True); input()")
    assert program.stdout is not None
    assert program.stdout.readline() == "gone\n"
    assert gate.wait_for(event="end", pid=program.pid, since=before)["how"] == "closed"
    assert program.poll() is None
    program.communicate("\n", timeout=20)


def test_the_gate_holds_nothing_afterwards(gate: RunningGate) -> None:
    """When all programs have ended, the gate has no socket of theirs left, born ones of their pools included."""
    gate.wait_for_counts(held=0, open=0, processes=0)
