"""Answer requests: one coroutine an operation, which reads top to bottom.

:func:`connect` is the one to read first: it is what happens in the gate when a program connects. Every decision is a
pure function of :mod:`outgate.core`, every effect a small adapter beside this module.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from outgate.core import lease as life
from outgate.core.policy.decide import ALLOW
from outgate.gate import fellows, inforce, listing, refusals, wire
from outgate.gate.datagram import reaching
from outgate.gate.explain import before_lookup, explain, unknown
from outgate.gate.fetching.fetches import fetch
from outgate.gate.judging import is_relayed, judge, may_hold, may_open
from outgate.gate.kernel import births, dial, patient
from outgate.gate.kernel.aside import Aside
from outgate.gate.live import reloading
from outgate.gate.names import lookup, relearn
from outgate.gate.names.resolver import numbers, numeric
from outgate.gate.narrowing import narrow_process
from outgate.gate.quota import showing
from outgate.gate.reclaim import renewing
from outgate.gate.registry import NOTHING_BEFORE, Process
from outgate.gate.relay import relaying
from outgate.gate.replies import Reply, denied, failed_lookup, refusal
from outgate.gate.restart import claiming
from outgate.gate.takeover import giving
from outgate.gate.travel import passing
from outgate.gate.wayout import leaving

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.configuration.settings import AppSettings
    from outgate.gate.server import Gate
    from outgate.gate.wayout.passages import Passage


#: Apps in one reply to STAT: some 150 bytes each, and 350 with the longest name and counts.
_STAT_PAGE = 150


async def new(gate: Gate, channel: Channel, process: Process, request: wire.New) -> tuple[Reply, list[int]]:
    """Make born sockets for the client's pool. Taking one from the pool is silent, so nothing is charged here."""
    refused = may_hold(gate, process, request.count)
    if refused is not None:
        return refused, []
    make: Callable[[Process, int, Channel], births.Born] = partial(_make_direct, gate)
    is_relay = False
    if request.kind == "udp":
        make = gate.udp.make
    elif is_relayed(gate, process):
        make, is_relay = gate.relaying.make, True
    born: list[births.Born] = []
    try:
        while len(born) < request.count:
            born.append(make(process, request.family, channel))
    except OSError as e:
        if not born:
            return refusal("gate-sockets", errno=e.errno), []
    reply: Reply = {"ids": [each.id for each in born], "cookies": [each.cookie for each in born]}
    if is_relay:
        reply["relay"] = True
    return reply, [each.fd for each in born]


def _make_direct(gate: Gate, process: Process, family: int, channel: Channel) -> births.Born:
    sock, cookie = births.make(family, gate.owner(process), gate.aside.kind(process.app))
    lease = gate.registry.add(process, sock, cookie, family, channel)
    return births.Born(lease.id, cookie, sock.fileno())


