"""The harness of CPython's tests tells right from wrong: a small package stands in for the interpreter's ``test``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpython import judging, lists, reporting, supervising
from cpython.judging import Verdict, judge, judge_excluded
from cpython.lists import Entry, Lists, Module
from cpython.supervising import How, NotStarted, Order, Outcome, Ran, Stop, Stopped

EVERY_END = """
    class Ends(unittest.TestCase):
        def test_pass(self): pass
        def test_fail(self): self.fail("it failed")
        def test_error(self): raise OSError("it broke")
        def test_skip(self): self.skipTest("no wish")
        @unittest.expectedFailure
        def test_expected(self): self.fail()
        @unittest.expectedFailure
        def test_unexpected(self): pass
        def test_subtests(self):
            for number in range(3):
                with self.subTest(number=number):
                    self.assertNotEqual(number, 1)
        def test_torn(self): self.addCleanup(self.fail, "at the end")
    @unittest.skip("never")
    class Skipped(unittest.TestCase):
        def test_skipped(self): pass
    class Unready(unittest.TestCase):
        @classmethod
        def setUpClass(cls): raise OSError("no ground")
        def test_never(self): pass
    class Unwilling(unittest.TestCase):
        @classmethod
        def setUpClass(cls): raise unittest.SkipTest("not here")
        def test_never(self): pass
"""
DEADLY = """
    class Deadly(unittest.TestCase):
        def test_1_before(self): pass
        def test_2_hangs(self): threading.Event().wait()
        def test_3_between(self): pass
        def test_4_dies(self): os._exit(3)
        def test_5_after(self): pass
"""
MODULE = Module("test_it", connects=False, fast=True)
NATIVE, GATED = How("python", gate=False), How("python")


@pytest.fixture
def stop() -> Iterator[Stop]:
    """A stop that a test may set."""
    stop = Stop()
    yield stop
    stop.close()


def package(folder: Path, code: str) -> str:
    """Write a package ``test`` with one module ``test_it``, and return the folder it is in."""
    (folder / "test").mkdir()
    (folder / "test" / "__init__.py").touch()
    (folder / "test" / "support.py").touch()
    text = "import os, socket, threading, unittest\n" + textwrap.dedent(code)
    (folder / "test" / "test_it.py").write_text(text, encoding="utf-8")
    return str(folder)


def run(folder: Path, code: str, stop: Stop, *, gate: bool = False, limit: float = 30.0, **order: Any) -> Ran:
    """Run that module's tests."""
    how = How(sys.executable, gate=gate, limit=limit, packages=package(folder, code))
    return supervising.run(how, Order("test_it", **order), stop)


def words(ran: Ran) -> dict[str, str]:
    """Return the last part of each test's name → how it ended."""
    return {test.rpartition(".")[2]: outcome.word for test, outcome in ran.outcomes.items()}


# --- one process ------------------------------------------------------------------------------------------------------


def test_every_end_of_a_test_is_told_from_the_others(tmp_path: Path, stop: Stop) -> None:
    """Each way in which unittest lets a test end has its word, also where a fixture kept it from running."""
    ran = run(tmp_path, EVERY_END, stop)
    assert {test.removeprefix("test_it."): outcome.word for test, outcome in ran.outcomes.items()} == {
        "Ends.test_pass": "pass",
        "Ends.test_fail": "fail",
        "Ends.test_error": "error",
        "Ends.test_skip": "skip",
        "Ends.test_expected": "expected",
        "Ends.test_unexpected": "unexpected",
        "Ends.test_subtests": "fail",
        "Ends.test_torn": "fail",
        "Skipped.test_skipped": "skip",
        "Unready.test_never": "error",
        "Unwilling.test_never": "skip",
    }
    assert "it broke" in ran.outcomes["test_it.Ends.test_error"].why
    assert "no ground" in ran.outcomes["test_it.Unready.test_never"].why
    assert ran.outcomes["test_it.Unwilling.test_never"].why == "not here"


@pytest.mark.slow
def test_a_test_that_hangs_or_dies_costs_itself_alone(tmp_path: Path, stop: Stop) -> None:
    """The tests before and after one that hangs, and one that ends the process, have their own ends; both say where."""
    ran = run(tmp_path, DEADLY, stop, limit=3.0)
    assert words(ran) == {
        "test_1_before": "pass",
        "test_2_hangs": "hang",
        "test_3_between": "pass",
        "test_4_dies": "crash",
        "test_5_after": "pass",
    }
    assert "test_2_hangs" in ran.outcomes["test_it.Deadly.test_2_hangs"].why
    assert "exit status 3" in ran.outcomes["test_it.Deadly.test_4_dies"].why


