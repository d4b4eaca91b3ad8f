"""Say what one gate carries on hosts of several sizes, from what a record of the benchmark has measured.

The model is a division: a gate's loop is one core, and every open, relayed byte and metered socket costs so much
processor time of it. What programs and peers need is counted too, since on a small host they take the cores first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bench.report import number, rows_of
from bench.rows import Row

Table = Callable[[tuple[str, ...], list[tuple[str, ...]]], str]

CORES = (2, 8, 64)
#: Shares of a gate's core that a plan may give out: the rest is for bursts, look-ups and sweeps.
_USABLE = 0.7


class Costs(NamedTuple):
    """What was measured of a gate.

    :ivar open: microseconds of a gate's processor time for an open and its close, on the direct path.
    :ivar relayed_open: the same on the relay path.
    :ivar client: microseconds of a program's own for one on the direct path.
    :ivar gigabyte: seconds of a gate's for each GB relayed.
    :ivar held: bytes of a gate's memory for each socket on the direct path that is open.
    :ivar relayed: the same on the relay path.
    :ivar metered: microseconds of a gate's in each second for each socket that sends.
    """

    open: float
    relayed_open: float
    client: float
    gigabyte: float
    held: float
    relayed: float
    metered: float


#: The lines that the costs are in, in the order of :class:`Costs`; # stands for a number that hosts decide.
_LINES = (
    "gate, processor time of an open, direct",
    "gate, processor time of an open, relay",
    "client, processor time of an open, direct",
    "gate, processor time for each GB relayed",
    "gate memory, # held",
    "gate memory, # relayed",
    "gate, # sockets sending",
)


def costs(rows: Mapping[str, Row]) -> Costs:
    """Return the costs in a record. Of what was measured with several numbers it is the figure of the largest.

    :raises ValueError: a line is not there; the text says which.
    """
    lacking = missing(rows)
    if lacking:
        raise ValueError(f"the record is not whole: it lacks {'; '.join(lacking)}")
    *figures, (sending, metered) = (_found(rows, line)[-1] for line in _LINES)
    return Costs(*(figure for _, figure in figures), metered=metered / 100 * 1e6 / sending)


def missing(rows: Mapping[str, Row]) -> list[str]:
    """Return the lines of a record that the costs are in and that are not there."""
    return [line for line in _LINES if not _found(rows, line)]


def _found(rows: Mapping[str, Row], line: str) -> list[tuple[int, float]]:
    """Return number and figure of each line that is called so, in the order of their numbers."""
    pattern = re.compile(re.escape(line).replace(re.escape("#"), r"([\d,]+)"))
    found = []
    for name, row in rows.items():
        match = pattern.fullmatch(name)
        if match is not None:
            found.append((int(match[1].replace(",", "")) if pattern.groups else 0, row.figure))
    return sorted(found)


def opens_per_second(of: Costs, cores: int, gates: int) -> float:
    """Return how many direct opens a second so many gates serve on a host, programs and gates sharing its cores.

    Either the gates are at their cores' end, or the host is at that of all its cores.

    >>> costs = Costs(200, 300, 100, 0.5, 600, 2000, 10)
    >>> opens_per_second(costs, 64, 1), opens_per_second(costs, 2, 8) < opens_per_second(costs, 3, 8)
    (5000.0, True)
    """
    return min(gates * 1e6 / of.open, cores * 1e6 / (of.open + of.client))


def gates_worth_running(of: Costs, cores: int) -> int:
    """Return the number of gates beyond which another one serves no further open, for want of cores."""
    return max(1, round(cores * of.open / (of.open + of.client)))


_PAGE = """\
# How far one gate goes

<!-- Made by docs/generate.py; do not edit. -->

One gate is one loop on one core, with threads beside it for what may block. So it is soon said what it carries: what
each thing costs of that core. Measured in the run of the [benchmark](benchmark.md) ({date}, {processor}):

{costs}

The bytes of direct connections are in no line: they are the kernel's, and cost the gate nothing but the meter.

## On a host of so many cores

{hosts}

Opens are those of the direct path, from as many processes as it takes, and nothing else going on; a program has
{client} µs of its own for each. Plan with {usable:.0%} of that. Relayed bytes are one way, and take cores of the
program and of the kernel's network too.

More cores make one gate no faster; they keep programs out of its way. **What ends first** on one gate:

