"""Answer other gates: who joins the fleet, who wants another certificate, and who redeems a descriptor of ours."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from _socket import AF_INET, AF_INET6, AF_UNIX, SOCK_STREAM
from _socket import socket as native
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from outgate.core import lease as life
from outgate.core.fleet import heads, names
from outgate.errors import ConfigError, ProtocolError
from outgate.gate.fleet.link import Link
from outgate.gate.fleet.visit import Visit
from outgate.gate.judging import may_have_sockets
from outgate.gate.registry import Lease, Process
from outgate.gate.replies import Reply, refusal
from outgate.gate.travel import exclusive

if TYPE_CHECKING:
    from outgate.gate.fleet.fleet import Fleet
    from outgate.gate.travel.sharing import Loan

#: Seconds within which a request must be there, and answered.
LIMIT = 8.0
#: Characters of the longest name of a lease.
_NAME = 64
_FAMILIES = {4: AF_INET, 6: AF_INET6}


class Arrival:
    """One connection from another gate, until it is a link or has its answer."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.link = Link(self._opening)
        self._task: asyncio.Task[None] | None = None
        self._is_answered = False
        self._timer = fleet.gate.loop.call_later(LIMIT, self._late)
        self.link.failed = lambda why: self._timer.cancel()

    def _late(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self.link.abort()

    def _opening(self, link: Link, head: bytes) -> tuple[int, bool]:
        """Take a request as soon as it is whole."""
        if self._task is not None:
            return 0, False  # frames before the answer
        text, end, rest = head.partition(heads.END)
        if not end:
            return 0, False
        request = heads.read_request(text)
        size = heads.body_size(request)
        if len(rest) < size:
            return 0, False
        body = rest[:size]
        is_link = request.method == "CONNECT"
        work = self._redeem(request) if is_link else self._certify(request, body)
        self._task = self._fleet.gate.loop.create_task(self._answer(work))
        return len(text) + len(end) + size, is_link

    async def _answer(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as e:
            self._fleet.gate.fault(e, self)
            self.link.abort()
        finally:
            self._timer.cancel()

    # --- certificates -------------------------------------------------------------------------------------------------

    async def _certify(self, request: heads.Request, body: bytes) -> None:
        status, answer = await self._certified(request, body)
        kind = "application/x-pem-file" if status == 200 else "text/plain; charset=utf-8"
        self.link.send(heads.answer(status, answer, kind))
        self.link.close()

    async def _certified(self, request: heads.Request, body: bytes) -> tuple[int, bytes]:
        loop, folder = self._fleet.gate.loop, self._fleet.folder
        what = (request.method, request.target)
        try:
            if what == ("GET", "/authority"):
                return 200, await loop.run_in_executor(self._fleet.threads, lambda: folder.ca)
            if what == ("POST", "/join"):
                said = _said(body, "secret", "name", "request")
                words = said["secret"], said["name"], said["request"].encode()
                made = await loop.run_in_executor(self._fleet.threads, folder.admit, *words, time.time())
                self._fleet.gate.log.event("fleet-joined", gate=said["name"])
                return 200, made
            if what in (("GET", "/gate"), ("POST", "/rotate")):
                name, why = self._who()
                if why:
                    return 403, why.encode()
                if request.method == "GET":
                    return 200, b""
                asked = _said(body, "request")["request"].encode()
                made = await loop.run_in_executor(self._fleet.threads, folder.issue, name, asked, time.time())
                return 200, made
        except PermissionError as e:
            self._fleet.gate.log.event("fleet-refused", gate="", reason=f"{e} ({self.link.peer})")
            return 403, str(e).encode()
        except ValueError as e:  # ConfigError, too
            return (409 if isinstance(e, ConfigError) else 400), str(e).encode()
        return 404, b"there is no such thing here"

    def _who(self) -> tuple[str, str]:
        """Return whose certificate was shown, and why that one gets nothing, or ""."""
        shown = self.link.certificate.get("subjectAltName", ())
        name = names.name_of(value for kind, value in shown if kind == "DNS")
        settings = self._fleet.settings
        why = names.stranger(name, settings.name, settings.gates)
        if why:
            self._fleet.gate.log.event("fleet-refused", gate=name, reason=f"{why} ({self.link.peer})")
        return name, why

    # --- descriptors --------------------------------------------------------------------------------------------------

    async def _redeem(self, request: heads.Request) -> None:
        name, why = self._who()
        text, app, is_exclusive = heads.redeemed(request)
        outcome = refusal("fleet-refused", gate=self._fleet.settings.name, why=why) if why else None
        if outcome is None:
            outcome = await receive(self._fleet, self.link, name, app, text, is_exclusive)
        if outcome is not None:
            self.link.send(heads.refused(outcome))
            self.link.close()


def _said(body: bytes, *keys: str) -> dict[str, str]:
    try:
        found = json.loads(body)
        said = {key: found[key] for key in keys}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("this is no such request") from None
    if not all(isinstance(value, str) for value in said.values()):
        raise ValueError("this is no such request")
    return said


async def receive(fleet: Fleet, link: Link, name: str, app: str, text: str, is_exclusive: bool) -> Reply | None:
    """Let a program of another gate have one of our sockets, over this link, or return why not.

    :param name: of the other gate, which answers for what it says of the program.
    :param app: whose program it is.
    """
    gate = fleet.gate
    known = gate.registry.apps.get(app)
    if known is None or not known.is_configured:
        return refusal("unknown-descriptor")
    # A pid of nobody's here: /proc says nothing of what it has open, so that no look concludes anything from that.
    process = Process(known, f"fleet-{secrets.token_hex(12)}", 0, os.getuid(), os.getgid())
    process.program = f"a program at gate {name}"
    process.fenced = True  # its own gate has seen to that
    refused = may_have_sockets(process)
    if refused is not None:
        return refused
    found = gate.sharing.find(process, text)
    if found is None or found[1].app is not known:
        return refusal("unknown-descriptor")
    item, loan, serial = found
    if not isinstance(item, Lease):
        return refusal("elsewhere", why="it is a UDP socket", cure="open one there")
    process.uid, process.gid = item.process.uid, item.process.gid
    gate.registry.join(process)
    process.channels = 1
    visit = None
    try:
        ahead = await fleet.recalled(loan)
        if gate.sharing.loans.get(item.id) is not loan or link.is_over:
            return refusal("unknown-descriptor")
        if is_exclusive:
            refused = await exclusive.take(gate, process, loan, serial)
            if refused is not None:
                fleet.put_back(loan, ahead)
                return refused
        outcome = _open(fleet, link, process, name, loan, serial, ahead)
        if isinstance(outcome, Visit):
            visit = outcome
            gate.log.event("fleet-redeemed", gate=name, app=app, lease=gate.lease_name(item))
            return None
        fleet.put_back(loan, ahead)
        return outcome
    finally:
        if visit is None:
            process.channels = 0
            gate.sharing.left(process)
            if process.leases:
                gate.ending.look(list(process.leases.values()))
            else:
                gate.registry.forget(process)


def _open(fleet: Fleet, link: Link, process: Process, at: str, loan: Loan, serial: int, ahead: bytes) -> Visit | Reply:
    gate = fleet.gate
    lease = loan.item
    assert isinstance(lease, Lease)
    if lease.state == life.DIALLED:
        gate.settle(lease)
    if lease.state != life.OPEN:
        return refusal("elsewhere", why="it is not connected", cure="connect it first, or where it is to be used")
    try:
        own, peer = lease.sock.getsockname(), lease.sock.getpeername()
    except OSError:
        return refusal("elsewhere", why="its connection was reset", cure="open another")
    fd = gate.sharing.fd_for(loan, process)
    if fd is None:
        return refusal("unknown-descriptor")
    try:
        family = AF_UNIX if lease.side is not None else _FAMILIES[lease.family]
        sock = native(family, SOCK_STREAM, 0, os.dup(fd))
    except OSError as e:
        return refusal("gate-sockets", errno=e.errno)
    host, port = lease.asked
    link.send(
        heads.granted(
            {
                "family": lease.family,
                "own": [*own, 0, 0][:4],
                "peer": [*peer, 0, 0][:4],
                "host": host,
                "port": port,
                "address": lease.address,
                "lease": gate.lease_name(lease),
            }
        )
    )
    return fleet.add_visit(sock, link, process, at, loan, serial, ahead)


def understood(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what an owner says of a socket, checked. Raises ``ProtocolError``."""
    addresses = facts.get("own"), facts.get("peer")
    if facts.get("family") not in (4, 6) or not all(_is_address(each) for each in addresses):
        raise ProtocolError("the gate's answer says nothing of the socket")
    host, port, address, lease = facts.get("host"), facts.get("port"), facts.get("address"), facts.get("lease")
    texts = isinstance(host, str) and isinstance(address, str) and isinstance(lease, str) and len(lease) <= _NAME
    if not texts or type(port) is not int:
        raise ProtocolError("the gate's answer says nothing of the socket")
    return facts


def _is_address(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and isinstance(value[0], str)
        and all(type(each) is int for each in value[1:])
    )
