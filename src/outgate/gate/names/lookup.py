"""Look a name or an address up for a program: judge the name, ask, judge every address, bind what is left, answer.

A name that the policy refuses is never asked for, so that a look-up cannot carry data out; an address that no rule
could allow is left out of the answer, and where none is left the program is told why. The host's own name is the
exception: it is answered as natively, because ``getfqdn()`` and what is built on it (:mod:`smtplib`) ask for it at
every start, the program knows it anyway, and a connect to what it answers is judged like any other.

Only answers to the question "which addresses has this name" bind. What an address is called is said by whoever owns
the address.
"""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

from outgate.core.address.address_table import LOOPBACK, OWN
from outgate.core.name.names import canonical
from outgate.core.policy.decide import ALLOW, Decision
from outgate.core.policy.narrow import could_allow, could_resolve
from outgate.core.profiles import PROFILES
from outgate.errors import GateError, ProtocolError
from outgate.gate import wire
from outgate.gate.names.resolver import is_numeric, numbers
from outgate.gate.refusals import LOOK_UP
from outgate.gate.replies import Reply, denied, failed_lookup, refusal

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.registry import App, Process
    from outgate.gate.server import Gate

#: Items of an answer that are judged and passed on. 60 records of each family are 360; a packet of the channel takes
#: 900, a DNS answer could have ten thousand, and the loop serves nobody else while they are judged.
MOST = 384
#: Characters of a service's name; RFC 6335 allows 15, and no C library knows a longer one.
LONGEST_SERVICE = 255


class Question(NamedTuple):
    """A host that is asked for.

    :ivar name: its canonical name, ``None`` for a number.
    """

    host: str
    name: str | None


async def resolve(gate: Gate, channel: Channel, process: Process, request: wire.Resolve) -> Reply:
    """Look up a name, an address or an interface, as the function of :mod:`socket` of that name does.

    Errors of the C library are answered with its own kind, number and text.

    :raises ProtocolError: there is no such look-up, or it does not take such arguments.
    """
    look_up = CALLS.get(request.call)
    app = process.app
    if look_up is None:
        raise ProtocolError(f"no look-up {request.call[:40]!r}")
    if not app.settings.billing:
        return refusal("billing-disabled", app=app.name)
    if request.call == "gethostbyaddr" and PROFILES[app.settings.profile].to_the_letter:
        return refusal("not-implemented", call="socket.gethostbyaddr()")
    refused = gate.quotas.charge_look_up(app)
    if refused is not None:
        return refused
    known = app.resolver.remembered(request.call, *request.args)
    if known is not None and known.judged is not None and not process.narrowed:
        app.resolver.note_remembered()
        reply, name, addresses = known.judged
        app.bindings.bind(name, addresses, time.monotonic())
        return {**reply}
    try:
        return await look_up(gate, process, request.args)
    except (socket.gaierror, socket.herror) as e:
        return failed_lookup(e)


async def addresses_of(app: App, host: str, family: int) -> list[tuple[str, int]]:
    """Return the (address, scope id) pairs of a name in the C library's order; nothing of it is judged.

    :param family: 4 or 6.
    :raises socket.gaierror: as the C library says.
    """
    wanted = socket.AF_INET6 if family == 6 else socket.AF_INET
    answer = await _ask(app, "getaddrinfo", host, host, None, wanted, socket.SOCK_STREAM)
    return [(_address(item), item[4][3] if family == 6 else 0) for item in answer[:MOST]]


def canonical_name(host: str) -> str:
    """Return the canonical form of a name.

    :raises socket.gaierror: it is no name; the C library says the same of it, after asking about some.
    """
    try:
        return canonical(host)
    except ValueError:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None


# --- from a name to addresses -----------------------------------------------------------------------------------------


async def _getaddrinfo(gate: Gate, process: Process, args: list[Any]) -> Reply:
    question = _question("getaddrinfo", args)
    if len(args) > 1 and not isinstance(args[1], (str, int, NoneType)):
        raise ProtocolError("arguments of getaddrinfo: the second is a port, or the name of a service")
    if len(args) > 1 and isinstance(args[1], str) and len(args[1]) > LONGEST_SERVICE:
        raise socket.gaierror(socket.EAI_SERVICE, "Servname not supported for ai_socktype")
    port = _port(args)
    refused = _may_be_asked(gate, process, question, port)
    if refused is not None:
        return refused
    try:
        answer = (await _ask(process.app, "getaddrinfo", question.host, *args))[:MOST]
    except (socket.gaierror, socket.herror) as e:
        return _remember(process, "getaddrinfo", args, question, failed_lookup(e))
    permitted, refused = _permitted(gate, process, question, map(_address, answer), answer[0][4][1] or port)
    if refused is not None:
        return refused
    kept = [item for item in answer if _address(item) in permitted]
    if answer[0][3] and not kept[0][3]:  # the canonical name stands in the first item, which was left out
        kept[0] = (*kept[0][:3], answer[0][3], kept[0][4])
    return _remember(process, "getaddrinfo", args, question, {"answer": kept}, permitted)


