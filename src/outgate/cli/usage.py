"""``outgate usage``: say what every app has sent and received, and what it costs, from the ledger."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING

from outgate.cli import output
from outgate.errors import ConfigError

if TYPE_CHECKING:
    from argparse import Namespace

    from outgate.core.bill.statement import Statement
    from outgate.core.bill.tally import Counts
    from outgate.lookout.ledger import Place
    from outgate.lookout.usage import Usage

_EPILOG = """\
The ledger is read where it is kept, whether the gate runs or not: that of --config, or --ledger FILE, or of the gate
that runs. What lies in windows that are not sealed yet is counted, and the last line says up to when all is final.

sent and received are bytes of the application: exact. Those on the wire are with headers of TCP and IP and what was
sent again: counted packet by packet where the gate seals its sockets, else estimated; the last lines say which. Prices
are those of the configuration (docs/billing.md); lines add up to their total.

"outgate usage verify" adds everything up again, from sealed windows, their sums, the gates' own counts and the decision
log, and names what differs.

exit status: 0 shown (verify: everything agrees), 1 verify: something differs, 2 it cannot be told.

examples:
  outgate usage --config /etc/outgate.toml
  outgate usage --from 2026-11 --to 2026-12 --by app,destination
  outgate usage --app blog --by day --csv > blog.csv
  outgate usage --ledger ledger.sqlite --label job=17 --json
  outgate usage verify --config /etc/outgate.toml
