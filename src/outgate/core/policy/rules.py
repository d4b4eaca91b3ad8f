"""Read one rule of a policy from its text.

A rule is ``[tcp://|udp://] (group | name | *.suffix | address | CIDR | [v6] | *) [:ports]``::

    public              a group: an address class, non-public, or one of the operator's own
    db.corp:5432        a name and a port; a name that reads like a group has a dot at its end, as in "public."
    *.corp              every name below corp, at any depth
    10.2.0.0/16:5432    a CIDR and a port
    [2001:db8::/32]:80,443,8000-8100
    fc00::/7            IPv6 without ports needs no brackets
    udp://8.8.8.8:53    one transport; without a scheme both
    *:25                every address

Ports are a comma list of numbers and ranges, ``*`` or nothing for all of them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, Union

from outgate.core.address import addresses
from outgate.core.address.address_table import OWN
from outgate.core.address.addresses import CLASS_BIT, NON_PUBLIC, Network
from outgate.core.name.names import Pattern, parse_pattern
from outgate.errors import ConfigError

__all__ = [
    "ALL_CLASSES",
    "ALL_PORTS",
    "BUILT_IN_GROUPS",
    "TCP",
    "TRANSPORT_BIT",
    "UDP",
    "Entry",
    "Mode",
    "Rule",
    "config_error",
    "parse_entry",
    "parse_groups",
    "parse_names",
    "parse_rule",
    "writable",
]

Mode = Literal["enforce", "report"]
#: What a list of a configuration may hold: the text, or ``{rule = "…", mode = "report"}``.
Entry = Union[str, Mapping[str, object]]
Ports = tuple[tuple[int, int], ...]

TCP: Final = 1
UDP: Final = 2
TRANSPORT_BIT: Final = {"tcp": TCP, "udp": UDP}
MAX_PORT: Final = 65535
ALL_PORTS: Final[Ports] = ((0, MAX_PORT),)
ALL_CLASSES: Final = sum(CLASS_BIT.values())

#: Group → the address classes in it, as bits.
BUILT_IN_GROUPS: Final[Mapping[str, int]] = {**CLASS_BIT, "non-public": NON_PUBLIC}

_GROUP: Final = re.compile(r"[a-z][a-z0-9_-]*\Z")
#: What ends in a number is never a name; what has a number in each label was meant as an address.
_NUMERIC: Final = re.compile(r"(?:(?:[0-9]+|0[xX][0-9a-fA-F]*)(?:\.|\Z))+\Z")
_PORT_NAMES: Final = {"http": 80, "https": 443, "ssh": 22, "smtp": 25, "dns": 53, "domain": 53, "imaps": 993}
_NO_TARGET: Final = 'as in "public", "db.corp:5432", "10.2.0.0/16:5432" or "[::1]:80"'
#: Classes that no rule by name lifts, so that the name itself would be of no use.
_BY_ADDRESS_ALONE: Final = ("loopback", "metadata")
#: Names people write for a class of addresses.
_NAMES_OF_GROUPS: Final = {
    "localhost": "loopback",
    "localhost.localdomain": "loopback",
    "ip6-localhost": "loopback",
    "metadata.google.internal": "metadata",
    "instance-data": "metadata",
    "any": "*",
    "all": "*",
    "internet": "public",
    "internal": "private",
    "local": "private",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, with its text and the place it was written at.

    :ivar text: as written, without surrounding space.
    :ivar place: where, as in ``apps.blog.except[0]``; ``built-in`` for what every policy has.
    :ivar transports: bits :data:`TCP` and :data:`UDP`.
    :ivar classes: the address classes it stands for, as bits; 0 for a rule of networks.
    :ivar networks: (version, value, prefix length) of each network; empty for a rule of classes.
    :ivar ports: inclusive ranges, sorted and merged.
    :ivar mode: ``report`` only names what it would have denied.
    :ivar pattern: the names it is about; ``None`` for a rule of addresses.
    """

    text: str
    place: str
    transports: int
    classes: int
    networks: tuple[Network, ...]
    ports: Ports
    mode: Mode = "enforce"
    pattern: Pattern | None = None

    @property
    def is_any(self) -> bool:
        """Whether it stands for every address (``*``)."""
        return self.classes == ALL_CLASSES

    def covers_ports(self, other: Rule) -> bool:
        """Whether every transport and port of ``other`` is one of this rule's."""
        return not other.transports & ~self.transports and all(
            any(low <= other_low and other_high <= high for low, high in self.ports)
            for other_low, other_high in other.ports
        )


