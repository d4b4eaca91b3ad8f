"""Start ``tests/gate/victim.py``: a client that can be killed at any step, as any user."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).parent.parent / "gate" / "victim.py"


class Victim:
    """A client that has taken its step and waits.

    :ivar said: what it said of it.
    """

    def __init__(self, process: subprocess.Popen[str], said: dict[str, Any]) -> None:
        self._process = process
        self.said = said
        self.pid = process.pid

    def kill(self) -> None:
        """Kill it with SIGKILL and wait for its end."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def victim(
    path: str,
    step: str,
    address: tuple[str, int] = ("127.0.0.1", 1),
    uid: int | str | None = None,
    token: str = "",
    id: int = 0,
) -> Iterator[Victim]:
    """Give a client of the gate at ``path`` that has taken ``step``; it is killed when the block is left.

    :param uid: the user it becomes first, or "uid:gid".
    :param token: another process's, and ``id`` a socket of its, for the step "steal"; a descriptor for "redeem".
    :raises RuntimeError: it could not take the step; the text is what it said on stderr.
    """
    arguments = [path, str(os.getuid() if uid is None else uid), step, address[0], str(address[1]), token, str(id)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-IS", str(_SCRIPT), *arguments], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        try:
            assert process.stdout is not None
            text = process.stdout.readline()
            if not text:
                assert process.stderr is not None
                raise RuntimeError(f"{step}: {process.stderr.read()}")
            yield Victim(process, json.loads(text))
        finally:
            process.kill()
