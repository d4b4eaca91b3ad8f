"""Answer requests: one coroutine an operation, which reads top to bottom.

:func:`connect` is the one to read first: it is what happens in the gate when a program connects. Every decision is a
pure function of :mod:`outgate.core`, every effect a small adapter beside this module.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from outgate.core import lease as life
from outgate.core.policy import Ask, Decision, Policy, could_allow, decide
from outgate.errors import GateError, ProtocolError
from outgate.gate import births, dial, wire
from outgate.gate.explain import explain, unknown, withheld
from outgate.gate.registry import Process
from outgate.gate.resolver import CALLS, numeric

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.server import Gate

Reply = dict[str, Any]


def refusal(code: str, **facts: Any) -> Reply:
    """Return the reply that carries a row of the error table."""
    return {"error": {"code": code, "facts": facts}}


async def new(gate: Gate, channel: Channel, process: Process, request: wire.New) -> tuple[Reply, list[int]]:
    """Make born sockets for the client's pool. Taking one from the pool is silent, so nothing is charged here."""
    app = process.app
    denied = may_have_sockets(process)
    if denied is not None:
        return denied, []
    held = app.held + app.closer.waiting  # what waits for its close has a descriptor still
    if not life.may_hold(held, request.count, gate.held_limit(app)):
        return refusal("too-many-leases", app=app.name, used=held, limit=gate.limit(app)), []
    owner = (process.uid, process.gid) if gate.is_root and process.uid != 0 else None
    leases = []
    try:
        for _ in range(request.count):
            sock, cookie = births.make(request.family, owner)
            leases.append(gate.registry.add(process, sock, cookie, request.family, channel))
    except OSError as e:
        if not leases:
            return refusal("gate-sockets", errno=e.errno), []
    reply = {"ids": [lease.id for lease in leases], "cookies": [lease.cookie for lease in leases]}
    return reply, [lease.sock.fileno() for lease in leases]


def may_have_sockets(process: Process) -> Reply | None:
    """Return why this app gets no sockets at all, or ``None``."""
    refused = withheld(process.app.settings)
    return None if refused is None else refusal(refused[0], **refused[1])


async def connect(gate: Gate, channel: Channel, process: Process, request: wire.Connect) -> Reply:
    """Identify → charge → resolve → decide → connect → lease."""
    lease = gate.registry.find(process, request.sock)
    if lease is None:
        return refusal("unknown-descriptor")
    app = lease.process.app
    denied = may_have_sockets(process)
    if denied is not None:
        return denied
    if lease.state in (life.OPEN, life.DIALLED):
        gate.settle(lease)  # the client may have harvested an end that we have not looked at yet
    if lease.state in (life.OPEN, life.DIALLED):
        return {"errno": errno.EISCONN if lease.state == life.OPEN else errno.EALREADY}
    limit = gate.limit(app)
    if not life.may_hold(app.open, 1, limit):
        return refusal("too-many-leases", app=app.name, used=app.open, limit=limit)
    try:
        candidates = await resolve_host(gate, process, request.host, lease.family)
    except (socket.gaierror, socket.herror) as e:
        return resolver_error(e)
    if lease.state == life.ENDED:
        return refusal("unknown-descriptor")  # closed while the name was looked up
    if lease.state in (life.OPEN, life.DIALLED):
        return {"errno": errno.EALREADY}  # dialled by another thread meanwhile
    policy = app.settings.policy
    address, scope, decision = first_permitted(policy, app.name, request.host, request.port, candidates)
    if decision.denied:
        app.denied += 1
        gate.log_decision(process, request.host, request.port, address, decision, lease=None)
        return refusal(decision.code, **decision.facts)
    target: tuple[Any, ...] = (address, request.port)
    if lease.family == 6:
        target += (request.flow, scope or request.scope)
    begun = time.monotonic()
    if gate.fast_open:
        result = dial.begin(lease.sock, target)
    else:
        # A duplicate of its own: ours may be closed, and its number be another file's, before the thread is through.
        # Not by sock.dup(), which sets O_NONBLOCK to what it thinks it is, on the file that the program shares.
        duplicate = socket.socket(fileno=os.dup(lease.sock.fileno()))
        result = await gate.loop.run_in_executor(gate.dial_threads(app), dial.wait, duplicate, target)
        if lease.state not in (life.BORN, life.FAILED):  # closed, or dialled by another thread, meanwhile
            gate.log_decision(process, request.host, request.port, address, decision, lease=None)
            return {"errno": errno.EALREADY} if lease.state != life.ENDED else refusal("unknown-descriptor")
    lease.see(life.DIAL)
    lease.number += 1
    lease.name = gate.lease_name(lease)
    lease.born_on = None  # the reply that carried it has been read
    lease.begun = begun
    lease.connect_ms = None
    lease.asked = (request.host, request.port)
    lease.address = address
    lease.decision = decision
    lease.policy = policy.number
    app.open += 1
    app.connects += 1
    channel.after_reply(gate.dialled, lease, process)
    if result not in (0, errno.EINPROGRESS):
        return {"errno": result}  # the network said no at once: a decision and an end in the log like any other
    return {"lease": lease.name, "addr": [*target, 0, 0][:4], "connected": result == 0}


