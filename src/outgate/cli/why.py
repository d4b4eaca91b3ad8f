"""``outgate why``: say which rule decides a destination, or what was last refused to a process."""

from __future__ import annotations

import os
import time
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING, Any

from outgate.cli import output, parsing
from outgate.core.address.destination import destination
from outgate.core.formats import messages
from outgate.errors import ConfigError, systems
from outgate.lookout import ask
from outgate.lookout.words import span

if TYPE_CHECKING:
    from outgate.gate.configuration.config import AppSettings

_EPILOG = """\
The running gate is asked, and resolves a name as it would for a connect; a name that may not be looked up is not. An
address is judged with the names that the app has looked it up by. With --config no gate is needed: the file decides,
and this host's C library resolves. An app with reasons = "brief" is told the kind of rule only; the gate's operator
is told all.

With --last the gate says what it, or a guard, last refused to a process: programs that are not Python are told an errno
alone. It remembers 256 processes of each app, also when they have ended. Root and the gate's own user may ask about all
of them, others about those of their app; so may a program that the gate holds in a fence or under a guard.

exit status: 0 allowed (or only reported), 1 denied, 2 it cannot be told.

examples:
  outgate why db.corp:5432 --app blog
  outgate why '[2001:db8::7]:443'
  outgate why udp://8.8.8.8:53
  outgate why 10.2.0.9:5432 --config outgate.toml      # before the gate has the file
  outgate why --last                                   # why did curl say "Permission denied" just now?
  outgate why --last --pid 4711 --json
"""

ALLOWED, DENIED, UNKNOWN = 0, 1, 2

#: Verdict → what people read, its style, and the exit status.
_VERDICTS = {
    "allow": ("allowed", "green", ALLOWED),
    "report": ("allowed, and reported: enforced it would be denied", "yellow", ALLOWED),
    "deny": ("denied", "red", DENIED),
}


def parser() -> ArgumentParser:
    """Return the options of ``outgate why``."""
    p = ArgumentParser(
        prog="outgate why",
        description="Say which rule decides a destination, without connecting; or what was last refused to a process.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument(
        "destination", metavar="HOST:PORT", nargs="?", help="name or address and port; IPv6 as [ADDRESS]:PORT"
    )
    p.add_argument("--last", action="store_true", help="say what was refused last, instead of deciding")
    p.add_argument("--pid", metavar="N", type=_pid, default=0, help="with --last: to this process (default: to any)")
    p.add_argument("--app", metavar="NAME", default="", help="decide for this app (default: the one you are)")
    p.add_argument("--udp", action="store_true", help="decide for UDP (default: TCP); udp:// in front does the same")
    p.add_argument("--config", metavar="FILE", help="decide by this configuration, without a gate")
    parsing.add_socket_option(p)
    p.add_argument("--json", action="store_true", help="print one JSON object")
    return p


def main(argv: list[str]) -> int:
    """Print the decision. Returns 0 for allowed, 1 for denied, 2 where it cannot be told."""
    p = parser()
    options = p.parse_args(argv)
    if options.last:
        if options.destination or options.app or options.udp or options.config:
            p.error("--last says what was refused; leave out the destination, --app, --udp and --config")
        return _last(options.pid, options.socket, options.json)
    if options.pid:
        p.error("--pid goes with --last")
    if options.destination is None:
        p.error("say HOST:PORT, or --last")
    if options.config and options.socket:
        p.error("--config decides without a gate; leave out --socket")
    try:
        transport, host, port = destination(options.destination)
    except ValueError as e:
        p.error(str(e))
    if options.udp:
        if options.destination.startswith("tcp://"):
            p.error("--udp and tcp:// contradict each other")
        transport = "udp"
    try:
        if options.config:
            answer = _decide(options.config, options.app, transport, host, port)
        else:
            message = {"op": messages.WHY, "host": host, "port": port, "transport": transport, "app": options.app}
            answer = ask.find(message, options.socket)[1]["answer"]
    except (ask.NoGate, ask.Refused, ConfigError) as e:
        cure = "; --config FILE decides without one" if systems.foreign() and not options.config else ""
        answer = {"verdict": "unknown", "host": host, "port": port, "reason": f"{e}{cure}"}
    status = _VERDICTS[answer["verdict"]][2] if answer["verdict"] in _VERDICTS else UNKNOWN
    if options.json:
        output.print_json(answer)
    elif status == UNKNOWN:
        return output.fail("why", answer["reason"], UNKNOWN)
    else:
        _print(answer)
    return status


