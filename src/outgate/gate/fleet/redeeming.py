"""Redeem descriptors of other gates for programs here, and answer what programs ask about such sockets.

Requests are looked at before the gate's own handlers see them (:func:`handlers`); what is about a socket of this gate's
is theirs as before.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from outgate.core import descriptor as descriptors
from outgate.core import options
from outgate.core.fleet import heads, names
from outgate.core.name.names import canonical
from outgate.core.policy.decide import Ask
from outgate.core.policy.narrow import refusal as refusal_of
from outgate.errors import ProtocolError
from outgate.gate import wire
from outgate.gate.fleet import arriving
from outgate.gate.fleet.guest import Guest
from outgate.gate.fleet.link import Link
from outgate.gate.judging import may_have_sockets
from outgate.gate.kernel import births
from outgate.gate.names.resolver import is_numeric
from outgate.gate.registry import Process
from outgate.gate.replies import Reply, denied, refusal

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.fleet.fleet import Fleet
    from outgate.gate.server import Gate

#: Seconds within which the owner must have answered. A client waits for ten.
LIMIT = 6.0

Handler = Callable[..., Any]


async def redeem(fleet: Fleet, channel: Channel, process: Process, request: wire.Redeem) -> Any:
    """Give a program the socket of a descriptor, whichever gate of the fleet has it."""
    gate, settings = fleet.gate, fleet.settings
    owner = descriptors.owner(request.descriptor)
    is_ours = owner in ("", settings.name)
    if is_ours:
        found = gate.sharing.find(process, request.descriptor)
        ahead = await fleet.recalled(found[1]) if found is not None else b""
        if not ahead:
            return await fleet.inner[wire.Redeem](gate, channel, process, request)
        assert found is not None
        fleet.put_back(found[1], ahead)  # it is given out like another gate's, with what has come of it already
    elif owner not in settings.gates:
        return refusal("unknown-descriptor"), []
    refused = may_have_sockets(process)
    if refused is not None:
        return refused, []
    app = process.app
    if app.held + app.closer.waiting >= gate.limits.held(app):
        return refusal("too-many-leases", app=app.name, used=app.held, limit=gate.limits.open(app)), []
    opening = _Opening()
    work = _open_here if is_ours else _open_there
    try:
        # A task of its own, for this may be no task yet (see gate/kernel/eager.py).
        facts = await gate.loop.create_task(work(fleet, opening, owner, process, request))
    except (TimeoutError, OSError, ProtocolError) as e:
        opening.link.abort()
        why = f"it did not answer within {LIMIT:g} s" if isinstance(e, TimeoutError) else _words(e)
        gate.log.event("fleet-unreachable", app=app.name, gate=owner, reason=why)
        return refusal("fleet-unreachable", gate=owner, at=settings.gates.get(owner, ""), why=why), []
    if "error" in facts:
        opening.link.abort()
        return {"error": facts["error"]}, []
    refused = _narrowed(gate, process, facts)
    if refused is not None or channel.closed or opening.link.is_over:
        opening.link.abort()
        return refused or refusal("unknown-descriptor"), []
    try:
        guest = fleet.add_guest(opening.link, process, owner, request.descriptor, facts, channel)
    except OSError as e:
        opening.link.abort()
        return refusal("gate-sockets", errno=e.errno), []
    channel.after_reply(guest.theirs.close)
    reply: Reply = {"sock": guest.id, "cookie": guest.cookie, "family": guest.family, "kind": "relay"}
    reply.update(state="open", addr=facts["peer"])
    return reply, [guest.theirs.fileno()]


class _Opening:
    """What is heard on a link until it is open."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[heads.Answer] = asyncio.get_running_loop().create_future()
        self.link = Link(self._take)
        self.link.failed = self._fail

    def _take(self, link: Link, head: bytes) -> tuple[int, bool]:
        text, end, _ = head.partition(heads.END)
        if not end:
            return 0, False
        answer = heads.read_answer(text)
        if not self.answered.done():
            self.answered.set_result(answer)
        return len(text) + len(end), True

    def _fail(self, why: str) -> None:
        if not self.answered.done():
            self.answered.set_exception(ConnectionResetError(why))
            self.answered.exception()  # it may be that nobody waits


