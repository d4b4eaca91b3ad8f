"""``outgate ps``: show the sockets that are open, with their traffic and who holds them."""

from __future__ import annotations

from typing import Any

from outgate.cli import output, parsing
from outgate.core.formats import messages
from outgate.lookout import ask
from outgate.lookout.words import span

_EPILOG = """\
  lease      what it is called in the log, and what "outgate kill" takes
  idle       since a byte last moved            holders    processes that have it open
  path       direct, or relay; "parked" and "lent" say that a descriptor of it is on its way (docs/travel.md);
             "orphan", that a gate made it which has died, and only its program has it (docs/restart.md);
             "not readable", that its app keeps the kernel from saying more than is shown (docs/containment.md);
             "of gate a", that it is a socket of another gate's; "at gate b" among the holders, that a program of
             another gate has it (docs/fleet.md)

Root and the gate's own user see every app, others their own.

exit status: 0 shown, 1 no gate answers or it refuses you, 2 a wrong call.

examples:
  outgate ps
  outgate ps --app blog
  outgate ps --json | jq -r '.sockets[] | select(.idle > 600) | .lease' | xargs -r outgate kill
"""

_COLUMNS = ("lease", "app", "pid", "peer", "path", "age", "idle", "sent", "received", "holders")
_FIGURES = (2, 5, 6, 7, 8)


def main(argv: list[str]) -> int:
    """Ask the gate for its open sockets, page by page, and print them."""
    parser = parsing.parser("ps", "Show the sockets that are open.", _EPILOG)
    parser.add_argument("--app", default="", metavar="NAME", help="only those of this app")
    options = parser.parse_args(argv)
    sockets: list[dict[str, Any]] = []
    gate = ask.Gate(options.socket)
    try:
        for answer in ask.paged(gate.ask, {"op": messages.LIST, "app": options.app}):
            sockets += answer["sockets"]
    except (ask.NoGate, ask.Refused) as e:
        return output.unanswered("ps", e, options.json)
    if options.json:
        output.print_json({"ok": True, "socket": gate.path, "sockets": sockets})
        return 0
    output.print_table([_COLUMNS, *map(_row, sockets)], _FIGURES)
    return 0


def _row(socket: dict[str, Any]) -> tuple[str, ...]:
    address = f"[{socket['address']}]" if ":" in socket["address"] else socket["address"]
    peer = f"{address}:{socket['port']}"
    if socket["host"] != socket["address"]:
        peer = f"{socket['host']}:{socket['port']} ({socket['address']})"
    if socket["transport"] == "udp":
        peer += " udp"
    path = socket["path"] if socket["tenure"] == "held" else f"{socket['path']}, {socket['tenure']}"
    if socket["state"] == "orphan":
        path += ", orphan"
    if not socket.get("readable", True):  # which gates before this one do not say
        path += ", not readable"
    if socket.get("gate"):
        path += f", of gate {socket['gate']}"
    holders = [*map(str, socket["holders"]), *(f"at gate {name}" for name in socket.get("elsewhere", ()))]
    return (
        socket["lease"],
        socket["app"],
        str(socket["pid"]),
        peer,
        path,
        span(socket["age"]),
        "-" if socket["idle"] is None else span(socket["idle"]),
        f"{socket['sent']:,}",
        f"{socket['received']:,}",
        " ".join(holders) or "-",
    )
