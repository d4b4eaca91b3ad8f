"""Write down what was decided and how it ended: the two lines of a lease."""

from __future__ import annotations

import time

from outgate.core.policy import Decision
from outgate.gate import lines, meter
from outgate.gate.log import DecisionLog
from outgate.gate.registry import Lease, Process

_LIMIT = {name: field.limit for name, field in lines.FIELDS.items()}
_RULE, _REASON = _LIMIT["rule"], _LIMIT["reason"]


def decided(
    log: DecisionLog, process: Process, host: str, port: int, address: str, decision: Decision, lease: str
) -> None:
    """Write the line of a decision.

    :param host: what was asked for, as the program wrote it.
    :param address: what was judged; ``""`` where a name was refused before it was looked up.
    :param lease: name of the lease that came of it; ``""`` where none did.
    """
    log.write(
        lines.Decision(
            lines.VERSION,
            lines.stamp(time.time()),
            "decision",
            lease or None,
            process.app.name,
            process.pid,
            process.uid,
            lines.chosen(process.program),
            lines.chosen(host),
            port,
            getattr(decision, "name", None) or None,
            "tcp",
            address or None,
            decision.address_class or None,
            decision.verdict,
            lines.chosen(decision.rule, _RULE),
            lines.chosen(decision.reason, _REASON) if decision.code else None,
            decision.policy,
            "direct",
        )
    )


def ended(log: DecisionLog, lease: Lease, decision: Decision, reading: meter.Reading, how: str) -> None:
    """Write the line of a lease's end.

    :param decision: the one it was opened by.
    :param how: why it ended.
    """
    process = lease.process
    host, port = lease.asked
    log.write(
        lines.End(
            lines.VERSION,
            lines.stamp(time.time()),
            "end",
            lease.name,
            process.app.name,
            process.pid,
            process.uid,
            lines.chosen(process.program),
            lines.chosen(host),
            port,
            getattr(decision, "name", None) or None,
            "tcp",
            lease.address,
            decision.address_class,
            decision.verdict,
            lines.chosen(decision.rule, _RULE),
            None,
            decision.policy,
            "direct",
            lease.connect_ms is not None and how != "failed",
            lease.connect_ms,
            reading.sent,
            reading.received,
            round(time.monotonic() - lease.begun, 6),
            how,
        )
    )
