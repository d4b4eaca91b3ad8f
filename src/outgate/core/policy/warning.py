"""What a lint finds: a place, what is odd there, and what to write instead."""

from __future__ import annotations

from typing import NamedTuple

from outgate.core.policy.rules import Rule

__all__ = ["LintWarning", "warn"]


class LintWarning(NamedTuple):
    """One finding: where, what, and what to write instead."""

    place: str
    text: str
    hint: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}" + (f"; {self.hint}" if self.hint else "")


def warn(rule: Rule, text: str, hint: str = "") -> LintWarning:
    """Return the warning about a rule, which begins with the rule as it is written."""
    return LintWarning(rule.place, f'"{rule.text}" {text}', hint)