async def _open_there(
    fleet: Fleet, opening: _Opening, owner: str, process: Process, request: wire.Redeem
) -> dict[str, Any]:
    async with asyncio.timeout(LIMIT):
        place = names.place(fleet.settings.gates[owner])
        await fleet.connect(owner, place, opening.link)
        app = process.app.name
        opening.link.send(heads.redeem(request.descriptor, place.port, app, request.exclusive))
        return _understood(await opening.answered)


async def _open_here(
    fleet: Fleet, opening: _Opening, owner: str, process: Process, request: wire.Redeem
) -> dict[str, Any]:
    """The same, to this very gate: some of what has come was taken out of the connection, and comes first."""
    async with asyncio.timeout(LIMIT):
        far = fleet.connect_here(opening.link)
        name, app = fleet.settings.name, process.app.name
        refused = await arriving.receive(fleet, far, name, app, request.descriptor, request.exclusive)
        if refused is not None:
            far.close()
            return refused
        return _understood(await opening.answered)


def _understood(answer: heads.Answer) -> dict[str, Any]:
    facts = heads.facts_of(answer)
    if "error" in facts:
        error = facts["error"]
        if isinstance(error, dict) and isinstance(error.get("code"), str) and isinstance(error.get("facts"), dict):
            return facts
        raise ProtocolError("a refusal that says nothing")
    return arriving.understood(facts)


def _words(error: Exception) -> str:
    said = getattr(error, "verify_message", "") or getattr(error, "strerror", None) or str(error)
    return str(said) or type(error).__name__


def _narrowed(gate: Gate, process: Process, facts: dict[str, Any]) -> Reply | None:
    """Return the refusal of a socket whose peer the process could not connect to itself, having narrowed itself."""
    if not process.narrowed:
        return None
    host, port, address = facts["host"], facts["port"], facts["address"]
    name = None if is_numeric(host) else canonical(host)
    bound = () if name is not None else process.app.bindings.names_for(address, time.monotonic())
    ask = Ask(process.app.name, "tcp", host, address, port, name, bound=bound)
    refused = refusal_of(ask, process.narrowed, process.app.settings.policy.number)
    return None if refused is None else denied(gate, process, host, port, address, refused)


# --- what programs ask about such a socket ------------------------------------------------------------------------


async def _harvest(guest: Guest, channel: Channel, request: wire.Harvest) -> Reply:
    return {"own": guest.facts["own"], "peer": guest.facts["peer"]}


async def _option(guest: Guest, channel: Channel, request: wire.Option) -> Reply:
    level, number, value = request.level, request.number, request.value
    may = options.may_get if value is None else options.may_set
    refused = may(level, number, False)
    if refused is not None:
        return refusal(refused.code, **refused.facts)
    asked = {"op": "option", "level": level, "number": number, "value": value, "size": request.size}
    return await guest.ask(asked)


async def _share(guest: Guest, channel: Channel, request: wire.Share) -> Reply:
    if guest.handed is not None:
        return await guest.share()
    channel.expect_fd()
    return {"hand": True}


async def _hand(guest: Guest, channel: Channel, request: wire.Hand) -> Reply:
    handed = channel.take_handed()
    if not handed:
        return refusal("unknown-descriptor")
    (fd,) = handed
    end = births.end_of(fd, guest.cookie)
    if end is None or guest.is_over:
        guest.process.app.closer.put(end or fd)  # some other file: it may be slow to close
        return refusal("unknown-descriptor")
    if guest.handed is None:
        guest.handed = end
    else:
        guest.process.app.closer.put(end)  # by another thread at the same time
    return await guest.share()


