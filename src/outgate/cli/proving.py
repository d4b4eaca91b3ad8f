"""Run the three rounds of the proof of ``outgate doctor``: without outgate, with the address permitted, and held."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from outgate.cli import nested
from outgate.core import paths
from outgate.core.formats import messages
from outgate.guard import features, proof
from outgate.guard.features import Check
from outgate.guard.judge import Judge
from outgate.guard.proof import Outcome
from outgate.guard.ways.table import WAYS
from outgate.guard.ways.target import V4, V6
from outgate.lookout import ask, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["Proof", "look_for_gate", "of_doors", "prove"]

#: ``outgate run`` without the working directory on its path: a json.py there is not for us.
_RUN = """\
import sys
sys.path += [folder for folder in sys.argv.pop(1).split("\\n") if folder not in sys.path]
from outgate.cli.main import main
sys.exit(main())
"""


#: For a question about loopback as a whole.
_ANY_PORT = 9


class Proof(NamedTuple):
    """What the three rounds came to.

    :ivar gate: which gate judged, in words.
    :ivar address: what was dialled.
    :ivar fenced: whether the program was in a network of its own; ``None`` where it did not come to say so.
    :ivar outcomes: one for each way; none where the proof could not be tried.
    :ivar permitted: whether a permitted dial arrived.
    :ivar faults: why nothing is proved; none where the proof can be believed.
    """

    gate: str
    address: str
    fenced: bool | None
    outcomes: Sequence[Outcome]
    permitted: bool
    faults: Sequence[str]

    @property
    def leaks(self) -> list[Outcome]:
        """The ways that arrived, and that this version is to stop."""
        return [each for each in self.outcomes if each.result == proof.LEAKED]


class Gate(NamedTuple):
    """Which gate ``outgate run`` would use.

    :ivar check: what to say of it.
    :ivar path: its socket, ``""`` for one that ``run`` starts.
    :ivar is_sealed: whether it seals what it makes, if it runs.
    :ivar doors: what it says of its doors, if it runs.
    """

    check: Check
    path: str = ""
    is_sealed: bool = False
    doors: Sequence[Mapping[str, Any]] = ()


def look_for_gate(socket: str) -> Gate:
    """Find the gate that ``outgate run`` would use, and ask it who it is and who we are to it.

    :param socket: the only path to try; default: as ``outgate run`` searches.
    """
    named = socket or os.environ.get(paths.SOCKET_VARIABLE, "")
    try:
        path, reply = ask.find({"op": messages.STAT}, socket)
    except ask.NoGate as e:
        if named:
            return Gate(
                Check("gate", features.FAIL, str(e), f"start it, or take {_source(socket)} away to have one started")
            )
        return Gate(Check("gate", features.OK, "none runs here; outgate run starts one for its program"))
    except ask.Refused as e:
        return Gate(Check("gate", features.FAIL, f"the one at {e.path} refuses this user: {e}", _add_app()))
    hello, answer = reply["hello"], reply["answer"]
    doors = answer.get("doors", ())
    found = f"outgate {answer['version']} at {path}, policy {answer['policy']} ({answer['source']})"
    if not hello["app"]:
        return Gate(Check("gate", features.FAIL, f"{found}, in which you are no app", _add_app()), doors=doors)
    is_sealed = bool(answer.get("seal"))
    found += f", in which you are app {hello['app']}, its sockets {'' if is_sealed else 'not '}sealed"
    state = answer.get("fleet_state")
    if state and not state["answers"]:
        change = "start it, or take fleet.state out of the configuration"
        found += f"; what its fleet shares, {words.shared(state)}"
        return Gate(Check("gate", features.WARN, found, change), path, is_sealed, doors)
    off = words.clock(state.get("skew", 0.0)) if state else ""
    if off:
        found += f"; the clock of this host is {off} that of what its fleet shares"
        return Gate(Check("gate", features.WARN, found, "have it set by NTP"), path, is_sealed, doors)
    if _verdict(path, V4, _ANY_PORT) == "report":
        change = f'mode = "enforce" under [apps.{hello["app"]}]'
        found += ", which is in report mode: nothing is refused"
        return Gate(Check("gate", features.WARN, found, change), path, is_sealed, doors)
    return Gate(Check("gate", features.OK, found), path, is_sealed, doors)


def of_doors(gate: Gate) -> Iterator[Check]:
    """Give what to say of each door of the gate: whether it listens, who reaches it, and who may use it."""
    for each in gate.doors:
        found = words.door(each)
        if not each["listening"]:
            found += f"; it does not listen: {each['why']}"
            yield Check("door", features.WARN, found, "free that address, or name another one; the gate goes on trying")
        elif not each.get("loopback", True):
            change = "let only networks that you trust reach it: tokens, and what is not TLS, cross them as they are"
            yield Check("door", features.WARN, found, change)
        elif not each.get("app_count", 1):
            yield Check("door", features.WARN, found, "under an app: token_file = FILE (outgate token new FILE)")
        else:
            yield Check("door", features.OK, found)


def _verdict(path: str, host: str, port: int) -> str:
    """Return what a gate would say of a TCP connect, ``unknown`` where it cannot be asked."""
    message = {"op": messages.WHY, "host": host, "port": port, "transport": "tcp", "app": ""}
    try:
        return str(ask.request(path, message)["answer"]["verdict"])
    except (ask.NoGate, ask.Refused, KeyError):
        return "unknown"


def _source(socket: str) -> str:
    return "--socket" if socket else paths.SOCKET_VARIABLE


def _add_app() -> str:
    return f"add an app with uid = [{os.getuid()}] to its configuration, or give outgate run one: --config FILE"


def prove(gate: Gate, unconfined: bool, progress: Callable[[str], None], is_relayed: bool, can_seal: bool) -> Proof:
    """Run the rounds and weigh them.

    :param gate: the one that ``outgate run`` would use.
    :param unconfined: prove what ``outgate run --unconfined`` stops instead of what the default does.
    :param progress: is told what is going on.
    :param is_relayed: prove what ``outgate run --path relay`` stops, with a gate of its own.
    :param can_seal: whether a gate of this user seals its sockets.
    """
    inside = nested.reason(os.environ)
    if inside:
        return Proof("", "", None, [], False, ["this runs under a gate already; run outgate doctor outside of it"])
    try:
        with Judge() as judge:
            address = f"{V4}:{judge.port}" + (f" and [{V6}]:{judge.port}" if judge.ipv6 else "")
            words, options = _choose(Gate(gate.check) if is_relayed else gate, judge)
            is_sealed = gate.is_sealed if "--socket" in options else can_seal
            if is_relayed:
                options += ["--path", "relay"]
            if unconfined:
                options.append("--unconfined")
            progress(f"dialling {address} in {len(WAYS)} ways, without outgate")
            unheld = judge.hear([], _root())
            progress("dialling it where the policy permits it")
            permit = ["--except", f"{V4}:{judge.port}", "--log", os.devnull]
            permitted = judge.hear(_outgate_run(permit), _root(), proof.CONTROL)
            progress(f"dialling it in {len(WAYS)} ways under outgate run")
            held = judge.hear(_outgate_run(options), _root())
    except OSError as e:
        return Proof("", "", None, [], False, [f"the proof could not be carried out on this host's loopback: {e}"])
    outcomes = proof.weigh(WAYS, unheld, held, os.geteuid() == 0, is_relayed or is_sealed)
    return Proof(
        words,
        address,
        held.network != unheld.network if held.network else None,
        outcomes,
        set(proof.CONTROL) <= permitted.arrived,
        proof.faults(unheld, permitted, held, outcomes),
    )


def _choose(gate: Gate, judge: Judge) -> tuple[str, list[str]]:
    """Return which gate shall judge, in words, and the options of ``outgate run`` for it.

    A gate whose policy lets this user reach its own loopback could not prove a refusal; one is started then.
    """
    # Its log would be this user's: what is dialled here belongs into nobody's record of what programs reach.
    own = ["--log", os.devnull]
    if not gate.path:
        return "a gate that outgate run started", own
    for host in (V4, V6)[: 1 + judge.ipv6]:
        verdict = _verdict(gate.path, host, judge.port)
        if verdict != "deny":
            return f"a gate that outgate run started, as the running one does not deny {host} (it says: {verdict})", own
    return f"the running gate at {gate.path}", ["--socket", gate.path]


def _root() -> str:
    """Return the folder that outgate is in."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def _outgate_run(options: Sequence[str]) -> list[str]:
    folders = [_root(), *(folder for folder in sys.path if os.path.isabs(folder))]
    return [sys.executable, "-I", "-c", _RUN, "\n".join(folders), "run", "--quiet", *options, "--"]
