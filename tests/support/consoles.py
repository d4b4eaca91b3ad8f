"""Run a gate with a console as an operator does, with an app that has a log and a ledger, and programs of it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from outgate.client import autoload
from outgate.console.access import new_token
from outgate.guard import launch
from support.commands import Served, environment

CONFIGURATION = """\
version = 1
[ledger]
url = "ledger.sqlite"
prices = {{ currency = "EUR", per = "MB", rules = [{{ to = "*", sent = "0.12" }}] }}
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
except = ["127.0.0.1"]
names = ["*.example.com"]
quotas = {{ bytes_sent = {{ day = "4 MB" }}, connect = {{ minute = 600 }} }}
{more}
[apps.shop]
token_file = "shop.token"
billing = true
trusted = true
except = ["127.0.0.1"]
"""


#: A program's name that would be a picture with a script, in a page that took it for more than text.
HOSTILE = "<img src=x onerror=alert(1)>"

_AUTOLOAD = os.fspath(next(iter(autoload.__path__)))


class Console(Served):
    """``outgate serve --console`` that has said where it is.

    :ivar url: with the token.
    :ivar base: without; it ends with a slash.
    :ivar token: the token alone.
    """

    def __init__(self, folder: Path, *options: str, more: str = "", where: str = "127.0.0.1:0") -> None:
        config = folder / "outgate.toml"
        config.write_text(CONFIGURATION.format(uid=os.getuid(), more=more))
        token = folder / "shop.token"
        if not token.exists():
            token.touch(0o600)
            token.write_text(new_token())
        # Not its path: a page shows it, and a picture should be the same on every machine.
        super().__init__(folder, "--config", config.name, "--console", where, *options, env=environment(TZ="UTC"))
        self.url = self.wait_for(r"console at (\S+)")
        self.base, _, self.token = self.url.partition("?token=")

    def wait_for(self, pattern: str) -> str:
        """Read what it prints until a line matches, and return the first group."""
        while line := self.line():
            match = re.search(pattern, line)
            if match:
                return match[1]
        raise AssertionError(f"it ended, and no line was like {pattern}")

    @contextlib.contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """Have a client that has logged in while the block runs."""
        with httpx.Client(base_url=self.base, follow_redirects=True, timeout=30) as client:
            assert client.get(self.url).status_code == 200
            yield client

    @property
    def console_pid(self) -> int:
        """The process id of the console."""
        words = ["pgrep", "-P", str(self.process.pid), "-f", "outgate.console.main"]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)

    def program(self, *arguments: str, shop: bool = False, **options: Any) -> subprocess.Popen[str]:
        """Start ``python ARGUMENTS…`` as the app ``blog``, or ``shop``; options go to ``Popen``."""
        pipe = subprocess.PIPE
        options = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "text": True, **options}
        environ = launch.environment(os.environ, self.socket, _AUTOLOAD)
        if shop:
            environ["OUTGATE_TOKEN_FILE"] = str(self.log_path.parent / "shop.token")
        return subprocess.Popen([sys.executable, *arguments], env=environ, **options)


@contextlib.contextmanager
def console(folder: Path, *options: str, more: str = "", where: str = "127.0.0.1:0") -> Iterator[Console]:
    """Have one while the block runs.

    :param options: of the command, beside those that say where everything is.
    :param more: lines for the app ``blog``.
    """
    made = Console(folder, *options, more=more, where=where)
    try:
        yield made
    finally:
        made.stop()
