"""Measure what an open and its close cost in processor time, in the gate and in the program.

Run by hand, ``python -m bench.cost [--against TREE]``: prints a table. Time on the clock says little on a machine that
others use; the processor time of thousands of opens, taken in turns and the least of many turns, says which of two
trees does more. ``TREE`` is a checkout whose ``src`` is measured beside this one's.
"""

import argparse
import os
from pathlib import Path
from statistics import median

from bench.world import BOOKED, ROOT, World


def main(argv: list[str] | None = None) -> None:
    """Measure each tree in turns and print microseconds of processor time for each open and close."""
    p = argparse.ArgumentParser(prog="python -m bench.cost", description="Processor time of an open and its close.")
    p.add_argument("--against", type=Path, action="append", default=[], metavar="TREE", help="another checkout")
    p.add_argument("--rounds", type=int, default=12, help="turns of each tree (default 12)")
    p.add_argument("--count", type=int, default=2000, help="opens in a turn (default 2000)")
    p.add_argument("--booked", action="store_true", help="with ledger, metrics and state file")
    p.add_argument("--beside", action="store_true", help="this tree twice more: with ledger and metrics, and with all")
    options = p.parse_args(argv)
    for tree in options.against:
        if not (tree / "src" / "outgate").is_dir():
            p.error(f"{tree} is no checkout of outgate")
    trees = {"this": ROOT, **{str(tree): tree.resolve() for tree in options.against}}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in trees}
    with World(1, quick=False) as world:
        gates = {}
        for at, (name, tree) in enumerate(trees.items()):
            made = world.start_gate(f"tree{at}", booked=BOOKED if options.booked else (), source=tree / "src")
            gates[name] = world.enter(made)
        if options.beside:
            for words in (("ledger", "metrics"), BOOKED):
                name = ", ".join(words)
                taken[name] = []
                gates[name] = world.enter(world.start_gate(f"beside{len(words)}", booked=words))
        for _ in range(options.rounds):
            for name, gate in gates.items():
                cost = world.ask("cost", gate, ports=world.ports["open"], count=options.count, gate=gate.pid)
                taken[name].append((cost["gate"], cost["client"]))
    print(f"{'us of processor time':<28} {'gate':>16} {'client':>16}   least (median) of {options.rounds}")
    for name, turns in taken.items():
        columns = [f"{min(each):7.1f} ({median(each):6.1f})" for each in zip(*turns, strict=True)]
        shown = os.path.relpath(trees[name]) if name in trees else name
        print(f"{shown:<28} {columns[0]:>16} {columns[1]:>16}")


if __name__ == "__main__":
    main()
