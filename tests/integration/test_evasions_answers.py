"""Round a policy by what a name answers: aliases, mixed and changing answers, lies; docs/evasions.md lists them all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.corp import CORP, DATABASE, EVIL, MANY, Corp
from support.fenced import (
    Step,
    attempts,
    check_refused,
    creates,
    is_refusal,
    natively,
    nothing_is_reached,
    of_evil,
    refused,
)
from support.liar import ZONE as LIES
from support.world import METADATA, NEAR4, PRIVATE4, TRAP_PORT, WWW, World


def test_aliases_that_end_inside(world: World, corp: Corp, log: Path) -> None:
    """CNAMEs to private, metadata and own addresses, also at the end of a chain, are refused as those addresses are."""
    names = of_evil("private", "metadata", "to-private", "to-metadata", "to-db", "to-gate", "chain1")
    steps = creates(names)
    refused(world, log, [*steps, *creates(names, "connect"), *creates(names, "stream")])
    refused(world, log, [("lookup", name, TRAP_PORT) for name in names] + [("byname", name) for name in names])


def test_an_alias_of_an_allowed_name(world: World, corp: Corp, log: Path) -> None:
    """A name of the attacker's that is an alias of an excepted name does not have the exception."""
    refused(world, log, creates(of_evil("to-db")), "--except", f"db.{CORP}:{TRAP_PORT}")


def test_a_chain_of_aliases_to_a_public_address_works(world: World, corp: Corp, log: Path) -> None:
    """The control: four aliases in a row that end at a public server are followed."""
    (seen,) = attempts(world, log, *creates([f"a.very.long.chain.{CORP}"]))
    assert seen["result"] == WWW[0]


def test_names_of_the_gate_itself(world: World, corp: Corp, log: Path) -> None:
    """The gate's host is refused by its own public address and by a name for it."""
    tried = refused(world, log, [("connect", NEAR4, TRAP_PORT), *creates([f"gate.{CORP}", *of_evil("to-gate")])])
    assert "own" in tried[0]["text"]


def test_mixed_answers(world: World, corp: Corp, log: Path) -> None:
    """Of an answer with private and public addresses a program sees and reaches the public ones only, in any order."""
    (name,) = of_evil("mixed")
    steps: list[Step] = [(word, name, TRAP_PORT) for word in ("lookup", "create", "connect", "stream")] * 3
    steps += [("byname", name), ("byname_ex", name)]
    with nothing_is_reached(world):
        tried = attempts(world, log, *steps)
    for step, seen in zip(steps, tried, strict=True):
        assert seen["result"] == ([WWW[0]] if step[0] in ("lookup", "byname_ex") else WWW[0]), (step, seen)


def test_many_answers(world: World, corp: Corp, log: Path) -> None:
    """Of 61 addresses, too many for a datagram, all 60 public ones arrive and the private one does not."""
    steps = [("lookup", host, TRAP_PORT) for host in (f"many.{CORP}", *of_evil("many"))]
    with nothing_is_reached(world):
        tried = attempts(world, log, *steps, ("create", *steps[1][1:]))
    assert [set(seen["result"]) for seen in tried[:2]] == [set(MANY)] * 2
    assert tried[2]["error"] == "ConnectionRefusedError" or tried[2].get("result") in MANY


def test_exceptions_by_name_do_not_reach_the_machine(world: World, corp: Corp, log: Path) -> None:
    """The owner of an excepted name can point it at private addresses, and never at loopback, metadata, link-local."""
    names = of_evil("metadata", "to-metadata", "loopback", "zero", "mapped-loopback", "linklocal", "multicast")
    rules = [word for name in [*names, *of_evil("private")] for word in ("--except", f"{name}:{TRAP_PORT}")]
    refused(world, log, creates(names), *rules, reaches=False)
    refused(world, log, creates(of_evil("metadata", "loopback")), "--except", f"*.{EVIL}:{TRAP_PORT}")
    (private,) = attempts(world, log, *creates(of_evil("private")), options=tuple(rules))
    assert private["result"] == PRIVATE4


def test_answers_that_alternate(world: World, corp: Corp, log: Path) -> None:
    """A name that is public at every second question and private at the others leads to public addresses or nowhere."""
    name = f"alternate.{LIES}"
    steps: list[Step] = [
        (word, name, TRAP_PORT) for word in ("create", "connect", "lookup", "stream") for _ in range(3)
    ]
    with corp.liar():
        assert {seen["result"] for seen in natively(world, *creates([name] * 2))} == {WWW[0], PRIVATE4}
        with nothing_is_reached(world):
            tried = attempts(world, log, *steps)
            tried += attempts(world, log, *creates([name] * 20), at_once=True)
    for seen in tried:
        assert is_refusal(seen) or seen.get("result") in (WWW[0], [WWW[0]]), seen