def _pid(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 32:
        raise ArgumentTypeError(f"{text!r} is no number of a process")
    return int(text)


def _last(pid: int, socket: str, as_json: bool) -> int:
    """Print what was last refused to a process, 0 for any."""
    answer: dict[str, Any]
    try:
        answer = ask.find({"op": messages.LAST, "pid": pid}, socket)[1]["answer"]
    except (ask.NoGate, ask.Refused) as e:
        answer = {"verdict": "unknown", "pid": pid, "reason": str(e)}
    is_known = answer["verdict"] in _VERDICTS
    if as_json:
        output.print_json(answer)
    elif not is_known:
        return output.fail("why", answer["reason"], UNKNOWN)
    else:
        _print_last(answer)
    return DENIED if is_known else UNKNOWN


def _decide(path: str, name: str, transport: str, host: str, port: int) -> dict[str, Any]:
    """Return what a gate with this configuration would answer. Raises ``ConfigError``."""
    from outgate.gate import explain
    from outgate.gate.configuration import config
    from outgate.gate.kernel.host import own_addresses
    from outgate.gate.names.resolver import numbers

    app = _app(config.load(path, host=own_addresses()), name)
    addresses = numbers(host)
    if not addresses:
        refused = explain.before_lookup(app, transport, host, port)
        if refused is not None:
            return refused
        addresses, failure = _resolve(host)
    if not addresses:
        return explain.unknown(host, port, f"{host}: {failure}")
    return explain.explain(app, transport, host, port, addresses)


def _resolve(host: str) -> tuple[list[str], str]:
    """Return the addresses of a name as the gate would find them, IPv4 first, and why there is none."""
    import socket

    addresses, failure = [], ""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            found = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
        except (OSError, UnicodeError) as e:
            failure = getattr(e, "strerror", None) or "Name or service not known"
            continue
        addresses += [str(item[4][0]).partition("%")[0] for item in found]
    return addresses, failure


def _app(settings: Any, name: str) -> AppSettings:
    """Return the app that was named, the one that this user is, or the only one. Raises ``ConfigError``."""
    app: AppSettings | None
    if name:
        app = settings.apps.get(name)
    elif len(settings.apps) == 1:
        (app,) = settings.apps.values()
    else:
        app = settings.find(os.getuid(), os.getgid())
    if app is None:
        there = ", ".join(settings.apps) or "none"
        wanted = f"has no app {name!r}" if name else "does not say which app you are; say it with --app"
        raise ConfigError(f"{settings.source} {wanted} (there are: {there})")
    return app


def _print_last(answer: dict[str, Any]) -> None:
    host = f"[{answer['host']}]" if ":" in answer["host"] else answer["host"]
    where = f" → {host}" + (f":{answer['port']}" if answer["port"] else "") if host else ""
    target = f"{answer['app']}{where} ({answer['transport']})"
    output.say(f"{output.paint('denied', 'red')}  {output.printable(target)}")
    ago = span(max(0.0, time.time() - answer["time"]))
    rows = [
        ("process", f"{answer['pid']} {answer['program']}".rstrip()),
        ("call", f"{answer['call']}, {answer['errno']}, {ago} ago"),
        *_rows(answer),
    ]
    for line in output.table([row for row in rows if row[1]]):
        output.say(f"  {line}")


def _rows(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is said of a decision."""
    rule = answer["rule"]
    if rule and answer["place"]:
        rule += f"  ({answer['place']})"
    known_class = f" ({answer['class']})" if answer["class"] else ""
    return [
        ("address", f"{answer['address']}{known_class}" if answer["address"] else ""),
        ("name", answer["name"] if answer["name"] != answer["host"] else ""),
        ("rule", rule),
        ("reason", answer["reason"]),
        ("cure", answer["cure"] or ""),
        ("via", answer.get("via", "")),  # which a gate before 0.20 does not say
        ("source", answer.get("source", "")),
        ("policy", str(answer["policy"])),
    ]


def _print(answer: dict[str, Any]) -> None:
    words, style, _ = _VERDICTS[answer["verdict"]]
    host = f"[{answer['host']}]" if ":" in answer["host"] else answer["host"]
    target = f"{answer['app']} → {host}:{answer['port']} ({answer['transport']})"
    output.say(f"{output.paint(words, style)}  {output.printable(target)}")
    rows = _rows(answer)
    others = [each for each in answer["addresses"] if each["address"] != answer["address"]]
    rows += [("also", f"{each['address']} ({each['class']}): {each['verdict']}") for each in others]
    for line in output.table([row for row in rows if row[1]]):
        output.say(f"  {line}")
