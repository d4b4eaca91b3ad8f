"""Name the Unix sockets of a server: in a folder of its own, and short, as their paths may have 107 bytes."""

from __future__ import annotations

import os
from hashlib import blake2s

__all__ = ["gate", "gate_of", "instance", "tasks_of"]


def _short(name: str) -> str:
    """Return a few letters that stand for a name of any length."""
    return blake2s(name.encode(), digest_size=6).hexdigest()


def gate(folder: str) -> str:
    """Return where the gate is asked, as by ``outgate ps --socket``."""
    return os.path.join(folder, "gate.sock")


def gate_of(folder: str, application: str) -> str:
    """Return where instances of an app reach the gate: whoever comes by this socket is that app."""
    return os.path.join(folder, f"g{_short(application)}")


def tasks_of(folder: str, application: str) -> str:
    """Return where instances of an app reach the task queue: whoever comes by this socket is that app."""
    return os.path.join(folder, f"t{_short(application)}")


def instance(folder: str, service: str, number: int) -> str:
    """Return where an instance of a service listens."""
    return os.path.join(folder, f"i{_short(service)}.{number}")
