"""Run one module of the interpreter's own tests in this process, and say of each test how it ended.

It is started by :mod:`cpython.starting` as ``python inside.py SAY HEAR``, with two pipes: it reads from HEAR one JSON
object that says what to run, and writes to SAY a JSON object a line. When all is done it waits until HEAR ends, so that
whoever started it can ask the gate for its counts before the gate ends with us.

What it hears::

    {"module": "test_socket", "match": [pattern, ...], "leave_out": [pattern, ...], "only": null or [test, ...],
     "resources": [what more the tests may use, ...]}

What it says::

    {"plan": [test, ...], "left_out": [...], "socket": "..."}         once, in the order in which they run, and the
                                                                      path of the gate's socket, null without one
    {"start": test}                                                   so that a test that hangs is known
    {"end": test, "outcome": "pass", "why": ""}                       see OUTCOMES
    {"fixture": "setUpClass (...)", "outcome": "error", "why": "..."} no test, and yet not without effect
    {"absent": "no module named ..."}                                 instead of a plan
    {"done": true}

A test's name is what unittest calls its id, without ``test.`` before it. Grammar and library of Python 3.9.
"""

import faulthandler
import fnmatch
import importlib
import importlib.util
import json
import os
import signal
import sys
import unittest

import test

# What belongs to CPython's tests and is not installed everywhere. Here and not in main(), because the children of tests
# of multiprocessing, which import their parent's file, look for them too.
test.__path__.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "left_out"))

#: How a test may end. Supervision adds "hang" and "crash".
OUTCOMES = ("pass", "fail", "error", "skip", "expected", "unexpected")

#: What tests may use: all but what leaves this host, and what costs minutes or gigabytes.
RESOURCES = ("cpu", "walltime", "subprocess", "decimal", "tzdata", "curses", "xpickle")

_LONGEST = 2000


def short(name):
    """Return a test's name without the package that all have in common."""
    return name[5:] if name.startswith("test.") else name


class Result(unittest.TestResult):
    """Write down every test as it starts and ends."""

    def __init__(self, say):
        super().__init__()
        self._say = say
        self._worst = None

    def startTest(self, test):
        super().startTest(test)
        self._worst = ("pass", "")
        self._say(start=short(test.id()))

    def stopTest(self, test):
        outcome, why = self._worst
        self._worst = None
        self._say(end=short(test.id()), outcome=outcome, why=why)
        super().stopTest(test)

    def _note(self, test, outcome, why=""):
        why = str(why)[-_LONGEST:]
        if self._worst is None:
            if isinstance(test, unittest.TestCase):  # 3.12.1 does not start what it skips, and stops it all the same
                self._worst = (outcome, why)
            else:  # setUpClass, setUpModule and what ends with them
                self._say(fixture=short(test.id()), outcome=outcome, why=why)
        elif self._worst[0] in ("pass", "skip") or outcome == "error":  # a subtest that skips does not undo a failure
            self._worst = (outcome, why)

    def addError(self, test, err):
        super().addError(test, err)
        self._note(test, "error", self._exc_info_to_string(err, test))

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._note(test, "fail", self._exc_info_to_string(err, test))

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            is_failure = issubclass(err[0], test.failureException)
            self._note(test, "fail" if is_failure else "error", self._exc_info_to_string(err, test))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        if self._worst is None or self._worst[0] == "pass":
            self._note(test, "skip", reason)

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self._note(test, "expected")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._note(test, "unexpected")


def fits(name, patterns):
    """Tell whether a test's name fits one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def is_wanted(name, order):
    """Tell whether the order is for this test, or would be if it were not left out."""
    return (not order["match"] or fits(name, order["match"])) and (order["only"] is None or name in order["only"])


class Unloaded(unittest.TestCase):
    """Takes the place of a module's tests, under its name, where the module cannot be imported."""

    def __init__(self, module, reason):
        super().__init__()
        self._module = module
        self._reason = reason

    def id(self):
        """Return the module's name."""
        return self._module

    def runTest(self):
        """End as the import did."""
        raise self._reason


def load(module):
    """Return the tests of a module in their order."""
    try:
        importlib.import_module(module)
    except Exception as reason:  # or SkipTest, for want of something that all its tests need
        return [Unloaded(module, reason)]
    return list(flatten(unittest.defaultTestLoader.loadTestsFromName(module)))


def flatten(suite):
    """Yield the tests of a suite in its order, which is the one that class and module fixtures need."""
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from flatten(each)
        else:
            yield each


def prepare(resources):
    """Do what CPython's own runner does before the first test."""
    from test import support

    support.use_resources = dict.fromkeys([*RESOURCES, *resources])
    support.verbose = 0
    faulthandler.enable()
    # For whoever wants to know where a test hangs. Tests use the other signals.
    faulthandler.register(signal.SIGQUIT, all_threads=True)


def main(say_fd, hear_fd):
    """Run what we hear."""
    for fd in (say_fd, hear_fd):
        os.set_inheritable(fd, False)
    sys.path[:] = [folder for folder in sys.path if folder != os.path.dirname(os.path.abspath(__file__))]
    owner = os.getpid()

    def say(**what):
        if os.getpid() == owner:  # a forked child that a test let out has nothing to say
            os.write(say_fd, json.dumps(what).encode() + b"\n")

    order = b""
    while not order.endswith(b"\n"):
        order += os.read(hear_fd, 65536)
    order = json.loads(order)
    module = "test." + order["module"]
    if importlib.util.find_spec(module) is None:
        say(absent="no module named " + module)
    else:
        prepare(order["resources"])
        tests = [test for test in load(module) if is_wanted(short(test.id()), order)]
        left_out = [short(test.id()) for test in tests if fits(short(test.id()), order["leave_out"])]
        tests = [test for test in tests if short(test.id()) not in left_out]
        say(plan=[short(test.id()) for test in tests], left_out=left_out, socket=os.environ.get("OUTGATE_SOCKET"))
        unittest.TestSuite(tests).run(Result(say))
    say(done=True)
    while os.read(hear_fd, 65536):
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
