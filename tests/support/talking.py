"""An unmodified program that talks with the test on its standard streams, a line of JSON at a time."""

from __future__ import annotations

import json
import subprocess
import textwrap
from typing import Any

from outgate.testing.running import RunningGate

__all__ = ["Program"]


class Program:
    """Ends with the ``with`` block.

    :param code: what it does; ``say()`` and ``told()`` are there, and ``peer`` for the port on loopback that is the
        first argument.
    :cvar preamble: what goes before that.
    """

    preamble = """
import json, os, socket, sys
peer = ("127.0.0.1", int(sys.argv[1]))
def say(**facts):
    print(json.dumps(facts), flush=True)
def told():
    return sys.stdin.readline().strip()
"""

    def __init__(self, gate: RunningGate, code: str, *arguments: object) -> None:
        text = self.preamble + textwrap.dedent(code)
        self.process = gate.program("-c", text, *map(str, arguments), stderr=subprocess.PIPE)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def said(self) -> dict[str, Any]:
        """Return the next thing it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return json.loads(line)  # type: ignore[no-any-return]

    def tell(self, word: str = "go on") -> None:
        """Let it go on from ``told()``."""
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Wait for its end, which is a clean one."""
        _, errors = self.process.communicate(timeout=20)
        assert (self.process.returncode, errors) == (0, "")
