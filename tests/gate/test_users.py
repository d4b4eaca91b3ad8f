"""Processes that were given a gate's socket are found by the environment they were started with."""

from __future__ import annotations

import subprocess
from pathlib import Path

from outgate.gate.kernel import users
from support.commands import environment


def test_find(tmp_path: Path) -> None:
    """A process whose OUTGATE_SOCKET is the path is found, and so is a child that has it from there; others are not."""
    path = str(tmp_path / "gate.sock")
    command = ["sh", "-c", "exec 3<&0; cat <&3 & echo $!; wait"]
    pipe = subprocess.PIPE
    mine = subprocess.Popen(command, env=environment(OUTGATE_SOCKET=path), stdin=pipe, stdout=pipe, text=True)
    other = subprocess.Popen(["cat"], env=environment(OUTGATE_SOCKET=path + "2"), stdin=pipe)
    with mine, other:
        assert mine.stdout is not None
        child = int(mine.stdout.readline())
        found = users.find(path)
        for process in (mine, other):
            assert process.stdin is not None
            process.stdin.close()
        assert mine.pid in found
        assert other.pid not in found
        assert child in found
    assert users.find(path) == set()
