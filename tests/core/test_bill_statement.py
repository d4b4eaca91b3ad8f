"""Prices, tiers and totals: every line is exact, and the lines of a statement add up to it."""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core import units
from outgate.core.bill import labels, statement
from outgate.core.bill.prices import FREE, Prices, read
from outgate.core.bill.statement import Used, make, of_label, round_together
from outgate.core.bill.tally import OTHER, Counts, Destination, add_up
from outgate.core.bill.windows import DAY, Period, slices
from outgate.core.policy.rules import parse_groups
from outgate.errors import ConfigError

WEB = Destination("tcp", "www.example.com", 443, "93.184.215.14")
DB = Destination("tcp", "", 5432, "10.2.0.9")
GB = 10**9


def table(*rules: dict[str, object], **more: object) -> Prices:
    """Return prices in euros per GB."""
    return read({"currency": "EUR", "rules": list(rules), **more})


@pytest.mark.parametrize(
    ("destination", "name"),
    [
        (WEB, "*.example.com:443"),
        (WEB._replace(port=80), "public"),
        (WEB._replace(host=""), "public"),
        (DB, "10.0.0.0/8"),
        (DB._replace(address="192.168.0.1"), "*"),
        (Destination("udp", "", 53, "2001:4860:4860::8888"), "udp://*:53"),
        (OTHER, "*"),
    ],
)
def test_the_first_rule_that_matches_has_the_price(destination: Destination, name: str) -> None:
    """Prices go by destination as policy does, by names, groups, networks, ports and transports."""
    found = table(*({"to": to, "sent": "1"} for to in ("*.example.com:443", "10.0.0.0/8", "udp://*:53", "public", "*")))
    assert found.find(destination).name == name


def test_groups_of_the_operator_have_prices() -> None:
    """A rule may be one of the operator's own groups, and what nothing matches costs nothing."""
    groups = parse_groups({"dc": ["10.2.0.0/16"]})
    found = read({"currency": "EUR", "rules": [{"to": "dc", "sent": "0.01"}]}, groups)
    assert found.find(DB).tiers[0].sent == Fraction(1, 100 * GB)
    assert found.find(WEB) is FREE
    assert found.find(OTHER) is FREE


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (
            {"currency": "EUR", "rules": [{"to": "*", "sent": 0.12}]},
            r'rules\[0\].sent: 0.12 is not an amount; write it in quotes, as in "0.12"',
        ),
        ({"currency": "EUR", "rules": [{"to": "*", "sent": "-1"}]}, r"rules\[0\].sent: '-1' is not an amount"),
        ({"currency": "EUR", "rules": [{"to": "*", "sent": "nan"}]}, "is not an amount"),
        ({"currency": "EUR", "rules": [{"to": "*", "sent": "1e-40"}]}, "is not an amount"),
        ({"currency": "EUR", "rules": [{"to": "*", "sent": True}]}, "is not an amount"),
        ({"currency": "euro"}, r"ledger.prices.currency: 'euro' is not a currency; three capitals"),
        ({"rules": [{"to": "*", "sent": "1"}]}, "currency: missing"),
        ({"per": "gig"}, "ledger.prices.per: 'gig' is not a unit of bytes; one of B, kB"),
        ({"currency": "EUR", "rules": [{"sent": "1"}]}, "a price says for where it is"),
        ({"currency": "EUR", "rules": {"to": "*"}}, "prices are a list"),
        ({"currency": "EUR", "rules": [{"to": "not a rule"}]}, r"rules\[0\].to: 'not a rule' is not a rule"),
        ({"currency": "EUR", "rules": [{"to": "*"}, {"to": "*"}]}, r'rules\[1\].to: "\*" has a price already'),
        ({"currency": "EUR", "rules": [{"to": "*", "send": "1"}]}, r"rules\[0\].send: unknown key; known are to, sent"),
        ({"currency": "EUR", "rules": [{"to": "*", "tiers": [{"above": 0}]}]}, r"tiers\[0\].above: tiers rise"),
        (
            {"currency": "EUR", "rules": [{"to": "*", "tiers": [{"above": 2}, {"above": 2}]}]},
            r"tiers\[1\].above: tiers rise",
        ),
        ({"currency": "EUR", "rules": [{"to": "*", "tiers": ["x"]}]}, r"tiers\[0\]: a tier is a table"),
        ({"currency": "EUR", "rules": [{"to": "*", "tiers": {}}]}, "tiers are a list"),
        ({"prices": []}, "ledger.prices.prices: unknown key"),
    ],
)
def test_wrong_prices_are_refused_with_their_place(raw: dict[str, object], said: str) -> None:
    """What is no price is refused with where it stands and what to write."""
    with pytest.raises(ConfigError, match=said):
        read(raw)


def test_tiers_cost_what_they_say() -> None:
    """The first 1000 GB of a month cost 0.12 each, the next 9000 cost 0.10, all above 0.08; received is free."""
    tiers = [{"above": 1000, "sent": "0.10"}, {"above": 10_000, "sent": "0.08"}]
    price = table({"to": "*", "sent": "0.12", "tiers": tiers}).find(WEB)
    assert price.cost(0, 1000 * GB, sent=True) == 120
    assert price.cost(0, 11_000 * GB, sent=True) == 120 + 900 + 80
    assert price.cost(999 * GB, 2 * GB, sent=True) == Fraction("0.22")
    assert price.cost(20_000 * GB, GB, sent=True) == Fraction("0.08")
    assert price.cost(0, GB, sent=False) == 0


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=6), st.integers(0, 10**13))
def test_a_cost_does_not_depend_on_how_it_is_divided(parts: list[int], before: int) -> None:
    """Bytes cost the same at once as one part after the other, whatever tiers they cross."""
    tiers = [{"above": 1, "sent": "0.1"}, {"above": 500, "sent": "0.07"}]
    price = table({"to": "*", "sent": "0.13", "tiers": tiers}).find(WEB)
    total, at = Fraction(0), before
    for part in parts:
        total += price.cost(at, part, sent=True)
        at += part
    assert total == price.cost(before, sum(parts), sent=True)


