"""How the rounds are weighed: what counts as stopped, as leaked, as known, and what makes a proof worthless."""

from __future__ import annotations

from typing import Any

import pytest

from outgate.guard import proof
from outgate.guard.proof import FAILED, LEAKED, NOT_STOPPED, REFUSED, SILENT, UNTRIED, Round
from outgate.guard.ways.target import CLIENT, FENCE, SEAL, USER, Target, Way


def nothing(_target: Target, _mark: bytes) -> None:
    """Dial nothing."""


def way(stopped_by: str = FENCE, name: str = "way") -> Way:
    """Return a way that is stopped by this level."""
    return Way(name, f"a {name}", stopped_by, nothing)


def words(did: str, *, error: str = "", errno: str = "", code: str = "", text: str = "said") -> dict[str, Any]:
    """Return what a program says of one way."""
    return {"did": did, "error": error, "errno": errno, "code": code, "text": text}


DIALLED = words("dialled", text="")
DENIED = words("refused", error="PolicyDenied", errno="EACCES", code="policy-denied", text="blog → x denied")
UNREACHABLE = words("failed", error="OSError", errno="ENETUNREACH", text="[Errno 101] Network is unreachable")
OPEN = Round({"way": DIALLED, "connect": DIALLED}, frozenset({"way", "connect"}))


def held(said: dict[str, Any] | None, arrived: bool = False, strays: int = 0) -> Round:
    """Return the round under outgate run, of one way."""
    return Round({} if said is None else {"way": said}, frozenset({"way"} if arrived else ()), strays)


def outcome(round: Round, stopped_by: str = FENCE, unheld: Round = OPEN, is_root: bool = False) -> proof.Outcome:
    """Return what became of the one way."""
    (found,) = proof.weigh([way(stopped_by)], unheld, round, is_root)
    return found


@pytest.mark.parametrize("said", [DIALLED, DENIED, UNREACHABLE, None])
@pytest.mark.parametrize(
    ("stopped_by", "is_root", "result"),
    [
        (CLIENT, False, LEAKED),
        (FENCE, False, LEAKED),
        (FENCE, True, LEAKED),
        (USER, False, LEAKED),
        (USER, True, NOT_STOPPED),
        (SEAL, False, NOT_STOPPED),
        (SEAL, True, NOT_STOPPED),
    ],
)
def test_what_arrives_has_leaked(said: dict[str, Any] | None, stopped_by: str, is_root: bool, result: str) -> None:
    """What arrives has leaked, whatever the program says, but for what no level of this version stops."""
    found = outcome(held(said, arrived=True), stopped_by, is_root=is_root)
    assert found.result == result
    assert found.why


@pytest.mark.parametrize(
    ("said", "result", "why"),
    [
        (DENIED, REFUSED, "PolicyDenied EACCES"),
        (words("failed", error="PermissionError", errno="EACCES"), REFUSED, "EACCES"),
        (UNREACHABLE, FAILED, "ENETUNREACH"),
        (words("failed", error="OSError", text="curl: (7)"), FAILED, "curl: (7)"),
        (DIALLED, FAILED, "was sent, and did not arrive"),
        (words("dialled", text="entered it"), FAILED, "entered it"),
        (words("untried", text="there is no nc"), UNTRIED, "there is no nc"),
        (None, SILENT, "the program ended before it came to this"),
    ],
)
def test_what_does_not_arrive(said: dict[str, Any] | None, result: str, why: str) -> None:
    """What does not arrive was refused, failed or was not tried, as the program says, with its exception or errno."""
    found = outcome(held(said))
    assert (found.result, found.why) == (result, why)


def test_the_whole_text_is_kept() -> None:
    """Beside the short form of a refusal stands everything that the program was told."""
    assert outcome(held(DENIED)).said == "blog → x denied"


@pytest.mark.parametrize("before", [UNREACHABLE, None])
def test_a_way_that_never_works_proves_nothing(before: dict[str, Any] | None) -> None:
    """A way that does not arrive without outgate either counts as not tried."""
    unheld = Round({} if before is None else {"way": before}, frozenset())
    assert outcome(held(UNREACHABLE), unheld=unheld).result == UNTRIED


def test_what_arrives_without_a_mark_has_leaked() -> None:
    """Something without a mark is a leak of its own, as nobody knows by which way it came."""
    *_, last = proof.weigh([way()], OPEN, held(UNREACHABLE, strays=2), False)
    assert (last.way.name, last.result) == ("unmarked", LEAKED)
    assert "2 connections" in last.why


def test_root_is_told_apart() -> None:
    """Who is root is told to be somebody else; who is not, what the fence is for."""
    assert "another user" in proof.needs(way(USER), True)
    assert "fence" in proof.needs(way(USER), False)


# What makes a proof worthless.


def faults(unheld: Round = OPEN, permitted: Round = OPEN, round: Round | None = None) -> list[str]:
    """Return the faults of three rounds."""
    round = held(UNREACHABLE) if round is None else round
    return proof.faults(unheld, permitted, round, proof.weigh([way()], unheld, round, False))


def test_a_good_proof_has_no_fault() -> None:
    """Where everything arrives that should, and nothing else does, there is nothing to doubt."""
    assert faults() == []


def test_a_deaf_listener() -> None:
    """A listener that hears nothing of a native connect proves nothing."""
    assert any("hears nothing" in each for each in faults(unheld=Round({"way": DIALLED}, frozenset({"way"}))))


def test_a_gate_that_dials_nothing() -> None:
    """A permitted dial that does not arrive makes every refusal worthless, and what it was told is passed on."""
    assert faults(permitted=Round({"connect": DENIED}, frozenset())) == [
        "a permitted dial did not arrive: blog → x denied"
    ]
    assert faults(permitted=Round({}, frozenset())) == ["a permitted dial did not arrive: nothing was said"]


def test_a_run_that_fails() -> None:
    """A round that did not come to its end is named, with the last that it said."""
    broken = Round({}, frozenset(), status=2, errors="first\noutgate run: the gate ended")
    assert faults(round=broken) == [
        "the program did not come to its end held (exit status 2): outgate run: the gate ended"
    ]
    assert "it said nothing" in faults(permitted=Round({}, frozenset(), status=-1))[0]


def test_a_way_without_an_answer() -> None:
    """A program that ends well without having tried every way proves nothing of the rest."""
    assert faults(round=held(None)) == ["the program did not try every way"]
