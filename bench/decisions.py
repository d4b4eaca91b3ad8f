"""Time decisions of a policy of ten thousand rules, without a gate: the pure function alone."""

from __future__ import annotations

import random
import time
from statistics import median

from outgate.core.policy.decide import Ask, Policy, decide

RULES = 10_000


def policy(rules: int = RULES) -> Policy:
    """Return a policy of as many rules: half by name, a quarter each by address and by range."""
    chance = random.Random(0)

    def rule(number: int) -> str:
        port = chance.choice(("", ":443", ":80,443,8000-8100"))
        if number % 2:
            return f"{chance.choice(('*.', ''))}service-{number}.example{port}"
        value = chance.getrandbits(16)
        return f"10.{value >> 8}.{value & 255}.{chance.choice(('0/24', '7'))}{port}"

    # A rule is written once: the second of two that are equal would be refused or warned about.
    texts = list(dict.fromkeys(rule(number) for number in range(rules * 2)))[:rules]
    third = len(texts) // 3
    return Policy.build(
        "bench", allow=["public", *texts[:third]], deny=texts[third : 2 * third], except_=texts[2 * third :]
    )


def measure(count: int) -> dict[str, list[float]]:
    """Return the times, in us, of ``count`` decisions of each kind.

    All are on addresses and names that were seen before; but for ``repeated`` each question is a new one, by a scope
    that no rule looks at.
    """
    rules = policy()
    named = next(rule for rule in rules.except_ if rule.pattern is not None and not rule.pattern.is_suffix)
    assert named.pattern is not None
    port = named.ports[0][0] or 443
    asks = {
        "allowed by address": Ask("bench", "tcp", "93.184.215.14", "93.184.215.14", 443),
        "denied by address": Ask("bench", "tcp", "169.254.169.254", "169.254.169.254", 80),
        "allowed by name": Ask("bench", "tcp", named.pattern.name, "10.1.2.3", port, named.pattern.name),
    }
    times = {name: _times(rules, [ask._replace(scope=number) for number in range(count)]) for name, ask in asks.items()}
    return {**times, "repeated": _times(rules, [asks["denied by address"]] * count)}


def _times(rules: Policy, asks: list[Ask]) -> list[float]:
    clock = time.perf_counter_ns
    times = []
    for ask in asks:
        begun = clock()
        decide(rules, ask)
        times.append((clock() - begun) / 1000)
    return times


def medians(count: int) -> dict[str, float]:
    """Return the median of each kind, in us."""
    return {name: median(times) for name, times in measure(count).items()}