def config_error(place: str, text: str, hint: str = "") -> ConfigError:
    """Return the error of a configuration: place, what is wrong there, and a way out."""
    return ConfigError(f"{place}: {text}" + (f"; {hint}" if hint else ""))


def parse_groups(groups: Mapping[str, Sequence[str]], place: str = "groups") -> dict[str, tuple[Network, ...]]:
    """Return the operator's groups: name → networks.

    :param groups: name → addresses and CIDRs. ``own`` is allowed here and adds to the address class of that name.
    :raises ConfigError: for a bad or taken name and for what is no address.
    """
    parsed = {}
    for name, members in groups.items():
        here = f"{place}.{name}"
        if not isinstance(name, str) or not _GROUP.match(name):
            raise config_error(here, f"'{name}' cannot name a group", "use lower-case letters, digits, '-' and '_'")
        if name in BUILT_IN_GROUPS and name != OWN:
            raise config_error(here, f"'{name}' is a built-in group", "give yours another name")
        if isinstance(members, str) or not isinstance(members, Sequence):
            raise config_error(here, "a group is a list of addresses and CIDRs", f'write {name} = ["10.0.0.0/8"]')
        networks = []
        for index, member in enumerate(members):
            if not isinstance(member, str):
                raise config_error(f"{here}[{index}]", f"{member!r} is not text", 'write "10.0.0.0/8"')
            networks.append(_network(member.strip().strip("[]"), f"{here}[{index}]"))
        parsed[name] = tuple(networks)
    return parsed


