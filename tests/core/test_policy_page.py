"""The examples of docs/policy.md are true."""

import re
from pathlib import Path

import pytest

from outgate.core.policy import Ask, Policy, decide

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
POLICY = Policy.build("blog", except_=["10.2.0.0/16:5432"], deny=["*:23"])
ROWS = re.findall(r"^\| `(\S+):(\d+)` \| (allow|deny) \| `(\S+)` \|$", PAGE, re.M)
RULES = re.findall(r"^\| `(\S+)` \| [^|]+ \|$", PAGE, re.M)


@pytest.mark.parametrize(("host", "port", "verdict", "rule"), ROWS)
def test_an_example_decides_as_the_page_says(host: str, port: str, verdict: str, rule: str) -> None:
    """The verdict and the rule in the table are those of the policy above it."""
    address = host.strip("[]")
    decision = decide(POLICY, Ask(app="blog", transport="tcp", host=address, address=address, port=int(port)))
    assert (decision.verdict, decision.rule) == (verdict, rule)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_of_the_page_is_read(rule: str) -> None:
    """Every rule in the grammar's table is one."""
    Policy.build("blog", allow=[rule])


def test_the_page_has_examples() -> None:
    """The tables were found: an empty one would pass everything."""
    assert len(ROWS) >= 10
    assert len(RULES) >= 6
