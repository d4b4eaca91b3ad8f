"""Round a policy by another spelling of an address or a name, tried for real; docs/evasions.md lists them all.

Where it can be shown, the same steps are taken natively first: they reach what they are after, so that a refusal is the
gate's and no accident. "Nothing was sent" is what a sniffer on the wire saw.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.corp import BIND, CORP, DATABASE, DISGUISE, EVIL, Corp
from support.fenced import attempts, check_refused, creates, is_refusal, natively, nothing_is_reached, of_evil, refused
from support.world import PRIVATE4, TRAP_PORT, WWW, World

# -- spellings of addresses --------------------------------------------------------------------------------------------

NUMBERS = (
    *("012.011.011.011", "0251.0376.0251.0376", "00012.0011.9.9"),  # octal
    *("0x0a090909", "0xa.0x9.0x9.0x9", "0xA9FEA9FE", "0x00a.9.9.9"),  # hexadecimal
    *("168364297", "2852039166"),  # one number
    *("10.9.2313", "10.592137", "169.254.43518"),  # fewer parts
    *("１０.9.9.9", "①⓪.9.9.9"),  # other digits
    *("10。9。9。9", "10．9｡9.9"),  # other dots
)


def test_numeric_spellings(world: World, corp: Corp, log: Path) -> None:
    """Every way to write an address that the C library or IDNA reads is judged as the address that it means."""
    refused(world, log, [*creates(NUMBERS), *creates(NUMBERS, "connect")])


def test_loopback_spellings(world: World, corp: Corp, log: Path) -> None:
    """Loopback and the unspecified address are refused in every spelling, by name too."""
    four = ("127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "0", "0.0.0.0", "①②⑦.0.0.1")
    six = ("::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:0.0.0.0")
    names = ("localhost", "LOCALHOST", f"worker.{CORP}", *of_evil("loopback", "zero"))
    refused(world, log, [*creates(four), *creates(four, "connect"), *creates(six, "connect6"), *creates(names)])
    refused(world, log, creates(("::1", "::", "::127.0.0.1"), "connect6"), reaches=False)


def test_addresses_embedded_in_ipv6(world: World, corp: Corp, log: Path) -> None:
    """An AAAA answer that carries a private IPv4 address, and the same as a literal, is what it carries."""
    names = of_evil("mapped", "compat", "nat64", "6to4", "teredo", "isatap", "mapped-loopback", "linklocal")
    literals = ("::10.9.9.9", "64:ff9b::a09:909", "2002:a09:909::1", "2001:0:5db8:d70d::f5f6:f6f6", "fe80::1%near0")
    refused(world, log, [*creates(of_evil("mapped")), *creates((f"::ffff:{PRIVATE4}",), "connect6")])
    refused(world, log, [*creates(names), *creates(literals, "connect6")], reaches=False)


@pytest.mark.parametrize("rule", [f"www.{CORP}:{TRAP_PORT}", f"{WWW[0]}:{TRAP_PORT}"], ids=["name", "address"])
def test_an_allowed_address_inside_of_another(world: World, corp: Corp, log: Path, rule: str) -> None:
    """An IPv6 address of anybody's that carries an allowed IPv4 address is not that address: its rule does not hold."""
    # Not NAT64: its well-known prefix leads to the very same server (RFC 6052).
    steps = creates([DISGUISE, "2002:5db8:d70d::1", "2001:0:102:304::a247:28f2", "::5db8:d70d"], "connect6")
    assert natively(world, steps[0])[0]["error"] is None
    with world.watch() as watch:
        allowed, *tried = attempts(world, log, *creates([rule.partition(":")[0]]), *steps, options=("--allow", rule))
        assert [packet for packet in watch.openings() if ":" in packet.destination] == []
    assert allowed["result"] == WWW[0]
    check_refused(steps, tried)