@given(st.lists(st.fractions(0, 10**6), max_size=30), st.integers(0, 3))
def test_rounded_lines_add_up(amounts: list[Fraction], digits: int) -> None:
    """Rounded lines add up to the rounded total, and none is off by a whole unit of its last digit."""
    lines, total = round_together(amounts, digits)
    assert sum(lines) == total
    assert abs(Fraction(total) - sum(amounts, Fraction(0))) <= Fraction(1, 2 * 10**digits)
    assert all(
        abs(Fraction(line) - amount) < Fraction(1, 10**digits) for line, amount in zip(lines, amounts, strict=True)
    )


accounts = st.tuples(st.sampled_from("ab"), st.sampled_from(["", "job=1"]), st.sampled_from([WEB, DB]))
counts = st.builds(Counts, *[st.integers(0, 10**12)] * 4)


@given(st.lists(st.tuples(st.integers(0, 89), accounts, counts), max_size=40))
def test_a_statement_is_the_same_however_it_is_divided(
    moved: list[tuple[int, tuple[str, str, Destination], Counts]],
) -> None:
    """By day, by app, by label or all at once: the sums are what was moved, and by day the tiers come to the same."""
    tiers = [{"above": 100, "sent": "0.1", "received": "0.01"}]
    euro = table({"to": "10.0.0.0/8", "sent": "0.01"}, {"to": "*", "sent": "0.13", "received": "0.02", "tiers": tiers})
    base = 1767225600  # 2026-01-01
    totals = []
    for by in ("day", "month", ""):
        cut = slices(base, base + 90 * DAY, by, UTC, tiered=True)
        used = [
            Used(each.month, each.period, account, count)
            for each in cut
            for day, account, count in moved
            if each.since <= base + day * DAY < each.until
        ]
        for groups in (("app",), ("label", "app"), ("destination",), *(((by,), (by, "app")) if by else ())):
            made = make(used, groups, euro)
            assert sum(line.amount for line in made.lines) == made.total.amount
            assert made.total.counts.sent == sum(count.sent for _, _, count in moved)
            totals.append(made.total.amount)
    assert len(set(totals)) == 1


@given(st.lists(st.tuples(st.integers(0, 9), accounts, counts), max_size=40), st.permutations(statement.GROUPS))
def test_each_line_has_the_bytes_that_bear_its_name(
    moved: list[tuple[int, tuple[str, str, Destination], Counts]], groups: list[str]
) -> None:
    """Whatever lines are made by, each has what was used under its name, and what came before the period has none."""
    by = [group for group in groups if group not in ("hour", "month")]
    base = 1767225600  # 2026-01-01
    used, expected = [], {}
    for each in slices(base + DAY, base + 10 * DAY, "day", UTC, tiered=True):
        for day, account, count in moved:
            if each.since <= base + day * DAY < each.until:
                used.append(Used(each.month, each.period, account, count))
                if each.period is not None:
                    app, label, destination = account
                    names = {"day": each.period.name, "app": app, "label": label, "destination": str(destination)}
                    key = tuple(names[group] for group in by)
                    expected[key] = add_up([expected.get(key, Counts(0, 0, 0, 0)), count])
    made = make(used, by, table({"to": "10.0.0.0/8", "sent": "0.01"}))
    assert {line.key: line.counts for line in made.lines} == expected
    assert made.total.counts == add_up(expected.values())


def test_currencies_have_their_digits() -> None:
    """Yen have no digits behind the point, dinars three, and bytes without a price cost nothing."""
    assert read({"currency": "JPY"}).digits == 0
    assert read({"currency": "KWD"}).digits == 3
    assert make(
        [Used("", Period(0, 900, ""), ("a", "", WEB), Counts(1, 1, 1, 1))], ["app"], read({})
    ).total.amount == Decimal("0.00")


def test_labels_have_one_form() -> None:
    """Labels are sorted by key, the later value of a key counts, and what a program says wrongly is none."""
    assert labels.parse(["team=web", "job=16", "job=17"]) == "job=17,team=web"
    assert labels.known("team=web,job=17") == "job=17,team=web"
    assert labels.known("") == labels.known("x") == labels.known("job=1,2") == ""
    used = [Used("", None, ("a", text, WEB), Counts(1, 0, 0, 0)) for text in ("job=1", "job=17,team=web", "")]
    assert [each.account[1] for each in of_label(used, "job=17")] == ["job=17,team=web"]


@pytest.mark.parametrize(
    "text", ["job", "job=", "=1", "Job=1", "job=a,b", "job=\x1b[1m", "j" * 33 + "=1", "job=" + "x" * 65, "job=ä"]
)
def test_what_is_no_label_is_refused(text: str) -> None:
    """A key without a value, a comma, controls and what is too long are refused with what to write."""
    with pytest.raises(ValueError, match="label"):
        labels.parse([text])


def test_labels_are_few() -> None:
    """More than eight labels are refused."""
    with pytest.raises(ValueError, match="at most 8"):
        labels.parse(f"k{number}=1" for number in range(9))
    assert set(statement.GROUPS) == {"day", "hour", "month", "app", "label", "destination"}
    assert units.BYTES["GiB"] == 2**30