async def connect(gate: Gate, channel: Channel, process: Process, request: wire.Connect) -> Reply:
    """Identify → charge → resolve → decide → connect → lease."""
    lease = gate.registry.find(process, request.sock)
    if lease is None:
        return gate.ending.missing(process, request.sock)
    app = lease.process.app
    if lease.side is not None and not process.door:  # whose clients fill nothing, and wait for the door's word
        gate.relaying.note_fill(lease, lease.side)
        channel.after_reply(gate.relaying.release_unless_dialled, lease, lease.side)
    refused = may_open(gate, process)
    if refused is not None:
        return refused
    is_aside = isinstance(lease.sock, Aside)
    if is_aside and gate.aside.is_asked(lease):
        refused = await gate.aside.look(lease)
        if refused is not None:
            return refused
    if lease.state == life.DIALLED:
        gate.settle(lease)  # the client may have harvested an end that we have not looked at yet
    if lease.state == life.OPEN:
        gate.settle(lease)  # and the connection be over by now
    if lease.state in (life.OPEN, life.DIALLED):
        return {"errno": errno.EISCONN if lease.state == life.OPEN else errno.EALREADY}
    limit = gate.limits.open(app)
    if not life.may_hold(app.open - app.ending, 1, limit):
        return refusal("too-many-leases", app=app.name, used=app.open, limit=limit)
    refused = gate.quotas.charge_socket(lease, "connect")
    if refused is not None:
        return refused
    try:
        address, scope, decision = await judge(
            gate, app, request.host, request.port, lease.family, narrowed=process.narrowed
        )
    except socket.gaierror as e:
        return failed_lookup(e)
    if lease.state == life.ENDED:
        return refusal("unknown-descriptor")  # closed while the name was looked up
    if lease.state in (life.OPEN, life.DIALLED):
        return {"errno": errno.EALREADY}  # dialled by another thread meanwhile
    asks_names = gate.udp.is_name_server(address, request.port)
    if asks_names and numeric(request.host, lease.family) is not None:
        decision = gate.udp.or_name_server(decision, address, request.port)
    if decision.denied:
        return denied(gate, process, request.host, request.port, address, decision)
    target: tuple[Any, ...] = (address, request.port)
    if lease.family == 6:
        target += (request.flow, scope or request.scope)
    passage: Passage | None = None
    if asks_names:
        try:
            target = gate.answering.expect(lease, target)
        except OSError as e:
            return refusal("gate-sockets", errno=e.errno)
    elif not app.settings.out.is_straight:
        led = await leaving.prepare(gate, lease, request.host, request.port, address, decision)
        if isinstance(led, dict):
            return led
        passage = led
        if lease.state not in (life.BORN, life.FAILED):  # closed, or dialled by another thread, meanwhile
            return {"errno": errno.EALREADY} if lease.state != life.ENDED else refusal("unknown-descriptor")
    dialled = target if passage is None else passage.address
    gate.quotas.pace(lease)
    begun = time.monotonic()
    if gate.fast_open and not is_aside:
        result = dial.begin(lease.sock, dialled)
    else:
        if is_aside:
            refused, result = await gate.aside.dial(lease, dialled)
            if refused is not None:
                gate.log_decision(process, request.host, request.port, address, decision, lease=None)
                return refused
        else:
            # A duplicate of its own: ours may be closed, and its number be another file's, before the thread is
            # through. Not by sock.dup(), which sets O_NONBLOCK to what it thinks it is, on the file that the program
            # shares.
            duplicate = patient.take(os.dup(lease.sock.fileno()), lease.family, socket.socket)
            result = await gate.loop.run_in_executor(gate.dial_threads.of(app.name), dial.wait, duplicate, dialled)
        if lease.state not in (life.BORN, life.FAILED):  # closed, or dialled by another thread, meanwhile
            gate.log_decision(process, request.host, request.port, address, decision, lease=None)
            return {"errno": errno.EALREADY} if lease.state != life.ENDED else refusal("unknown-descriptor")
    lease.see(life.DIAL)
    lease.number += 1
    lease.born_on = None  # the reply that carried it has been read
    lease.begun = begun
    lease.connect_ms = None
    # One text for all leases that lead there.
    lease.asked = (sys.intern(request.host), request.port)
    lease.address = sys.intern(address)
    lease.decision = decision
    lease.bind(decision.name)
    app.open += 1
    app.connects += 1
    lease.via, lease.before = "", NOTHING_BEFORE
    if passage is not None:
        return await gate.passages.lead(lease, process, passage, result, target, request.wait)
    channel.after_reply(gate.dialled, lease, process)
    if result not in (0, errno.EINPROGRESS):
        return {"errno": result}  # the network said no at once: a decision and an end in the log like any other
    return {"lease": gate.lease_name(lease), "addr": [*target, 0, 0][:4], "connected": result == 0}


async def close(gate: Gate, channel: Channel, process: Process, request: wire.Close) -> Reply:
    """End a lease, and answer when its socket is closed or somebody else is known to hold it."""
    done = asyncio.Event()
    if let_go(gate, process, request, done.set):
        await done.wait()
    elif process.app.settings.is_relayed():  # it may have ended by itself just now, and wait for its close
        gate.ending.when_closed(process.app, done.set)
        await done.wait()
    return {}


def let_go(gate: Gate, process: Process, request: wire.Close, done: Callable[[], None] | None = None) -> bool:
    """End a lease, or look who else holds it, and tell whether there was one; one-way packets end here."""
    if gate.sharing.closed(process, request.sock):
        return False  # it ends by itself, with whoever else has it
    lease = gate.registry.leases.get(request.sock)
    if lease is None or lease.process.app is not process.app:
        return False
    if lease.process is not process:
        gate.ending.look_now()  # a child has closed what its parent opened: perhaps it was the last
        return False
    if lease.side is not None and lease.state in (life.OPEN, life.DIALLED):
        gate.ending.tell(lease, done)  # it ends by itself, when what the program has sent is on its way
    elif request.shared:
        gate.ending.look((lease,), done)
    else:
        gate.ending.end(lease, "closed", done)
    return True


async def adopt(gate: Gate, channel: Channel, process: Process, request: wire.Adopt) -> Reply:
    """Name a socket that came to this process in some way we did not see: inherited over exec, or sent by another."""
    made = gate.udp.by_cookie.get(request.cookie)
    if made is not None and made.process.app is process.app and made.process.uid == process.uid:
        if process.narrowed:
            gate.udp.share(made, process)
        gate.sharing.adopted(made, process)
        return {"sock": made.id, "kind": "udp", "family": made.family}
    lease = gate.registry.by_cookie.get(request.cookie)
    if lease is None or lease.process.app is not process.app or lease.process.uid != process.uid:
        return refusal("unknown-descriptor")
    gate.sharing.adopted(lease, process)
    return {"sock": lease.id} if lease.side is None else {"sock": lease.id, "kind": "relay", "family": lease.family}


