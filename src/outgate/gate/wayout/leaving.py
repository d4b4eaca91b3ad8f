"""Find the way out of a connect, and make ready for it: :func:`prepare` is what happens before the dial."""

from __future__ import annotations

import errno
import time
from _socket import AF_UNSPEC, IPPROTO_IP, SOCK_STREAM
from _socket import socket as native
from functools import partial
from typing import TYPE_CHECKING, Any

from outgate.core.wayout import choice
from outgate.core.wayout.choice import STRAIGHT, WayOut
from outgate.core.wayout.proxy import Proxy, is_numeric
from outgate.gate.kernel.aside import Aside
from outgate.gate.names import lookup
from outgate.gate.names.resolver import numeric
from outgate.gate.replies import Reply, refusal
from outgate.gate.tls.secured import why
from outgate.gate.wayout.passages import Passage, note_failure, told

if TYPE_CHECKING:
    from outgate.core.policy.decide import Decision, Transport
    from outgate.gate.configuration.settings import AppSettings
    from outgate.gate.registry import App, Lease, Process
    from outgate.gate.server import Gate

_IP_BIND_ADDRESS_NO_PORT = 24
_MAPPED = "::ffff:"


def find(settings: AppSettings, transport: Transport, address: str, port: int, name: str) -> WayOut:
    """Return the way out of a destination.

    :param address: that was judged.
    :param name: canonical name that it was judged as, "" for none.
    """
    return settings.out.find(settings.policy.locate(address).judged, name, transport, port)


async def prepare(
    gate: Gate, lease: Lease, host: str, port: int, address: str, decision: Decision
) -> Passage | Reply | None:
    """Make a socket ready to be dialled: bound to its source, and with a handshake where it leaves by a proxy.

    :param host: what the program asked for.
    :param address: that was judged.
    :returns: what leads it by a proxy; a refusal; ``None`` where the dial goes to the address itself.
    """
    app = lease.process.app
    way = find(app.settings, "tcp", address, port, decision.name)
    if way == STRAIGHT:
        return None
    if way.via is None:
        refused, number = await _bind(gate, lease, way.source, address)
        return refused or (_no_source(gate, lease.process, way, number, host, port) if number else None)
    facts = {"app": app.name, "via": way.text, "host": host, "port": port}
    if lease.side is None and (way.via.is_tls or not app.settings.trusted):
        return refuse(gate, lease.process, "via-held", facts)
    try:
        dialled = await _address(gate, way.via, lease.family)
        where = choice.target(way.via, address, port, _name(app, host, lease.family, address))
        handshake = choice.handshake(way.via, where)
    except (OSError, ValueError) as e:
        said = (e.strerror if isinstance(e, OSError) else str(e)) or "it cannot be asked for this"
        return refuse(gate, lease.process, "via-unreachable", {**facts, "why": said})
    context = None
    if way.via.is_tls:
        try:
            context = await gate.passages.contexts.of(way.via.authorities, gate.settings.number)
        except OSError as e:
            return refuse(gate, lease.process, "via-tls", {**facts, "why": why(e)})
    refused, number = await _bind(gate, lease, way.source, dialled[0]) if way.source else (None, 0)
    if refused is not None:
        return refused
    if number:
        return _no_source(gate, lease.process, way, number, host, port)
    return Passage(way, dialled, handshake, context)


def _name(app: App, host: str, family: int, address: str) -> str:
    """Return the name that a program means: what it asked for, or the one that its look-ups have bound to the address.

    Where they have bound several, only the address says what is meant.
    """
    if numeric(host, family) is None:
        return lookup.canonical_name(host)
    names = app.bindings.names_for(address, time.monotonic())
    return names[0] if len(names) == 1 else ""


async def _address(gate: Gate, proxy: Proxy, family: int) -> tuple[Any, ...]:
    """Return the address of a proxy for a socket of this family (4 or 6), which an IPv6 one has of an IPv4 host too.

    It is the operator's, and no rule of the app is asked about it.

    :raises OSError: it has none, or its name has none.
    """
    if is_numeric(proxy.host):
        found = [proxy.host]
    else:
        asked = proxy.host, proxy.host, None, int(AF_UNSPEC), int(SOCK_STREAM)
        found = [item[4][0] for item in await gate.passages.resolver.call("getaddrinfo", *asked)]
    plain = [each for each in found if ":" not in each]
    mapped = [each for each in found if ":" in each] + [_MAPPED + each for each in plain]
    addresses = plain if family == 4 else mapped
    if not addresses:
        raise OSError(errno.EAFNOSUPPORT, "it has no IPv4 address, and this is an IPv4 socket")
    return (addresses[0], proxy.port) if family == 4 else (addresses[0], proxy.port, 0, 0)


async def _bind(gate: Gate, lease: Lease, source: str, address: str) -> tuple[Reply | None, int]:
    """Do as :func:`bind_source`, which waits for whoever keeps the socket locked: aside where that may be for long."""
    bind = partial(bind_source, lease.sock, lease.family, source, address)
    return await gate.aside.do(lease, bind) if isinstance(lease.sock, Aside) else (None, bind())


def bind_source(sock: native, family: int, source: str, address: str) -> int:
    """Bind a socket to the address that it is to leave from, its port to be chosen at the dial; return 0 or the errno.

    IP_BIND_ADDRESS_NO_PORT has the kernel choose the port when it knows the destination, so that one port serves for
    many (ip(7)). A second time, after a dial that failed, there is nothing left to do.

    :param family: 4 or 6; an IPv6 socket can leave from an IPv4 address for an IPv4 host.
    :param address: that is dialled.
    """
    if ":" not in source and family == 6 and address.startswith(_MAPPED):
        source = _MAPPED + source
    if (":" in source) != (family == 6) or source.startswith(_MAPPED) != address.startswith(_MAPPED):
        return errno.EAFNOSUPPORT
    try:
        # C's own methods: those of a socket that is asked aside do nothing at once.
        if native.getsockname(sock)[0] == source:
            return 0
        native.setsockopt(sock, IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        native.bind(sock, (source, 0))
    except OSError as e:
        return e.errno or errno.EIO
    return 0


#: Why a socket cannot be bound to its source → the row that says so.
_NO_SOURCE = {errno.EAFNOSUPPORT: "source-family", errno.EINVAL: "source-bound"}


def _no_source(gate: Gate, process: Process, way: WayOut, number: int, host: str, port: int) -> Reply:
    facts = {"app": process.app.name, "source": way.source, "host": host, "port": port}
    return refuse(gate, process, _NO_SOURCE.get(number, "source-missing"), facts)


def refuse(gate: Gate, process: Process, code: str, facts: dict[str, Any]) -> Reply:
    """Log that there is no way out, and return the refusal."""
    note_failure(gate, process, code, facts)
    return refusal(code, **told(facts, process.app.settings.reasons))
