"""Say what was decided: the verdict, the rule, the sentence, and what would permit it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from outgate import errors
from outgate.core.address.address_table import CLASSES, OWN, PRIVATE, PUBLIC, SHARED
from outgate.core.address.addresses import CLASS_BIT, Judged
from outgate.core.policy.rules import ALL_PORTS, Rule, writable

__all__ = [
    "ALLOW",
    "DENY",
    "LIFTABLE",
    "NO_FACTS",
    "NO_RULE",
    "REPORT",
    "Decision",
    "Verdict",
    "kind_of",
    "permit",
    "what",
]

Verdict = Literal["allow", "report", "deny"]
ALLOW: Final = "allow"
#: Denied by the rules, let through by ``mode = "report"``.
REPORT: Final = "report"
DENY: Final = "deny"

#: What stands for a rule where none of the app's allows a destination that nothing denies.
NO_RULE: Final = "no rule allows it"
#: The classes that an exception by name lifts. The others only an address does: whoever owns a zone decides what its
#: names answer, and must not be able to point them at this host's own services or at a metadata service.
LIFTABLE: Final = CLASS_BIT[PUBLIC] | CLASS_BIT[PRIVATE] | CLASS_BIT[SHARED] | CLASS_BIT[OWN]

#: Of a decision that allows: one mapping for all of them.
NO_FACTS: Final[Mapping[str, Any]] = {}
#: Facts that say no more than the program knew when it asked.
_BRIEF: Final = ("app", "host", "port", "transport")


class Decision(NamedTuple):
    """What was decided, by which rule, why, and what would permit it.

    :ivar rule: text of the rule that decided; :data:`NO_RULE` where none allowed it.
    :ivar place: where that rule was written, ``""`` where there is none.
    :ivar address_class: of the address, embedded ones included; ``""`` where no address is known.
    :ivar what: the address in words, as in ``db.corp is 10.0.0.5 (private)``.
    :ivar code: row of :data:`outgate.errors.TABLE`; ``""`` on ``allow``.
    :ivar facts: what that row's sentence is made of.
    :ivar policy: number of the policy that decided.
    :ivar name: the canonical name that the deciding rule matched; else the one it was judged as, ``""`` for none.
    :ivar kind: what the rule is about: ``name``, ``names`` (the list), ``address``, ``port`` (of every address), or
        ``none`` where no rule decided.
    """

    verdict: Verdict
    rule: str
    place: str
    address_class: str
    what: str
    policy: int
    code: str = ""
    facts: Mapping[str, Any] = NO_FACTS
    name: str = ""
    kind: str = "none"

    @property
    def denied(self) -> bool:
        """Whether the connect must be refused. A report is let through."""
        return self.verdict == DENY

    @property
    def reason(self) -> str:
        """One sentence that says why, also where it is let through in report mode; ``""`` on ``allow``."""
        return errors.describe(self.code, self.facts)[0] if self.code else ""

    @property
    def cure(self) -> str | None:
        """What would permit it, as a line for the configuration; ``None`` on ``allow``."""
        return errors.describe(self.code, self.facts)[1] if self.code else None

    @property
    def permit(self) -> str:
        """Text of a rule that would permit it; ``""`` on ``allow``."""
        return str(self.facts.get("permit", ""))

    def brief(self) -> dict[str, Any]:
        """Return the facts for a program that is not to learn what a name resolves to (``reasons = "brief"``).

        They make a sentence of the same code with the kind of rule, and without address, class or rule.
        """
        if not self.code:
            return {}
        return {key: self.facts[key] for key in _BRIEF if key in self.facts} | {"kind": self.kind}


def kind_of(rule: Rule | None) -> str:
    """Return what a rule is about, as in :attr:`Decision.kind`."""
    if rule is None:
        return "none"
    if rule.pattern is not None:
        return "name"
    return "port" if rule.is_any and rule.ports != ALL_PORTS else "address"


def what(judged: Judged, asked: str) -> str:
    """Return an address in words, with the name or the numeric spelling it came from."""
    if not asked or asked == judged.text or ":" in asked:  # IPv6 is written in many ways, but always as an address
        return judged.what
    return f"{asked} is {judged.apposition}"


def permit(
    judged: Judged | None,
    name: str,
    transport: str,
    port: int | None,
    groups: frozenset[str],
    *,
    in_except: bool,
) -> tuple[str, str]:
    """Return (text of a rule that permits what was asked, a word on why it is not the name).

    :param judged: the address; ``None`` where only the name is known.
    :param name: the canonical name, ``""`` for none. It is used where a rule by name can permit the address.
    :param port: ``None`` for a rule for every port.
    :param groups: names of the operator's groups, which a host's may be like.
    :param in_except: the rule is for ``except``, where a name lifts :data:`LIFTABLE` alone.
    """
    scheme = "udp://" if transport == "udp" else ""
    ports = "" if port is None else f":{port}"
    hint = ""
    if name:
        stuck = judged.mask & ~LIFTABLE if judged is not None and in_except else 0
        host = "" if stuck else writable(name, groups)
        if host or judged is None:
            return f"{scheme}{host or name}{ports}", ""
        if stuck:
            hint = f" (by address: a name does not lift {CLASSES[stuck.bit_length() - 1]})"
    assert judged is not None, "there is a name or an address"
    host = judged.target
    if ":" in host and (scheme or ports):
        host = f"[{host}]"
    return f"{scheme}{host}{ports}", hint