def test_a_process_that_dies_after_its_tests_is_not_taken_for_a_good_end(tmp_path: Path, stop: Stop) -> None:
    """What dies when the module's tests are done shows at the last of them."""
    ran = run(tmp_path, "def tearDownModule(): os._exit(4)\nclass T(unittest.TestCase):\n def test_a(self): pass", stop)
    assert words(ran) == {"test_a": "crash"}


def test_what_is_left_out_does_not_run(tmp_path: Path, stop: Stop) -> None:
    """Of the tests that fit, those to be left out are named and not run, also in a process that is started again."""
    ran = run(tmp_path, DEADLY, stop, match=("*test_[2345]*",), leave_out=("*hangs", "*after"))
    assert words(ran) == {"test_3_between": "pass", "test_4_dies": "crash"}
    assert ran.left_out == {"test_it.Deadly.test_2_hangs", "test_it.Deadly.test_5_after"}


@pytest.mark.parametrize(("reason", "word"), [("unittest.SkipTest('no')", "skip"), ("ImportError('no')", "error")])
def test_a_module_that_cannot_be_imported_is_one_test(tmp_path: Path, stop: Stop, reason: str, word: str) -> None:
    """A module that skips or breaks at its import counts as one test, under its own name."""
    assert {test: end.word for test, end in run(tmp_path, f"raise {reason}", stop).outcomes.items()} == {
        "test_it": word
    }


def test_a_module_that_is_not_there_is_said_to_be_absent(tmp_path: Path, stop: Stop) -> None:
    """Nothing runs, and the module is named."""
    how = How(sys.executable, gate=False, packages=package(tmp_path, ""))
    ran = supervising.run(how, Order("test_gone"), stop)
    assert (ran.outcomes, ran.absent) == ({}, "no module named test.test_gone")


def test_a_process_that_never_begins_is_no_test_result(tmp_path: Path, stop: Stop) -> None:
    """Where the process ends before it knows its tests, as when no gate starts, that is said with its words."""
    with pytest.raises(NotStarted, match="the gate is broken"):
        run(tmp_path, "import sys; print('the gate is broken', flush=True); os._exit(2)", stop)


@pytest.mark.slow
def test_the_gate_is_asked_for_its_counts(tmp_path: Path, stop: Stop) -> None:
    """Through a gate, what it dialled for the tests is counted, also for a process that was killed."""
    code = """
        class Connects(unittest.TestCase):
            def connect(self):
                with socket.create_server(("127.0.0.1", 0)) as server:
                    socket.create_connection(server.getsockname()).close()
            def test_1(self): self.connect()
            def test_2(self): self.connect(); threading.Event().wait()
            def test_3(self): self.connect()
    """
    ran = run(tmp_path, code, stop, gate=True, limit=5.0)
    assert words(ran) == {"test_1": "pass", "test_2": "hang", "test_3": "pass"}
    assert ran.connects == 3
    assert ran.sockets >= 6


def test_stopping_ends_what_was_started(tmp_path: Path) -> None:
    """Ctrl-C while a test hangs ends the run with status 130, and the test's process with it."""
    os.mkfifo(tmp_path / "began")
    code = f"""
        class Hangs(unittest.TestCase):
            def test_it(self):
                with open({str(tmp_path / "began")!r}, "w") as began: print(os.getpid(), file=began)
                threading.Event().wait()
    """
    program = f"""
        import sys
        sys.path[:0] = [{str(Path(__file__).parents[1])!r}]
        from cpython import run
        from cpython.supervising import How, Order, run as supervise
        how = How(sys.executable, gate=False, packages={package(tmp_path, code)!r})
        ended = run._each(["test_it"], lambda module, stop: supervise(how, Order(module), stop), 1, print)
        sys.exit(0 if ended is not None else 130)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.PIPE, text=True) as popen:
        pid = int((tmp_path / "began").read_text())
        popen.send_signal(signal.SIGINT)
        said = popen.communicate()[1]
    assert (popen.returncode, said) == (130, "run.py: stopped\n")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_stop_is_seen_at_once(tmp_path: Path, stop: Stop) -> None:
    """A run that is told to stop raises, however long its tests may take."""
    stop.set()
    with pytest.raises(Stopped):
        run(tmp_path, "class T(unittest.TestCase):\n def test_it(self): threading.Event().wait()", stop, limit=1000.0)


# --- the verdict ------------------------------------------------------------------------------------------------------


class Scripted:
    """Stands in for :func:`supervising.run`: hands out what each next run of a module is to give."""

    def __init__(self, gated: list[Ran], native: dict[str, str]) -> None:
        self.gated = gated
        self.native = native
        self.orders: list[tuple[bool, Order]] = []

    def __call__(self, how: How, order: Order, stop: Stop) -> Ran:
        """Return the next run through the gate, or the native outcomes of what is ordered."""
        self.orders.append((how.gate, order))
        if how.gate:
            return self.gated.pop(0)
        return ends(**{test: self.native[test] for test in self.native if f"test_it.{test}" in (order.only or ())})


def ends(connects: int = 0, left_out: tuple[str, ...] = (), **outcomes: str) -> Ran:
    """Return a run with these outcomes, the module's name added to the tests'."""
    return Ran(
        {f"test_it.{test}": Outcome(word) for test, word in outcomes.items()},
        {f"test_it.{test}" for test in left_out},
        connects=connects,
    )


def verdict_of(
    monkeypatch: pytest.MonkeyPatch, stop: Stop, gated: list[Ran], given: Lists, module: Module = MODULE, **native: str
) -> Verdict:
    """Judge a module whose runs are scripted, and hold that all of them were made."""
    scripted = Scripted(gated, native)
    monkeypatch.setattr(judging, "run", scripted)
    verdict = judge(module, given, NATIVE, GATED, stop)
    assert scripted.gated == []
    return verdict


NOTHING = Lists((MODULE,), (), ())


def listed(excluded: str = "", known: str = "") -> Lists:
    """Return lists with one pattern each, the module's name added to it."""
    entries = [(Entry((f"test_it.{pattern}",), "a reason", "S1"),) if pattern else () for pattern in (excluded, known)]
    return Lists((MODULE,), entries[0], entries[1])


