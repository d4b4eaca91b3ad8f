"""``outgate doctor``: say what this host can hold, prove it, and name what to change."""

from __future__ import annotations

import os
import platform
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING, Any, NamedTuple

from outgate import __version__
from outgate.cli import output, proving
from outgate.gate.seal import seal
from outgate.guard import features, fence, probes, proof

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outgate.cli.proving import Proof
    from outgate.guard.features import Check

_EPILOG = """\
The proof: a listener on this host's loopback, which the policy denies, is dialled through every way that is known, by
a program under "outgate run" as anybody would start it. The listener is the judge: what arrives there has leaked. The
same ways are tried without outgate, so that a way which never works proves nothing, and once where the policy permits
the address, so that a deaf listener proves nothing. Nothing is sent beyond loopback.

  refused      the gate or the client said no, with a reason
  failed       it came to nothing: in the fence there is no such listener
  LEAKED       it arrived, and this version is to stop it: exit status 1
  not stopped  it arrived, and no level of this version stops it, as SECURITY.md says: no effect on the exit status
  not tried    this host lacks what it takes, or it does not work without outgate either: no effect

exit status: 0 every check that the default of outgate run needs holds, and so does the proof; 1 something is to be
changed, and is listed; 2 it could not be found out, or a wrong call. Warnings have no effect.

examples:
  outgate doctor
  outgate doctor --json | jq '.change'
  outgate doctor --relay             # what outgate run --path relay stops besides
  outgate doctor --unconfined        # what outgate run --unconfined does not stop
"""

HOLDS, CHANGE, UNKNOWN = 0, 1, 2

#: The form of ``--json``. A key may be added without raising it; none is renamed or given another meaning.
FORM = 1

#: Seconds after which somebody who waits is told what for.
_PATIENCE = 1.0

#: Level → what it stops (SECURITY.md).
_STOPS = {
    "client": "honest programs that use Python's sockets",
    "fence": "whatever goes round the client",
    "seal": "whoever turns the sockets that the gate gave",
    "guard": "system calls of any program in any language",
}

_STATE_STYLES = {features.OK: "green", features.WARN: "yellow", features.FAIL: "red", features.ABSENT: "dim"}
_RESULT_STYLES = {
    proof.REFUSED: "green",
    proof.FAILED: "green",
    proof.LEAKED: "red",
    proof.NOT_STOPPED: "yellow",
    proof.UNTRIED: "dim",
    proof.SILENT: "red",
}


class Level(NamedTuple):
    """A level of containment (see SECURITY.md).

    :ivar name: of the level.
    :ivar host: whether this host has what it takes.
    :ivar stops: what it stops.
    :ivar found: what of it is here.
    :ivar change: what to change to have it.
    """

    name: str
    host: bool
    stops: str
    found: str
    change: str = ""


class Findings(NamedTuple):
    """Everything that was found, of the default of ``outgate run``, its ``--unconfined`` or ``--path relay``."""

    checks: Sequence[Check]
    levels: Sequence[Level]
    proof: Proof
    unconfined: bool
    relayed: bool

    @property
    def change(self) -> list[str]:
        """What to change, the most important first."""
        wrong = [f"{each.name}: {each.change}" for each in self.checks if each.state == features.FAIL]
        leaks: dict[str, list[str]] = {}
        for each in self.proof.leaks:
            leaks.setdefault(each.why, []).append(each.way.name)
        return [*wrong, *(f"leaked by {', '.join(names)}: {why}" for why, names in leaks.items())]

    @property
    def status(self) -> int:
        """The exit status."""
        if self.change:
            return CHANGE
        return UNKNOWN if self.proof.faults else HOLDS


def parser() -> ArgumentParser:
    """Return the options of ``outgate doctor``."""
    p = ArgumentParser(
        prog="outgate doctor",
        description="Say which level of containment this host has, prove it, and name what to change.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("--socket", metavar="PATH", default="", help="the gate to prove (default: as outgate run finds it)")
    p.add_argument("--relay", action="store_true", help="prove what outgate run --path relay stops")
    p.add_argument("--unconfined", action="store_true", help="prove what outgate run --unconfined stops")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    return p


def main(argv: list[str]) -> int:
    """Ask, prove, print. Returns 0 where the default holds, 1 where something is to change, 2 where that is unknown."""
    options = parser().parse_args(argv)
    findings = _find(options)
    if options.json:
        output.print_json(_plain(findings))
    else:
        _print(findings)
    return findings.status


def _find(options: Namespace) -> Findings:
    progress = _Progress()
    progress("looking at this host")
    checks, unsealed = look()
    gate = proving.look_for_gate(options.socket)
    checks += [gate.check, *proving.of_doors(gate)]
    proof = proving.prove(gate, options.unconfined, progress, options.relay, not unsealed)
    return Findings(checks, levels(checks), proof, options.unconfined, options.relay)


def look() -> tuple[list[Check], str]:
    """Return what is said of this host, for who asks, and why a gate of theirs could not seal, ``""`` if it could."""
    verdict = fence.probe()
    autoload = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "client", "autoload")
    unsealed = seal.trial()
    return list(probes.checks(verdict, unsealed, autoload, os.environ)), unsealed


