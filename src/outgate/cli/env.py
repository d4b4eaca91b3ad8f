"""``outgate env``: print the variables by which programs in any language go out through the gate's doors."""

from __future__ import annotations

import os
import shlex
from argparse import ArgumentParser
from typing import TYPE_CHECKING, NamedTuple

from outgate.cli import output, parsing
from outgate.core import paths
from outgate.core.doors.variables import url, variables
from outgate.core.formats import messages
from outgate.errors import ConfigError, GateError
from outgate.lookout import ask

if TYPE_CHECKING:
    from argparse import Namespace

_EPILOG = """\
A door is where a program without outgate's client asks the gate for connections, by SOCKS5 or HTTP CONNECT: gate.socks
and gate.http_connect in the configuration (docs/doors.md). The app is known by its token, so the app needs a
token_file, and who runs this must be allowed to read it. What is printed has the token in it.

Where the doors are says the gate that runs, or --config FILE. The token is that of --token-file, OUTGATE_TOKEN_FILE, or
the app's token_file in the configuration.

exit status: 0 printed; 1 no gate answers, it has no such door, or the token cannot be read; 2 a wrong call.

examples:
  outgate env --app blog                        # lines for a shell: eval "$(outgate env --app blog)"
  outgate env --app blog --only http            # for programs that cannot do SOCKS5
  outgate env --app blog --json | jq -r .variables.ALL_PROXY
  docker run --env-file <(outgate env --app blog --host 172.17.0.1 --plain) …    # a door on the bridge's address
"""

_SOCKS, _HTTP = "socks5", "http"
#: An address that stands for all of a host's, and which of them is surely there.
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


class _Doors(NamedTuple):
    """What is known of a gate's doors.

    :ivar found: (kind, ``host:port``) of each.
    :ivar app: the app that the gate takes us for, "" where it was not asked.
    :ivar config: path of its configuration, "" where there is none.
    """

    found: list[tuple[str, str]]
    app: str
    config: str


class _Failed(Exception):
    """It cannot be printed; the text says what to do."""


def parser() -> ArgumentParser:
    """Return the options of ``outgate env``."""
    p = parsing.parser("env", "Print the variables by which programs go out through the gate's doors.", _EPILOG)
    p.add_argument("--app", default="", metavar="NAME", help="which app the programs are (default: the token's)")
    p.add_argument("--token-file", default="", metavar="FILE", help="its token (default: as the configuration says)")
    p.add_argument("--config", default="", metavar="FILE", help="read the doors there, and ask no gate")
    p.add_argument("--only", choices=(_SOCKS, _HTTP), help="use this kind of door alone")
    p.add_argument("--host", default="", metavar="HOST", help="how programs reach the doors (default: their address)")
    p.add_argument("--plain", action="store_true", help="NAME=VALUE lines without quotes, as env files have them")
    return p


def main(argv: list[str]) -> int:
    """Print the variables."""
    options = parser().parse_args(argv)
    try:
        doors = _configured(options.config) if options.config else _asked(options)
        app, token = _identity(options, doors)
        addresses = _addresses(options, doors)
    except (ask.NoGate, ask.Refused, ConfigError, _Failed) as e:
        return output.unanswered("env", e, options.json)
    socks, http = (
        url(scheme, app, token, addresses[kind]) if kind in addresses else ""
        for scheme, kind in (("socks5h", _SOCKS), ("http", _HTTP))
    )
    found = variables(socks, http)
    if options.json:
        output.print_json({"ok": True, "app": app, "doors": addresses, "variables": found})
        return 0
    for name, value in found.items():
        output.say(f"{name}={value}" if options.plain else f"export {name}={shlex.quote(value)}")
    return 0


def _configured(path: str) -> _Doors:
    from outgate.gate.configuration import config

    gate = config.load(path, reads_tokens=False).gate
    found = [(_SOCKS, each) for each in gate.socks] + [(_HTTP, each) for each in gate.http_connect]
    if any(address.endswith(":0") for _, address in found):
        raise _Failed(f"{path}: port 0 is any port; ask the gate, without --config")
    return _Doors(found, "", path)


def _asked(options: Namespace) -> _Doors:
    """Ask the gate that runs, as the app of the token where one is named."""
    if options.token_file:
        os.environ[paths.TOKEN_VARIABLE] = os.path.abspath(options.token_file)
    _, reply = ask.find({"op": messages.STAT}, options.socket)
    answer = reply["answer"]
    found = [(each["kind"], each["address"]) for each in answer.get("doors", ()) if each["listening"]]
    app = reply["hello"]["app"] if os.environ.get(paths.TOKEN_VARIABLE) else ""
    return _Doors(found, app, answer.get("path") or "")


def _identity(options: Namespace, doors: _Doors) -> tuple[str, str]:
    """Return name and token of the app."""
    file = options.token_file or os.environ.get(paths.TOKEN_VARIABLE, "")
    name = options.app or doors.app
    if not name:
        raise _Failed("which app? say --app NAME, or --token-file FILE")
    if doors.app and doors.app != name:
        raise _Failed(f"the token in {file} is that of app {doors.app}, not of {name}")
    if not file:
        file = _token_file(name, doors.config)
    from outgate.client import rights

    try:
        return name, rights.token(file)
    except GateError as e:
        raise _Failed(f"{e.reason}; who runs this must be allowed to read it") from None


def _token_file(name: str, path: str) -> str:
    """Return the path of an app's token file, as the configuration has it."""
    if not path:
        raise _Failed("this gate has no configuration, so no app has a token")
    from outgate.gate.configuration import config

    settings = config.load(path, reads_tokens=False)
    app = settings.apps.get(name)
    if app is None:
        raise _Failed(f"{path}: no app {name!r}; there are {', '.join(settings.apps) or 'none'}")
    if not app.token_file:
        raise _Failed(
            f"{path}: app {name} has no token, so it can use no door; write token_file = FILE (outgate token new FILE)"
        )
    return app.token_file


def _addresses(options: Namespace, doors: _Doors) -> dict[str, str]:
    """Return kind → ``host:port`` as a client reaches it, of the first door of each kind that is to be used."""
    found: dict[str, str] = {}
    for kind, address in doors.found:
        if options.only in (None, kind):
            host, _, port = address.rpartition(":")
            found.setdefault(kind, f"{_host(options.host) or _ANY.get(host, host)}:{port}")
    if not found:
        key = "http_connect" if options.only == _HTTP else "socks"
        raise _Failed(f'the gate has no such door; write gate.{key} = ["127.0.0.1:1080"] and restart it')
    return found


def _host(text: str) -> str:
    return f"[{text}]" if ":" in text and not text.startswith("[") else text
