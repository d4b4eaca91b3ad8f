"""``outgate fleet``: show the gates of a fleet; begin one, have hosts join it, look after their certificates."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from outgate.cli import fleetview, output, parsing
from outgate.errors import ConfigError

if TYPE_CHECKING:
    from outgate.gate.configuration.config import Settings
    from outgate.gate.configuration.settings import FleetSettings
    from outgate.gate.fleet.folder import Folder

_EPILOG = """\
Without a word it asks the gate that runs here: which gates there are, as they announce themselves where fleet.state is
(without that, this one alone is known), whether they have the same policies, and how much of each quota that they share
each one holds. Where that does not answer it says so, and shows what was known last.

init begins a fleet at the gate that will issue certificates, and must run for others to join. invite makes a token
there: it is good once, for the gate of that name, and for an hour. join takes it at another host. Gates renew their
certificates themselves when two thirds of their week have passed; rotate does so now, and a gate that runs goes on with
the new one within a minute. The configuration has the gate's name and the others (docs/fleet.md).

exit status: 0 done; 1 it could not be, and why is said; 2 a wrong call, or a configuration that cannot be used.

examples:
  outgate fleet                                        # gates, versions, policies, shares of quotas
  outgate fleet --apps                                 # and the open sockets and policy of each app at each gate
  outgate fleet --json | jq -r '.gates[] | select(.state == "silent") | .name'
  outgate fleet init --config /etc/outgate.toml
  outgate fleet invite b --config /etc/outgate.toml    # at the first gate: prints a token
  outgate fleet join - --config /etc/outgate.toml      # at gate b: reads it from standard input
  outgate fleet rotate --config /etc/outgate.toml
  outgate fleet show --json --config /etc/outgate.toml
