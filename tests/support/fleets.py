"""A fleet of gates on this host, each with its own folder, channel socket and address of the loopback."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from outgate.gate.fleet import asking
from outgate.gate.fleet.folder import Folder
from outgate.testing.running import RunningGate

CONFIGURATION = """\
version = 1
[fleet]
name = "{name}"
gates = {{ {gates} }}
{more}
[apps.worker]
uid = [{uid}]
billing = true
trusted = true
path = "{path}"
except = ["127.0.0.1"]
idle_timeout = {idle}
"""


@contextlib.contextmanager
def fleet(
    names: Sequence[str] = ("a", "b"), path: str = "direct", idle: int = 120, state: str = "", proxy: str = ""
) -> Iterator[dict[str, RunningGate]]:
    """Run gates of these names; the first issues certificates, the others have joined by it.

    :param path: how the bytes of what they open travel.
    :param state: URL of what they share, "" for nothing.
    :param proxy: by which they reach each other, "" for none.
    """
    with contextlib.ExitStack() as stack:
        places = {name: stack.enter_context(kept_place()) for name in names}
        gates = ", ".join(f'{name} = "{place}"' for name, place in places.items())
        keys = {"state": state, "proxy": proxy}
        more = "\n".join(f'{key} = "{value}"' for key, value in keys.items() if value)
        made: dict[str, RunningGate] = {}
        for name in names:
            text = CONFIGURATION.format(name=name, gates=gates, uid=os.getuid(), path=path, idle=idle, more=more)
            gate = RunningGate(config=text)
            folder = folder_of(gate)
            if not made:
                folder.begin(name, time.time())
                issuer = folder
            else:
                token = issuer.invite(name, places[names[0]], time.time(), 60)
                asking.join(folder, token, name)
            made[name] = stack.enter_context(gate)
        yield made
        for gate in made.values():
            assert gate.faults == []


@contextlib.contextmanager
def kept_place() -> Iterator[str]:
    """Keep a port of the loopback, where a gate may listen beside us (SO_REUSEPORT) and nobody else can."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{kept.getsockname()[1]}"


def folder_of(gate: RunningGate) -> Folder:
    """Return what a gate has of its fleet."""
    return Folder(str(Path(gate.folder, "state")))
