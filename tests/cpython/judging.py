"""Judge what became of a module's tests: what passed, what does not apply, what is red.

A test that does not pass through the gate is run natively too. If it does not pass there either, it says nothing of the
gate on this machine: it is *not applicable*. Otherwise it is run through the gate once more, with just others like it:
CPython's tests have time limits and ports to be unlucky with. One that passes then is named in the report.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from cpython.lists import Lists, Module, fits
from cpython.supervising import How, NotStarted, Order, Outcome, Ran, Stop, run


@dataclass
class Verdict:
    """What became of one module's tests, by name; and what makes the run red, a sentence each."""

    module: str
    passed: list[str] = field(default_factory=list)
    #: Test → how it ended natively.
    not_applicable: dict[str, Outcome] = field(default_factory=dict)
    #: Test → reason.
    excluded: dict[str, str] = field(default_factory=dict)
    known_failures: dict[str, str] = field(default_factory=dict)
    #: Test → how it ended through the gate, where nobody expected that.
    failed: dict[str, Outcome] = field(default_factory=dict)
    #: Tests that passed, the second time → how they ended the first time.
    second_time: dict[str, Outcome] = field(default_factory=dict)
    red: list[str] = field(default_factory=list)
    sockets: int = 0
    connects: int = 0
    absent: str = ""
    #: How long all of its runs took together.
    seconds: float = 0.0

    @property
    def tests(self) -> int:
        """How many tests the module has here."""
        return self.applicable + len(self.not_applicable) + len(self.excluded)

    @property
    def applicable(self) -> int:
        """How many of them say something of the gate: neither excluded by rule nor failing natively."""
        return len(self.passed) + len(self.known_failures) + len(self.failed)


def judge(module: Module, lists: Lists, native: How, gated: How, stop: Stop, match: tuple[str, ...] = ()) -> Verdict:
    """Run a module through the gate, and natively what did not pass; say what became of each test.

    :param native: how to run tests without the gate.
    :param gated: how to run them through it.
    :param match: patterns of the tests to run, none for all; then nothing is said of tests that should be there.
    :raises Stopped: as soon as ``stop`` is set.
    """
    began = time.monotonic()
    try:
        verdict = _judge(module, lists, native, gated, stop, match)
    except NotStarted as e:
        verdict = Verdict(module.name, red=[f"{module.name}: could not be run: {e}"])
    verdict.seconds = time.monotonic() - began
    return verdict


def judge_excluded(module: Module, lists: Lists, gated: How, stop: Stop) -> Verdict:
    """Run through the gate just what is excluded: a test that passes has no reason to be.

    :raises Stopped: as soon as ``stop`` is set.
    """
    verdict = Verdict(module.name)
    patterns = tuple(pattern for entry in lists.excluded for pattern in entry.patterns(module.name))
    if not patterns:
        return verdict
    try:
        ran = run(gated, Order(module.name, patterns, resources=module.resources), stop)
    except NotStarted as e:
        verdict.red.append(f"{module.name}: could not be run: {e}")
        return verdict
    for test, outcome in ran.outcomes.items():
        if outcome.is_good:
            verdict.passed.append(test)
            verdict.red.append(f"{test}: passes, and is excluded")
        else:
            verdict.excluded[test] = next(entry.reason for entry in lists.excluded if fits(test, entry))
    return verdict


def _judge(module: Module, lists: Lists, native: How, gated: How, stop: Stop, match: tuple[str, ...]) -> Verdict:
    excluded = [pattern for entry in lists.excluded for pattern in entry.patterns(module.name)]
    order = Order(module.name, match or module.only, tuple(excluded), resources=module.resources)
    ran = run(gated, order, stop)
    bad = _bad(ran)
    known = {test for test in bad if any(fits(test, entry) for entry in lists.known_failures)}
    natively = run(native, replace(order, only=tuple(bad)), stop) if bad else Ran()
    again = tuple(test for test in bad if test not in known and _is_good(natively, test))
    second = run(gated, replace(order, only=again), stop) if again else Ran()
    verdict = _sort(module.name, lists, ran, natively, second)
    _say_what_is_red(verdict, module, lists, complete=not match)
    return verdict


def _bad(ran: Ran) -> list[str]:
    return [test for test, outcome in ran.outcomes.items() if not outcome.is_good]


def _is_good(ran: Ran, test: str) -> bool:
    return test in ran.outcomes and ran.outcomes[test].is_good


def _sort(module: str, lists: Lists, ran: Ran, natively: Ran, second: Ran) -> Verdict:
    """Put every test where it belongs."""
    verdict = Verdict(module, absent=ran.absent)
    verdict.sockets = ran.sockets + second.sockets
    verdict.connects = ran.connects + second.connects
    for test in sorted(ran.left_out):
        verdict.excluded[test] = next(entry.reason for entry in lists.excluded if fits(test, entry))
    for test, outcome in ran.outcomes.items():
        known = next((entry.reason for entry in lists.known_failures if fits(test, entry)), "")
        if outcome.is_good:
            verdict.passed.append(test)
        elif test in natively.outcomes and not natively.outcomes[test].is_good:
            verdict.not_applicable[test] = natively.outcomes[test]
        elif known:
            verdict.known_failures[test] = known
        elif _is_good(second, test):
            verdict.passed.append(test)
            verdict.second_time[test] = outcome
        else:
            verdict.failed[test] = second.outcomes.get(test, outcome)
    return verdict


def _say_what_is_red(verdict: Verdict, module: Module, lists: Lists, complete: bool) -> None:
    say = verdict.red.append
    if verdict.absent:
        say(f"{module.name}: {verdict.absent}")
        return
    for test, outcome in verdict.failed.items():
        say(f"{test}: {outcome.word}, and passes natively")
    for entry in lists.known_failures:
        for test in verdict.passed:
            if fits(test, entry):
                say(f"{test}: passes, and is a known failure")
    if not complete:
        return
    if module.connects and verdict.connects == 0:
        say(f"{module.name}: the gate has counted no connect")
    there = [*verdict.passed, *verdict.not_applicable, *verdict.known_failures, *verdict.failed]
    for what, entries, tests in (
        ("exclusion", lists.excluded, list(verdict.excluded)),
        ("known failure", lists.known_failures, there),
    ):
        for entry in entries:
            for pattern in entry.patterns(module.name):
                if not any(fnmatchcase(test, pattern) for test in tests):
                    say(f"{pattern}: no test fits this {what}")