"""


def parser() -> argparse.ArgumentParser:
    """Return the options of ``outgate fleet``."""
    p = argparse.ArgumentParser(
        prog="outgate fleet",
        usage="outgate fleet [init|invite NAME|join TOKEN|rotate|show] [OPTIONS]",
        description="Show the gates of a fleet; begin one, have hosts join it, and look after their certificates.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    words = ["init", "invite", "join", "rotate", "show"]
    p.add_argument(
        "what", nargs="?", choices=words, metavar="|".join(words), help="what to do (default: show all gates)"
    )
    p.add_argument("word", metavar="NAME|TOKEN", nargs="?", help="of invite: the gate that will join; of join: - reads")
    p.add_argument("--config", metavar="FILE", default="/etc/outgate.toml", help="default: /etc/outgate.toml")
    p.add_argument("--state", metavar="DIR", help="the gate's folder for what outlives it, as for outgate serve")
    p.add_argument("--at", metavar="HOST:PORT", help="invite: where this gate is reached, if not as configured")
    p.add_argument("--hours", metavar="N", type=float, default=1.0, help="invite: how long the token is good (1)")
    p.add_argument("--again", action="store_true", help="invite: the host of a gate that there is, is made anew")
    parsing.add_socket_option(p)
    p.add_argument("--apps", action="store_true", help="without a word: show each app at each gate as well")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    return p


def main(argv: list[str]) -> int:
    """Do what is asked and return the exit status."""
    p = parser()
    options = p.parse_args(argv)
    if options.what is None:
        return fleetview.main(options.socket, options.apps, options.json)
    if (options.word is None) == (options.what in ("invite", "join")):
        p.error(f"{options.what} {'needs' if options.word is None else 'takes no'} NAME or TOKEN")
    try:
        settings, fleet = _settings(options)
    except ConfigError as e:
        return output.fail("fleet", str(e), 2)
    from outgate.gate.fleet.folder import Folder

    folder = Folder(options.state or settings.gate.state)
    try:
        answer = _COMMANDS[options.what](options, fleet, folder)
    except (ConfigError, ValueError) as e:
        if options.json:
            output.print_json({"ok": False, "error": str(e)})
            return 1
        return output.fail("fleet", str(e), 1)
    if options.json:
        output.print_json({"ok": True, **answer})
    else:
        for line in answer.pop("said"):
            output.say(line)
    return 0


def _settings(options: argparse.Namespace) -> tuple[Settings, FleetSettings]:
    from outgate.gate.configuration import config
    from outgate.gate.kernel import host

    settings = config.load(options.config, host=host.own_addresses(), reads_tokens=False)
    if settings.fleet is None:
        raise ConfigError(
            f'{options.config}: there is no table [fleet]; as in [fleet] name = "a" and gates = '
            '{ a = "192.0.2.1:7400", b = "192.0.2.2:7400" }'
        )
    return settings, settings.fleet


def _init(options: argparse.Namespace, fleet: FleetSettings, folder: Folder) -> dict[str, Any]:
    folder.begin(fleet.name, time.time())
    said = [
        f"A fleet begins; gate {fleet.name} issues its certificates. What it knows is in {folder.path}.",
        "Start it with outgate serve, and add a gate with: outgate fleet invite NAME",
    ]
    return {"gate": fleet.name, "folder": folder.path, **_said(options, said)}


def _invite(options: argparse.Namespace, fleet: FleetSettings, folder: Folder) -> dict[str, Any]:
    from outgate.core.fleet import names, terms, token

    if not names.is_name(options.word):
        raise ValueError(f'"{options.word}" is not a name for a gate: a-z, 0-9 and hyphens within, at most 32')
    seconds = options.hours * 3600
    if not 0 < seconds <= terms.LONGEST_TOKEN:
        raise ValueError(f"--hours {options.hours:g}: more than 0, and at most {terms.LONGEST_TOKEN // 3600}")
    at = options.at or names.advertised(fleet.name, fleet.listen, fleet.gates)
    if not at:
        raise ValueError(f"where is this gate reached? fleet.listen is {fleet.listen}; say --at HOST:PORT")
    names.place(at)
    made = folder.invite(options.word, at, time.time(), seconds, options.again)
    text = token.write(made)
    return {"token": text, "name": made.name, "expires": made.expires, **_said(options, [text])}


def _join(options: argparse.Namespace, fleet: FleetSettings, folder: Folder) -> dict[str, Any]:
    from outgate.core.fleet import token
    from outgate.gate.fleet import asking

    text = sys.stdin.readline() if options.word == "-" else options.word
    asking.join(folder, token.read(text, time.time()), fleet.name, fleet.proxy)
    own = folder.own()
    said = [f"This is gate {own.name} now; its certificate is good until {_day(own.ends)}, and renews itself."]
    return {"gate": own.name, "ends": int(own.ends), **_said(options, said)}


def _rotate(options: argparse.Namespace, fleet: FleetSettings, folder: Folder) -> dict[str, Any]:
    from outgate.gate.fleet import asking

    folder.require()
    ends = asking.rotate(folder, fleet.name, fleet.proxy)
    said = [f"The certificate of gate {fleet.name} is good until {_day(ends)}."]
    return {"gate": fleet.name, "ends": int(ends), **_said(options, said)}


def _show(options: argparse.Namespace, fleet: FleetSettings, folder: Folder) -> dict[str, Any]:
    from outgate.core.fleet import terms
    from outgate.gate.fleet import asking

    own = folder.own()
    issuer, at = folder.issuer
    trouble = terms.trouble(own.begins, own.ends, time.time())
    gates = {name: where for name, where in fleet.gates.items() if name != fleet.name}
    troubles = {name: asking.trouble(folder, name, where, fleet.proxy) for name, where in gates.items()}
    by = f"{issuer} at {at}" if at else issuer
    said = [f"gate {own.name}, certificate {trouble or 'good'} until {_day(own.ends)}, issued by {by}"]
    said += output.table([(name, gates[name], troubles[name] or "answers") for name in gates]) if gates else []
    return {
        "gate": own.name,
        "certificate": {"begins": int(own.begins), "ends": int(own.ends), "trouble": trouble or None},
        "issuer": issuer,
        "gates": [{"name": name, "at": gates[name], "trouble": troubles[name] or None} for name in gates],
        **_said(options, said),
    }


def _said(options: argparse.Namespace, lines: list[str]) -> dict[str, Any]:
    return {} if options.json else {"said": lines}


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


_COMMANDS = {"init": _init, "invite": _invite, "join": _join, "rotate": _rotate, "show": _show}