def first_permitted(
    policy: Policy, app: str, host: str, port: int, candidates: list[tuple[str, int]]
) -> tuple[str, int, Decision]:
    """Return (address, scope id, decision) of the first address that may be dialled, else of the first. Pure."""
    first: tuple[str, int, Decision] | None = None
    for address, scope in candidates:
        decision = decide(policy, Ask(app=app, transport="tcp", host=host, address=address, port=port))
        if not decision.denied:
            return address, scope, decision
        first = first or (address, scope, decision)
    assert first is not None, "the C library answers with an address or raises"
    return first


async def resolve_host(gate: Gate, process: Process, host: str, family: int) -> list[tuple[str, int]]:
    """Return the (address, scope id) pairs of a host as given to connect: numeric ones without a look-up.

    :raises socket.gaierror: as the C library says.
    """
    number = numeric(host, family)
    if number is not None:
        return [number]
    wanted = socket.AF_INET6 if family == 6 else socket.AF_INET
    try:
        answer = await process.app.resolver.call("getaddrinfo", host, host, None, wanted, socket.SOCK_STREAM)
    except UnicodeError:  # no client of ours sends what IDNA cannot encode
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
    return [(str(item[4][0]).partition("%")[0], item[4][3] if family == 6 else 0) for item in answer]


def resolver_error(error: OSError) -> Reply:
    """Return the reply that carries the C library's own answer."""
    kind = "herror" if isinstance(error, socket.herror) else "gaierror"
    return {"errno": error.errno or 0, "kind": kind, "text": error.strerror or ""}


async def resolve(gate: Gate, channel: Channel, process: Process, request: wire.Resolve) -> Reply:
    """Look up a name, an address or an interface; forbidden addresses are left out of the answer."""
    if request.call not in CALLS:
        raise ProtocolError(f"no look-up {request.call[:40]!r}")
    app = process.app
    if not app.settings.billing:
        return refusal("billing-disabled", app=app.name)
    host = str(request.args[0]) if request.args else ""
    try:
        answer = await app.resolver.call(request.call, host, *request.args)
    except (socket.gaierror, socket.herror) as e:
        return resolver_error(e) if not isinstance(e, GateError) else refusal(e.code, **e.facts)
    except OSError as e:
        return {"errno": e.errno or errno.EIO}
    except (TypeError, ValueError, OverflowError) as e:
        raise ProtocolError(f"arguments of {request.call}: {e}") from None
    if request.call == "getaddrinfo":
        return _allowed(gate, process, host, answer, lambda item: item[4][0])
    if request.call == "gethostbyname_ex":
        name, aliases, addresses = answer
        reply = _allowed(gate, process, host, addresses, lambda item: item)
        if "answer" in reply:
            reply["answer"] = [name, aliases, reply["answer"]]
        return reply
    return {"answer": answer}