class _Progress:
    """Tell somebody who has waited for a while what is going on."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    def __call__(self, what: str) -> None:
        if time.monotonic() - self._begin > _PATIENCE:
            output.say(f"outgate doctor: {what} ...", sys.stderr)


def levels(checks: Sequence[Check]) -> list[Level]:
    """Return the levels of containment, each with whether the host has it."""
    by_name = {each.name: each for each in checks}
    fenced = by_name["fence"]
    found = [Level("client", True, _STOPS["client"], "needs nothing of a host")]
    found += [
        Level(each.name, each.state == features.OK, _STOPS[each.name], each.found, each.change)
        for each in (fenced, by_name["seal"], by_name["guard"])
    ]
    if fenced.state != features.OK:  # the guard's programs live in a fence
        found[-1] = found[-1]._replace(host=False, found="needs the fence", change=fenced.change)
    return found


def _plain(findings: Findings) -> dict[str, Any]:
    it = findings.proof
    return {
        "v": FORM,
        "ok": findings.status == HOLDS,
        "status": findings.status,
        "version": __version__,
        "unconfined": findings.unconfined,
        "relay": findings.relayed,
        "checks": [each._asdict() for each in findings.checks],
        "levels": [each._asdict() for each in findings.levels],
        "proof": {
            "ok": not it.faults and not it.leaks,
            "gate": it.gate,
            "address": it.address,
            "fenced": it.fenced,
            "permitted": it.permitted,
            "faults": list(it.faults),
            "ways": [
                {
                    "way": each.way.name,
                    "title": each.way.title,
                    "stopped_by": each.way.stopped_by,
                    "result": each.result.lower().replace(" ", "-"),
                    "why": each.why,
                    "said": each.said,
                }
                for each in it.outcomes
            ],
        },
        "change": findings.change,
    }


def _print(findings: Findings) -> None:
    output.say(output.paint(f"outgate {__version__}, Python {platform.python_version()}, {platform.system()}", "bold"))
    output.say()
    levels = [each.name for each in findings.levels]
    checks = [each for each in findings.checks if each.name == "fence" or each.name not in levels]
    rows = [(each.state, each.name, each.found) for each in checks]
    for check, line in zip(checks, output.table(rows), strict=True):
        output.say(_painted(line, check.state, _STATE_STYLES))
        if check.change and check.state == features.WARN:
            output.say(f"{'':<6}{output.printable(check.change)}")
    output.say()
    output.say(output.paint("levels of containment", "bold"))
    for line in output.table(
        [(each.name, "here" if each.host else "NOT here", each.stops, each.found) for each in findings.levels]
    ):
        output.say(f"  {line}")
    output.say()
    _print_proof(findings.proof)
    _print_end(findings)


def _print_proof(it: Proof) -> None:
    if all(each.result == proof.SILENT for each in it.outcomes):  # nothing to show; the faults say why
        return
    contained = {True: "fenced", False: "NOT fenced", None: "how contained is unknown"}[it.fenced]
    output.say(output.paint(f"proof: {it.address}, denied by {it.gate}, program {contained}", "bold"))
    rows = [(each.result, each.way.title, each.why) for each in it.outcomes]
    for outcome, line in zip(it.outcomes, output.table(rows), strict=True):
        output.say("  " + _painted(line, outcome.result, _RESULT_STYLES))
    refused = next((each.said for each in it.outcomes if each.result == proof.REFUSED), "")
    if refused:
        output.say(f"  the first was told: {output.printable(refused)}")
    output.say(f"  and where the policy permits it, the dial {'arrived' if it.permitted else 'DID NOT ARRIVE'}")
    output.say()


def _print_end(findings: Findings) -> None:
    counts: dict[str, int] = {}
    for each in findings.proof.outcomes:
        counts[each.result] = counts.get(each.result, 0) + 1
    if counts:
        output.say(", ".join(f"{number} {result}" for result, number in counts.items()))
    for number, text in enumerate(findings.change, 1):
        output.say(f"{output.paint('to change', 'red')} {number}: {output.printable(text)}")
    for fault in findings.proof.faults:
        output.say(f"{output.paint('not proved', 'red')}: {output.printable(fault)}")
    options = (" --path relay" if findings.relayed else "") + (" --unconfined" if findings.unconfined else "")
    what = f"outgate run{options}" if options else "the default of outgate run"
    words = {
        HOLDS: (f"{what} holds here", "green"),
        CHANGE: (f"{what} does not hold here", "red"),
        UNKNOWN: (f"whether {what} holds here could not be found out", "yellow"),
    }
    output.say(output.paint(*words[findings.status]))


def _painted(line: str, word: str, styles: dict[str, str]) -> str:
    """Colour the word that a line begins with."""
    return output.paint(word, styles[word]) + line[len(word) :]