"""

_CALENDAR = ("hour", "day", "month")
_BY = (*_CALENDAR, "app", "label", "destination")


def parser() -> ArgumentParser:
    """Return the options of ``outgate usage``."""
    p = ArgumentParser(
        prog="outgate usage",
        description="Say what every app has sent and received, and what it costs.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("verify", nargs="?", choices=["verify"], help="add everything up again and name what differs")
    p.add_argument("--app", default="", metavar="NAME", help="only this app")
    p.add_argument("--label", default="", metavar="KEY=VALUE", help="only what was booked under this label")
    p.add_argument(
        "--from", dest="since", metavar="TIME", help="from when on, as in 2026-11-23, 2026-11, 2026-11-23T14:30"
    )
    p.add_argument("--to", dest="until", metavar="TIME", help="up to when, itself left out")
    p.add_argument("--by", default="", metavar="WHAT", help="lines by " + ", ".join(_BY) + ", or several with commas")
    p.add_argument("--zone", default="", help="whose days and hours (default: gate.zone of the configuration)")
    p.add_argument("--ledger", metavar="URL", default="", help="the ledger: a file, or a URL")
    p.add_argument("--config", metavar="FILE", default="", help="the configuration with the ledger and its prices")
    p.add_argument("--socket", metavar="PATH", default="", help="the gate to ask, where neither is given")
    p.add_argument("--log", metavar="FILE", default="", help="verify: the decision log to hold against the ledger")
    form = p.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--csv", action="store_true", help="print comma-separated values (RFC 4180)")
    return p


def main(argv: list[str]) -> int:
    """Read the ledger and print a statement."""
    options = parser().parse_args(argv)
    from outgate.lookout import ledger

    try:
        place = ledger.find(options.ledger, options.config, options.socket, options.zone)
        if options.verify:
            from outgate.cli import verifying

            return verifying.verify(place, options.log, options.json)
        return _show(options, place)
    except (ConfigError, ValueError) as error:
        return output.fail("usage", str(error), 2)


def _show(options: Namespace, place: Place) -> int:
    from outgate.core.bill import statement
    from outgate.core.bill.windows import moment
    from outgate.lookout.usage import read

    by = _groups(options.by)
    calendar = next((each for each in by if each in _CALENDAR), "")
    since = moment(options.since, place.zone) if options.since else None
    until = moment(options.until, place.zone) if options.until else None
    usage = read(place, since, until, calendar, options.app)
    used = statement.of_label(usage.used, options.label) if options.label else usage.used
    made = statement.make(used, by, place.prices)
    if options.json:
        output.print_json(_plain(made, place, usage))
    elif options.csv:
        _print_csv(made)
    else:
        _print(made, place, usage)
    return 0


def _groups(text: str) -> tuple[str, ...]:
    by = tuple(filter(None, text.split(","))) or ("app",)
    for each in by:
        if each not in _BY:
            raise ValueError(f"--by {each}: lines are made by {', '.join(_BY)}")
    if len(set(by)) < len(by) or sum(each in _CALENDAR for each in by) > 1:
        raise ValueError("--by takes each word once, and one of hour, day and month")
    return by


def _plain(made: Statement, place: Place, usage: Usage) -> dict[str, object]:
    def row(line: object) -> dict[str, object]:
        return {**line.counts._asdict(), "amount": str(line.amount)}  # type: ignore[attr-defined]

    def stamp(moment: int) -> str | None:
        return place.stamp(moment) if moment else None

    return {
        "ok": True,
        "from": stamp(usage.since),
        "to": stamp(usage.until),
        "currency": made.currency,
        "lines": [{**dict(zip(made.groups, line.key, strict=True)), **row(line)} for line in made.lines],
        "total": row(made.total),
        "sealed": stamp(usage.extent.sealed),
        "final": usage.until <= usage.extent.sealed,
        "incomplete": [
            {
                "gate": gap.gate,
                "from": place.stamp(gap.since),
                "to": place.stamp(gap.until),
                "how": gap.how,
                "sockets": gap.sockets,
            }
            for gap in usage.gaps
        ],
    }


def _print_csv(made: Statement) -> None:
    import csv

    from outgate.core.bill.tally import Counts

    writer = csv.writer(sys.stdout)
    amount = ["amount", "currency"] if made.currency else []
    writer.writerow([*made.groups, *Counts._fields, *amount])
    for line in made.lines:
        cost = [line.amount, made.currency] if made.currency else []
        writer.writerow([*map(_defused, line.key), *line.counts, *cost])


def _defused(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula (OWASP, "CSV injection")."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _print(made: Statement, place: Place, usage: Usage) -> None:
    heads = [*made.groups, "sent", "received", "wire sent", "wire received"]
    heads += [made.currency] if made.currency else []
    rows = [heads]
    for line in (*made.lines, made.total):
        key = line.key if line is not made.total else ("total", *[""] * (len(made.groups) - 1))
        cells = [*(text or "-" for text in key[:1]), *key[1:], *(f"{count:,}" for count in line.counts[:-1])]
        rows.append([*cells, f"{line.amount:,}"] if made.currency else cells)
    output.print_table(rows, range(len(made.groups), len(heads)))
    output.say()
    if not usage.extent.last:
        output.say("the ledger is empty: nothing has been booked yet")
        return
    output.say(f"from {place.stamp(usage.since)} to {place.stamp(usage.until)}; {_how_exact(made.total.counts)}")
    sealed, seen = usage.extent.sealed, place.stamp(usage.extent.seen)
    if not sealed:
        output.say(f"nothing is final yet; what is here was written by {seen}")
    elif usage.until > sealed:
        output.say(f"final up to {place.stamp(sealed)}; what is later was written by {seen}")
    for gap in usage.gaps:
        output.say(
            f"incomplete: gate {gap.gate} was away ({gap.how}) from {place.stamp(gap.since)} to "
            f"{place.stamp(gap.until)}, with {gap.sockets} sockets open"
        )


def _how_exact(counts: Counts) -> str:
    """Say how much of the bytes on the wire is an estimate."""
    whole = counts.wire_sent + counts.wire_received
    if counts.wire_exact == 0:
        return "bytes on the wire are an estimate"
    if counts.wire_exact == whole:
        return "bytes on the wire are exact"
    share = 100 * (whole - counts.wire_exact) / whole
    return f"of the bytes on the wire {'under 0.1' if share < 0.1 else f'{share:.1f}'} % are an estimate"
