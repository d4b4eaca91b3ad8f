"""Answer requests about UDP sockets: make one, let it reach a destination, connect it, bind it, set its options.

:func:`reach` is the one to read first: it is what happens in the gate when a program first sends somewhere.
"""

from __future__ import annotations

import errno
import socket
from _socket import AF_INET, AF_INET6, SOCK_DGRAM, inet_pton
from _socket import socket as native
from typing import TYPE_CHECKING, Any

from outgate.core import lease as life
from outgate.core import options
from outgate.core.formats import frames
from outgate.core.policy.decide import Ask
from outgate.gate import wire
from outgate.gate.datagram.datagrams import Datagrams
from outgate.gate.judging import judge, may_have_sockets, may_open
from outgate.gate.names import lookup
from outgate.gate.names.resolver import numeric
from outgate.gate.relay.relaying import Side
from outgate.gate.replies import Reply, denied, failed_lookup, refusal, said

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.registry import App, Process
    from outgate.gate.server import Gate

_FAMILY = {4: AF_INET, 6: AF_INET6}
_ANY = {4: "0.0.0.0", 6: "::"}
_LOOPBACK = {4: "127.0.0.1", 6: "::1"}


async def reach(gate: Gate, channel: Channel, process: Process, request: wire.Reach) -> Reply:
    """Identify → charge → resolve → decide → let in, and connect if that is asked for."""
    made = gate.udp.find(process, request.sock)
    if made is None:
        return gate.ending.missing(process, request.sock)
    app = made.process.app
    refused = may_open(gate, process) if made.first is None else may_have_sockets(process)
    if refused is not None:
        return refused
    limit = gate.limits.open(app)
    if made.first is None and not life.may_hold(app.open, 1, limit):
        return refusal("too-many-leases", app=app.name, used=app.open, limit=limit)
    refused = gate.quotas.charge_socket(made, *(("connect",) if request.connect else ()))
    if refused is None and made.limit is not None:
        refused = made.limit.refusal()  # of the datagram before, which is why it asks
    if refused is not None:
        return refused
    host, port = request.host, request.port
    try:
        address, scope, decision = await judge(gate, app, host, port, made.family, "udp", process.narrowed)
        is_number = numeric(host, made.family) is not None
        name = None if is_number else lookup.canonical_name(host)
    except socket.gaierror as e:
        return failed_lookup(e)
    if made.is_ended:
        return refusal("unknown-descriptor")  # closed while the name was looked up
    if is_number:
        decision = gate.udp.or_name_server(decision, address, port)
    decision = gate.udp.led(app, decision, Ask(app.name, "udp", host, address, port, name), made.family)
    scope = scope or request.scope
    header = b""
    if address:
        header = frames.pack(frames.DATA, inet_pton(_FAMILY[made.family], address), port, request.flow, scope)
    if decision.denied:
        if made.has_been_told(header):  # by a frame, which is why it asks: this is the answer to that
            return said(process, decision)
        call = "connect" if request.connect else "send"
        return denied(gate, process, host, port, address, decision, "udp", "relay", call)
    target = (address, port) if made.family == 4 else (address, port, request.flow, scope)
    try:
        number = _connect(made, target) if request.connect else _route(made.family, target)
        if number:
            return {"errno": number}
        if request.connect:
            made.peer = header
        made.enter(header, host, name, decision)
    except OSError as e:
        if e.errno == errno.EADDRNOTAVAIL:
            return _no_source(app, host, port)
        return refusal("gate-sockets", errno=e.errno)
    return {"addr": [*target, 0, 0][:4]}


def _no_source(app: App, host: str, port: int) -> Reply:
    return refusal("source-missing", app=app.name, source=app.settings.out.default.source, host=host, port=port)


def _connect(made: Datagrams, target: tuple[Any, ...]) -> int:
    outside = made.open()
    try:
        outside.connect(target)
    except OSError as e:
        return e.errno or errno.EIO
    return 0


