"""Name every metric, its labels and what it means; ``docs/metrics.md`` is made from this."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["METRICS", "PROCESS", "Metric", "series"]


class Metric(NamedTuple):
    """One metric, named as Prometheus would have it: base units, unit and ``_total`` at the end of the name.

    https://prometheus.io/docs/practices/naming/

    :ivar name: without what its type puts behind it (``_total``, ``_bucket`` …).
    :ivar type: ``counter``, ``gauge`` or ``histogram``.
    :ivar labels: in the order in which its values are given. ``app`` has as many values as the configuration has apps,
        ``address`` as it has doors, every other one a few words of the gate's own.
    """

    name: str
    type: str
    help: str
    labels: tuple[str, ...] = ()


METRICS: Final = (
    Metric("outgate_build_info", "gauge", "1, with the versions of gate and Python.", ("version", "python")),
    Metric("outgate_policy_number", "gauge", "Number of the policy in force; a reload raises it."),
    Metric("outgate_reloads", "counter", "Reloads of the configuration since the start.", ("outcome",)),
    Metric("outgate_draining", "gauge", "1 while the gate opens nothing new and waits for its end."),
    Metric("outgate_faults", "counter", "Faults of the gate's own; the log has a traceback of each."),
    Metric("outgate_log_lines_dropped", "counter", "Lines of the decision log that could not be written."),
    Metric("outgate_channels", "gauge", "Channels of programs and commands that are open."),
    Metric("outgate_loop_lag_seconds", "histogram", "How late the gate's loop was, sampled four times a second."),
    Metric("outgate_request_duration_seconds", "histogram", "From a request's packet to its reply.", ("op",)),
    Metric("outgate_dial_duration_seconds", "histogram", "From a TCP dial to its end.", ("outcome",)),
    Metric("outgate_lookup_duration_seconds", "histogram", "What the C library took for a look-up."),
    Metric("outgate_processes", "gauge", "Processes that have a channel or a socket.", ("app",)),
    Metric("outgate_sockets_made", "counter", "Sockets made for programs, also those never connected.", ("app",)),
    Metric("outgate_sockets_held", "gauge", "Sockets the gate holds, also those ready to be connected.", ("app",)),
    Metric("outgate_opens", "counter", "Connections dialled, and UDP destinations opened.", ("app",)),
    Metric("outgate_leases_open", "gauge", "Sockets that are connected, or about to be.", ("app",)),
    Metric("outgate_leases_limit", "gauge", "How many sockets may be open.", ("app",)),
    Metric("outgate_leases_parked", "gauge", "Leases that no process has, kept for who redeems them.", ("app",)),
    Metric("outgate_leases_ended", "counter", "Leases that ended, and how.", ("app", "transport", "how")),
    Metric("outgate_closes_waiting", "gauge", "Sockets that wait for their close.", ("app",)),
    Metric("outgate_sent_bytes", "counter", "Application bytes that programs sent; these are billed.", ("app",)),
    Metric("outgate_received_bytes", "counter", "Application bytes that programs received.", ("app",)),
    Metric(
        "outgate_decisions",
        "counter",
        "Decisions by verdict, by what the rule is about, the class of the address, and the code of the refusal.",
        ("app", "verdict", "transport", "kind", "class", "code"),
    ),
    Metric("outgate_refusals", "counter", "Requests that were refused, for whatever reason.", ("app", "op", "code")),
    Metric("outgate_door_listening", "gauge", "1 while the gate listens at a door.", ("door", "address")),
    Metric("outgate_door_connections", "counter", "Connections that came to a door.", ("door", "address")),
    Metric(
        "outgate_door_refusals",
        "counter",
        "Clients of a door that were turned away, or were refused what they asked for, and why.",
        ("door", "address", "reason"),
    ),
    Metric("outgate_lookups", "counter", "Look-ups of names and addresses.", ("app", "outcome")),
    Metric("outgate_fleet_state_up", "gauge", "1 while what the fleet shares answers; of a gate with fleet.state."),
    Metric(
        "outgate_quota_used_ratio",
        "gauge",
        "Share of a quota that is used up in the present window.",
        ("app", "resource", "window"),
    ),
)

#: Of every process, under the names that all exporters give them; made by prometheus-client.
PROCESS: Final = (
    Metric("process_cpu_seconds", "counter", "Processor time of the gate."),
    Metric("process_open_fds", "gauge", "Descriptors the gate has open."),
    Metric("process_max_fds", "gauge", "How many it may have."),
    Metric("process_resident_memory_bytes", "gauge", "Memory that is resident."),
    Metric("process_virtual_memory_bytes", "gauge", "Memory that is mapped."),
    Metric("process_start_time_seconds", "gauge", "When the gate started, in seconds since 1970."),
)

_SUFFIXES: Final = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}


def series() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Give every name that a query may use, with its labels."""
    for metric in (*METRICS, *PROCESS):
        for suffix in _SUFFIXES[metric.type]:
            yield metric.name + suffix, (*metric.labels, "le") if suffix == "_bucket" else metric.labels
