"""``outgate dev``: run the services of app.yaml files on this machine, their sockets through a gate of their own."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import BinaryIO

from outgate.cli import nested, output
from outgate.errors import ConfigError

_EPILOG = """\
Each app.yaml is a service; each service runs in processes of its own. Without a file the folder you are in is one: its
app.yaml, or its main.py with an app. What an app may reach stands in app.yaml, in the section "outgate:" (docs/dev.md);
without one it reaches public destinations, and nothing of this machine.

exit status: 0 ended by Ctrl-C, 2 it could not start.

examples:
  outgate dev
  outgate dev front/app.yaml back/app.yaml
  outgate dev --port 9000 app.yaml dispatch.yaml
"""


def parser() -> ArgumentParser:
    """Return the options of ``outgate dev``."""
    p = ArgumentParser(
        prog="outgate dev",
        description="Run the services of an app: front ends, back ends, a task queue.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("files", nargs="*", metavar="app.yaml", help="a service: its app.yaml, or the folder it is in")
    p.add_argument("--port", type=int, default=8080, metavar="N", help="where to listen (default: 8080; 0: a free one)")
    p.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="on which address (default: this machine's own)"
    )
    p.add_argument("--log", metavar="FILE", help="also write the decision log there (docs/log.md)")
    p.add_argument("--no-reload", action="store_true", help="do not start a service again when its files change")
    group = p.add_mutually_exclusive_group()
    group.add_argument("--fence", action="store_true", help="fail unless instances can be fenced")
    group.add_argument("--unconfined", action="store_true", help="do not fence instances")
    return p


def _open(path: str) -> BinaryIO:
    """Open the file that the decision log is written to as well. Raises :class:`ConfigError` that says why not."""
    try:
        return open(path, "ab", buffering=0)
    except OSError as error:
        raise ConfigError(f"--log {path}: {error.strerror}; name a file in a folder that is there") from None


def main(argv: list[str]) -> int:
    """Serve until Ctrl-C, and return the exit status."""
    options = parser().parse_args(argv)
    inner = nested.reason(os.environ)
    if inner:
        return output.fail("dev", inner, 2)
    if not 0 <= options.port <= 65535:
        return output.fail("dev", f"--port {options.port} is not a port", 2)
    try:
        from outgate.dev import plan, policies, ports, server
        from outgate.dev.output import Printer
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "outgate":
            raise
        return output.fail("dev", f"{error.name} is not installed here; pip install 'outgate[dev]'", 2)
    containment = ["--fence"] if options.fence else ["--unconfined"] if options.unconfined else []

    def launcher(socket: str, command: list[str]) -> list[str]:
        """Have ``outgate run`` start it: the same fence, the same client, the same words about both."""
        return [sys.executable, "-P", "-m", "outgate", "run", "--socket", socket, *containment, "--", *command]

    try:
        policies.check(plan.read(options.files), "/")
        log = _open(options.log) if options.log else None
        listener = ports.listen(options.host, options.port)
        asked = server.Options(
            files=tuple(options.files),
            host=options.host,
            port=options.port,
            reload=not options.no_reload,
            log=log,
            launcher=launcher,
            python=sys.executable,
        )
        return server.run(asked, listener, Printer(sys.stderr))
    except ConfigError as error:
        return output.fail("dev", str(error), 2)