async def _gethostbyname_ex(gate: Gate, process: Process, args: list[Any]) -> Reply:
    question = _question("gethostbyname_ex", args)
    refused = _may_be_asked(gate, process, question, 0)
    if refused is not None:
        return refused
    try:
        name, aliases, addresses = await _ask(process.app, "gethostbyname_ex", question.host, *args)
    except (socket.gaierror, socket.herror) as e:
        return _remember(process, "gethostbyname_ex", args, question, failed_lookup(e))
    permitted, refused = _permitted(gate, process, question, addresses[:MOST], 0)
    if refused is not None:
        return refused
    kept = (name, aliases, [address for address in addresses if address in permitted])
    return _remember(process, "gethostbyname_ex", args, question, {"answer": kept}, permitted)


def _remember(
    process: Process, call: str, args: list[Any], question: Question, reply: Reply, permitted: Iterable[str] = ()
) -> Reply:
    """Keep the reply beside the C library's answer that it was made of, and return it; a reload forgets both.

    So an answer is judged once and not each time it is asked for, except where the judgement is a line in the log, or
    is of a process that has narrowed itself.

    :param permitted: the addresses in it, which every such look-up binds anew.
    """
    app = process.app
    known = None if process.narrowed else app.resolver.remembered(call, *args)
    name = question.name
    if known is not None and name is not None and could_resolve(app.settings.policy, name).verdict == ALLOW:
        known.judged = {**reply}, name, permitted
    return reply


def _question(call: str, args: list[Any]) -> Question:
    """Return the host that a look-up is about. Raises ``ProtocolError`` for what is no text, ``gaierror`` no name."""
    host = args[0] if args else None
    if not isinstance(host, str) or "\0" in host:  # C would take what stands before a NUL for the whole
        raise ProtocolError(f"arguments of {call}: the first is a host, as text without a null character")
    return Question(host, None if is_numeric(host) else canonical_name(host))


def _port(args: list[Any]) -> int:
    """Return the port that a look-up names as a number, for the cure in a refusal; 0 where it names none."""
    service = args[1] if len(args) > 1 else None
    if isinstance(service, str) and service.isascii() and service.isdigit() and len(service) <= 5:
        service = int(service)
    return service if type(service) is int and 0 <= service <= 65535 else 0


def _may_be_asked(gate: Gate, process: Process, question: Question, port: int) -> Reply | None:
    """Return the refusal of a name that is not to be looked up, or ``None``."""
    policy = process.app.settings.policy
    if question.name is None or _is_own_name(question.name):
        return None
    decision = could_resolve(policy, question.name, narrowed=process.narrowed)
    if decision.verdict == ALLOW:
        return None
    if port:
        # Denied at every port: now with this one's cure.
        decision = could_resolve(policy, question.name, None, port, process.narrowed)
    if decision.denied:
        return denied(gate, process, question.host, port, "", decision, call=LOOK_UP)
    gate.log_decision(process, question.host, port, "", decision, lease=None)  # let through, and reported
    return None


def _permitted(
    gate: Gate, process: Process, question: Question, addresses: Iterable[str], port: int
) -> tuple[set[str], Reply | None]:
    """Bind and return those addresses that some rule could allow, or return the refusal where there is none."""
    app = process.app
    host, name = question
    is_own = name is not None and _is_own_name(name)
    permitted: set[str] = set()
    judged: dict[str, Decision] = {}
    for address in addresses:
        if address in judged:
            continue
        decision = judged[address] = could_allow(
            app.settings.policy, None, address, process.narrowed, host=host, name=name, port=port or None
        )
        if is_own or not decision.denied:
            permitted.add(address)
    if judged and not permitted:
        address, decision = next(iter(judged.items()))
        return permitted, denied(gate, process, host, port, address, decision, call=LOOK_UP)
    if name is not None:
        app.bindings.bind(name, permitted, time.monotonic())
    return permitted, None


# --- from an address to names -----------------------------------------------------------------------------------------


