"""Decide the slow, obvious way: the twin that the policy of outgate.core is held against.

Nothing here is shared with the real one but the data of the address table: rules are read with ``split``, addresses are
compared with ``ipaddress``, every rule is looked at in turn.
"""

from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from outgate.core.address_table import CLASSES, TABLE

NON_PUBLIC = [name for name in CLASSES if name not in ("public", "own")]


@cache
def class_of(address, own=()):
    """Return the class of an address itself, embedded ones aside: the smallest network of the table that has it."""
    rows = [row for row in TABLE if address in ip_network(row.network)]
    name = max(rows, key=lambda row: ip_network(row.network).prefixlen).address_class
    if name in ("public", "shared", "private") and any(address in ip_network(network) for network in own):
        return "own"
    return name


def inside(address):
    """Return (is it v4-mapped, is it NAT64, the IPv4 addresses embedded in it)."""
    if address.version == 4:
        return False, False, []
    groups = [int(group, 16) for group in address.exploded.split(":")]

    def ipv4(high, low):
        return IPv4Address(f"{high >> 8}.{high & 255}.{low >> 8}.{low & 255}")

    if address.ipv4_mapped:
        return True, False, [address.ipv4_mapped]
    if address in ip_network("64:ff9b::/96"):
        return False, True, [ipv4(*groups[6:])]
    found = []
    if address in ip_network("::/96") and int(address) > 1:
        found.append(ipv4(*groups[6:]))
    if address in ip_network("::ffff:0:0:0/96"):
        found.append(ipv4(*groups[6:]))
    if address in ip_network("64:ff9b:1::/48"):
        found.append(ipv4(*groups[6:]))
    if address.sixtofour:
        found.append(address.sixtofour)
    if address.teredo:
        found += address.teredo
    is_isatap = groups[5] == 0x5EFE and groups[4] in (0, 0x0100, 0x0200, 0x0300)
    if is_isatap and int(address) >> 32 and not address.is_multicast:
        found.append(ipv4(*groups[6:]))
    return False, False, found


def classes_of(address, own=()):
    """Return the set of classes of an address with what it embeds; ``public`` only where there is no other."""
    mapped, _, inner = inside(address)
    classes = {class_of(item, own) for item in inner}
    if not mapped:
        classes.add(class_of(address, own))
    return classes - {"public"} or {"public"}


class SlowRule:
    """One rule: its text, and whether it permits or refuses an address, transport and port."""

    def __init__(self, text, mode="enforce"):
        self.text, self.mode = text, mode
        scheme, _, rest = text.rpartition("://")
        self.transports = [scheme] if scheme else ["tcp", "udp"]
        if rest.startswith("["):
            target, _, ports = rest[1:].partition("]")
            ports = ports[1:]
        elif rest.count(":") > 1:
            target, ports = rest, ""
        else:
            target, _, ports = rest.partition(":")
        self.ports = [] if ports in ("", "*") else [[int(end) for end in part.split("-")] for part in ports.split(",")]
        self.classes = {"*": CLASSES, "non-public": NON_PUBLIC}.get(target, [target] if target in CLASSES else [])
        self.network = None if self.classes else ip_network(target)

    def _has(self, transport, port):
        in_ports = not self.ports or any(part[0] <= port <= part[-1] for part in self.ports)
        return transport in self.transports and in_ports

    def refuses(self, address, transport, port, own):
        """Say whether it matches the address or anything embedded in it."""
        if not self._has(transport, port):
            return False
        if self.classes:
            return bool(classes_of(address, own) & set(self.classes))
        return any(candidate in self.network for candidate in (address, *inside(address)[2]))

    def permits(self, address, transport, port, own):
        """Say whether it matches what a connect to the address really reaches."""
        if not self._has(transport, port):
            return False
        if self.classes:
            return classes_of(address, own) <= set(self.classes)
        mapped, nat64, inner = inside(address)
        targets = inner if mapped else [address, *inner] if nat64 else [address]
        return any(target in self.network for target in targets)


class SlowPolicy:
    """Three lists in turn: except, deny, allow."""

    def __init__(self, allow=("public",), deny=(), except_=(), own=(), mode="enforce"):
        self.allow = [SlowRule(text) for text in allow]
        self.deny = [SlowRule(text) for text in ("non-public", "own", "*:25")]
        self.deny += [
            SlowRule(entry) if isinstance(entry, str) else SlowRule(entry["rule"], entry["mode"]) for entry in deny
        ]
        self.except_ = [SlowRule(text) for text in except_]
        self.own, self.mode = tuple(own), mode

    def decide(self, transport, address, port):
        """Return (verdict, text of the rule that decided or None)."""
        target = ip_address(address.split("%")[0])
        assert isinstance(target, (IPv4Address, IPv6Address))
        against = "report" if self.mode == "report" else "deny"
        for rule in self.except_:
            if rule.permits(target, transport, port, self.own):
                return "allow", rule.text
        for rule in self.deny:
            if rule.mode == "enforce" and rule.refuses(target, transport, port, self.own):
                return against, rule.text
        allowing = [rule for rule in self.allow if rule.permits(target, transport, port, self.own)]
        if not allowing:
            return against, None
        for rule in self.deny:
            if rule.mode == "report" and rule.refuses(target, transport, port, self.own):
                return "report", rule.text
        return "allow", allowing[0].text
