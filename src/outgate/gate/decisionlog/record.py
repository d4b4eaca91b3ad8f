"""Write down what was decided and how it ended: the two lines of a lease."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from outgate.core.policy.decide import Decision
from outgate.gate.decisionlog import lines
from outgate.gate.decisionlog.log import DecisionLog
from outgate.gate.kernel import meter
from outgate.gate.registry import Lease, Process

if TYPE_CHECKING:
    from outgate.gate.datagram.datagrams import Datagrams

_LIMIT = {name: field.limit for name, field in lines.FIELDS.items()}
_RULE, _REASON = _LIMIT["rule"], _LIMIT["reason"]


def decided(
    log: DecisionLog,
    process: Process,
    host: str,
    port: int,
    address: str,
    decision: Decision,
    lease: str,
    transport: str = "tcp",
    path: str = "direct",
) -> None:
    """Write the line of a decision.

    :param host: what was asked for, as the program wrote it.
    :param address: what was judged; ``""`` where a name was refused before it was looked up.
    :param lease: name of the lease that came of it; ``""`` where none did.
    """
    reason = lines.chosen(decision.reason, _REASON) if decision.code else None
    log.write(
        lines.Decision(*_both("decision", process, host, port, address, decision, lease, transport, path, reason))
    )


def ended(log: DecisionLog, lease: Lease, name: str, decision: Decision, reading: meter.Reading, how: str) -> None:
    """Write the line of a lease's end.

    :param name: what its lines are joined by.
    :param decision: the one it was opened by.
    :param how: why it ended.
    """
    path = "direct" if lease.side is None else "relay"
    log.write(
        lines.End(
            *_both("end", lease.process, *lease.asked, lease.address, decision, name, "tcp", path),
            lease.connect_ms is not None and how != "failed",
            lease.connect_ms,
            reading.sent,
            reading.received,
            round(time.monotonic() - lease.begun, 6),
            how,
        )
    )


def ended_datagrams(log: DecisionLog, made: Datagrams, how: str) -> None:
    """Write the line of the end of a UDP socket, with its first destination, which decided that it is a lease."""
    first = made.first
    assert first is not None, "without a destination it was none"
    address, port = first.target[:2]
    log.write(
        lines.End(
            *_both("end", made.process, first.host, port, address, first.decision, made.name, "udp", "relay"),
            None,
            None,
            made.sent,
            made.received,
            round(time.monotonic() - made.begun, 6),
            how,
            made.sent_datagrams,
            made.received_datagrams,
            made.dropped,
            made.strangers,
        )
    )


def _both(
    event: str,
    process: Process,
    host: str,
    port: int,
    address: str,
    decision: Decision,
    lease: str,
    transport: str,
    path: str,
    reason: str | None = None,
) -> tuple[object, ...]:
    """Return what stands in a decision and in an end alike, in the order of :data:`.lines.FIELDS`."""
    return (
        lines.VERSION,
        lines.stamp(time.time()),
        event,
        lease or None,
        process.app.name,
        process.pid,
        process.uid,
        lines.chosen(process.program),
        lines.chosen(host),
        port,
        decision.name or None,
        transport,
        address or None,
        decision.address_class or None,
        decision.verdict,
        lines.chosen(decision.rule, _RULE),
        reason,
        decision.policy,
        path,
    )