def test_scope_ids(world: World, corp: Corp, log: Path) -> None:
    """An interface behind an address changes nothing for the address: link-local and private ones stay refused."""
    tried = ("fe80::1%near0", "fe80::1%1", "fe80::1%lo", "fd00:9::9%near0", "fd00:9::9%1", "::1%lo", "::1%1")
    with nothing_is_reached(world):
        seen = attempts(world, log, *creates(tried, "connect6"))
    for text, each in zip(tried, seen, strict=True):
        # A scope on an address that has none is no address for the C library, and then a name that does not exist.
        assert is_refusal(each) or "gaierror" in each["kinds"], (text, each)


# -- spellings of names ------------------------------------------------------------------------------------------------


#: One name in letters that IDNA makes the same (RFC 3490, RFC 3491): case, dots, width, and what it leaves out.
SAME = (
    f"www.{CORP}",
    f"WWW.{CORP.upper()}",
    f"www.{CORP}.",
    f"ｗｗｗ.{CORP}",
    "www。corp．example",
    f"w\u00adww.{CORP}",
    f"www\u200b.{CORP}",
)


def test_a_denied_name_in_other_letters(world: World, corp: Corp, log: Path) -> None:
    """A deny rule holds for its name in every spelling that IDNA makes the same, and none of them is looked up."""
    steps = [*creates(SAME), *creates(SAME, "connect"), *creates(SAME, "lookup"), *(("byname", name) for name in SAME)]
    assert {str(seen["result"]) for seen in natively(world, *steps)} == {WWW[0], f"['{WWW[0]}']"}
    with world.watch() as watch:
        check_refused(steps, attempts(world, log, *steps, options=("--deny", f"www.{CORP}")))
        assert watch.openings() == []


def test_a_denied_name_with_a_letter_that_becomes_two(world: World, corp: Corp, log: Path) -> None:
    """A letter that IDNA writes as two, as in straße, does not make another name of a denied one."""
    refused(world, log, creates([f"straße.{CORP}", f"STRASSE.{CORP}"]), "--deny", f"strasse.{CORP}")


def test_escaped_letters(world: World, corp: Corp, log: Path) -> None:
    """What the C library reads as an escape, as in ``\\119ww`` for www, is no name for the gate and not looked up."""
    names = (f"\\119ww.{CORP}", f"ww\\w.{CORP}", f"\\119ww.{CORP}.")
    steps = [*creates(names), *creates(names, "connect")]
    assert {seen["result"] for seen in natively(world, *steps)} == {WWW[0]}
    with world.watch() as watch:
        tried = attempts(world, log, *steps, options=("--deny", f"www.{CORP}"))
        assert watch.openings() == []
    assert all("gaierror" in seen["kinds"] or is_refusal(seen) for seen in tried), tried


def test_nul_in_names(world: World, corp: Corp, log: Path) -> None:
    """Python cuts a name at a NUL, and the rules see what is left: no rule for what stood behind it applies."""
    allowed, denied = f"db.{CORP}\0.x.{EVIL}", f"www.{CORP}\0.x.{EVIL}"
    refused(world, log, creates([allowed]), "--except", f"*.{EVIL}:{TRAP_PORT}")
    refused(world, log, creates([denied]), "--except", f"*.{EVIL}:{TRAP_PORT}", "--deny", f"www.{CORP}")
    steps = creates([allowed, denied], "connect")
    assert [seen["error"] for seen in natively(world, *steps)] == ["TypeError"] * 2
    assert [seen["error"] for seen in attempts(world, log, *steps)] == ["TypeError"] * 2


def test_a_denied_suffix_in_other_letters(world: World, corp: Corp, log: Path) -> None:
    """A deny rule by suffix holds at any depth and in any letters."""
    names = (f"www.{CORP}", f"A.very.LONG.chain.{CORP}.", f"zero.{CORP}", "www.Corp。EXAMPLE")
    refused(world, log, creates(names), "--deny", f"*.{CORP}")


