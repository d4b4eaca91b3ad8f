"""Write the gate's records and counts down for Prometheus, a slice at a time, from what they say at that moment."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from outgate import __version__
from outgate.core import tenure
from outgate.gate.metrics import table
from outgate.gate.metrics.histogram import Histogram

if TYPE_CHECKING:
    from outgate.gate.registry import App
    from outgate.gate.server import Gate

__all__ = ["CONTENT_TYPE", "SLICE", "pages", "process_page"]

#: What every Prometheus since 0.4 reads.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Lines written in one turn of the loop, at some 8 µs each.
SLICE: Final = 100
#: Records looked at in one turn where only a sum comes of them.
_TALLY: Final = 5000
#: Apps whose quotas are read in one turn, each of them at some 100 µs.
_STANDINGS: Final = 10

#: (values of the labels, value); ``None`` where it is time to let others have a turn.
_Samples = Iterable["tuple[tuple[str, ...], Any] | None"]


class _One:
    """A collector of a single family, which is what the library's writer asks for."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> list[Metric]:
        return [self._family]


def pages(gate: Gate) -> Iterator[bytes]:
    """Give the text of all metrics but those of the process in pieces of at most :data:`SLICE` lines, or nothing.

    To be called on the gate's loop; between two pieces others may have it. Apps may come and counts go on meanwhile:
    every sample is right at its own moment, which is all that Prometheus asks.
    """
    for metric in table.METRICS:
        yield from _family(metric, _SOURCES[metric.name](gate))


def process_page() -> bytes:
    """Return the metrics of the process. Not on the loop: it counts the descriptors, of which there may be many."""
    return generate_latest(_OfProcess)


_OfProcess: Final = ProcessCollector(registry=None)


def _family(metric: table.Metric, samples: _Samples) -> Iterator[bytes]:
    most = SLICE if metric.type != "histogram" else SLICE // 20
    batch: list[tuple[tuple[str, ...], Any]] = []
    first = True
    for sample in samples:
        if sample is None:
            yield b""
            continue
        batch.append(sample)
        if len(batch) == most:
            yield _write(metric, batch, first)
            batch, first = [], False
    if batch or first:
        yield _write(metric, batch, first)


def _write(metric: table.Metric, samples: list[tuple[tuple[str, ...], Any]], with_head: bool) -> bytes:
    family = _FAMILIES[metric.type](metric, samples)
    text = generate_latest(_One(family))
    # Two lines of comment begin a family; further pieces of it go on without.
    return text if with_head else text.split(b"\n", 2)[2]


def _counter(metric: table.Metric, samples: list[tuple[tuple[str, ...], Any]]) -> Metric:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _gauge(metric: table.Metric, samples: list[tuple[tuple[str, ...], Any]]) -> Metric:
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _histogram(metric: table.Metric, samples: list[tuple[tuple[str, ...], Any]]) -> Metric:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, histogram in samples:
        family.add_metric(labels, histogram.cumulative(), histogram.sum)
    return family


_FAMILIES: Final[Mapping[str, Callable[[table.Metric, list[tuple[tuple[str, ...], Any]]], Metric]]] = {
    "counter": _counter,
    "gauge": _gauge,
    "histogram": _histogram,
}


# --- where each comes from --------------------------------------------------------------------------------------------


def _one(value: Callable[[Gate], Any]) -> Callable[[Gate], _Samples]:
    """Return the source of a metric without labels."""
    return lambda gate: (((), value(gate)),)


def _by_app(value: Callable[[Gate, App], Any]) -> Callable[[Gate], _Samples]:
    """Return the source of a metric that each app has one of."""
    return lambda gate: (((app.name,), value(gate, app)) for app in tuple(gate.registry.apps.values()))


def _counted(counts: Callable[[Gate], Mapping[Any, Any]]) -> Callable[[Gate], _Samples]:
    """Return the source of a metric that is a table of counts by its labels."""
    return lambda gate: tuple(counts(gate).items())


