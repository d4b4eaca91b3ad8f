"""Hold policies against a table of expectations: what must be allowed, denied, looked up, and by which rule.

The table says what names are, so nothing is looked up and nothing dialled: the answer is the same on every machine.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from outgate.core.address import addresses
from outgate.core.address.destination import Destination, destination, in_words
from outgate.core.name import names
from outgate.core.policy.decide import ALLOW, DENY, REPORT, Ask, Decision, Policy, could_allow, could_resolve, decide
from outgate.core.policy.rules import config_error
from outgate.errors import ConfigError

__all__ = ["Expectation", "Outcome", "Table", "hold", "read"]

#: The newest ``version`` of a table that this reads.
VERSION: Final = 1

_KEYS: Final = ("version", "policy", "own", "resolve", "groups", "apps", "expect")
#: Key of an expectation → what it wants, in a word for people.
VERDICTS: Final = {"allow": ALLOW, "deny": DENY, "report": REPORT}
LOOK_UPS: Final = {"resolves": "resolved", "no_lookup": "not looked up"}
_EXPECT_KEYS: Final = ("app", *VERDICTS, *LOOK_UPS, "rule")
_NOBODY: Final[Mapping[str, tuple[str, str | None]]] = {}
_EXAMPLE: Final = 'as in allow = ["api.example:443"]'


class Expectation(NamedTuple):
    """One line of the table.

    :ivar place: where it stands, as in ``expect[2].deny[0]``.
    :ivar app: whose policy it is about; ``""`` for the only one.
    :ivar wanted: ``allow``, ``deny``, ``report``, ``resolves`` or ``no_lookup``.
    :ivar text: destination or name, as written.
    :ivar host: the address, or the canonical name.
    :ivar is_name: which of the two.
    :ivar rule: text or place of the rule that must decide; ``""`` for any.
    """

    place: str
    app: str
    wanted: str
    text: str
    transport: str
    host: str
    port: int
    is_name: bool
    rule: str


class Table(NamedTuple):
    """A file of expectations.

    :ivar policy: path of the configuration; ``""`` where it stands in the table itself.
    :ivar configuration: that one: ``groups`` and ``apps``.
    :ivar own: what the host's own addresses are in this test.
    :ivar resolve: canonical name → its addresses in this test.
    """

    policy: str
    configuration: Mapping[str, Any]
    own: tuple[str, ...]
    resolve: Mapping[str, tuple[str, ...]]
    expectations: tuple[Expectation, ...]


class Outcome(NamedTuple):
    """What came of an expectation.

    :ivar app: the app whose policy decided.
    :ivar expected: in words, as is ``got``.
    :ivar rule: the rule that decided, and ``place`` where it stands.
    :ivar cure: what would make it hold; ``""`` where it does.
    """

    expectation: Expectation
    app: str
    holds: bool
    expected: str
    got: str
    rule: str
    place: str
    reason: str
    cure: str


# --- the file ---------------------------------------------------------------------------------------------------------


def read(raw: Mapping[str, Any]) -> Table:
    """Return the table that a file holds.

    :param raw: what the TOML says.
    :raises ConfigError: the first thing that is wrong, with its place and a hint.
    """
    _check_version(raw.get("version"))
    _check_keys("", raw, _KEYS)
    policy = raw.get("policy", "")
    if not isinstance(policy, str):
        raise config_error("policy", "takes a path in quotes", 'as in policy = "outgate.toml"')
    inline = {key: raw[key] for key in ("groups", "apps") if key in raw}
    if policy and inline:
        raise config_error(
            "policy", f"the policy is in {policy}, and in [{next(iter(inline))}] too", "drop one of them"
        )
    if not policy and "apps" not in raw:
        raise config_error("policy", "missing", 'name the configuration: policy = "outgate.toml", or write [apps.NAME]')
    own = _addresses("own", raw.get("own", []), networks=True)
    resolve = _resolve(raw.get("resolve", {}))
    groups = raw.get("expect")
    if not isinstance(groups, list) or not groups or not all(isinstance(each, Mapping) for each in groups):
        raise config_error("expect", "there is no expectation", f"begin one with [[expect]], {_EXAMPLE}")
    expectations = tuple(line for index, group in enumerate(groups) for line in _group(f"expect[{index}]", group))
    return Table(policy, {"version": 1, **inline}, own, resolve, expectations)


def _check_version(version: Any) -> None:
    if version is None:
        raise config_error("version", "missing", f"begin the file with: version = {VERSION}")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise config_error("version", f"{version!r} is no version", f"write version = {VERSION}")
    if version > VERSION:
        raise config_error("version", f"{version} is newer than this outgate reads, which is {VERSION}", "upgrade it")


def _check_keys(place: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in table:
        if name in known:
            continue
        near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else "known are " + ", ".join(known)
        raise config_error(f"{place}.{name}" if place else name, "unknown key", hint)


def _texts(place: str, value: Any, example: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise config_error(place, "takes a list of texts", example)
    return value


def _addresses(place: str, value: Any, *, networks: bool = False) -> tuple[str, ...]:
    """Return a list of addresses, each in its canonical form, or of networks where that is allowed."""
    found = []
    for index, text in enumerate(_texts(place, value, 'as in ["10.0.0.5", "2001:db8::5"]')):
        try:
            if networks:
                addresses.parse_network(text)
                found.append(text)
            else:
                found.append(addresses.judge(text).text)
        except ValueError as e:
            raise config_error(f"{place}[{index}]", str(e), "nothing is looked up here: write addresses") from None
    return tuple(found)


def _resolve(table: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(table, Mapping):
        raise config_error("resolve", "takes a table", 'as in [resolve] and below it "db.corp" = ["10.0.0.5"]')
    found: dict[str, tuple[str, ...]] = {}
    for name, value in table.items():
        place = f'resolve."{name}"'
        if isinstance(value, Mapping):
            inner = next(iter(value), "")
            raise config_error(place, "is a table", f'a name with dots stands in quotes: "{name}.{inner}" = […]')
        try:
            canonical = names.canonical(name)
        except ValueError as e:
            raise config_error(place, str(e)) from None
        if canonical in found:
            raise config_error(place, f"is there twice, as {canonical}", "keep one")
        found[canonical] = _addresses(place, [value] if isinstance(value, str) else value)
    return found


def _group(place: str, table: Mapping[str, Any]) -> Iterator[Expectation]:
    """Give the lines of one ``[[expect]]``."""
    _check_keys(place, table, _EXPECT_KEYS)
    for key in ("app", "rule"):
        if not isinstance(table.get(key, ""), str) or table.get(key) == "":
            raise config_error(f"{place}.{key}", "takes text in quotes", "leave it out for any")
    keys = [key for key in (*VERDICTS, *LOOK_UPS) if key in table]
    if not any(table[key] for key in keys):
        raise config_error(place, "expects nothing", _EXAMPLE)
    app, rule = table.get("app", ""), table.get("rule", "")
    for key in keys:
        for index, text in enumerate(_texts(f"{place}.{key}", table[key], _EXAMPLE)):
            here = f"{place}.{key}[{index}]"
            try:
                transport, host, port = destination(text) if key in VERDICTS else Destination("tcp", text, 0)
                if not host:
                    raise ValueError(f'"{text}" has no host')
                known = addresses.parse_numeric(host)
                is_name = known is None
                host = names.canonical(host) if known is None else str(known)
            except ValueError as e:
                raise config_error(here, str(e)) from None
            if key in LOOK_UPS and not is_name:
                raise config_error(here, f"{text} is an address, which is not looked up", "name a host")
            yield Expectation(here, app, key, text, transport, host, port, is_name, rule)


# --- the decisions ----------------------------------------------------------------------------------------------------


def hold(
    table: Table, policies: Mapping[str, Policy], withheld: Mapping[str, tuple[str, str | None]] = _NOBODY
) -> list[Outcome]:
    """Return what comes of every expectation, in the order of the table.

    :param policies: app → policy.
    :param withheld: app that gets no sockets, whatever its policy says → (why, what would change that).
    :raises ConfigError: an expectation names an app that is not there, or a name whose addresses the table does not
        say and that is not refused before anybody would look it up. All of them are named at once.
    """
    outcomes, wrong = [], []
    for line in table.expectations:
        try:
            app = _app(line, policies)
            if line.wanted in LOOK_UPS:
                outcomes.append(_look_up(table, app, policies[app], line))
            elif app in withheld:
                outcomes.append(_no_sockets(line, app, *withheld[app]))
            else:
                outcomes.append(_connect(table, app, policies[app], line))
        except ConfigError as e:
            wrong.append(str(e))
    if wrong:
        raise ConfigError("\n".join(wrong))
    return outcomes


def _app(line: Expectation, policies: Mapping[str, Policy]) -> str:
    place = line.place.partition(".")[0] + ".app"
    there = ", ".join(policies) or "none"
    if not line.app:
        if len(policies) == 1:
            return next(iter(policies))
        raise config_error(place, "missing", f"say which app it is about; there are: {there}")
    if line.app not in policies:
        raise config_error(place, f'there is no app "{line.app}"', f"there are: {there}")
    return line.app


def _known(table: Table, line: Expectation) -> tuple[str, ...]:
    """Return the addresses of a name, as the table has them."""
    found = table.resolve.get(line.host)
    if found is None:
        raise config_error(
            line.place,
            f"what is {line.host}? Nothing is looked up here",
            f'below [resolve] write "{line.host}" = ["…"]',
        )
    return found


def _connect(table: Table, app: str, policy: Policy, line: Expectation) -> Outcome:
    """Judge a connect as a gate does: the name before its look-up, then its addresses in turn."""
    transport: Any = line.transport
    if not line.is_name:
        decision = decide(policy, Ask(app, transport, line.host, line.host, line.port))
        return _outcome(line, app, decision)
    before = could_resolve(policy, line.host, transport, line.port)
    if before.denied:
        return _outcome(line, app, before)
    found = _known(table, line)
    if not found:
        got = f"{line.host} has no address here, so nothing is decided"
        return Outcome(line, app, False, line.wanted, got, "", "", "", "give it one below [resolve]")
    decisions = [decide(policy, Ask(app, transport, line.host, each, line.port, line.host)) for each in found]
    decision = next((each for each in decisions if not each.denied), decisions[0])
    if before.verdict == REPORT and decision.verdict == ALLOW:
        decision = before._replace(address_class=decision.address_class)
    return _outcome(line, app, decision)


def _no_sockets(line: Expectation, app: str, reason: str, cure: str | None) -> Outcome:
    holds = line.wanted == DENY and not line.rule
    expected = line.wanted + (f' by "{line.rule}"' if line.rule else "")
    return Outcome(line, app, holds, expected, DENY, "", "", reason, "" if holds else cure or "")


def _outcome(line: Expectation, app: str, decision: Decision) -> Outcome:
    wanted = VERDICTS[line.wanted]
    by_rule = not line.rule or line.rule in (decision.rule, decision.place)
    holds = decision.verdict == wanted and by_rule
    expected = line.wanted + (f' by "{line.rule}"' if line.rule else "")
    cure = ""
    if decision.verdict != wanted:
        cure = _cure(line, app, decision)
    elif not by_rule:
        cure = "another rule comes first; change the rules, or what is expected"
    return Outcome(line, app, holds, expected, decision.verdict, decision.rule, decision.place, decision.reason, cure)


def _cure(line: Expectation, app: str, decision: Decision) -> str:
    """Return what would make the decision the one that is expected."""
    if decision.verdict == REPORT:
        if line.wanted == "allow":
            return decision.cure or ""
        whole = "" if ".deny[" in decision.place else f' (apps.{app}.mode is "report")'
        return f"it is let through and reported{whole}; enforce it, or expect it under report"
    if line.wanted == "allow":
        return decision.cure or ""
    if line.wanted == "report":
        return 'rules are only reported where the app or the deny rule has mode = "report"'
    if ".except[" in decision.place or decision.place == "--dev":
        return f"exceptions come before denials: narrow or drop {decision.place}"
    rule = in_words(line.transport, line.host, line.port)
    return f'to deny: deny = ["{rule}"]'


def _look_up(table: Table, app: str, policy: Policy, line: Expectation) -> Outcome:
    """Judge a look-up: whether anybody is asked, and whether an address is left of the answer."""
    decision = could_resolve(policy, line.host)
    got = LOOK_UPS["no_lookup"] if decision.denied else LOOK_UPS["resolves"]
    if not decision.denied and line.wanted == "resolves":
        found = _known(table, line)
        left = [could_allow(policy, None, each, host=line.host, name=line.host) for each in found]
        if all(each.denied for each in left):
            got = "looked up, and no address is left of the answer"
            decision = left[0] if left else decision
        else:
            decision = next(each for each in left if not each.denied)
    expected = LOOK_UPS[line.wanted]
    by_rule = not line.rule or line.rule in (decision.rule, decision.place)
    cure = ""
    if got != expected:
        cure = (decision.cure or "") if line.wanted == "resolves" else _cure_for_look_up(line, decision)
    elif not by_rule:
        cure = "another rule comes first; change the rules, or what is expected"
    holds = got == expected and by_rule
    if line.rule:
        expected += f' by "{line.rule}"'
    return Outcome(line, app, holds, expected, got, decision.rule, decision.place, decision.reason, cure)


def _cure_for_look_up(line: Expectation, decision: Decision) -> str:
    if decision.verdict == REPORT:
        return 'it is let through and reported; enforce it with mode = "enforce"'
    return f'to refuse it: deny = ["{line.host}"], or names = […] without it'


def failed(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return those that do not hold."""
    return [outcome for outcome in outcomes if not outcome.holds]
