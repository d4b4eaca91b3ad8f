"""The examples of docs/policy.md are true."""

import re
import tomllib
from pathlib import Path

import pytest

from outgate.core.address.addresses import parse_numeric
from outgate.core.name.names import canonical
from outgate.core.policy.decide import Ask, Policy, could_resolve, decide
from outgate.core.policy.lint import lint

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
POLICY = Policy.build("blog", except_=["10.2.0.0/16:5432"], deny=["*:23"])
ROWS = re.findall(r"^\| `(\S+):(\d+)` \| (allow|deny) \| `(\S+)` \|$", PAGE, re.M)
RULES = re.findall(r"^\| `(\S+)` \| [^|]+ \|$", PAGE, re.M)
BLOCKS = [tomllib.loads(block) for block in re.findall(r"^```toml\n(.*?)^```$", PAGE, re.M | re.S)]
#: The policy of the examples with names is the last block before them.
NAMED = BLOCKS[-1]["apps"]["blog"]
NAMED_ROWS = re.findall(r"^\| `(\S+):(\d+)` \| (?:`(\S+)`|not looked up) \| (allow|deny) \| `([^`]+)` \|$", PAGE, re.M)


def build(app: "dict[str, list[str]]", groups: "dict[str, list[str]]") -> Policy:
    """Make the policy of one app of a block."""
    lists = {{"except": "except_"}.get(key, key): value for key, value in app.items()}
    return Policy.build("blog", groups=groups, **lists)  # type: ignore[arg-type]


@pytest.mark.parametrize(("host", "port", "verdict", "rule"), ROWS)
def test_an_example_decides_as_the_page_says(host: str, port: str, verdict: str, rule: str) -> None:
    """The verdict and the rule in the table are those of the policy above it."""
    address = host.strip("[]")
    decision = decide(POLICY, Ask(app="blog", transport="tcp", host=address, address=address, port=int(port)))
    assert (decision.verdict, decision.rule) == (verdict, rule)


@pytest.mark.parametrize(("host", "port", "address", "verdict", "rule"), NAMED_ROWS)
def test_an_example_with_names_decides_as_the_page_says(
    host: str, port: str, address: str, verdict: str, rule: str
) -> None:
    """What is asked, as a program writes it, is looked up or not, and decided, as the table says."""
    policy = build(NAMED, {})
    number = parse_numeric(host, exact=True)
    name = None if number is not None else canonical(host)
    if name is not None:
        look_up = could_resolve(policy, name, "tcp", int(port))
        assert look_up.denied == (address == "")
        if look_up.denied:
            assert (look_up.verdict, look_up.rule) == (verdict, rule)
            return
    else:
        assert str(number) == address
    decision = decide(policy, Ask("blog", "tcp", host, address, int(port), name=name))
    assert (decision.verdict, decision.rule) == (verdict, rule)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_of_the_page_is_read(rule: str) -> None:
    """Every rule in the grammar's table is one."""
    Policy.build("blog", allow=[rule])


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_a_configuration_of_the_page_is_read_without_a_warning(
    block: "dict[str, dict[str, dict[str, list[str]]]]",
) -> None:
    """Every block of configuration on the page makes a policy that has nothing to be warned about."""
    policy = build(block["apps"]["blog"], block.get("groups", {}))  # type: ignore[arg-type]
    assert lint(policy) == []


def test_the_page_has_examples() -> None:
    """The tables were found: an empty one would pass everything."""
    assert len(ROWS) >= 10
    assert len(RULES) >= 10
    assert len(NAMED_ROWS) >= 20
    assert len(BLOCKS) >= 3
    assert sum(address == "" for _, _, address, _, _ in NAMED_ROWS) >= 5