def _parked(gate: Gate) -> _Samples:
    """Tally by app the leases that nobody has; there may be a hundred thousand."""
    found: Counter[str] = Counter()
    for number, loan in enumerate(tuple(gate.sharing.loans.values())):
        if loan.tenure == tenure.PARKED:
            found[loan.app.name] += 1
        if number % _TALLY == _TALLY - 1:
            yield None
    for app in tuple(gate.registry.apps):
        yield (app,), found[app]


def _requests(gate: Gate) -> Iterator[tuple[tuple[str, ...], Histogram]]:
    for request, histogram in tuple(gate.counts.requests.items()):
        yield (request.__name__.lower(),), histogram


def _quota_shares(gate: Gate) -> _Samples:
    for number, app in enumerate(tuple(gate.settings.apps), 1):
        for standing in gate.quotas.standings(app):
            yield (app, standing["resource"], standing["per"]), standing["share"]
        if number % _STANDINGS == 0:
            yield None


def _by_door(value: Callable[[Any], Any]) -> Callable[[Gate], _Samples]:
    """Return the source of a metric that each door has one of."""
    return lambda gate: tuple(((door.kind, door.place), value(door)) for door in gate.doors.doors)


def _door_refusals(gate: Gate) -> _Samples:
    for door in gate.doors.doors:
        for reason, count in tuple(door.refusals.items()):
            yield (door.kind, door.place, reason), count


def _single(counts: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    return {(name,): value for name, value in counts.items()}


_SOURCES: Final[Mapping[str, Callable[[Gate], _Samples]]] = {
    "outgate_build_info": lambda gate: (((__version__, platform.python_version()), 1),),
    "outgate_policy_number": _one(lambda gate: gate.settings.number),
    "outgate_reloads": _counted(lambda gate: _single(gate.counts.reloads)),
    "outgate_draining": _one(lambda gate: int(gate.is_draining)),
    "outgate_faults": _one(lambda gate: gate.counts.faults),
    "outgate_log_lines_dropped": _one(lambda gate: gate.log.lost),
    "outgate_channels": _one(lambda gate: len(gate.reception.channels)),
    "outgate_loop_lag_seconds": _one(lambda gate: gate.counts.lag),
    "outgate_request_duration_seconds": _requests,
    "outgate_dial_duration_seconds": _counted(lambda gate: _single(gate.counts.dials)),
    "outgate_lookup_duration_seconds": _one(lambda gate: gate.counts.look_up_seconds),
    "outgate_processes": _by_app(lambda gate, app: app.processes),
    "outgate_sockets_made": _by_app(lambda gate, app: app.sockets),
    "outgate_sockets_held": _by_app(lambda gate, app: app.held),
    "outgate_opens": _by_app(lambda gate, app: app.connects),
    "outgate_leases_open": _by_app(lambda gate, app: app.open),
    "outgate_leases_limit": _by_app(lambda gate, app: gate.limits.open(app)),
    "outgate_leases_parked": _parked,
    "outgate_leases_ended": _counted(lambda gate: gate.counts.ended_leases),
    "outgate_closes_waiting": _by_app(lambda gate, app: app.closer.waiting),
    "outgate_sent_bytes": _by_app(lambda gate, app: app.sent),
    "outgate_received_bytes": _by_app(lambda gate, app: app.received),
    "outgate_decisions": _counted(lambda gate: gate.counts.decisions),
    "outgate_refusals": _counted(lambda gate: gate.counts.refusals),
    "outgate_door_listening": _by_door(lambda door: int(bool(door.address))),
    "outgate_door_connections": _by_door(lambda door: door.accepted),
    "outgate_door_refusals": _door_refusals,
    "outgate_lookups": _counted(lambda gate: gate.counts.look_ups),
    "outgate_fleet_state_up": lambda gate: (((), int(not gate.shared.is_away)),) if gate.shared.is_there else (),
    "outgate_quota_used_ratio": _quota_shares,
}
