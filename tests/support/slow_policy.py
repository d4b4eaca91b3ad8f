"""Decide the slow, obvious way: the twin that the policy of outgate.core is held against.

Nothing here is shared with the real one but the data of the address table: rules are read with ``split``, addresses are
compared with ``ipaddress``, names label by label, every rule is looked at in turn.
"""

from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from outgate.core.address.address_table import CLASSES, TABLE

#: What an exception by name lifts.
BY_NAME = {"public", "private", "shared", "own"}
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
    groups = [int(address) >> shift & 0xFFFF for shift in range(112, -1, -16)]

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


def is_meant(pattern, name):
    """Say whether a pattern means a name: label by label from the right."""
    wanted, labels = pattern.split(".")[::-1], name.split(".")[::-1]
    if wanted[-1] == "*":
        return len(labels) >= len(wanted) and labels[: len(wanted) - 1] == wanted[:-1]
    return labels == wanted


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
        self.name = target if target[-1].isalpha() and not self.classes and "::" not in target else ""
        self.network = None if self.classes or self.name else ip_network(target)

    def names(self, names, transport, port):
        """Say whether it is about one of these names."""
        return bool(self.name) and self._has(transport, port) and any(is_meant(self.name, name) for name in names)

    def _has(self, transport, port):
        in_ports = not self.ports or any(part[0] <= port <= part[-1] for part in self.ports)
        return transport in self.transports and in_ports

    def refuses(self, address, transport, port, own):
        """Say whether it matches the address or anything embedded in it."""
        if not self._has(transport, port) or self.name:
            return False
        if self.classes:
            return bool(classes_of(address, own) & set(self.classes))
        return any(candidate in self.network for candidate in (address, *inside(address)[2]))

    def permits(self, address, transport, port, own):
        """Say whether it matches what a connect to the address really reaches."""
        if not self._has(transport, port) or self.name:
            return False
        if self.classes:
            return classes_of(address, own) <= set(self.classes)
        mapped, nat64, inner = inside(address)
        targets = inner if mapped else [address, *inner] if nat64 else [address]
        return any(target in self.network for target in targets)


class SlowPolicy:
    """Three lists in turn: except, deny, allow."""

    def __init__(self, allow=("public",), deny=(), except_=(), own=(), mode="enforce", names=None):
        self.allow = [SlowRule(text) for text in allow]
        self.deny = [SlowRule(text) for text in ("non-public", "own", "*:25")]
        self.deny += [
            SlowRule(entry) if isinstance(entry, str) else SlowRule(entry["rule"], entry["mode"]) for entry in deny
        ]
        self.except_ = [SlowRule(text) for text in except_]
        self.own, self.mode, self.names = tuple(own), mode, names

    def decide(self, transport, address, port, name=None, bound=()):
        """Return (verdict, text of the rule that decided or None)."""
        target = ip_address(address.split("%")[0])
        assert isinstance(target, (IPv4Address, IPv6Address))
        against = "report" if self.mode == "report" else "deny"
        permitting = bound if name is None else [name]
        refusing = [] if name is None else [name]
        is_liftable = classes_of(target, self.own) <= BY_NAME

        def permits(rule):
            return rule.permits(target, transport, port, self.own) or rule.names(permitting, transport, port)

        def refuses(rule):
            return rule.refuses(target, transport, port, self.own) or rule.names(refusing, transport, port)

        for rule in self.except_:
            if permits(rule) and (is_liftable or not rule.name):
                return "allow", rule.text
        for rule in self.deny:
            if rule.mode == "enforce" and refuses(rule):
                return against, rule.text
        allowing = [rule for rule in self.allow if permits(rule)]
        if not allowing:
            return against, None
        for rule in self.deny:
            if rule.mode == "report" and refuses(rule):
                return "report", rule.text
        return "allow", allowing[0].text

    def could_resolve(self, name, transport, port, addresses):
        """Return whether a name may be looked up for one port: if it is not denied, and might lead to an address.

        :param addresses: all that there are.
        """
        if any(rule.names([name], transport, port) for rule in self.except_):
            return True
        if any(rule.mode == "enforce" and rule.names([name], transport, port) for rule in self.deny):
            return False
        is_allowed = any(rule.names([name], transport, port) for rule in self.allow)
        is_listed = self.names is None or any(is_meant(pattern, name) for pattern in self.names)
        for address in addresses:
            asked = name if is_allowed else None
            if (is_allowed or is_listed) and self._enforced(transport, address, port, asked):
                return True
        return False

    def _enforced(self, transport, address, port, name):
        """Return whether a connect is let through, whatever mode the policy is in."""
        mode, self.mode = self.mode, "enforce"
        try:
            return self.decide(transport, address, port, name)[0] != "deny"
        finally:
            self.mode = mode