async def why(gate: Gate, channel: Channel, process: Process, request: wire.Why) -> Reply:
    """Decide without dialling, and say which rule decides."""
    app = process.app
    if request.app and request.app != app.name:
        if not gate.reception.is_operator(process.uid):
            return refusal("no-app", uid=process.uid)
        other = gate.settings.apps.get(request.app)
        if other is None:
            known = f"; there are {', '.join(gate.settings.apps)}" if gate.settings.apps else ""
            return {"answer": unknown(request.host, request.port, f"no app {request.app!r} is configured{known}")}
        settings = other
    elif not app.name and len(gate.settings.apps) == 1:
        (settings,) = gate.settings.apps.values()
    elif not app.name:
        names = ", ".join(gate.settings.apps) or "none"
        return {"answer": unknown(request.host, request.port, f"you are no app, so say which: {names}")}
    else:
        settings = app.settings
    # Who has the log may hear it all.
    brief = settings.reasons == "brief" and not gate.reception.is_operator(process.uid)
    return {"answer": await _explained(gate, process, settings, request, brief)}


async def _explained(
    gate: Gate, process: Process, settings: AppSettings, request: wire.Why, brief: bool
) -> dict[str, Any]:
    """Return what would be decided on a connect: by the rules and bindings of the app, with look-ups of the asker's."""
    host, port, transport = request.host, request.port, request.transport
    asker, narrowed = process.app, process.narrowed
    addresses = numbers(host)
    if addresses:
        app = gate.registry.apps[settings.name]
        bound = app.bindings.names_for(addresses[0], time.monotonic())
        answer = explain(settings, transport, host, port, addresses, bound=bound, brief=brief, narrowed=narrowed)
        has_names = settings.policy.has_name_permits or narrowed.has_name_permits
        if answer["verdict"] != ALLOW and transport == "tcp" and has_names:
            bound = await relearn.names_by_now(gate, app, addresses[0], port)
            answer = explain(settings, transport, host, port, addresses, bound=bound, brief=brief, narrowed=narrowed)
        return answer
    refused = before_lookup(settings, transport, host, port, brief, narrowed)
    if refused is not None:
        return refused
    failed = ""
    for family in (4, 6):
        try:
            addresses += [address for address, _ in await lookup.addresses_of(asker, host, family)]
        except (socket.gaierror, socket.herror) as e:
            failed = e.strerror or str(e)
    if not addresses:
        return unknown(host, port, f"{host}: {failed}")
    return explain(settings, transport, host, port, addresses, brief=brief, narrowed=narrowed)


async def stat(gate: Gate, channel: Channel, process: Process, request: wire.Stat) -> Reply:
    """Count sockets and connects, per app, page by page; what the others do is the operator's to know."""
    names = [process.app.name] if process.app.name in gate.registry.apps else []
    if gate.reception.is_operator(process.uid):
        names = sorted(name for name in gate.registry.apps if name > request.after)
    answer = gate.statistics(names[:_STAT_PAGE])
    answer["next"] = names[_STAT_PAGE - 1] if len(names) > _STAT_PAGE else None
    if process.channels == 1 and not process.leases:  # a command that only asks; it is not in use by that
        for counts in (answer, answer["apps"].get(process.app.name, {"processes": 1})):
            counts["processes"] -= 1
        answer["channels"] -= 1
    return {"answer": answer}


async def reload(gate: Gate, channel: Channel, process: Process, request: wire.Reload) -> Reply:
    """Read the configuration again, for the gate's own user or root."""
    if not gate.reception.may_manage(process):
        return refusal("no-app", uid=process.uid)
    answer = await reloading.reload(gate)
    counts = await gate.rejudging.finished() if answer["ok"] else None
    return {"answer": answer if counts is None else {**answer, **counts.fields()}}


async def drain(gate: Gate, channel: Channel, process: Process, request: wire.Drain) -> Reply:
    """Open nothing new from now on, and end when nothing is open, for the gate's own user or root."""
    if not gate.reception.may_manage(process):
        return refusal("no-app", uid=process.uid)
    gate.drain(request.on)
    return {"answer": {"ok": True, "draining": gate.is_draining, "open": gate.registry.opened()}}


HANDLERS: dict[type, Any] = {
    wire.New: new,
    wire.Connect: connect,
    wire.Fetch: fetch,
    wire.Harvest: relaying.harvest,
    wire.Reach: reaching.reach,
    wire.Name: reaching.name,
    wire.Bind: reaching.bind,
    wire.Option: reaching.option,
    wire.Resolve: lookup.resolve,
    wire.Close: close,
    wire.Adopt: adopt,
    wire.Share: passing.share,
    wire.Hand: passing.hand,
    wire.Offer: claiming.offer,
    wire.Give: claiming.give,
    wire.Redeem: passing.redeem,
    wire.Have: passing.have,
    wire.Touch: renewing.touch,
    wire.List: listing.list_sockets,
    wire.Kill: listing.kill,
    wire.Why: why,
    wire.Last: refusals.last,
    wire.Stat: stat,
    wire.Quota: showing.show,
    wire.Fleet: fellows.show,
    wire.Policy: inforce.show,
    wire.Narrow: narrow_process,
    wire.Reload: reload,
    wire.Drain: drain,
    wire.TakeOver: giving.take_over,
}

#: What an anchor carries: packets without an answer.
ONE_WAY: dict[type, Callable[[Gate, Process, Any], object]] = {
    wire.Close: let_go,
    wire.Have: passing.note_taken,
    wire.Touch: renewing.note,
    wire.Refused: refusals.told,
}
