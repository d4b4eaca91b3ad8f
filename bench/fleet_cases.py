"""Measure sockets on another host: what redeeming one takes, and how fast its bytes are, beside the same network alone.

The cases run in another process, in namespaces of its own (:func:`bench.apart.run_apart`). Two hosts are two network
namespaces with a cable between them, as fast as memory and then as a network of 1 Gb/s (tc-tbf(8)): gate a is where the
target is, gate b where the programs are. How often something goes there and back is seen by a delay: over
:mod:`bench.away` a gate reaches another on the same host, 100 ms away.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import away, report
from bench.apart import run_apart
from bench.rows import Beside, Result, Row, ratio_row, row, turns
from bench.world import Failed, Gate, Host, Way, World
from outgate.gate.fleet import authority
from outgate.gate.fleet.folder import Folder

#: Addresses at either end of the cable.
_A, _B = "93.184.216.1", "93.184.216.2"
#: Seconds of a round trip to the far end: much more than all the rest takes, so that they can be counted.
_ROUND_TRIP = 0.100
#: Where the gates of a pair listen, each pair at its own ports.
_PORTS = {"near": {"a": 7400, "b": 7401}, "far": {"a": 7402, "b": 7403}}
_MIB = 1 << 20
#: What is redeemed before it counts.
_WARM_UP = 3


def between_hosts(world: World) -> Iterator[Result]:
    """Redeem on another host, in round trips; and a stream and a small round trip there, against the network's own."""
    yield from run_apart(world, "bench.fleet_cases", "between hosts")


class Pair(NamedTuple):
    """Two gates of a fleet: sockets are of ``a``, and go to programs at ``b``."""

    a: Gate
    b: Gate


@contextlib.contextmanager
def _pair(world: World, name: str, a: str, b: str, host: Host | None = None) -> Iterator[Pair]:
    """Run two gates that reach each other at these addresses.

    :param host: where ``b`` is; this one by default.
    """
    ports = _PORTS[name]
    places = {"a": f"{a}:{ports['a']}", "b": f"{b}:{ports['b']}"}
    files = {}
    folders = {each: Folder(f"{world.scratch}/{name}-{each}") for each in places}
    now = time.time()
    folders["a"].begin("a", now)
    token = folders["a"].invite("b", places["a"], now, 60)
    key, asked = authority.request()
    folders["b"].join(token, folders["a"].ca, key, folders["a"].admit(token.secret, "b", asked, now))
    for each, folder in folders.items():
        said = {
            "name": each,
            "listen": f"0.0.0.0:{ports[each]}",
            "gates": places,
            "state": str(Path(folder.path).parent),
        }
        files[each] = f"{world.scratch}/{name}-{each}.json"
        Path(files[each]).write_text(json.dumps(said))
    with (
        world.start_gate(f"{name}-a", fleet=files["a"]) as first,
        world.start_gate(f"{name}-b", fleet=files["b"], host=host.command if host is not None else ()) as second,
    ):
        yield Pair(first, second)


