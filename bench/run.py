"""Measure outgate against native sockets, print one table and write JSON.

Run by ``make bench``; also ``python -m bench`` from the top of the tree, or this file from anywhere. It never fails for
a figure: a target that is out of reach is said so in its line.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
if str(_ROOT) not in sys.path:
    sys.path.insert(0, str(_ROOT))

from bench import facts, report  # noqa: E402
from bench.cases import CASES, GROUPS  # noqa: E402
from bench.rows import Row  # noqa: E402
from bench.world import Failed, World  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    """Run the cases that were asked for and return the exit status."""
    names = [case.__name__ for case in CASES]
    p = argparse.ArgumentParser(prog="python -m bench", description="Measure outgate against native sockets.")
    p.add_argument("--only", default="", metavar="CASE,...", help=f"only these: {', '.join((*GROUPS, *names))}")
    p.add_argument("--quick", action="store_true", help="fewer rounds and smaller ones: about a minute")
    p.add_argument("--rounds", type=int, metavar="N", help="turns of native and the others (default 5, quick 3)")
    p.add_argument("--json", type=Path, metavar="FILE", help="where the figures go (default: bench/results/TIME.json)")
    options = p.parse_args(argv)
    words = [word.strip() for word in options.only.split(",") if word.strip()]
    wanted = {name for word in words for name in GROUPS.get(word, (word,))} or set(names)
    unknown = sorted(wanted - set(names))
    if unknown:
        p.error(f"no case {', '.join(unknown)}; there are {', '.join((*GROUPS, *names))}")
    rounds = options.rounds or (3 if options.quick else 5)
    if rounds < 1:
        p.error("--rounds: at least 1")

    machine = facts.collect()
    begun = time.monotonic()
    rows: list[Row] = []
    try:
        with World(rounds, options.quick) as world:
            for case in CASES:
                if case.__name__ in wanted:
                    print(f"measuring {case.__name__.replace('_', ' ')}", file=sys.stderr, flush=True)
                    rows.extend(case(world))
    except KeyboardInterrupt:
        return 130
    except Failed as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 1
    report.show(machine, rows)
    path = options.json or _ROOT / "bench" / "results" / time.strftime("%Y%m%d-%H%M%S.json")
    report.write(path, machine, rows, time.monotonic() - begun)
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
