"""``outgate policy test FILE``: hold policies against tables of expectations, without a gate and without a network."""

from __future__ import annotations

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING, Any, NamedTuple

from outgate.cli import output
from outgate.errors import ConfigError

if TYPE_CHECKING:
    from outgate.core.policy.expect import Outcome, Table
    from outgate.gate.configuration.config import Settings

_DESCRIPTION = "Hold policies against tables of expectations, without a gate and without a network."
_EPILOG = """\
FILE is TOML. It names a configuration, says what names are in this test, and what is expected:

  version = 1
  policy = "outgate.toml"                  # beside this file; or [apps.NAME] here, with the keys of a configuration

  [resolve]
  "db.corp" = ["10.0.0.5"]

  [[expect]]
  app = "blog"
  allow = ["93.184.215.14:443", "db.corp:5432"]
  deny = ["10.0.0.5:22", "169.254.169.254:80"]
  no_lookup = ["evil.example"]

docs/policy-test.md has every key. Nothing is looked up: a name that is neither below [resolve] nor refused is an error.

exit status: 0 all expectations hold, 1 some do not, 2 a file is wrong.

examples:
  outgate policy test policy.test.toml
  outgate policy test --verbose tests/*.test.toml
  outgate policy test --json policy.test.toml | jq '.files[].outcomes[] | select(.holds | not)'
"""


class Held(NamedTuple):
    """What came of one file: its outcomes, or what is wrong with it."""

    file: str
    outcomes: list[Outcome]
    error: str


def parser() -> ArgumentParser:
    """Return the options of ``outgate policy``."""
    p = ArgumentParser(
        prog="outgate policy",
        usage="outgate policy test [OPTIONS] FILE [FILE ...]\n       outgate policy diff [OPTIONS] OLD NEW",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("what", choices=["test"], metavar="test", help="this; outgate policy diff --help has the other")
    p.add_argument("files", metavar="FILE", nargs="+", help="a table of expectations")
    p.add_argument("--verbose", "-v", action="store_true", help="list what holds, too")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    return p


def main(argv: list[str]) -> int:
    """Decide every expectation and print what does not hold; or compare two policies."""
    if argv[:1] == ["diff"]:
        from outgate.cli import policydiff

        return policydiff.main(argv[1:])
    options = parser().parse_args(argv)
    held = [_held(file) for file in options.files]
    if options.json:
        output.print_json(_as_json(held))
    else:
        for each in held:
            _print(each, options.verbose)
    if any(each.error for each in held):
        return 2
    return 0 if all(outcome.holds for each in held for outcome in each.outcomes) else 1


def _held(file: str) -> Held:
    from outgate.core.policy import expect

    try:
        table, settings = _read(file)
        policies = {name: app.policy for name, app in settings.apps.items()}
        try:
            return Held(file, expect.hold(table, policies, _withheld(settings)), "")
        except ConfigError as e:
            raise ConfigError("\n".join(f"{file}: {line}" for line in str(e).splitlines())) from None
    except ConfigError as e:
        return Held(file, [], str(e))


def _read(file: str) -> tuple[Table, Settings]:
    """Return the expectations of a file and the settings they are about. Raises ``ConfigError``."""
    from outgate.core.policy import expect
    from outgate.gate.configuration import config, tomlfile

    if not os.path.exists(file):
        raise ConfigError(f"{file}: there is no such file; outgate policy --help shows one")
    raw, _ = tomlfile.read(file)
    try:
        table = expect.read(raw)
    except ConfigError as e:
        raise ConfigError(f"{file}: {e}") from None
    if not table.policy:
        return table, config.from_table(without_users(table.configuration), file, host=table.own)
    path = os.path.join(os.path.dirname(file), table.policy)
    raw, _ = tomlfile.read(path)
    return table, config.from_table(without_users(raw), path, host=table.own)


def without_users(raw: Any) -> dict[str, Any]:
    """Return a configuration without the users and groups of its apps: the host that runs a test need not have them."""
    apps = raw.get("apps")
    if not isinstance(apps, dict):
        return dict(raw)
    kept = {
        name: {key: value for key, value in app.items() if key not in ("uid", "gid")} if isinstance(app, dict) else app
        for name, app in apps.items()
    }
    return {**raw, "apps": kept}


def _withheld(settings: Settings) -> dict[str, tuple[str, str | None]]:
    """Return the apps that get no sockets, whatever their policy says, and why."""
    from outgate import errors
    from outgate.gate import explain

    refused = {name: explain.withheld(app) for name, app in settings.apps.items()}
    return {name: errors.describe(*row) for name, row in refused.items() if row is not None}


def _as_json(held: list[Held]) -> dict[str, Any]:
    return {
        "ok": not any(each.error or not all(outcome.holds for outcome in each.outcomes) for each in held),
        "files": [
            {
                "file": each.file,
                "error": each.error or None,
                "outcomes": [
                    {
                        "place": outcome.expectation.place,
                        "app": outcome.app,
                        "text": outcome.expectation.text,
                        "holds": outcome.holds,
                        "expected": outcome.expected,
                        "got": outcome.got,
                        "rule": outcome.rule,
                        "rule_place": outcome.place,
                        "reason": outcome.reason,
                        "cure": outcome.cure,
                    }
                    for outcome in each.outcomes
                ],
            }
            for each in held
        ],
    }


def _print(held: Held, verbose: bool) -> None:
    if held.error:
        for line in held.error.splitlines():
            output.fail("policy", line, 2)
        return
    wrong = [outcome for outcome in held.outcomes if not outcome.holds]
    shown = held.outcomes if verbose else wrong
    rows = [(outcome.app, outcome.expectation.text, f"expected {outcome.expected}", _got(outcome)) for outcome in shown]
    for outcome, line in zip(shown, output.table(rows) if rows else [], strict=True):
        mark = output.paint("holds", "green") if outcome.holds else output.paint("FAILS", "red")
        output.say(f"{mark}  {line}")
        if not outcome.holds:
            details = [("at", f"{held.file}: {outcome.expectation.place}"), ("reason", outcome.reason)]
            details.append(("cure", outcome.cure))
            for detail in output.table([each for each in details if each[1]]):
                output.say(f"       {detail}")
    total = len(held.outcomes)
    if wrong:
        text, style = f"{held.file}: {len(wrong)} of {total} expectations do not hold", "red"
    else:
        text, style = f"{held.file}: {'the expectation holds' if total == 1 else f'{total} expectations hold'}", "green"
    output.say(output.paint(output.printable(text), style))


def _got(outcome: Outcome) -> str:
    by = f' by "{outcome.rule}"' if outcome.rule else ""
    return f"got {outcome.got}{by}" + (f" ({outcome.place})" if outcome.place else "")
