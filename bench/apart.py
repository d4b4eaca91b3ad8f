"""Measure what wants a network of its own: names that are not remembered, and a far end that is 20 ms away.

The cases run in another process, ``python -m bench.apart FOLDER ROUNDS [quick]``, in namespaces of its own for network
and mounts, with a name server and a target there. Where the host does not allow that, they are left out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import away, report
from bench.report import beside_of, rows_of
from bench.rows import Beside, Result, both_paths, turns
from bench.world import ROOT, Failed, Way, World, native_environment

#: Seconds of a round trip to the far end.
_ROUND_TRIP = 0.020
_DOMAIN = "bench.test"
#: Seconds until the name server answers.
_PATIENCE = 10.0


def in_a_namespace(world: World) -> Iterator[Result]:
    """Opens by names that nobody has asked for, and opens and round trips over a network with a delay."""
    yield from run_apart(world, "bench.apart", "in a namespace")


def run_apart(world: World, module: str, what: str) -> Iterator[Result]:
    """Run a module's cases, ``python -m MODULE FOLDER ROUNDS [quick]``, in namespaces for network and mounts.

    :param what: of the line that says why they are left out, where the host does not allow that.
    """
    folder = Path(world.scratch) / module
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    argv = ["unshare", *user, "--net", "--mount", sys.executable, "-m", module, str(folder), str(world.rounds)]
    try:
        done = subprocess.run(
            [*argv, *["quick"] * world.quick],
            cwd=ROOT,
            env=native_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        world.leave_out(f"{what}: there is no unshare (apt-get install util-linux)")
        return
    if done.returncode:
        world.leave_out(f"{what}: {(done.stderr.strip().splitlines() or ['it failed'])[-1]}")
        return
    recorded = report.read(folder)
    for line in recorded["left_out"]:
        world.leave_out(line)
    yield from (Beside(name, unit, taken) for name, (unit, taken) in beside_of(recorded).items())
    yield from rows_of(recorded).values()


def _unknown_names(world: World) -> Iterator[Result]:
    """socket() and connect() by a name that is asked for the first time."""
    count = 100 if world.quick else 300  # below the gate's limit of look-ups at once
    host = f"*.{_DOMAIN}"

    def measure(_: str, way: Way) -> float:
        times = world.ask("open", way, ports=world.ports["open"], count=count, host=host, warm_up=10)
        return median(times["open"])

    yield from both_paths("open, by a name not asked before", "us", turns(world.rounds, measure, world.own_ways))


def _far_away(world: World) -> Iterator[Result]:
    """Opens, and 64 bytes there and back, to an end that is 20 ms away."""
    count = 20 if world.quick else 60
    far = {"count": count, "host": away.AWAY, "warm_up": 2}

    def opens(_: str, way: Way) -> float:
        return median(world.ask("open", way, ports=world.ports["open"], **far)["open"])

    def trips(_: str, way: Way) -> float:
        return median(world.ask("round_trips", way, port=world.ports["echo"][0], **far)["times"])

    yield from both_paths("open, 20 ms away", "us", turns(world.rounds, opens, world.own_ways), ("<=", 1.02))
    yield from both_paths("64-byte round trip, 20 ms away", "us", turns(world.rounds, trips, world.own_ways))


@contextlib.contextmanager
def _name_server(scratch: Path) -> Iterator[None]:
    """Run one that knows every name of the domain, and have the C library ask it alone, in this mount namespace."""
    program = shutil.which("dnsmasq", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))
    if program is None:
        raise Failed("dnsmasq is not installed (apt-get install dnsmasq-base)")
    for path, text in (("/etc/resolv.conf", "nameserver 127.0.0.1\n"), ("/etc/nsswitch.conf", "hosts: files dns\n")):
        file = scratch / Path(path).name
        file.write_text(text)
        if os.path.exists(path):
            subprocess.run(["mount", "--bind", str(file), path], check=True)
    options = ("--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file")
    where = ("--listen-address=127.0.0.1", "--bind-interfaces", f"--address=/{_DOMAIN}/127.0.0.1")
    process = subprocess.Popen([program, *options, *where, "--user=root", "--group=root"])
    try:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                socket.getaddrinfo(f"ready.{_DOMAIN}", None, socket.AF_INET)
                break
            except socket.gaierror:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Failed("the name server does not answer") from None
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def main(folder: Path, rounds: int, quick: bool) -> int:
    """Measure in the namespaces that this process is in, and write a record into the folder."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    results: list[Result] = []
    with World(rounds, quick, address="0.0.0.0") as world:
        try:
            with _name_server(Path(world.scratch)):
                results += _unknown_names(world)
        except (OSError, subprocess.CalledProcessError, Failed) as e:
            world.left_out.append(f"names not asked before: {e}")
        try:
            away.begin(_ROUND_TRIP / 2)
            results += _far_away(world)
        except (OSError, subprocess.CalledProcessError, Failed) as e:
            world.left_out.append(f"20 ms away: {e}")
        report.write(folder / report.FILE, report.record({}, rounds, quick, 0, results, (), world.left_out))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), int(sys.argv[2]), "quick" in sys.argv[3:]))
