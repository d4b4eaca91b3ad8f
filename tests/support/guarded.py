"""Run programs under a guard in a world, as an ordinary user: root of the host is refused."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import outgate

if TYPE_CHECKING:
    from support.world import Finished, World

#: "nobody": a user that every Debian has, and that owns nothing.
GUEST = 65534
AS_GUEST = ("setpriv", f"--reuid={GUEST}", f"--regid={GUEST}", "--clear-groups")
_AGAIN = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
_SOURCE = Path(outgate.__file__).parents[1]


@functools.cache
def python() -> str:
    """Return a Python of our version that the guest may run: ours, or the host's where ours is in root's own folder."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin")):
        # Again, by itself: setpriv still has root's rights when it execs, and so starts what the guest may not.
        if path is not None and subprocess.run([*AS_GUEST, path, "-c", _AGAIN], capture_output=True).returncode == 0:
            return path
    pytest.skip(f"no {version} that uid {GUEST} may run")


def environ() -> dict[str, str]:
    """Return what the guest's Python needs to find outgate and the libraries of ours."""
    return {"PYTHONPATH": f"{_SOURCE}{os.pathsep}{sysconfig.get_path('purelib')}"}


@contextmanager
def log_of(world: World) -> Iterator[Path]:
    """Give the guest a decision log of its own, and remove it."""
    folder = world.folder / "guest"
    folder.mkdir()
    os.chown(folder, GUEST, GUEST)
    try:
        yield folder / "decisions.jsonl"
    finally:
        shutil.rmtree(folder)


def command(log: Path, *words: str, options: tuple[str, ...] = ("--guard",)) -> tuple[str, ...]:
    """Return the command that runs these words under a guard, as the guest."""
    return (*AS_GUEST, python(), "-m", "outgate", "run", "--log", str(log), *options, "--", *words)


def run(world: World, log: Path, *words: str, options: tuple[str, ...] = ("--guard",)) -> Finished:
    """Run a program under a guard to its end, and to the end of its gate, whose log is then whole."""
    done = world.run(*command(log, *words, options=options), environ=environ())
    world.near.wait_empty()
    return done
