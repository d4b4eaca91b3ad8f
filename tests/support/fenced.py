"""Run unmodified programs natively and under ``outgate run`` in a world, and read what the gate logged."""

from __future__ import annotations

import contextlib
import errno
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import dns
from support.corp import CACHE, DATABASE, EVIL, SHELL
from support.sniffer import Watch
from support.world import FORBIDDEN, TRAP_PORT, World

if TYPE_CHECKING:
    from support.world import Finished

PROGRAMS = Path(__file__).parents[1] / "integration/programs"

#: What no program under the default policy may send anything to.
SECRET = (*FORBIDDEN, DATABASE, CACHE, *SHELL)

#: A word of ``programs/attempts.py`` and its arguments.
Step = tuple[Any, ...]


def run(world: World, log: Path, *words: str, options: tuple[str, ...] = ()) -> Finished:
    """Run a command under ``outgate run``, in the fence, with its decision log in a file."""
    return world.outgate("run", "--fence", "--log", str(log), *options, "--", *words)


def events(log: Path, kind: str) -> list[dict[str, Any]]:
    """Return the events of one kind from a decision log."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [line for line in lines if line.get("event") == kind]


def command(*steps: Step, at_once: bool = False) -> tuple[str, ...]:
    """Return the command that takes steps of ``programs/attempts.py``, one after the other or all at once."""
    return (sys.executable, str(PROGRAMS / "attempts.py"), *["--at-once"] * at_once, json.dumps(steps))


def natively(world: World, *steps: Step, at_once: bool = False) -> list[dict[str, Any]]:
    """Take steps without a gate, and return what came of each."""
    done = world.run(*command(*steps, at_once=at_once))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def attempts(
    world: World, log: Path, *steps: Step, options: tuple[str, ...] = (), at_once: bool = False
) -> list[dict[str, Any]]:
    """Take steps under ``outgate run``, and return what came of each."""
    done = run(world, log, *command(*steps, at_once=at_once), options=options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_refusal(seen: dict[str, Any]) -> bool:
    """Tell whether what came of a step is the policy's refusal, as programs catch it."""
    if (seen["error"] or "") == "OSError" and seen["text"].startswith("Multiple exceptions: "):
        # What asyncio makes of several addresses that each gave an error of its own.
        return seen["text"].count("[Errno ") == seen["text"].count(f"[Errno {errno.EACCES}] ") > 0
    return {"PolicyDenied", "PermissionError"} <= set(seen.get("kinds", ())) and seen["errno"] == errno.EACCES


def check_refused(steps: Sequence[Step], tried: Sequence[dict[str, Any]]) -> None:
    """Assert that each of these steps was refused by the policy."""
    reached = [(step, seen) for step, seen in zip(steps, tried, strict=True) if not is_refusal(seen)]
    assert not reached, f"not refused: {reached}"


def creates(hosts: Sequence[str], word: str = "create") -> list[Step]:
    """Return the steps that connect to each of these hosts on the port where the traps are."""
    return [(word, host, TRAP_PORT) for host in hosts]


def of_evil(*hosts: str) -> list[str]:
    """Return the full names of these in the attacker's zone."""
    return [f"{host}.{EVIL}" for host in hosts]


@contextlib.contextmanager
def nothing_is_reached(world: World) -> Iterator[Watch]:
    """Hold that no packet goes to a secret address or to anything on the gate's own host."""
    with world.watch() as watch, world.watch_loopback() as inner:
        yield watch
        assert watch.to(*SECRET) == []
        assert [packet for packet in inner.openings() if packet.protocol == "tcp"] == []


def asked(watch: Watch) -> set[str]:
    """Return the names that name servers were asked for so far."""
    return {dns.read_question(packet.payload).name for packet in watch.flush() if packet.port == 53 and packet.payload}


def refused(
    world: World, log: Path, steps: Sequence[Step], *options: str, reaches: bool = True
) -> list[dict[str, Any]]:
    """Assert that each step works natively, and is refused through the gate with nothing sent to where it leads.

    :param reaches: ``False`` where the world has nothing that would answer natively.
    """
    if reaches:
        failed = [(step, seen) for step, seen in zip(steps, natively(world, *steps), strict=True) if seen["error"]]
        assert not failed, f"natively: {failed}"
    with nothing_is_reached(world):
        tried = attempts(world, log, *steps, options=options)
    check_refused(steps, tried)
    return tried