@contextlib.contextmanager
def _another_host(world: World) -> Iterator[Host]:
    """Make a network with a cable to this one."""
    argv = ["unshare", "--net", sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        inside = ("nsenter", f"--net=/proc/{holder.pid}/ns/net")
        for words in (
            ("ip", "link", "add", "cable0", "type", "veth", "peer", "name", "cable1", "netns", str(holder.pid)),
            ("ip", "addr", "add", f"{_A}/24", "dev", "cable0"),
            ("ip", "link", "set", "cable0", "up"),
            (*inside, "ip", "addr", "add", f"{_B}/24", "dev", "cable1"),
            (*inside, "ip", "link", "set", "cable1", "up"),
            (*inside, "ip", "link", "set", "lo", "up"),
        ):
            subprocess.run(words, check=True)
        try:
            yield Host(inside)
        finally:
            holder.stdin.close()


def _lent(world: World, gate: Gate, port: int, count: int = 1) -> list[str]:
    texts: list[str] = world.ask("lend", gate, port=port, count=count)["texts"]
    return texts


def _redeemed(world: World, pair: Pair) -> float:
    """Return what redeeming takes, in us."""
    texts = _lent(world, pair.a, world.ports["hold"][0], 10 + _WARM_UP)
    times: list[float] = world.ask("redeem", pair.b, texts=texts)["times"]
    return median(times[_WARM_UP:])


def _round_trips(world: World, near: Pair) -> Iterator[Row]:
    """Redeem where the owner is 100 ms away, and where it is not: the difference is what the network takes."""
    with _pair(world, "far", away.AWAY, away.AWAY) as far:
        taken = turns(world.rounds, lambda _, pair: _redeemed(world, pair), {"near": near, "far": far})
    trips = [(far - near) / 1e6 / _ROUND_TRIP for near, far in zip(taken["near"], taken["far"], strict=True)]
    note = "round trips; base: without a delay"
    yield row("redeem on another host, 100 ms away", "us", taken["near"], taken["far"], trips, "", ("<=", 3.1), note)


def _carried(world: World, pair: Pair, host: Host) -> Iterator[Result]:
    """One stream each way, and 64 bytes there and back, over a cable between two hosts."""
    costs: dict[str, list[float]] = {"owner": [], "other gate": []}
    yield from _streams(world, pair, host, "", (96 if world.quick else 384) * _MIB, costs)
    for which, each in costs.items():
        yield row(f"{which}, processor time for each GB between hosts", "s", [], each, each, "s")

    def there_and_back(name: str, way: Way) -> float:
        port = world.ports["echo"][0]
        lent = _lent(world, pair.a, port)[0] if name == "fleet" else ""
        count = 1000 if world.quick else 4000
        return median(world.ask("round_trips", way, port=port, host=_A, count=count, lent=lent)["times"])

    taken = turns(world.rounds, there_and_back, {"native": host, "fleet": pair.b})
    yield Beside("64-byte round trip between hosts", "us", taken)
    yield ratio_row("64-byte round trip between hosts", "us", taken["native"], taken["fleet"])

    limit = ("root", "tbf", "rate", "1gbit", "burst", "256k", "latency", "20ms")
    for words in (("tc", "qdisc", "add", "dev", "cable0"), (*host.command, "tc", "qdisc", "add", "dev", "cable1")):
        subprocess.run([*words, *limit], check=True)
    yield from _streams(world, pair, host, " of 1 Gb/s", (32 if world.quick else 96) * _MIB)


def _streams(
    world: World, pair: Pair, host: Host, which: str, size: int, costs: dict[str, list[float]] | None = None
) -> Iterator[Result]:
    """One stream each way.

    :param which: network it is, for the names of the rows.
    :param costs: gets each gate's processor seconds for a GB, in the order of the pair; ``None`` where nobody asks.
    """
    ways: dict[str, Way] = {"native": host, "fleet": pair.b}
    for case, port in (("receive", world.ports["source"][0]), ("send", world.ports["sink"][0])):

        def measure(name: str, way: Way, case: str = case, port: int = port) -> float:
            lent = _lent(world, pair.a, port)[0] if name == "fleet" else ""
            used = pair.a.cpu(), pair.b.cpu()
            rate = float(world.ask(case, way, port=port, host=_A, size=size, lent=lent)["rate"]) / 1e9
            if name == "fleet" and costs is not None:
                for each, gate, before in zip(costs, pair, used, strict=True):
                    costs[each].append((gate.cpu() - before) * 1e9 / size)
            return rate

        taken = turns(world.rounds, measure, ways)
        name = f"{case}, one stream between hosts{which}"
        yield Beside(name, "GB/s", taken)
        yield ratio_row(name, "GB/s", taken["native"], taken["fleet"], (">=", 0.5))


def main(folder: Path, rounds: int, quick: bool) -> int:
    """Measure in the namespaces that this process is in, and write a record into the folder."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    results: list[Result] = []
    with World(rounds, quick, address="0.0.0.0") as world, contextlib.ExitStack() as stack:
        host = stack.enter_context(_another_host(world))
        pair = stack.enter_context(_pair(world, "near", _A, _B, host))
        results += _carried(world, pair, host)
        try:
            away.begin(_ROUND_TRIP / 2)
            results += _round_trips(world, pair)
        except (OSError, subprocess.CalledProcessError, Failed) as e:
            world.left_out.append(f"redeem on another host, 100 ms away: {e}")
        report.write(folder / report.FILE, report.record({}, rounds, quick, 0, results, (), world.left_out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), int(sys.argv[2]), "quick" in sys.argv[3:]))
