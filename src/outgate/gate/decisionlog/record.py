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
_RULE, _REASON, _CURE = _LIMIT["rule"], _LIMIT["reason"], _LIMIT["cure"]


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
    via: str = "",
) -> None:
    """Write the line of a decision.

    :param host: what was asked for, as the program wrote it.
    :param address: what was judged; ``""`` where a name was refused before it was looked up.
    :param lease: name of the lease that came of it; ``""`` where none did.
    :param via: the proxy that it leaves by; ``""`` for none.
    """
    if not log.admits(process.app.name, "denied" if decision.denied else "allowed"):
        return
    alike = _alike(process, host, port, address, decision, transport, path, via, bool(decision.code))
    log.write(lines.joined(time.time(), b"decision", lease, alike))


def ended(
    log: DecisionLog,
    lease: Lease,
    name: str,
    decision: Decision,
    reading: meter.Reading,
    how: str,
    *,
    transport: str = "tcp",
    incomplete: bool = False,
    duration: float | None = None,
) -> None:
    """Write the line of a lease's end.

    :param name: what its lines are joined by.
    :param decision: the one it was opened by.
    :param how: why it ended.
    :param transport: ``udp`` of a socket whose gate has died.
    :param incomplete: whether it ended while no gate looked, so that the reading is an earlier one.
    :param duration: seconds from the decision to the end, where that was not just now.
    """
    if not log.admits(lease.process.app.name, "ended"):
        return
    seconds = max(0.0, time.monotonic() - lease.begun) if duration is None else duration
    outcome = lines.Outcome(
        lease.connect_ms is not None and how != "failed",
        lease.connect_ms,
        reading.sent,
        reading.received,
        int(seconds * 1e6 + 0.5) / 1e6,  # round() to six places goes by the decimal text, and takes five times as long
        how,
        incomplete=incomplete or None,
    )
    alike = _alike(lease.process, *lease.asked, lease.address, decision, transport, lease.way, lease.via)
    log.write(lines.joined(time.time(), b"end", name, alike, lines.encode(outcome)))


def ended_datagrams(log: DecisionLog, made: Datagrams, how: str) -> None:
    """Write the line of the end of a UDP socket, with its first destination, which decided that it is a lease."""
    first = made.first
    assert first is not None, "without a destination it was none"
    if not log.admits(made.process.app.name, "ended"):
        return
    address, port = first.target[:2]
    outcome = lines.Outcome(
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
    alike = _alike(made.process, first.host, port, address, first.decision, "udp", "relay")
    log.write(lines.joined(time.time(), b"end", made.name, alike, lines.encode(outcome)))


def overruled(
    log: DecisionLog,
    process: Process,
    lease: str,
    transport: str,
    host: str,
    port: int,
    address: str,
    decision: Decision,
    path: str,
    how: str,
) -> None:
    """Write the line of a connection that is open and that a new policy denies.

    :param lease: its name.
    :param decision: the new policy's.
    :param how: ``cut`` or ``report``.
    """
    log.event(
        "overruled",
        lease=lease,
        app=process.app.name,
        pid=process.pid,
        uid=process.uid,
        program=process.program,
        host=host,
        port=port,
        name=decision.name or None,
        transport=transport,
        address=address,
        verdict=decision.verdict,
        rule=decision.rule,
        reason=decision.reason,
        policy=decision.policy,
        path=path,
        cure=decision.cure,
        how=how,
        **{"class": decision.address_class or None},
    )


def _alike(
    process: Process,
    host: str,
    port: int,
    address: str,
    decision: Decision,
    transport: str,
    path: str,
    via: str = "",
    explained: bool = False,
) -> bytes:
    """Return what stands in a decision and in an end alike, encoded.

    :param explained: with the reason and the cure, which stand in a decision.
    """
    key = (process, id(decision), host, port, address, transport, path, via, explained)
    known = _remembered.get(key)
    if known is not None:
        return known[1]
    cure = decision.cure if explained else None
    alike: bytes = lines.encode(
        lines.Alike(
            process.app.name,
            process.pid,
            process.uid,
            lines.chosen(process.program),
            lines.chosen(host),
            port,
            lines.chosen(decision.name) or None,
            transport,
            address or None,
            decision.address_class or None,
            decision.verdict,
            lines.chosen(decision.rule, _RULE),
            lines.chosen(decision.reason, _REASON) if explained else None,
            decision.policy,
            path,
            via or None,
            lines.chosen(cure, _CURE) if cure else None,
        )
    )
    if len(_remembered) >= _MOST:
        _remembered.clear()  # a scan, or many programs; what connects all the time is soon there again
    _remembered[key] = decision, alike
    return alike


#: What was said alike of destinations, at half a kilobyte each, and the decision, so that its id stays its own. A
#: program asks for few, and a line made anew takes three times as long.
_remembered: dict[tuple[object, ...], tuple[Decision, bytes]] = {}
_MOST = 1024