def test_what_fails_natively_too_does_not_apply(monkeypatch: pytest.MonkeyPatch, stop: Stop) -> None:
    """Tests that skip or fail natively say nothing of the gate; only what did not pass is run natively."""
    verdict = verdict_of(monkeypatch, stop, [ends(a="pass", b="skip", c="fail")], NOTHING, b="skip", c="hang")
    assert (verdict.passed, sorted(verdict.not_applicable)) == (["test_it.a"], ["test_it.b", "test_it.c"])
    assert (verdict.red, verdict.tests, verdict.applicable) == ([], 3, 1)


@pytest.mark.parametrize("word", ["fail", "error", "skip", "unexpected", "hang", "crash", "not run"])
def test_what_passes_natively_has_to_pass(monkeypatch: pytest.MonkeyPatch, stop: Stop, word: str) -> None:
    """A test that passes natively and twice not through the gate makes the run red, whatever it did instead."""
    verdict = verdict_of(monkeypatch, stop, [ends(a=word), ends(a=word)], NOTHING, a="pass")
    assert verdict.red == [f"test_it.a: {word}, and passes natively"]
    assert list(verdict.failed) == ["test_it.a"]


def test_a_second_chance_is_named(monkeypatch: pytest.MonkeyPatch, stop: Stop) -> None:
    """A test that passes the second time counts as passed, with what it did the first time."""
    verdict = verdict_of(monkeypatch, stop, [ends(a="fail"), ends(a="pass")], NOTHING, a="pass")
    assert (verdict.passed, verdict.second_time, verdict.red) == (["test_it.a"], {"test_it.a": Outcome("fail")}, [])


def test_a_known_failure_is_no_surprise(monkeypatch: pytest.MonkeyPatch, stop: Stop) -> None:
    """A known failure that fails is counted with its reason, and gets no second chance."""
    verdict = verdict_of(monkeypatch, stop, [ends(a="fail")], listed(known="a"), a="pass")
    assert (verdict.known_failures, verdict.red) == ({"test_it.a": "a reason"}, [])


def test_a_known_failure_that_passes_is_red(monkeypatch: pytest.MonkeyPatch, stop: Stop) -> None:
    """Somebody has mended it, and the list must say so."""
    verdict = verdict_of(monkeypatch, stop, [ends(a="pass")], listed(known="a"))
    assert verdict.red == ["test_it.a: passes, and is a known failure"]


def test_entries_that_fit_nothing_are_red(monkeypatch: pytest.MonkeyPatch, stop: Stop) -> None:
    """An exclusion and a known failure of tests that are not there have outlived them."""
    verdict = verdict_of(monkeypatch, stop, [ends(a="pass")], listed(excluded="gone*", known="b"))
    assert verdict.red == [
        "test_it.gone*: no test fits this exclusion",
        "test_it.b: no test fits this known failure",
    ]


def test_what_is_excluded_is_left_out(monkeypatch: pytest.MonkeyPatch, stop: Stop) -> None:
    """An exclusion reaches the run, and its test is counted with the reason."""
    verdict = verdict_of(monkeypatch, stop, [ends(a="pass", left_out=("b",))], listed(excluded="b"))
    assert (verdict.excluded, verdict.red, verdict.applicable) == ({"test_it.b": "a reason"}, [], 1)