def _allowed(gate: Gate, process: Process, host: str, answer: list[Any], address_of: Any) -> Reply:
    policy = process.app.settings.policy
    kept, refused = [], None
    for item in answer:
        decision = could_allow(policy, None, address_of(item).partition("%")[0], host=host)
        if decision.denied:
            refused = refused or decision
        else:
            kept.append(item)
    if kept or refused is None:
        return {"answer": kept}
    process.app.denied += 1
    gate.log_decision(process, host, 0, address_of(answer[0]), refused, lease=None)
    return refusal(refused.code, **refused.facts)


async def close(gate: Gate, channel: Channel, process: Process, request: wire.Close) -> Reply:
    """End a lease, and answer when its socket is closed or somebody else is known to hold it."""
    done = asyncio.Event()
    if let_go(gate, process, request, done.set):
        await done.wait()
    return {}


def let_go(gate: Gate, process: Process, request: wire.Close, done: Callable[[], None] | None = None) -> bool:
    """End a lease, or look who else holds it, and tell whether there was one; one-way packets end here."""
    lease = gate.registry.leases.get(request.sock)
    if lease is None or lease.process.app is not process.app:
        return False
    if lease.process is not process:
        gate.ending.look_now()  # a child has closed what its parent opened: perhaps it was the last
        return False
    if request.shared:
        gate.ending.look((lease,), done)
    else:
        gate.ending.end(lease, "closed", done)
    return True


async def adopt(gate: Gate, channel: Channel, process: Process, request: wire.Adopt) -> Reply:
    """Name a socket that came to this process in some way we did not see: inherited over exec, or sent by another."""
    lease = gate.registry.by_cookie.get(request.cookie)
    if lease is None or lease.process.app is not process.app:
        return refusal("unknown-descriptor")
    process.adopted.add(lease.id)
    return {"sock": lease.id}


async def why(gate: Gate, channel: Channel, process: Process, request: wire.Why) -> Reply:
    """Decide without dialling, and say which rule decides."""
    app = process.app
    if request.app and request.app != app.name:
        if not gate.is_operator(process.uid):
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
    host = request.host
    found: list[tuple[str, int]] = []
    failed = ""
    for family in (4, 6):
        try:
            found += await resolve_host(gate, process, host, family)
        except (socket.gaierror, socket.herror) as e:
            failed = e.strerror or str(e)
    if not found:
        return {"answer": unknown(host, request.port, f"{host}: {failed}")}
    return {"answer": explain(settings, request.transport, host, request.port, (address for address, _ in found))}


async def stat(gate: Gate, channel: Channel, process: Process, request: wire.Stat) -> Reply:
    """Count sockets and connects, per app; what the others do is the operator's to know."""
    answer = gate.statistics()
    if process.channels == 1 and not process.leases:  # a command that only asks; it is not in use by that
        for counts in (answer, answer["apps"].get(process.app.name, {"processes": 1})):
            counts["processes"] -= 1
        answer["channels"] -= 1
    if not gate.is_operator(process.uid):
        answer["apps"] = {name: counts for name, counts in answer["apps"].items() if name == process.app.name}
    return {"answer": answer}


async def reload(gate: Gate, channel: Channel, process: Process, request: wire.Reload) -> Reply:
    """Read the configuration again, for the gate's own user or root."""
    if not gate.is_operator(process.uid):
        return refusal("no-app", uid=process.uid)
    return {"answer": gate.reload()}


HANDLERS: dict[type, Any] = {
    wire.New: new,
    wire.Connect: connect,
    wire.Resolve: resolve,
    wire.Close: close,
    wire.Adopt: adopt,
    wire.Why: why,
    wire.Stat: stat,
    wire.Reload: reload,
}
