"""``outgate serve``: run the gate in the foreground until it is told to stop."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING

from outgate.cli import nested, output
from outgate.errors import ConfigError

if TYPE_CHECKING:
    import socket
    from argparse import Namespace

    from outgate.console.beside import Beside
    from outgate.gate.configuration.config import Settings

_EPILOG = """\
Without --config there is one app, "default", for programs of the user who starts the gate: public destinations
allowed, everything else refused. With one, a program must match an app of it.

SIGHUP, or "outgate reload", reads the configuration again and reopens the log; a file that cannot be used leaves the
old one in force. SIGTERM and SIGINT end the gate; connections that are open go on. A socket handed over by systemd
(etc/outgate.socket) is used in place of the configured one.

exit status: 0 ended by a signal, 2 it could not start.

examples:
  outgate serve
  outgate serve --config /etc/outgate.toml
  outgate serve --config /etc/outgate.toml --takeover  # upgrade: the gate that runs hands over and ends
  outgate serve --socket /tmp/gate.sock --log -        # the decision log on standard output
  outgate serve --console                              # and pages for a browser; their address is printed
  outgate serve --console unix:/run/outgate/console.sock
  outgate check /etc/outgate.toml                      # say what would be in force
"""


def parser() -> ArgumentParser:
    """Return the options of ``outgate serve``."""
    p = ArgumentParser(
        prog="outgate serve",
        description="Run the gate for all apps of a host.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("--config", metavar="FILE", help="the configuration (default: one app, for your own programs)")
    p.add_argument("--socket", metavar="PATH", help="where programs reach the gate, in place of the configured one")
    p.add_argument(
        "--takeover",
        action="store_true",
        help="take the place of the gate that runs, with all it holds: programs and their connections notice nothing",
    )
    p.add_argument("--log", metavar="FILE", help="the decision log, in place of the configured one; - for stdout")
    p.add_argument(
        "--console",
        metavar="WHERE",
        nargs="?",
        const="127.0.0.1:0",
        help="serve pages that show the gate: HOST:PORT of loopback (default: a free one) or unix:PATH",
    )
    p.add_argument(
        "--state",
        metavar="DIR",
        help="the folder for what outlives the gate, in place of the configured one; so is a ledger without url there",
    )
    return p


def main(argv: list[str]) -> int:
    """Run the gate. Does not return once it has served: threads in the C library's resolver would be waited for."""
    options = parser().parse_args(argv)
    inner = nested.reason(os.environ)
    if inner:
        return output.fail("serve", inner, 2)
    from outgate.gate import main as gate_main
    from outgate.gate.kernel import notify

    try:
        settings = _settings(options)
        console = _console(options)
        listener = notify.inherited_listener(os.environ, os.getpid())
        taken = None
        if options.takeover:
            from outgate.gate.kernel.host import raise_descriptors
            from outgate.gate.takeover.taking import take

            raise_descriptors()  # for what will come over
            gate_main.new_loop().close()  # loads uvloop: from the line of take() on programs wait
            if settings.ledger is not None:
                gate_main.load_ledger()
            if settings.fleet is not None and settings.fleet.shared is not None:
                gate_main.load_shared()
            taken = take(settings.gate.socket)
        for warning in settings.warnings:
            output.warn(str(warning))
        status = gate_main.run(
            settings,
            listener=listener,
            ready=lambda gate: _ready(settings, listener, console),
            reloader=lambda previous: _reload(previous, options),
            taken=taken,
        )
    except ConfigError as e:
        return output.fail("serve", str(e), 2)
    if console is not None:
        console.stop()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)  # threads in the C library's resolver end when it answers; nobody waits for them


def _console(options: Namespace) -> Beside | None:
    """Return the console that was asked for, which listens and is not started yet. Raises ``ConfigError``."""
    if options.console is None:
        return None
    from outgate.console.beside import Beside

    return Beside(options.console, follows=options.takeover)


def _ready(settings: Settings, listener: socket.socket | None, console: Beside | None) -> None:
    output.say(_ready_line(settings, listener), sys.stderr)
    if console is not None:
        path = settings.gate.socket if listener is None else str(listener.getsockname())
        console.start(path, settings.path or "", lambda text: output.say(f"outgate: {text}", sys.stderr))


def _settings(options: Namespace) -> Settings:
    """Return the settings of the file, or the built-in ones, with what the command line says in its stead.

    :raises ConfigError: the file cannot be used.
    """
    from dataclasses import replace

    from outgate.gate.configuration import config, ledgers
    from outgate.gate.kernel import host

    own = host.own_addresses()
    if options.config:
        settings = config.load(options.config, host=own)
    else:
        settings = config.default_settings(os.getuid(), host=own)
    said = {}
    if options.socket:
        said["socket"] = os.path.abspath(options.socket)
    if options.log:
        said["log"] = options.log if options.log == "-" else os.path.abspath(options.log)
    if options.state:
        said["state"] = os.path.abspath(options.state)
    gate = replace(settings.gate, **said)
    return replace(settings, gate=gate, ledger=ledgers.moved(settings.ledger, gate.state))


def _reload(previous: Settings, options: Namespace) -> Settings:
    """Return the next settings; that the file differs from the command line is no change to warn about."""
    from dataclasses import replace

    from outgate.gate.configuration import config

    fresh = config.reload(previous)
    said = {f"gate.{name}" for name in ("socket", "log", "state") if getattr(options, name)}
    return replace(fresh, warnings=tuple(each for each in fresh.warnings if each.place not in said))


def _ready_line(settings: Settings, listener: socket.socket | None) -> str:
    path = settings.gate.socket if listener is None else f"{listener.getsockname()} (handed over)"
    names = list(settings.apps)
    if not names:
        apps = "no apps"
    elif len(names) == 1:
        apps = f"app {names[0]}"
    else:
        apps = f"{len(names)} apps ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"
    log = "standard output" if settings.gate.log == "-" else settings.gate.log
    return output.printable(f"outgate: ready at {path}, {apps}, policy {settings.source}, log {log}")