def parse_names(names: Sequence[str], place: str = "names") -> tuple[Pattern, ...]:
    """Return the patterns that limit look-ups.

    :raises ConfigError: for what is no list, and the first entry that is no pattern, with its place and a hint.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise config_error(place, "names are a list of names and suffixes", 'write names = ["db.corp", "*.corp"]')
    patterns = []
    for index, text in enumerate(names):
        here = f"{place}[{index}]"
        if not isinstance(text, str):
            raise config_error(here, f"{text!r} is not text", 'write "db.corp" or "*.corp"')
        text = text.strip()
        if text == "*":
            raise config_error(here, '"*" limits nothing', "leave names out")
        if "://" in text or re.search(r"\A[^:]+:[0-9*,-]+\Z", text):
            bare = text.rpartition("://")[2].partition(":")[0]
            raise config_error(here, f'"{text}": a look-up has neither port nor transport', f'write "{bare}"')
        try:
            patterns.append(parse_pattern(text))
        except ValueError as error:
            raise config_error(here, str(error), "" if ";" in str(error) else 'as in "db.corp" or "*.corp"') from None
    return tuple(patterns)


def parse_entry(
    entry: Entry, place: str, groups: Mapping[str, tuple[Network, ...]], *, may_report: bool = False
) -> Rule:
    """Return the rule of one entry of a list: text, or where ``may_report`` says so a table with a mode.

    :raises ConfigError: for what is no rule, with the place and a hint.
    """
    if isinstance(entry, str):
        return parse_rule(entry, place, groups)
    if not isinstance(entry, Mapping):
        raise config_error(place, f"{entry!r} is not a rule", 'write it as text, as in "10.2.0.0/16:5432"')
    text, mode = entry.get("rule"), entry.get("mode", "enforce")
    for key in entry:
        if key not in ("rule", "mode"):
            raise config_error(place, f"unknown key '{key}'", "a rule in table form has the keys rule and mode")
    if not isinstance(text, str):
        raise config_error(place, "the table has no rule", 'write { rule = "10.0.0.0/8", mode = "report" }')
    if mode == "enforce":
        return parse_rule(text, place, groups)
    if mode != "report":
        raise config_error(place, f"mode {mode!r} is not known", 'it is "enforce" or "report"')
    if not may_report:
        raise config_error(place, "only a deny rule can be in report mode", "leave the mode out")
    return parse_rule(text, place, groups, mode="report")


def parse_rule(
    text: str, place: str = "rule", groups: Mapping[str, tuple[Network, ...]] | None = None, mode: Mode = "enforce"
) -> Rule:
    """Return the rule that a text says.

    :param place: where it was written, for errors and decisions.
    :param groups: the operator's groups, as :func:`parse_groups` returns them.
    :raises ConfigError: with the place, what is wrong, and a hint.
    """
    text = text.strip()
    # The joiners are left for what reads names, which knows what to write instead.
    if not text or not text.replace("\u200c", "").replace("\u200d", "").isprintable() or " " in text:
        raise config_error(place, f"{text!r} is not a rule", 'one rule an entry, as in "10.2.0.0/16:5432"')
    transports, rest = _split_scheme(text, place)
    target, port_text = _split_ports(rest, text, place)
    ports = ALL_PORTS if port_text is None else _ports(port_text, text, place)
    classes, networks, pattern = _target(target, text, place, groups or {})
    return Rule(text, place, transports, classes, networks, ports, mode, pattern)


def _split_scheme(text: str, place: str) -> tuple[int, str]:
    scheme, found, rest = text.partition("://")
    if not found:
        return TCP | UDP, text
    bit = TRANSPORT_BIT.get(scheme.lower())
    if bit is None:
        port = _PORT_NAMES.get(scheme.lower())
        meant = f"tcp://{rest.partition('/')[0]}:{port}" if port and rest else "tcp://… or udp://…"
        raise config_error(place, f'"{text}" has an unknown scheme', f"rules are about transports; write {meant}")
    return bit, rest


def _split_ports(rest: str, text: str, place: str) -> tuple[str, str | None]:
    """Return the target without brackets, and the text of the ports if there is any."""
    if rest.startswith("["):
        inside, closed, after = rest[1:].partition("]")
        if not closed or ":" not in inside:
            raise config_error(place, f'"{text}": the brackets hold no IPv6 address', 'write "[2001:db8::1]:443"')
        length, colon, ports = after.partition(":")
        if length and (not length.startswith("/") or "/" in inside):
            raise config_error(place, f'"{text}": unexpected "{length}" after the bracket', 'write "[fc00::/7]:443"')
        return inside + length, ports if colon else None
    if rest.count(":") > 1:
        return rest, None
    target, colon, ports = rest.partition(":")
    return target, ports if colon else None


def _ports(port_text: str, text: str, place: str) -> Ports:
    if port_text == "*":
        return ALL_PORTS
    ranges = []
    for part in port_text.split(","):
        low_text, dash, high_text = part.strip().partition("-")
        low = _port(low_text, text, place)
        high = _port(high_text, text, place) if dash else low
        if high < low:
            raise config_error(place, f'"{text}": the range {part} runs backwards', f"write {high}-{low}")
        ranges.append((low, high))
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def _port(digits: str, text: str, place: str) -> int:
    if digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) <= MAX_PORT:
        return int(digits)
    known = _PORT_NAMES.get(digits.lower())
    hint = f"write {known}" if known else "ports are numbers from 0 to 65535, as in 80,443,8000-8100"
    raise config_error(place, f'"{text}": "{digits}" is not a port', hint)


def _target(
    target: str, text: str, place: str, groups: Mapping[str, tuple[Network, ...]]
) -> tuple[int, tuple[Network, ...], Pattern | None]:
    """Return (classes, networks, pattern) of a target: one of the three, unless a group has no members."""
    if target == "*":
        return ALL_CLASSES, (), None
    name = target.lower()
    if name in BUILT_IN_GROUPS:
        return BUILT_IN_GROUPS[name], (), None
    if name in groups:
        return 0, groups[name], None
    if ":" in target or "/" in target or _NUMERIC.match(target):
        return 0, (_network(target, place),), None
    cidr = _cidr_of_pattern(target)
    if cidr:
        raise config_error(place, f'"{text}": patterns are not for addresses', cidr)
    if re.match(r"[0-9.]+-[0-9.]+\Z", target):
        raise config_error(place, f'"{text}": address ranges are written as CIDRs', "one rule for each CIDR in it")
    _refuse_likely_group(target, text, place, groups)
    try:
        return 0, (), parse_pattern(target)
    except ValueError as error:
        reason, _, hint = str(error).partition("; ")
        quoted = "" if f'"{text}"' in reason else f'"{text}": '
        raise config_error(place, quoted + reason, hint or _NO_TARGET) from None


def _group_meant(name: str) -> str:
    return _NAMES_OF_GROUPS.get(name) or ("loopback" if name.endswith(".localhost") else "")


def _refuse_likely_group(target: str, text: str, place: str, groups: Mapping[str, tuple[Network, ...]]) -> None:
    """Refuse a name that was meant as a group of addresses, and one that is nearly a group's."""
    name = target.lower().rstrip(".")
    group = _group_meant(name)
    if group and (group in _BY_ADDRESS_ALONE or name == target.lower()):
        raise config_error(place, f'"{text}": "{target}" is a name for a group of addresses', f'write "{group}"')
    if "." in target:
        return
    near = difflib.get_close_matches(name, [*BUILT_IN_GROUPS, *groups], n=1, cutoff=0.75)
    if near:
        hint = f'did you mean "{near[0]}"?'
        if target[0].isalnum():
            hint += f' A host of that name is written with a dot, "{target}."'
        raise config_error(place, f'"{text}": there is no group "{target}"', hint)


