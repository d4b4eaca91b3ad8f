"""Say what an address is: its class, what is embedded in it, and which address a numeric spelling means.

An address is judged after decoding what is embedded in it, by :data:`outgate.core.address.address_table.TABLE`.
Internally it is a pair ``(version, value)`` of ints, so that a range test is a shift and a dict look-up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, Union

from outgate.core.address import address_table
from outgate.core.address.address_table import CLASSES, OWN

__all__ = [
    *("BELOW_OWN", "BITS", "CLASS_BIT", "NON_PUBLIC", "Address", "Embedded", "Judged", "Key", "Network", "NetworkSet"),
    *("classify", "judge", "mask_class", "parse_address", "parse_network", "parse_numeric", "range_class", "source_of"),
]

#: What callers may hand in: text (with or without a scope id), packed bytes, or the standard library's types.
Address = Union[str, bytes, IPv4Address, IPv6Address]
#: (4 or 6, the address as an int).
Key = tuple[int, int]
#: (4 or 6, the network address as an int, prefix length).
Network = tuple[int, int, int]

#: Address length by version.
BITS: Final = {4: 32, 6: 128}
#: Address class → its bit in a mask. A higher bit is more restrictive.
CLASS_BIT: Final = {name: 1 << rank for rank, name in enumerate(CLASSES)}
#: The group ``non-public``: everything but public addresses, and ``own``, which is a denial of its own.
NON_PUBLIC: Final = (1 << len(CLASSES)) - 1 - CLASS_BIT[address_table.PUBLIC] - CLASS_BIT[OWN]
#: ``own`` outranks the classes below it, and only those.
BELOW_OWN: Final = CLASS_BIT[OWN] - 1

_MAPPED: Final = "the v4-mapped form of"
_NAT64: Final = "NAT64 of"

_LOW32: Final = 0xFFFF_FFFF
_MAPPED_PREFIX: Final = 0xFFFF
_NAT64_PREFIX: Final = 0x0064_FF9B << 64
_NAT64_LOCAL_PREFIX: Final = 0x0064_FF9B_0001
_TRANSLATED_PREFIX: Final = 0xFFFF_0000
#: What a part of a dotted address may be: none begins with a zero, which inet_aton(3) would take for octal.
_OCTETS: Final = {str(number): number for number in range(256)}


class Embedded(NamedTuple):
    """An IPv4 address found inside an IPv6 one: how the two relate ("NAT64 of", "6to4 of"), and its value."""

    relation: str
    value: int


class Judged(NamedTuple):
    """What is known of one address, ready for matching.

    :ivar text: the address in canonical form, without a scope id.
    :ivar mask: bits (:data:`CLASS_BIT`) of every class it has, itself and by what it embeds; public alone if it has
        no other.
    :ivar address_class: the most restrictive of them.
    :ivar target_keys: the addresses that a connect to it reaches: the only ones an ``allow`` or ``except`` may match.
    :ivar all_keys: the address as asked and all that it embeds: a ``deny`` that matches any of them holds.
    :ivar what: how it is named to people: ``10.0.0.5 (private)``, ``64:ff9b::a00:5 is NAT64 of 10.0.0.5 (private)``.
    :ivar apposition: the same to stand behind "db.corp is": ``64:ff9b::a00:5, NAT64 of 10.0.0.5 (private)``.
    :ivar target: the text of the address that is really dialled (a v4-mapped one as IPv4).
    """

    text: str
    mask: int
    address_class: str
    target_keys: tuple[Key, ...]
    all_keys: tuple[Key, ...]
    what: str
    apposition: str
    target: str


class NetworkSet:
    """A set of networks with a fast answer to "is this address in one of them?".

    :param networks: CIDRs or addresses as text. Raises ``ValueError`` for one that is neither.
    """

    __slots__ = ("_tables", "texts")

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self.texts = tuple(networks)
        tables: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for text in self.texts:
            version, value, length = parse_network(text)
            shift = BITS[version] - length
            tables[version].setdefault(shift, set()).add(value >> shift)
        self._tables = {version: tuple(table.items()) for version, table in tables.items()}

    def __bool__(self) -> bool:
        return bool(self.texts)

    def __contains__(self, key: Key) -> bool:
        value = key[1]
        return any(value >> shift in members for shift, members in self._tables[key[0]])

    def covers(self, network: Network) -> bool:
        """Say whether one network of the set contains all of ``network``."""
        version, value, length = network
        return any(
            shift >= BITS[version] - length and value >> shift in members for shift, members in self._tables[version]
        )

    def touches(self, network: Network) -> bool:
        """Say whether any address of ``network`` is in the set."""
        version, value, length = network
        shift = BITS[version] - length
        for own_shift, members in self._tables[version]:
            wider = max(shift, own_shift)
            if any((member << own_shift) >> wider == value >> wider for member in members):
                return True
        return False

    def __repr__(self) -> str:
        return f"NetworkSet({list(self.texts)})"


def parse_address(address: Address) -> Key:
    """Return (version, value) of an address in strict form; a scope id is dropped.

    Raises ``ValueError`` for text that is no address. Numeric spellings (``127.1``) are :func:`parse_numeric`'s.
    """
    if isinstance(address, str):
        try:
            a, b, c, d = address.split(".")
            return 4, _OCTETS[a] << 24 | _OCTETS[b] << 16 | _OCTETS[c] << 8 | _OCTETS[d]
        except (ValueError, KeyError):  # nothing that is not written so is IPv4; ip_address() says what is wrong
            address = ip_address(address.partition("%")[0] if ":" in address else address)
    elif isinstance(address, bytes):
        address = ip_address(address)
    return address.version, int(address)


def parse_network(text: str) -> Network:
    """Return (version, value, prefix length) of a CIDR or of one address.

    A v4-mapped block is the IPv4 block it maps, since that is what a connect to it reaches. Raises ``ValueError``
    for host bits below the prefix as well, with the two things that may have been meant.
    """
    try:
        network: IPv4Network | IPv6Network = ip_network(text)
    except ValueError:
        try:
            loose = ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"'{text}' is neither an address nor a CIDR") from None
        host = text.partition("/")[0]
        raise ValueError(f"'{text}' has bits set below its prefix; write {loose}, or {host} for that one") from None
    value, length = int(network.network_address), network.prefixlen
    if network.version == 6 and length >= 96 and value >> 32 == _MAPPED_PREFIX:
        return 4, value & _LOW32, length - 96
    return network.version, value, length


def to_text(key: Key) -> str:
    """Return the canonical text of an address (RFC 5952; a v4-mapped one ends in dotted form on every Python)."""
    version, value = key
    if version == 4:
        return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
    if value >> 32 == _MAPPED_PREFIX:
        return f"::ffff:{IPv4Address(value & _LOW32)}"
    return str(IPv6Address(value))


def _build_tables() -> dict[int, tuple[tuple[int, dict[int, address_table.Row]], ...]]:
    tables: dict[int, dict[int, dict[int, address_table.Row]]] = {4: {}, 6: {}}
    for row in address_table.TABLE:
        network = ip_network(row.network)  # not parse_network: the row of the mapped block is an IPv6 one
        shift = BITS[network.version] - network.prefixlen
        tables[network.version].setdefault(shift, {})[int(network.network_address) >> shift] = row
    return {version: tuple(sorted(table.items())) for version, table in tables.items()}


_TABLES: Final = _build_tables()


def _row(key: Key) -> address_table.Row:
    version, value = key
    for shift, rows in _TABLES[version]:  # the longest prefix first
        row = rows.get(value >> shift)
        if row is not None:
            return row
    raise AssertionError("the table covers every address")  # pragma: no cover


def source_of(address: Address) -> str:
    """Return who says what class this address (not what it embeds) has, as in ``RFC 1918``."""
    return _row(parse_address(address)).source


def embedded(value: int) -> tuple[Embedded, ...]:
    """Return the IPv4 addresses that an IPv6 address (as an int) embeds, by every scheme it fits.

    Sources: v4-mapped and v4-compatible RFC 4291 section 2.5.5, v4-translated RFC 2765, NAT64 RFC 6052 and RFC 8215,
    6to4 RFC 3056, Teredo RFC 4380 section 4 (client and server), ISATAP RFC 5214 section 6.1.
    """
    found = []
    low = value & _LOW32
    high96 = value >> 32
    if high96 == _MAPPED_PREFIX:
        return (Embedded(_MAPPED, low),)
    if high96 == 0:
        # :: and ::1 have rows of their own.
        return (Embedded("the v4-compatible form of", low),) if low > 1 else ()
    if high96 == _NAT64_PREFIX:
        return (Embedded(_NAT64, low),)
    if high96 == _TRANSLATED_PREFIX:
        return (Embedded("the v4-translated form of", low),)
    if value >> 80 == _NAT64_LOCAL_PREFIX:
        # An operator may embed at other places (RFC 6052 section 2.2); whatever he does, the outer class is private.
        found.append(Embedded("local-use NAT64 of", low))
    elif value >> 112 == 0x2002:
        found.append(Embedded("6to4 of", value >> 80 & _LOW32))
    elif value >> 96 == 0x2001_0000:
        found.append(Embedded("Teredo of", low ^ _LOW32))
        found.append(Embedded("Teredo by server", value >> 64 & _LOW32))
    # The interface identifier 0000:5efe or 0200:5efe, whatever its group bit says.
    if value >> 32 & 0xFCFF_FFFF == 0x0000_5EFE and value >> 120 != 0xFF:
        found.append(Embedded("ISATAP of", low))
    return tuple(found)


def mask_class(mask: int) -> str:
    """Return the most restrictive class of a mask of :data:`CLASS_BIT` bits."""
    return CLASSES[mask.bit_length() - 1]


def _class_bit(key: Key, own: NetworkSet) -> int:
    bit = CLASS_BIT[_row(key).address_class]
    return CLASS_BIT[OWN] if own and bit & BELOW_OWN and key in own else bit


_NO_NETWORKS: Final = NetworkSet()


def judge(address: Address, own: NetworkSet = _NO_NETWORKS) -> Judged:
    """Return what is known of an address. Raises ``ValueError`` for text that is no address.

    :param own: the operator's ranges and the host's own addresses.
    """
    return _judge(parse_address(address), own)


def _judge(key: Key, own: NetworkSet) -> Judged:
    text = to_text(key)
    inner = embedded(key[1]) if key[0] == 6 else ()
    if not inner:
        bit = _class_bit(key, own)
        name = mask_class(bit)
        what = f"{text} ({name})"
        return Judged(text, bit, name, (key,), (key,), what, what, text)
    inner_keys = tuple((4, item.value) for item in inner)
    mapped = inner[0].relation == _MAPPED
    mask = 0 if mapped else _class_bit(key, own)
    told, told_bit = inner[0], 0
    for item, inner_key in zip(inner, inner_keys):
        bit = _class_bit(inner_key, own)
        mask |= bit
        if bit > told_bit:
            told, told_bit = item, bit
    public = CLASS_BIT[address_table.PUBLIC]
    if mask != public:
        mask &= ~public
    name = mask_class(mask)
    target_keys: tuple[Key, ...] = (key,)
    target = text
    if mapped:
        target_keys, target = inner_keys, to_text(inner_keys[0])
    elif inner[0].relation == _NAT64:
        target_keys = (key, *inner_keys)
    meant = f"{told.relation} {to_text((4, told.value))} ({name})"
    return Judged(text, mask, name, target_keys, (key, *inner_keys), f"{text} is {meant}", f"{text}, {meant}", target)


@lru_cache(maxsize=4096)
def _classify_plain(key: Key) -> str:
    return _judge(key, _NO_NETWORKS).address_class


def classify(address: Address, own: NetworkSet | Iterable[str] = _NO_NETWORKS) -> str:
    """Return the address class, one of :data:`outgate.core.address.address_table.CLASSES`.

    :param address: text, packed bytes or an ``ipaddress`` object; a scope id is ignored.
    :param own: networks that are the operator's own, as a :class:`NetworkSet` or as text.
    """
    key = parse_address(address)
    networks = own if isinstance(own, NetworkSet) else NetworkSet(own)
    return _judge(key, networks).address_class if networks else _classify_plain(key)


def range_class(network: Network) -> int:
    """Return the mask of every class that some address of a network has, not counting ``own``.

    Tunnels and translators inside a larger IPv6 network count as what their prefix is; a NAT64 block counts as what
    it embeds.
    """
    version, value, length = network
    if version == 6 and length >= 96 and value >> 32 == _NAT64_PREFIX:
        return range_class((4, value & _LOW32, length - 96))
    shift = BITS[version] - length
    mask = CLASS_BIT[_covering_row(network).address_class]
    for row_shift, rows in _TABLES[version]:
        if row_shift < shift:
            for prefix, row in rows.items():
                if (prefix << row_shift) >> shift == value >> shift:
                    mask |= CLASS_BIT[row.address_class]
    return mask


def _covering_row(network: Network) -> address_table.Row:
    version, value, length = network
    for shift, rows in _TABLES[version]:
        if shift >= BITS[version] - length:
            row = rows.get(value >> shift)
            if row is not None:
                return row
    raise AssertionError("the table covers every address")  # pragma: no cover


# What strtoul(3) with base 0 takes: 0x for hex, a leading 0 for octal, else decimal.
_PART: Final = re.compile(r"(?P<hex>0[xX][0-9a-fA-F]+)|(?P<octal>0[0-7]*)|(?P<decimal>[1-9][0-9]*)")
#: ASCII isspace(3): inet_aton of glibc ignores whatever follows one of these.
_SPACE: Final = " \t\n\v\f\r"


def parse_numeric(text: str, *, exact: bool = False) -> IPv4Address | IPv6Address | None:
    """Return the address that a numeric host means to the C library, or ``None`` where the text is a name.

    Accepts what ``inet_aton(3)`` does (``127.1``, ``0x7f.1``, ``017700000001``, ``2130706433``), IPv6 with or without
    a scope id, and the two spellings Python adds: ``""`` for the unspecified address and ``<broadcast>``. Text that
    is not ASCII is ``None``; the client has put it through the ``idna`` codec before.

    :param exact: leave out the quirk that ``inet_aton`` (and ``getaddrinfo`` before glibc 2.29) ignores what follows
        a whitespace character, as in ``127.0.0.1 x``.
    """
    if not text:
        return IPv4Address(0)
    if text == "<broadcast>":
        return IPv4Address(_LOW32)
    if ":" in text:
        try:
            return IPv6Address(text.partition("%")[0])
        except ValueError:
            return None
    return _parse_aton(text, exact)


def _parse_aton(text: str, exact: bool) -> IPv4Address | None:
    """Read the forms a, a.b, a.b.c and a.b.c.d, where the last part fills what the others leave."""
    parts: list[int] = []
    at = 0
    while True:
        match = _PART.match(text, at)
        if match is None:
            return None
        digits = match.group()
        at = match.end()
        base = {"hex": 16, "octal": 8, "decimal": 10}[str(match.lastgroup)]
        # Python's int() is quadratic in decimal digits; no number of 32 bits is longer once its zeros are gone.
        digits = digits[2:] if base == 16 else digits
        digits = digits.lstrip("0") or "0"
        if len(digits) > 11:
            return None
        parts.append(int(digits, base))
        if text[at : at + 1] != ".":
            break
        if len(parts) == 4:
            return None
        at += 1
    if at < len(text) and (exact or text[at] not in _SPACE or "\0" in text):
        return None
    *heads, last = parts
    if any(head > 0xFF for head in heads) or last >= 1 << 8 * (4 - len(heads)):
        return None
    for place, head in enumerate(heads):
        last |= head << 8 * (3 - place)
    return IPv4Address(last)
