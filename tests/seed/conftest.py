"""What the tests of the seed's sentences share: programs under a gate, once with each profile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from outgate.core.profiles import PROFILES
from outgate.testing.running import PATIENCE, RunningGate

CONFIG = """\
version = 1
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
profile = "{profile}"
except = ["127.0.0.1", "[::1]"]
{blog}
[apps.other]
socket = "other.sock"
billing = true
trusted = true
profile = "{profile}"
except = ["127.0.0.1"]
{rest}
"""


class Gate:
    """A gate with two apps of one profile that may reach loopback, and the programs of the first.

    :ivar running: the gate.
    """

    def __init__(self, running: RunningGate) -> None:
        self.running = running

    def start(self, code: str, *arguments: object, app: str = "", **variables: str) -> subprocess.Popen[str]:
        """Start a program.

        :param app: ``other`` for the second app.
        """
        environ = self.running.environ({**os.environ, **variables})
        if app:
            environ["OUTGATE_SOCKET"] = str(Path(self.running.folder) / f"{app}.sock")
        pipe = subprocess.PIPE
        words = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, *map(str, arguments)]
        return subprocess.Popen(words, env=environ, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def run(self, code: str, *arguments: object, app: str = "", **variables: str) -> Any:
        """Run a program to its end and return the JSON value that it printed."""
        with self.start(code, *arguments, app=app, **variables) as program:
            output, errors = program.communicate(timeout=PATIENCE)
        assert program.returncode == 0, errors
        return json.loads(output)


@pytest.fixture(params=list(PROFILES))
def profile(request: pytest.FixtureRequest) -> str:
    """Each profile in turn."""
    return str(request.param)


@pytest.fixture
def gate_with(profile: str) -> Iterator[Callable[..., Gate]]:
    """Start a gate, with further lines of the first app's table, and of the file."""
    with ExitStack() as stack:

        def start(blog: str = "", rest: str = "") -> Gate:
            text = CONFIG.format(uid=os.getuid(), profile=profile, blog=blog, rest=rest)
            return Gate(stack.enter_context(RunningGate(config=text)))

        yield start


@pytest.fixture
def gate(gate_with: Callable[..., Gate]) -> Gate:
    """A gate with nothing but its profile's rules."""
    return gate_with()