def writable(name: str, groups: frozenset[str] = frozenset()) -> str:
    """Return how a canonical name is written in a rule, or ``""`` where no rule can have it.

    :param groups: names of the operator's groups.
    """
    if "." in name and not name.rpartition(".")[2][0].isdigit() and not _group_meant(name):
        return name
    return _writable(name, groups)


@lru_cache(maxsize=256)
def _writable(name: str, groups: frozenset[str]) -> str:
    for text in (name, f"{name}."):
        try:
            if _target(text, text, "", dict.fromkeys(groups, ()))[2] is not None:
                return text
        except ConfigError:
            pass
    return ""


def _cidr_of_pattern(target: str) -> str:
    """Return the hint for ``10.2.*``, or nothing."""
    match = re.match(r"((?:\d{1,3}\.){1,3})(?:\*\.?)+\Z", target)
    if not match:
        return ""
    parts = match.group(1).rstrip(".").split(".")
    return f"write {'.'.join(parts + ['0'] * (4 - len(parts)))}/{8 * len(parts)}"


def _network(text: str, place: str) -> Network:
    if "%" in text:
        raise config_error(place, f"'{text}' has a scope id", "leave it out: rules judge the address alone")
    try:
        return addresses.parse_network(text)
    except ValueError as error:
        raise config_error(place, str(error), _numeric_hint(text)) from None


def _numeric_hint(text: str) -> str:
    """Say what was probably meant by an address that is none."""
    host, slash, length = text.partition("/")
    if host.count(":") > 1:
        length, _, port = length.partition(":")
        if not slash:
            host, _, port = host.rpartition(":")
        if port.isdigit():
            return f"with a port, write [{host}{slash}{length}]:{port}"
        return "check the groups of the IPv6 address"
    if slash and not length.isdigit():
        return "write the prefix length, as in 10.0.0.0/8"
    meant = addresses.parse_numeric(host, exact=True)
    if meant is not None and str(meant) != host:
        return f"'{host}' means {meant}; write that" + (", or a CIDR" if host.count(".") < 3 else "")
    return ""