@pytest.mark.parametrize("word", ["create", "connect", "stream", "byname"])
def test_rebinding_between_look_up_and_connect(world: World, corp: Corp, log: Path, word: str) -> None:
    """A name that turns private after its first answer is judged by the address that would be dialled."""
    name = f"rebind-{word}.{LIES}"
    step = (word, name) if word == "byname" else (word, name, TRAP_PORT)
    other = f"rebind-native-{word}.{LIES}"
    with corp.liar():
        first, second = natively(world, ("lookup", other, TRAP_PORT), ("create", other, TRAP_PORT))
        assert (first["result"], second["result"]) == ([WWW[0]], PRIVATE4)
        with nothing_is_reached(world):
            looked, *after = attempts(world, log, ("lookup", name, TRAP_PORT), step, step)
    assert looked["result"] == [WWW[0]]
    for seen in after:
        assert is_refusal(seen) or seen.get("result") == WWW[0]


def test_rebinding_of_a_name_in_a_rule(world: World, corp: Corp, log: Path) -> None:
    """A bare address that an allowed name once gave is not widened to what the name answers later on other ports."""
    name = f"rebind.{LIES}"
    with corp.liar(), nothing_is_reached(world):
        tried = attempts(
            world,
            log,
            ("lookup", name, TRAP_PORT),
            ("connect", PRIVATE4, TRAP_PORT),
            ("connect", METADATA, TRAP_PORT),
            options=("--allow", f"{name}:{TRAP_PORT}"),
        )
    assert tried[0]["result"] == [WWW[0]]
    check_refused(["private", "metadata"], tried[1:])


LIARS = ("garbage", "other", "stranger", "loop", "spin", "short", "cut", "broken", "refused", "empty")


def test_name_servers_that_lie(world: World, corp: Corp, log: Path) -> None:
    """Loops, garbage and answers to other questions are a failed look-up as natively, and the gate goes on."""
    names = [f"{habit}.{LIES}" for habit in LIARS]
    with corp.liar(patience=2):
        native = natively(world, *creates(names), at_once=True)
        with nothing_is_reached(world):
            tried = attempts(world, log, *creates(names), *creates([f"honest.{LIES}"]), at_once=True)
    for name, expected, seen in zip(names, native, tried, strict=False):
        assert "gaierror" in expected["kinds"], (name, expected)
        assert "gaierror" in seen["kinds"], (name, seen)
        assert seen["errno"] == expected["errno"], (name, expected, seen)
    assert tried[-1]["result"] == WWW[0]


def test_a_name_server_that_is_silent(world: World, corp: Corp, log: Path) -> None:
    """No answer ends as a gaierror when the resolver's patience does, and costs other names nothing."""
    with corp.liar(patience=2):
        silent, honest = attempts(world, log, *creates([f"silent.{LIES}", f"honest.{LIES}"]), at_once=True)
    assert "gaierror" in silent["kinds"], silent
    assert honest["result"] == WWW[0]


def test_one_slow_name_does_not_hold_up_another(world: World, corp: Corp, log: Path) -> None:
    """A look-up that gets its answer only after another was asked gets it: the other does not wait behind it."""
    steps = creates([f"held-{number}.{LIES}" for number in range(3)] + [f"release.{LIES}"])
    with corp.liar():
        tried = attempts(world, log, *steps, at_once=True)
    assert [seen.get("result") for seen in tried] == [WWW[0]] * 4, tried


def test_a_huge_answer(world: World, corp: Corp, log: Path) -> None:
    """Of 1,501 addresses in one answer of 50 kB, 1,500 are private and dropped; the public one is reached."""
    name = f"huge.{LIES}"
    with corp.liar(), nothing_is_reached(world):
        looked, reached = attempts(world, log, ("lookup", name, TRAP_PORT), ("create", name, TRAP_PORT))
    assert looked["result"] == [WWW[0]]
    assert reached["result"] == WWW[0]


def test_control_characters_in_an_answer(world: World, corp: Corp, log: Path) -> None:
    """An alias with a line break, a NUL and a blank in it neither breaks the decision log nor reaches a program."""
    with corp.liar():
        (seen,) = attempts(world, log, ("byname_ex", f"control.{LIES}"))
    assert seen.get("result") == [WWW[0]] or "gaierror" in seen["kinds"]
    assert all(json.loads(line) for line in log.read_text().splitlines())


def test_zero_ttl(world: World, corp: Corp, log: Path) -> None:
    """An address of an answer that may not be kept is still the one that a connect right after it may go to."""
    name = f"zero.{CORP}"
    rule = ("--allow", f"{name}:{TRAP_PORT}")
    looked, reached = attempts(world, log, ("lookup", name, TRAP_PORT), ("connect", WWW[0], TRAP_PORT), options=rule)
    assert looked["result"] == [WWW[0]]
    assert reached["result"] == WWW[0]


def test_reverse_names_that_lie(world: World, corp: Corp, log: Path) -> None:
    """An address whose reverse name claims to be an allowed one does not get that name's rule."""
    address = MANY[-1]
    native = natively(world, ("byaddr", address))
    assert native[0]["result"] == f"db.{CORP}"
    steps: list[Step] = [("byaddr", address), ("connect", address, TRAP_PORT)]
    with world.watch() as watch:
        tried = attempts(world, log, *steps, options=("--allow", f"db.{CORP}", "--allow", f"{DATABASE}:1"))
        assert watch.to(address) == []
    assert is_refusal(tried[1]), tried
