"""Look-ups of every kind give through the gate, with BIND behind it, what they give natively."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from support.corp import CORP, MANY, Corp
from support.fenced import Step, attempts, natively
from support.world import DOMAIN, WWW, World

_NAME, _MISSING, _ALIAS = f"www.{CORP}", f"missing.{CORP}", f"a.very.long.chain.{CORP}"

LOOK_UPS: dict[str, tuple[Step, ...]] = {
    "getaddrinfo": (("lookup", _NAME, 80), ("lookup", f"www.{DOMAIN}", "https"), ("lookup", WWW[1], 80)),
    "getaddrinfo of 60 addresses": (("lookup", f"many.{CORP}", 80),),
    "getaddrinfo through aliases": (("lookup", _ALIAS, 80), ("canonical", _ALIAS), ("canonical", WWW[0])),
    "getaddrinfo of no such name": (("lookup", _MISSING, 80), ("lookup", _NAME, "no-such-service")),
    "gethostbyname": (("byname", _NAME), ("byname", _ALIAS), ("byname", WWW[0]), ("byname", _MISSING)),
    "gethostbyname_ex": (("byname_ex", _NAME), ("byname_ex", _ALIAS), ("byname_ex", _MISSING)),
    "gethostbyaddr": (("byaddr", WWW[0]), ("byaddr", _NAME), ("byaddr", MANY[0]), ("byaddr", _MISSING)),
    "getnameinfo": (
        ("nameinfo", WWW[0], 443),
        ("nameinfo", MANY[0], 443),
        ("nameinfo", WWW[0], 443, socket.NI_NUMERICHOST),
        ("nameinfo", MANY[0], 443, socket.NI_NAMEREQD),
    ),
    "getfqdn": (("getfqdn", WWW[0]), ("getfqdn", _ALIAS), ("getfqdn", _MISSING), ("getfqdn",)),
    "trio": (
        ("trio_lookup", _NAME, 80),
        ("trio_lookup", _MISSING, 80),
        ("trio_nameinfo", WWW[0], 443),
        ("trio_stream", f"www.{DOMAIN}", 80),
    ),
    "asyncio": (("loop_lookup", _NAME, 80), ("loop_lookup", _MISSING, 80), ("loop_nameinfo", WWW[0], 443)),
}


@pytest.mark.parametrize("steps", LOOK_UPS.values(), ids=LOOK_UPS.keys())
def test_a_look_up_gives_what_it_gives_natively(world: World, corp: Corp, log: Path, steps: tuple[Step, ...]) -> None:
    """Results, kinds of errors, their numbers and texts are the same with the gate and without."""
    native, gated = natively(world, *steps), attempts(world, log, *steps)
    for step, expected, seen in zip(steps, native, gated, strict=True):
        if expected["error"]:
            assert expected["error"] in seen["kinds"], (step, seen)
            assert (seen["errno"], seen["text"]) == (expected["errno"], expected["text"]), step
        else:
            assert seen == expected, step


def test_60_addresses_need_more_than_a_datagram(world: World, corp: Corp, log: Path) -> None:
    """The look-up of many addresses goes over TCP, since their answer does not fit into 512 bytes (RFC 1035)."""
    with world.watch() as watch:
        (seen,) = attempts(world, log, ("lookup", f"many.{CORP}", 80))
        asked = watch.to(corp.bind.address)
    assert set(seen["result"]) == set(MANY)
    assert {packet.protocol for packet in asked} >= {"udp", "tcp"}
