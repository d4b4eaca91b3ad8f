#!/usr/bin/env python3
"""Run CPython's own tests through a gate, and natively what does not pass.

    tests/cpython/run.py                                   all modules of modules.toml on this Python
    tests/cpython/run.py --python 3.13 test_socket         one module on another
    tests/cpython/run.py test_socket -k UDP -v             tests with this in their names, with what failed's traceback
    tests/cpython/run.py --path relay test_select          on the relay path
    tests/cpython/run.py --python 3.13 --record            and write docs/data/cpython.toml

Each module's tests run in one process under `outgate run --dev`. What does not pass there is run natively too: if it
passes, the run is red. Tests that do what a rule forbids are in excluded.toml, and are not run; known failures are in
known_failures.toml. Both give the reason. The run is red as well

- if an exclusion or a known failure fits no test of the version, or a known failure passes;
- if the gate counted no connect in a module whose tests connect.

A test that hangs (--limit) or takes the process with it costs that test alone. Ctrl-C ends everything that was started.

exit status: 0 green, 1 red, 2 a wrong call, 130 stopped.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

if __name__ == "__main__":  # a script finds its own folder there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from cpython import lists, reporting, supervising
from cpython.judging import Verdict, judge, judge_excluded
from cpython.supervising import How, Stop, Stopped
from support.pythons import interpreter


def main(argv: list[str] | None = None) -> int:
    """Run what was asked for, show it, and return the exit status."""
    options = _parser().parse_args(argv)
    try:
        python, version = _python(options.python)
        short = ".".join(version.split(".")[:2])
        given = lists.load(short, options.path)
        modules = _chosen(given.modules, options.modules, options.fast)
    except (LookupError, ValueError) as e:
        print(f"run.py: {e}", file=sys.stderr)
        return 2
    if options.record and (options.match or options.excluded or options.path != "direct"):
        print("run.py: --record is for whole modules on the direct path", file=sys.stderr)
        return 2
    gated = How(python, path=options.path, limit=options.limit, log=options.log)
    native = How(python, gate=False, limit=options.limit)
    match = tuple(f"*{pattern}*" for pattern in options.match)

    def one(module: lists.Module, stop: Stop) -> Verdict:
        if options.excluded:
            return judge_excluded(module, given, gated, stop)
        return judge(module, given, native, gated, stop, match)

    say = print if not options.json else lambda line: print(line, file=sys.stderr)
    verdicts = _each(modules, one, options.jobs, lambda verdict: _tell(verdict, options.verbose, say))
    if verdicts is None:
        return 130
    if options.json:
        print(reporting.as_json(version, options.path, verdicts))
    else:
        print(f"\nCPython {version}, {options.path} path")
        print("\n".join(reporting.table(verdicts)))
    if options.record:
        import outgate

        reporting.record(short, version, outgate.__version__, verdicts)
    return 1 if any(verdict.red for verdict in verdicts) else 0


def _parser() -> argparse.ArgumentParser:
    head, *rest = (__doc__ or "").split("\n\n")
    parser = argparse.ArgumentParser(
        prog="run.py", description=head, epilog="\n\n".join(rest), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("modules", nargs="*", metavar="MODULE", help="as in modules.toml (default: all)")
    add("--python", metavar="WHICH", default="", help="a version, as 3.13, or a path (default: the one that runs this)")
    add(
        "-k",
        dest="match",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only tests whose names have this in them",
    )
    add("--excluded", action="store_true", help="run only what is excluded, and be red where that passes")
    add("--fast", action="store_true", help="only modules that CI runs")
    add("--path", choices=("direct", "relay"), default="direct", help="the gate's path")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="modules at a time (default: %(default)s)")
    add("--limit", type=float, default=60.0, metavar="SECONDS", help="that a test may take (default: %(default)g)")
    add("--log", metavar="FILE", help="the gates' decision log")
    add("--json", action="store_true", help="print one JSON object that names every test which did not simply pass")
    add("--record", action="store_true", help="write the numbers into docs/data/cpython.toml")
    add("-v", "--verbose", action="store_true", help="with the traceback of what failed")
    return parser


def _python(which: str) -> tuple[str, str]:
    """Return path and whole version of an interpreter that has its tests with it."""
    python = which if os.sep in which else interpreter(which) if which else sys.executable
    if python is None:
        raise LookupError(f"no Python {which} here that runs")
    version = supervising.version_with_tests(python)
    if not version:
        raise LookupError(f"{python} has no tests of its own; {supervising.WHERE_TESTS_ARE}")
    return python, version


def _chosen(modules: tuple[lists.Module, ...], names: list[str], fast: bool) -> list[lists.Module]:
    there = {module.name: module for module in modules}
    if unknown := [name for name in names if name not in there]:
        raise LookupError(f"{unknown[0]} is not in modules.toml for this version; it has {', '.join(there)}")
    chosen = [there[name] for name in names] or [module for module in modules if module.fast or not fast]
    return lists.slow_first(chosen)


def _each(
    modules: list[lists.Module],
    one: Callable[[lists.Module, Stop], Verdict],
    jobs: int,
    tell: Callable[[Verdict], None],
) -> list[Verdict] | None:
    """Judge the modules, some at a time, telling of each as it is done; ``None`` if that was stopped by a signal."""
    stop = Stop()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    verdicts = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(one, module, stop) for module in modules]
        try:
            for future in as_completed(futures):
                verdicts.append(future.result())
                tell(verdicts[-1])
        except (KeyboardInterrupt, Stopped):
            stop.set()
            for future in futures:
                future.cancel()
            pool.shutdown()
            print("run.py: stopped", file=sys.stderr)
            return None
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    stop.close()
    return sorted(verdicts, key=lambda verdict: verdict.module)


def _tell(verdict: Verdict, verbose: bool, say: Callable[[str], None]) -> None:
    say(f"{verdict.module}: {len(verdict.passed)} of {verdict.applicable} passed ({verdict.seconds:.0f} s)")
    for sentence in verdict.red:
        say(f"  RED {sentence}")
    for test, outcome in verdict.second_time.items():
        say(f"  {test}: {outcome.word}, and passed the second time")
    if verbose:
        for test, outcome in [*verdict.failed.items(), *verdict.second_time.items()]:
            say(f"\n--- {test}: {outcome.word}\n{outcome.why}")
        why = Counter(
            f"{each.word}: {each.why.strip().rpartition(chr(10))[2]}" for each in verdict.not_applicable.values()
        )
        for reason, tests in sorted(why.items()):
            say(f"  {tests} not applicable: {reason}")


if __name__ == "__main__":
    raise SystemExit(main())
