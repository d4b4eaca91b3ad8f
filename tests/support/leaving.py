"""Drive a program that leaves by a way which each test writes into its gate's configuration."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from outgate.testing.running import RunningGate
from support.driven import Driven, Refused

CONFIG = """
version = 1
[apps.default]
uid = [{uid}]
billing = true
trusted = true
except = ["127.0.0.0/8", "::1", "203.0.113.0/24", "192.0.2.0/24"]
deny = ["198.51.100.0/24"]
{more}
"""
#: Where nobody is; only a proxy that lies connects there.
FAR = ("203.0.113.5", 8080)

CODE = """
import asyncio, errno, select, socket
def dial(address, timeout=None):
    s = socket.socket()
    s.settimeout(timeout)
    s.connect(address)
    return s
def exchange(s, data):
    s.sendall(data)
    return s.recv(len(data), socket.MSG_WAITALL).decode()
async def streams(host, port, data):
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(data)
    got = await reader.readexactly(len(data))
    writer.close()
    return got.decode()
"""


@contextlib.contextmanager
def program_of(gate: RunningGate) -> Iterator[Driven]:
    """Have a program that begins when the test has written its configuration."""
    made: list[Driven] = []

    class Late(Driven):
        """Starts at its first line."""

        def __init__(self) -> None:
            pass

        def do(self, code: str) -> Any:
            """Run a line, of a program that has the configuration of this moment."""
            if not made:
                made.append(Driven(gate))
                made[0].do(CODE)
            return made[0].do(code)

        def begin(self, code: str) -> None:
            """Begin a line."""
            self.do("None")
            made[0].begin(code)

        def end(self) -> Any:
            """Return what became of it."""
            return made[0].end()

    try:
        yield Late()
    finally:
        for each in made:
            each.__exit__()


def configuration(more: str) -> str:
    """Return the text of a configuration with these keys of the app."""
    return CONFIG.format(uid=os.getuid(), more=more)


def use(gate: RunningGate, via: str, *more: str) -> None:
    """Have the app leave this way from now on."""
    assert gate.reload(configuration("\n".join((f'via = "{via}"', *more))))["ok"]


def refused(program: Driven, code: str) -> Refused:
    """Return what a line raises."""
    with pytest.raises(Refused) as caught:
        program.do(code)
    return caught.value