def test_a_denied_name_by_another_name_is_reached(world: World, corp: Corp, log: Path) -> None:
    """Deny names do not bind to addresses: an alias, the address and a short name are something else, by design."""
    steps = [*creates([f"a.very.long.chain.{CORP}", "www"]), *creates([WWW[0]], "connect")]
    world.near.file("resolv.conf", f"nameserver {BIND}\nsearch {CORP}\n")
    tried = attempts(world, log, *steps, options=("--deny", f"www.{CORP}"))
    assert [seen["error"] for seen in tried] == [None] * 3
    refused(world, log, steps, "--deny", f"www.{CORP}", "--deny", WWW[0])


def test_homographs(world: World, corp: Corp, log: Path) -> None:
    """A name that looks like the excepted one, with a letter of another script, is another name and refused."""
    rule = ("--except", f"paypal.{CORP}:{TRAP_PORT}")
    refused(world, log, creates([f"pаypal.{CORP}", f"xn--pypal-4ve.{CORP}"]), *rule)
    (real,) = attempts(world, log, *creates([f"paypal.{CORP}"]), options=rule)
    assert real["result"] == DATABASE


@pytest.mark.parametrize("rule", ["bücher", "xn--bcher-kva"])
def test_one_name_in_all_its_idna_forms(world: World, corp: Corp, log: Path, rule: str) -> None:
    """A rule with a name beyond ASCII, in either form, is for that name however a program composes its letters."""
    forms = [f"{host}.{CORP}" for host in ("bücher", "BÜCHER", "bu\u0308cher", "xn--bcher-kva", "XN--BCHER-KVA")]
    tried = attempts(world, log, *creates(forms), options=("--except", f"{rule}.{CORP}:{TRAP_PORT}"))
    assert [seen.get("result") for seen in tried] == [DATABASE] * len(forms), tried


MALFORMED = {
    "300 characters": ".".join(["a" * 49] * 6) + f".{CORP}",
    "300 characters without a dot": "a" * 300,
    "label of 64": f"{'a' * 64}.{CORP}",
    "empty label": f"www..{CORP}",
    "leading dot": f".www.{CORP}",
    "bad punycode": f"xn--a\x80.{CORP}",
    "lone surrogate": f"\udc80.{CORP}",
    "nothing": "",
    "broadcast": "<broadcast>",
    "localhost with a dot": "localhost.",
    "below localhost": "sub.localhost",
    "blank": f" www.{CORP}",
    "line break": f"www.{CORP}\n",
    "address with a dot": f"{PRIVATE4}.",
    "address with a blank": f"{PRIVATE4} ",
    "address with a word": f"{PRIVATE4} evil",
    "too many parts": f"{PRIVATE4}.9",
    "part too large": "10.9.9.256",
    "percent": "10.9.9.9%25near0",
    "brackets": f"[{PRIVATE4}]",
    "port in it": f"{PRIVATE4}:{TRAP_PORT}",
    "user in it": f"www.{CORP}@{PRIVATE4}",
}


def test_malformed_names(world: World, corp: Corp, log: Path) -> None:
    """What is no name and no address natively fails through the gate with the same kind of error, or is refused."""
    steps = [*creates(list(MALFORMED.values())), *creates(list(MALFORMED.values()), "connect")]
    native = natively(world, *steps)
    with nothing_is_reached(world):
        tried = attempts(world, log, *steps)
    for step, expected, seen in zip(steps, native, tried, strict=True):
        if expected["error"] is None:  # nothing is the wildcard; inet_aton(3) reads up to the first blank
            assert is_refusal(seen), (step, seen)
        else:
            assert is_refusal(seen) or expected["error"] in seen["kinds"], (step, expected, seen)


def test_a_text_that_claims_to_be_another(world: World, corp: Corp, log: Path) -> None:
    """A host object whose methods answer with an allowed name, or one in bytes, is judged as what it holds."""
    refused(world, log, [("disguised", PRIVATE4, TRAP_PORT), ("bytes", PRIVATE4, TRAP_PORT)], reaches=False)
    refused(world, log, [("disguised", *step[1:]) for step in creates(of_evil("private"))], reaches=False)
