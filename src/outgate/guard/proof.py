"""Weigh what arrived and what was said: which ways to a denied address are stopped, and is that proved?

Three rounds are compared. **Unheld**: every way dials natively, so that a way which does not work on this host anyway
proves nothing. **Permitted**: the same address under a policy that excepts it, so that a refusal is known to come from
the policy and not from a gate that dials nothing. **Held**: every way under ``outgate run``. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from outgate.guard.ways.target import CLIENT, FENCE, SEAL, USER, Target, Untried, Way

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "CONTROL",
    "FAILED",
    "LEAKED",
    "NOT_STOPPED",
    "REFUSED",
    "SILENT",
    "UNTRIED",
    "Outcome",
    "Round",
    "faults",
    "needs",
    "weigh",
]

REFUSED = "refused"  #: the gate, or the client, said no; nothing arrived
FAILED = "failed"  #: it came to nothing, and nothing arrived
LEAKED = "LEAKED"  #: it arrived, and this version is to stop it
NOT_STOPPED = "not stopped"  #: it arrived, and no level of this version stops it, as documented
UNTRIED = "not tried"  #: this host lacks what it takes, or it does not work unheld either
SILENT = "unknown"  #: the program ended before it

#: The ways that must arrive where the policy permits the address.
CONTROL = ("connect",)


def _nobody(_target: Target, _mark: bytes) -> None:
    raise Untried("this is not dialled, it arrives")


#: What stands for whatever arrives without the mark of a way.
_UNMARKED = Way("unmarked", "something without a mark", CLIENT, _nobody)


class Round(NamedTuple):
    """What one run of all ways came to.

    :ivar said: way → what the program believes of it, in the words of ``ways/children.py``.
    :ivar arrived: the ways whose mark arrived.
    :ivar strays: connections and datagrams that arrived without a mark of ours.
    :ivar network: the network namespace it was in, as ``/proc/self/ns/net`` reads.
    :ivar client: whether the client had been loaded.
    :ivar status: the exit status; -1 where it did not end.
    :ivar errors: what it, or ``outgate run``, wrote on standard error.
    """

    said: Mapping[str, Mapping[str, Any]]
    arrived: frozenset[str]
    strays: int = 0
    network: str = ""
    client: bool = False
    status: int = 0
    errors: str = ""


class Outcome(NamedTuple):
    """What became of one way.

    :ivar way: which.
    :ivar result: :data:`REFUSED`, :data:`FAILED`, :data:`LEAKED`, :data:`NOT_STOPPED`, :data:`UNTRIED`, :data:`SILENT`.
    :ivar why: the exception and errno of it, or what it would take to stop it.
    :ivar said: the whole text of what stopped it, ``""`` where nothing did.
    """

    way: Way
    result: str
    why: str
    said: str = ""


def weigh(ways: Sequence[Way], unheld: Round, held: Round, is_root: bool, is_sealed: bool = False) -> list[Outcome]:
    """Return what became of each way.

    :param unheld: the round without outgate.
    :param held: the round under ``outgate run``.
    :param is_root: whether they ran as root, whom the fence does not hold.
    :param is_sealed: whether no socket that it held could be turned: sealed, or relayed.
    """
    outcomes = [_weigh(way, unheld, held, is_root, is_sealed) for way in ways]
    if held.strays:
        why = f"{held.strays} connections or datagrams; whoever sent them knew the port"
        outcomes.append(Outcome(_UNMARKED, LEAKED, why))
    return outcomes


def _weigh(way: Way, unheld: Round, held: Round, is_root: bool, is_sealed: bool) -> Outcome:
    if way.name in held.arrived:
        known = (way.stopped_by == SEAL and not is_sealed) or (way.stopped_by == USER and is_root)
        return Outcome(way, NOT_STOPPED if known else LEAKED, needs(way, is_root))
    said = held.said.get(way.name)
    if said is None:
        return Outcome(way, SILENT, "the program ended before it came to this")
    if said["did"] == "untried":
        return Outcome(way, UNTRIED, said["text"])
    if way.name not in unheld.arrived:
        before = unheld.said.get(way.name)
        why = before["text"] if before else "nothing was said"
        return Outcome(way, UNTRIED, f"without outgate it does not work here either: {why}")
    if said["did"] == "dialled":
        return Outcome(way, FAILED, said["text"] or "was sent, and did not arrive")
    # connect_ex has no more to say than EACCES, which the kernel never says of an address on loopback.
    refused = said["did"] == "refused" or said["errno"] == "EACCES"
    short = f"{said['error']} {said['errno']}" if said["code"] else said["errno"]
    return Outcome(way, REFUSED if refused else FAILED, short or said["text"], said["text"])


def _words(said: Mapping[str, Any]) -> str:
    return str(said["text"] or said["did"])


def needs(way: Way, is_root: bool) -> str:
    """Return what it takes to stop a way that arrived."""
    fence = "the client alone does not stop it; the fence does"
    return {
        CLIENT: "the client is to stop it",
        FENCE: fence,
        USER: "root can leave the fence: run programs as another user" if is_root else fence,
        SEAL: "--path relay has nothing to turn, and a gate that has the rights at its start seals direct sockets",
    }[way.stopped_by]


def faults(unheld: Round, permitted: Round, held: Round, outcomes: Sequence[Outcome]) -> list[str]:
    """Return why nothing is proved, a sentence each; none where the proof can be believed."""
    found = []
    for name, each in (("without outgate", unheld), ("with the address permitted", permitted), ("held", held)):
        if each.status != 0:
            last = each.errors.splitlines()[-1:] or ["it said nothing"]
            found.append(f"the program did not come to its end {name} (exit status {each.status}): {last[0]}")
    missing = [name for name in CONTROL if name not in unheld.arrived]
    if missing:
        found.append("the listener hears nothing: not even a native connect arrived")
    if permitted.status == 0:
        for name in CONTROL:
            if name not in permitted.arrived:
                said = permitted.said.get(name)
                found.append(f"a permitted dial did not arrive: {_words(said) if said else 'nothing was said'}")
    if held.status == 0 and any(each.result == SILENT for each in outcomes):
        found.append("the program did not try every way")
    return found