def _route(family: int, target: tuple[Any, ...]) -> int:
    """Return what the kernel would say of a datagram there at once: 0, or that there is no way."""
    if not target[1]:
        return errno.EINVAL
    probe = native(_FAMILY[family], SOCK_DGRAM)
    try:
        probe.connect(target)
    except OSError as e:
        return e.errno or errno.EIO
    finally:
        probe.close()
    return 0


def _find(gate: Gate, process: Process, id: int) -> Datagrams | Side | None:
    """Return a socket of either transport whose bytes the gate carries."""
    return gate.udp.find(process, id) or gate.relaying.find(process, id)


async def name(gate: Gate, channel: Channel, process: Process, request: wire.Name) -> Reply:
    """Return the socket's own address and its peer's."""
    made = _find(gate, process, request.sock)
    if made is None:
        return gate.ending.missing(process, request.sock)
    own: tuple[Any, ...] = (_ANY[made.family], 0)
    peer: tuple[Any, ...] | None = None
    if made.outside is not None:
        own = made.outside.getsockname()
        try:
            peer = made.outside.getpeername()
        except OSError:
            pass
    return {"own": [*own, 0, 0][:4], "peer": None if peer is None else [*peer, 0, 0][:4]}


async def bind(gate: Gate, channel: Channel, process: Process, request: wire.Bind) -> Reply:
    """Bind to the wildcard or loopback, port 0; under ``--dev`` to any port, and loopback may send to it."""
    made = _find(gate, process, request.sock)
    if made is None:
        return gate.ending.missing(process, request.sock)
    refused = may_have_sockets(process)
    if refused is not None:
        return refused
    host = {"": _ANY[made.family], "localhost": _LOOPBACK[made.family]}.get(request.host, request.host)
    try:
        number = numeric(host, made.family)
    except socket.gaierror:
        number = None
    is_dev = gate.is_dev(process)
    if number is None or not may_bind(number[0]) or (request.port and not is_dev):
        return refusal("bind", host=request.host, port=request.port)
    refused = gate.quotas.charge_socket(made if isinstance(made, Datagrams) else made.lease, "bind")
    if refused is not None:
        return refused
    try:
        outside = made.open()
    except OSError as e:
        if e.errno == errno.EADDRNOTAVAIL:
            return _no_source(process.app, request.host, request.port)
        return refusal("gate-sockets", errno=e.errno)
    source = made.process.app.settings.out.default.source if isinstance(made, Datagrams) else ""
    try:
        if source and not request.port:
            return {}  # bound already, to a port of the kernel's choice
        outside.bind((number[0], request.port))
    except OSError as e:
        return {"errno": e.errno or errno.EIO}
    if isinstance(made, Datagrams):
        made.takes_strangers = is_dev
    return {}


def may_bind(address: str) -> bool:
    """Tell whether an address is the wildcard or loopback. Pure."""
    return address in ("0.0.0.0", "::", "::1") or address.startswith(("127.", "::ffff:127."))


async def option(gate: Gate, channel: Channel, process: Process, request: wire.Option) -> Reply:
    """Set or read an option of the socket outside, judged here as well: whoever asks may be no client of ours."""
    made = _find(gate, process, request.sock)
    if made is None:
        return gate.ending.missing(process, request.sock)
    level, number, value = request.level, request.number, request.value
    may = options.may_get if value is None else options.may_set
    refused = may(level, number, gate.is_dev(process))
    if refused is not None:
        return refusal(refused.code, **refused.facts)
    try:
        outside = made.open()
        if value is None:
            found = (
                outside.getsockopt(level, number, request.size) if request.size else outside.getsockopt(level, number)
            )
            return {"value": found if isinstance(found, int) else found.hex()}
        outside.setsockopt(level, number, bytes.fromhex(value) if isinstance(value, str) else value)
        if isinstance(made, Side):
            made.note_option(level, number, value)
    except ValueError:
        return {"errno": errno.EINVAL}
    except OSError as e:
        return {"errno": e.errno or errno.EIO}
    return {}