async def _connect(guest: Guest, channel: Channel, request: wire.Connect) -> Reply:
    return {"errno": errno.EISCONN}


async def _close(guest: Guest, channel: Channel, request: wire.Close) -> Reply:
    return {}  # its end is seen where its bytes are carried


_ABOUT: Mapping[type, Handler] = {
    wire.Harvest: _harvest,
    wire.Name: _harvest,
    wire.Option: _option,
    wire.Share: _share,
    wire.Hand: _hand,
    wire.Connect: _connect,
    wire.Close: _close,
}


def handlers(fleet: Fleet, inner: Mapping[type, Handler]) -> dict[type, Handler]:
    """Return the gate's handlers with those for sockets of other gates before them."""
    made = dict(inner)
    for kind, about in _ABOUT.items():
        made[kind] = _first(fleet, about, inner[kind])

    async def redeem_first(gate: Gate, channel: Channel, process: Process, request: wire.Redeem) -> Any:
        return await redeem(fleet, channel, process, request)

    async def adopt_first(gate: Gate, channel: Channel, process: Process, request: wire.Adopt) -> Any:
        guest = next((each for each in fleet.guests.values() if each.cookie == request.cookie), None)
        if guest is None or guest.process.app is not process.app or guest.process.uid != process.uid:
            return await inner[wire.Adopt](gate, channel, process, request)
        process.adopted.add(guest.id)
        return {"sock": guest.id, "kind": "relay", "family": guest.family}

    async def touch_first(gate: Gate, channel: Channel, process: Process, request: wire.Touch) -> Any:
        return await inner[wire.Touch](gate, channel, process, _touch(fleet, process, request))

    async def have_first(gate: Gate, channel: Channel, process: Process, request: wire.Have) -> Any:
        _have(fleet, process, request)
        return await inner[wire.Have](gate, channel, process, request)

    async def take_over_first(gate: Gate, channel: Channel, process: Process, request: wire.TakeOver) -> Any:
        fleet.end_all()  # links are of this process: TLS cannot go to another
        return await inner[wire.TakeOver](gate, channel, process, request)

    made.update(
        {
            wire.Redeem: redeem_first,
            wire.Adopt: adopt_first,
            wire.Touch: touch_first,
            wire.Have: have_first,
            wire.TakeOver: take_over_first,
        }
    )
    return made


def one_way(fleet: Fleet, inner: Mapping[type, Callable[..., object]]) -> dict[type, Callable[..., object]]:
    """Return what anchors carry, with what is about sockets of other gates looked at before."""

    def touch(gate: Gate, process: Process, request: wire.Touch) -> None:
        inner[wire.Touch](gate, process, _touch(fleet, process, request))

    def have(gate: Gate, process: Process, request: wire.Have) -> None:
        _have(fleet, process, request)
        inner[wire.Have](gate, process, request)

    return {**inner, wire.Touch: touch, wire.Have: have}


def _first(fleet: Fleet, about: Handler, inner: Handler) -> Handler:
    async def handler(gate: Gate, channel: Channel, process: Process, request: Any) -> Any:
        guest = fleet.find(process, request.sock)
        if guest is None:
            return await inner(gate, channel, process, request)
        guest.taken()  # who asks about it has it
        return await about(guest, channel, request)

    return handler


def _touch(fleet: Fleet, process: Process, request: wire.Touch) -> wire.Touch:
    """Tell owners that their sockets are in use, and return what is left to say here."""
    left = []
    for id in request.socks:
        guest = fleet.find(process, id)
        if guest is None:
            left.append(id)
        else:
            guest.touch(request.wait)
    return request if len(left) == len(request.socks) else wire.Touch(left, request.wait)


def _have(fleet: Fleet, process: Process, request: wire.Have) -> None:
    """Note that the socket of another gate's descriptor has come, or could not be kept."""
    for guest in list(fleet.guests.values()):
        if guest.text == request.descriptor and guest.process is process:
            if request.came:
                guest.taken()
            else:
                guest.arrived(read=False)