- **many short connections**: its core, at {opens} opens a second on the direct path and {relayed_opens} on the relay;
- **many long connections**: its core, at {metered} sockets that all send, for each is read once a second; quiet ones
  cost only the sweep;
- **many idle connections**: descriptors, one for each direct socket and two for each relayed one (`LimitNOFILE`), and
  the kernel's memory for sockets; a million direct ones would take {million} MB of the gate's own;
- **bulk over the relay**: its core, at {gigabytes} GB a second. Trusted programs go the direct path instead.

`outgate_loop_lag_seconds` says when the end is near ([metrics](metrics.md)): a loop that is late again and again by
more than some milliseconds has no core left.

## Several gates on one host

Apps are split: each gate has a socket, a configuration, a state folder and a log of its own, and apps of its own. Which
one a program reaches is said by `OUTGATE_SOCKET`, or by `outgate run --socket`; or a container has only that socket.

<!-- file: /etc/outgate/web.toml -->
```toml
version = 1

[gate]
socket = "/run/outgate/web.sock"
state = "/var/lib/outgate/web"
log = "/var/log/outgate/web.jsonl"

[apps.web]
uid = [0]
billing = true
```

<!-- file: /etc/outgate/crawler.toml -->
```toml
version = 1

[gate]
socket = "/run/outgate/crawler.sock"
state = "/var/lib/outgate/crawler"
log = "/var/log/outgate/crawler.jsonl"

[apps.crawler]
uid = [0]
billing = true
```

<!-- before
$ mkdir -p /run/outgate /var/log/outgate /var/lib/outgate/web /var/lib/outgate/crawler
$ outgate serve --config /etc/outgate/web.toml &
$ outgate serve --config /etc/outgate/crawler.toml &
-->
<!-- file: agent.py
import socket

socket.create_connection(("api.example", 443)).close()
-->
```console
$ outgate run --socket /run/outgate/crawler.sock -- python agent.py
outgate: app crawler of the running gate, policy 1 (/etc/outgate/crawler.toml), relay path, fenced
$ OUTGATE_SOCKET=/run/outgate/web.sock outgate status
...
```

- **Quotas** are a gate's own unless they [share them](quotas.md#over-a-fleet): an app lives at one gate, or has its
  quota once at each.
- **A ledger** they can share if it is [in PostgreSQL](billing.md#postgresql), each under its name.
- **A pickled socket** is redeemed at the gate that has it: processes that pass sockets on belong to one gate.
- **Pinning** each gate to a core (`CPUAffinity=` in its unit) saves it from moving; leave the other cores to programs.
"""


def page(record: Mapping[str, Any], table: Table) -> str:
    """Return docs/scale.md."""
    of = costs(rows_of(record))
    facts = record["facts"]
    return _PAGE.format(
        date=facts["date"],
        processor=f"{facts['processor']}, {facts['cpus']} cores",
        costs=table(
            ("", "costs a gate", "so that one core is enough for"),
            [
                ("an open and its close, direct", f"{number(of.open)} µs", f"{1e6 / of.open:,.0f} a second"),
                ("the same, relay", f"{number(of.relayed_open)} µs", f"{1e6 / of.relayed_open:,.0f} a second"),
                ("a GB over the relay", f"{number(of.gigabyte)} s", f"{number(1 / of.gigabyte)} GB a second"),
                (
                    "a socket that sends, metered",
                    f"{number(of.metered)} µs a second",
                    f"{1e6 / of.metered:,.0f} sockets",
                ),
                ("an open socket, direct", f"{number(of.held)} B", ""),
                ("an open socket, relay", f"{number(of.relayed)} B", ""),
            ],
        ),
        hosts=table(
            (
                "cores",
                "opens a second, one gate",
                "gates worth running",
                "opens a second with those",
                "relayed, one gate",
            ),
            [_host(of, cores) for cores in CORES],
        ),
        client=number(of.client),
        usable=_USABLE,
        opens=f"{1e6 / of.open:,.0f}",
        relayed_opens=f"{1e6 / of.relayed_open:,.0f}",
        metered=f"{1e6 / of.metered:,.0f}",
        million=f"{of.held:,.0f}",
        gigabytes=number(1 / of.gigabyte),
    )


def _host(of: Costs, cores: int) -> tuple[str, ...]:
    gates = gates_worth_running(of, cores)
    one, many = (opens_per_second(of, cores, each) for each in (1, gates))
    return str(cores), f"{one:,.0f}", str(gates), f"{many:,.0f}", f"{number(1 / of.gigabyte)} GB/s"