def test_an_exclusion_that_passes_is_found(monkeypatch: pytest.MonkeyPatch, stop: Stop) -> None:
    """A run of just what is excluded is red where that passes."""
    monkeypatch.setattr(judging, "run", Scripted([ends(a="pass", b="fail")], {}))
    verdict = judge_excluded(MODULE, listed(excluded="*"), GATED, stop)
    assert (verdict.red, list(verdict.excluded)) == (["test_it.a: passes, and is excluded"], ["test_it.b"])


@pytest.mark.parametrize(("connects", "red"), [(0, ["test_it: the gate has counted no connect"]), (1, [])])
def test_a_module_that_connects_has_to(
    monkeypatch: pytest.MonkeyPatch, stop: Stop, connects: int, red: list[str]
) -> None:
    """Tests that connect prove nothing if the gate has dialled nothing."""
    module = Module("test_it", connects=True, fast=True)
    assert verdict_of(monkeypatch, stop, [ends(connects, a="pass")], NOTHING, module).red == red


# --- lists and report -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("versions", "there"),
    [((), "3.9 3.12 3.13"), (("3.12",), "3.12"), (("3.12+",), "3.12 3.13"), (("3.9-", "3.13"), "3.9 3.13")],
)
def test_versions_are_numbers(versions: tuple[str, ...], there: str) -> None:
    """A version is one of those that a list names, also with "and newer" or "and older", and 3.9 is older than 3.12."""
    assert [each for each in ("3.9", "3.12", "3.13") if lists.is_among(each, versions)] == there.split()


GOOD = 'tests = ["test_it.A.test_a"]\nreason = "because"\nrule = "S1"\n'


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (GOOD + 'verisons = ["3.11"]', "unknown key 'verisons'"),
        (GOOD.replace("test_it.", "test_that."), "test_that.A.test_a is of no module"),
        (GOOD.replace('"because"', '""'), "no reason"),
        (GOOD.replace('rule = "S1"', ""), "no rule that forbids it"),
    ],
)
def test_lists_that_are_wrong_are_refused(tmp_path: Path, entry: str, said: str) -> None:
    """A mistake in the lists is named with its place, and nothing is run."""
    (tmp_path / "modules.toml").write_text('[[module]]\nname = "test_it"\nconnects = false\nfast = true\n')
    (tmp_path / "known_failures.toml").touch()
    (tmp_path / "excluded.toml").write_text(f"[[exclusion]]\n{GOOD}")
    assert lists.load("3.11", "direct", tmp_path).excluded[0].reason == "because"
    (tmp_path / "excluded.toml").write_text(f"[[exclusion]]\n{entry}")
    with pytest.raises(ValueError, match=r"excluded\.toml: ") as caught:
        lists.load("3.11", "direct", tmp_path)
    assert said in str(caught.value)


def test_the_record_keeps_what_did_not_run(tmp_path: Path) -> None:
    """A version's numbers replace those of its modules that ran, and leave other modules and versions as they were."""
    file = tmp_path / "data" / "cpython.toml"
    one = Verdict("test_one", passed=["a", "b"], excluded={"c": 'it "listens"'}, known_failures={"d": "→"}, connects=3)
    reporting.record("3.9", "3.9.1", "0.1", [one], file)
    reporting.record("3.11", "3.11.7", "0.1", [one], file)
    reporting.record("3.11", "3.11.8", "0.2", [Verdict("test_asyncio.test_two", passed=["e"])], file)
    written = tomllib.loads(file.read_text("utf-8"))
    assert list(written) == ["3.9", "3.11"]
    assert (written["3.9"]["python"], written["3.11"]["python"], written["3.11"]["outgate"]) == (
        "3.9.1",
        "3.11.8",
        "0.2",
    )
    assert list(written["3.11"]["modules"]) == ["test_asyncio.test_two", "test_one"]
    assert written["3.11"]["modules"]["test_one"] == written["3.9"]["modules"]["test_one"] == reporting.counts(one)
    assert written["3.11"]["reasons"] == {"test_one": {'it "listens"': 1, "→": 1}}


def test_the_table_has_the_sum_and_the_share() -> None:
    """The last lines have what all modules have together, and which part of what applies passes."""
    one = Verdict("test_one", passed=["a", "b", "c"], failed={"d": Outcome("fail")})
    two = Verdict("test_two", not_applicable={"e": Outcome("skip")}, sockets=1200)
    *_, total, said = reporting.table([one, two])
    assert total.split() == ["all", "5", "3", "1", "0", "0", "1", "1,200", "0"]
    assert said == "75.00% of what applies passes"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["test_nothing"], "test_nothing is not in modules.toml"),
        (["--record", "-k", "x"], "--record is for whole modules"),
        (["--python", "3.2"], "no Python 3.2 here"),
    ],
)
def test_wrong_calls_start_nothing(arguments: list[str], said: str) -> None:
    """A call that cannot be meant ends with status 2 and says why."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("run.py")), *arguments], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
