"""Measure outgate against native sockets, print one table and write JSON.

Run by ``make bench``; also ``python -m bench`` from the top of the tree, or this file from anywhere. It never fails for
a figure: a target that is out of reach is said so in its line. Where a case fails the others go on; the status is 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))

from bench import facts, page, report, scale  # noqa: E402
from bench.cases import CASES, GROUPS  # noqa: E402
from bench.rows import Result, Row  # noqa: E402
from bench.world import Failed, World  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    """Run the cases that were asked for and return the exit status."""
    names = [case.__name__ for case in CASES]
    p = argparse.ArgumentParser(prog="python -m bench", description="Measure outgate against native sockets.")
    p.add_argument("--only", default="", metavar="CASE,...", help=f"only these: {', '.join((*GROUPS, *names))}")
    p.add_argument("--quick", action="store_true", help="fewer rounds and smaller ones: about two minutes")
    p.add_argument("--rounds", type=int, metavar="N", help="turns of native and the others (default 5, quick 2)")
    p.add_argument("--into", type=Path, metavar="FOLDER", help="for figures and page (default: bench/results/TIME)")
    p.add_argument("--record", action="store_true", help="also write them into docs/, for the site")
    options = p.parse_args(argv)
    if options.record and options.only:
        p.error("--record: the pages want every case; leave --only away")
    words = [word.strip() for word in options.only.split(",") if word.strip()]
    wanted = {name for word in words for name in GROUPS.get(word, (word,))} or set(names)
    unknown = sorted(wanted - set(names))
    if unknown:
        p.error(f"no case {', '.join(unknown)}; there are {', '.join((*GROUPS, *names))}")
    rounds = options.rounds or (2 if options.quick else 5)
    if rounds < 1:
        p.error("--rounds: at least 1")

    machine = facts.collect()
    begun = time.monotonic()
    results: list[Result] = []
    failures: list[str] = []
    try:
        with World(rounds, options.quick) as world:
            for case in CASES:
                if case.__name__ in wanted:
                    name = case.__name__.replace("_", " ")
                    print(f"{time.monotonic() - begun:4.0f} s: {name}", file=sys.stderr, flush=True)
                    try:
                        results.extend(case(world))
                    except Failed as failure:
                        failures.append(f"{name}: {failure}")
                        world.leave_out(failures[-1])
            seconds = time.monotonic() - begun
    except KeyboardInterrupt:
        return 130
    recorded = report.record(machine, rounds, options.quick, seconds, results, world.shown, world.left_out)
    report.show(machine, [each for each in results if isinstance(each, Row)])
    folder = options.into or _ROOT / "bench" / "results" / time.strftime("%Y%m%d-%H%M%S")
    report.write(folder / report.FILE, recorded)
    generate = [sys.executable, str(_ROOT / "docs" / "generate.py")]
    subprocess.run([*generate, "--benchmark", str(folder)], check=True)
    lacking = [*scale.missing(report.rows_of(recorded)), *page.missing(recorded)] if options.record else []
    if lacking:
        print(f"not recorded: the record is not whole: it lacks {'; '.join(lacking)}", file=sys.stderr)
    elif options.record:
        report.write(_ROOT / "docs" / "data" / report.FILE, recorded)
        subprocess.run([*generate, "--write"], check=True)
    print(f"written: {folder}")
    return 1 if failures or lacking else 0


if __name__ == "__main__":
    raise SystemExit(main())
