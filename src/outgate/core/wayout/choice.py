"""Choose the way out of a connection: the first that matches its destination, else the app's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from outgate.core.address.addresses import Judged, Network, parse_numeric
from outgate.core.policy.decide import DENY, Ask, Decision
from outgate.core.policy.matching import PERMIT, RuleIndex
from outgate.core.policy.rules import TRANSPORT_BIT, Rule, config_error, parse_rule
from outgate.core.wayout.handshake import Handshake, Target
from outgate.core.wayout.httpconnect import HttpConnect
from outgate.core.wayout.proxy import Proxy
from outgate.core.wayout.socks5 import Socks5

__all__ = ["STRAIGHT", "Entry", "WayOut", "WaysOut", "handshake", "of_datagrams", "parse_source", "target"]


@dataclass(frozen=True, slots=True)
class WayOut:
    """By which proxy a connection leaves, and from which address.

    :ivar via: ``None`` for no proxy.
    :ivar source: numeric address of this host that it leaves from, "" for whichever the host takes.
    """

    via: Proxy | None = None
    source: str = ""

    @property
    def text(self) -> str:
        """The proxy as the log names it, "" for none."""
        return "" if self.via is None else str(self.via)

    def suits(self, family: int) -> bool:
        """Tell whether a socket of this family (4 or 6) can leave from the source."""
        return not self.source or (":" in self.source) == (family == 6)


#: The host's own way.
STRAIGHT: Final = WayOut()


@dataclass(frozen=True, slots=True)
class Entry:
    """One way out, for some destinations.

    :ivar to: the rule, as written.
    """

    to: str
    way: WayOut


class WaysOut:
    """The ways out of an app.

    :param default: where no entry matches.
    :param entries: in the order of the file.
    :param rules: of these entries, likewise.
    """

    __slots__ = ("_index", "default", "entries", "has_proxy", "is_straight")

    def __init__(self, default: WayOut = STRAIGHT, entries: Sequence[Entry] = (), rules: Sequence[Rule] = ()) -> None:
        self.default = default
        self.entries = tuple(entries)
        self._index = RuleIndex(rules, PERMIT) if rules else None
        #: Whether any destination is led by a proxy.
        ways = [default, *(entry.way for entry in entries)]
        self.has_proxy = any(way.via is not None for way in ways)
        #: Whether all go the host's own way.
        self.is_straight = all(way == STRAIGHT for way in ways)

    @classmethod
    def build(
        cls,
        default: WayOut,
        entries: Sequence[Entry],
        groups: Mapping[str, tuple[Network, ...]] | None = None,
        place: str = "ways",
    ) -> WaysOut:
        """Make them of what the configuration says.

        :param groups: the operator's groups, as :func:`outgate.core.policy.rules.parse_groups` returns them.
        :param place: of the entries, for complaints.
        :raises ConfigError: an entry's ``to`` is no rule, is there twice, or says nothing that could match.
        """
        rules: list[Rule] = []
        seen: dict[str, int] = {}
        for number, entry in enumerate(entries):
            here = f"{place}[{number}].to"
            rule = parse_rule(entry.to, here, groups)
            if seen.setdefault(rule.text, number) != number:
                raise config_error(here, f'"{rule.text}" has a way out already', "the first that matches counts")
            if rule.transports == TRANSPORT_BIT["udp"] and entry.way.via is not None:
                raise config_error(here, "no proxy takes UDP", f'write "tcp{rule.text[3:]}", or no via')
            if rule.transports == TRANSPORT_BIT["udp"] and entry.way.source:
                hint = "a UDP socket leaves from one address for all: write source for the app"
                raise config_error(here, "datagrams have no source of their own", hint)
            rules.append(rule)
        return cls(default, entries, rules)

    def changed(self, default: WayOut, entries: Sequence[Entry]) -> WaysOut:
        """Return the same choice of other ways: ``entries`` for the same destinations in the same order."""
        result = WaysOut(default, entries)
        result._index = self._index
        return result

    def find(self, judged: Judged | None, name: str, transport: str, port: int) -> WayOut:
        """Return the way of one destination.

        :param judged: its address, ``None`` where only the proxy will know it.
        :param name: canonical name that it was judged as, "" for none.
        """
        if self._index is None:
            return self.default
        buckets = (() if judged is None else self._index.matching(judged)) + (self._index.naming(name) if name else ())
        rule = self._index.first(buckets, TRANSPORT_BIT[transport], port)
        return self.default if rule is None else self.entries[self._index.rules.index(rule)].way

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WaysOut):
            return NotImplemented
        return (self.default, self.entries) == (other.default, other.entries)

    __hash__ = None  # type: ignore[assignment]


def of_datagrams(ways: WaysOut, decision: Decision, ask: Ask, judged: Judged, family: int) -> Decision:
    """Return the decision on a datagram, or the denial where it has no way out. Pure.

    No proxy takes datagrams, and a socket leaves from one address for all of its destinations, which is the app's.

    :param decision: by the rules, which let it through.
    :param ask: what they were asked.
    :param judged: its address.
    :param family: of the socket, 4 or 6.
    """
    way = ways.find(judged, ask.name or decision.name, "udp", ask.port)
    facts: dict[str, Any] = {"app": ask.app, "port": ask.port, "transport": "udp", "what": decision.what}
    facts["host"] = f"[{ask.host}]" if ":" in ask.host else ask.host
    if way.via is not None:
        code, rule = "via-udp", f"via = {way.text}"
        facts["via"] = way.text
    elif not ways.default.suits(family):
        code, rule = "source-family", f"source = {ways.default.source}"
        facts["source"] = ways.default.source
    else:
        return decision
    return decision._replace(verdict=DENY, rule=rule, place="", code=code, facts=facts, kind="way out")


def parse_source(text: str) -> str:
    """Return an address that connections may leave from, in its usual form.

    :raises ValueError: it is none; the text is what is wrong, and behind ``"; "`` a way out.
    """
    number = parse_numeric(text, exact=True)
    if number is None or "%" in text:
        raise ValueError('is not an address of this host; as in "192.0.2.7"')
    if number.is_unspecified:
        raise ValueError("is any address, which is the default; leave source out")
    if number.is_multicast or (number.version == 4 and int(number) == 0xFFFFFFFF):
        raise ValueError("is no address of one host, so nothing can leave from it")
    if number.version == 6 and number.ipv4_mapped is not None:
        raise ValueError(f"is an IPv4 address in another form; write {number.ipv4_mapped}")
    return str(number)


def target(proxy: Proxy, address: str, port: int, name: str) -> Target:
    """Return what the proxy is asked for.

    :param address: that was judged, "" where only the proxy will know it.
    :param name: canonical name that the program asked for, "" where it asked for an address.
    """
    if name and (proxy.takes_names or not address):
        return Target(name, port)
    number = ip_address(address.partition("%")[0])
    mapped = getattr(number, "ipv4_mapped", None)  # an IPv6 socket's name of an IPv4 host, which proxies do not know
    return Target(str(mapped or number), port)


def handshake(proxy: Proxy, where: Target) -> Handshake:
    """Begin a handshake.

    :raises ValueError: its protocol has no room for that target.
    """
    speaks = HttpConnect if proxy.scheme in ("http", "https") else Socks5
    return speaks(where, proxy.credentials)