async def _gethostbyaddr(gate: Gate, process: Process, args: list[Any]) -> Reply:
    """Answer :func:`socket.gethostbyaddr`: of a name its first permitted address is asked about.

    C asks about the first of all. An address that no rule could allow is refused unasked, but for the host's own and
    loopback: ``getfqdn()`` asks for those, and the answer is in the host's files.
    """
    question = _question("gethostbyaddr", args)
    app = process.app
    if question.name is None:
        asked = numbers(question.host)[0]
        refused = _may_be_told(gate, process, question.host, asked)
        if refused is not None:
            return refused
    else:
        refused = _may_be_asked(gate, process, question, 0)
        if refused is not None:
            return refused
        found = await _ask(app, "getaddrinfo", question.host, question.host, None, 0, socket.SOCK_DGRAM)
        addresses = [_address(item) for item in found[:MOST]]
        permitted, refused = _permitted(gate, process, question, addresses, 0)
        if refused is not None:
            return refused
        asked = next(address for address in addresses if address in permitted)
    name, aliases, addresses = await _ask(app, "gethostbyaddr", question.host, asked)
    policy = app.settings.policy
    kept = [each for each in addresses if each == asked or not could_allow(policy, None, each, process.narrowed).denied]
    return {"answer": (name, aliases, kept)}


async def _getnameinfo(gate: Gate, process: Process, args: list[Any]) -> Reply:
    """Answer :func:`socket.getnameinfo`: an address that may not be asked about is, as one without a name, its number.

    Where the program requires a name (NI_NAMEREQD) it is refused instead.
    """
    address, flags = (args[0], args[1]) if len(args) == 2 else (None, None)
    if not isinstance(address, list) or not address or not isinstance(address[0], str) or type(flags) is not int:
        raise ProtocolError("arguments of getnameinfo: a socket address and flags")
    host = address[0]
    found = [] if "\0" in host else numbers(host)
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")  # it takes numbers only
    decision = could_allow(process.app.settings.policy, None, found[0], process.narrowed, host=host)
    if decision.denied and not _is_own_address(decision):
        if flags & socket.NI_NAMEREQD:
            return denied(gate, process, host, 0, found[0], decision, call=LOOK_UP)
        flags |= socket.NI_NUMERICHOST
    return {"answer": await _ask(process.app, "getnameinfo", host, address, flags)}


def _may_be_told(gate: Gate, process: Process, host: str, address: str) -> Reply | None:
    """Return the refusal of an address that no name server is to be asked about, or ``None``."""
    decision = could_allow(process.app.settings.policy, None, address, process.narrowed, host=host)
    if decision.denied and not _is_own_address(decision):
        return denied(gate, process, host, 0, address, decision, call=LOOK_UP)
    return None


def _is_own_address(decision: Decision) -> bool:
    return decision.address_class in (OWN, LOOPBACK)


def _is_own_name(name: str) -> bool:
    """Tell whether a canonical name is the host's own, as ``gethostname()`` says it now."""
    return name == _canonical_or_empty(socket.gethostname())


@functools.lru_cache(maxsize=1)
def _canonical_or_empty(text: str) -> str:
    try:
        return canonical(text)
    except ValueError:
        return ""


# --- interfaces, and what all have in common --------------------------------------------------------------------------


def _interfaces(call: str) -> Callable[[Gate, Process, list[Any]], Awaitable[Reply]]:
    """Return the look-up of interfaces by a function of C's: a fenced program sees none of its own."""

    async def look_up(gate: Gate, process: Process, args: list[Any]) -> Reply:
        try:
            return {"answer": await _ask(process.app, call, call, *args)}
        except GateError:
            raise
        except OSError as e:
            return {"errno": e.errno}

    return look_up


async def _ask(app: App, call: str, host: str, *args: Any) -> Any:
    """Ask the app's resolver.

    :raises socket.gaierror, socket.herror: as the C library says; a name that IDNA refuses there is not known.
    :raises ProtocolError: the function does not take such arguments.
    """
    try:
        return await app.resolver.call(call, host, *args)
    except UnicodeError:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
    except (TypeError, ValueError, OverflowError) as e:
        raise ProtocolError(f"arguments of {call}: {e}") from None


def _address(item: Any) -> str:
    """Return the address of an item of getaddrinfo, without the zone."""
    return str(item[4][0]).partition("%")[0]


CALLS: dict[str, Callable[[Gate, Process, list[Any]], Awaitable[Reply]]] = {
    "getaddrinfo": _getaddrinfo,
    "gethostbyname_ex": _gethostbyname_ex,
    "gethostbyaddr": _gethostbyaddr,
    "getnameinfo": _getnameinfo,
    "if_nametoindex": _interfaces("if_nametoindex"),
    "if_indextoname": _interfaces("if_indextoname"),
    "if_nameindex": _interfaces("if_nameindex"),
}
