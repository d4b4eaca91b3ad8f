"""Which names an address has for an app: by its own look-ups, for ten minutes or a lease's life, and bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outgate.core.name.bindings import LIFETIME, NAMES, Bindings


def test_a_pair_holds_for_its_lifetime() -> None:
    """A name holds for each address of its answer until ten minutes after the last such answer."""
    bindings = Bindings()
    bindings.bind("db.corp", ["10.0.0.5", "10.0.0.6"], now=0.0)
    bindings.bind("db.corp", ["10.0.0.6"], now=100.0)
    assert bindings.names_for("10.0.0.5", LIFETIME - 1) == ("db.corp",)
    assert bindings.names_for("10.0.0.5", LIFETIME) == ()
    assert bindings.names_for("10.0.0.6", LIFETIME) == ("db.corp",)
    assert bindings.names_for("10.0.0.7", 0.0) == ()
    assert len(bindings) == 1, "what holds no more is not kept"


def test_the_latest_name_is_first() -> None:
    """Of several names of one address the one that was answered last stands first."""
    bindings = Bindings()
    for name in ("a.corp", "b.corp", "c.corp", "a.corp"):
        bindings.bind(name, ["10.0.0.5"], now=0.0)
    assert bindings.names_for("10.0.0.5", 1.0) == ("a.corp", "c.corp", "b.corp")


def test_a_pair_holds_as_long_as_a_lease_that_it_opened() -> None:
    """Beyond its lifetime a pair holds while one of its leases lives, and ends with the last."""
    bindings = Bindings()
    bindings.bind("db.corp", ["10.0.0.5"], now=0.0)
    bindings.hold("db.corp", "10.0.0.5")
    bindings.hold("db.corp", "10.0.0.5")
    bindings.release("db.corp", "10.0.0.5")
    assert bindings.names_for("10.0.0.5", 9 * LIFETIME) == ("db.corp",)
    bindings.release("db.corp", "10.0.0.5")
    assert bindings.names_for("10.0.0.5", 9 * LIFETIME) == ()


def test_a_lease_does_not_renew_a_pair() -> None:
    """A connect by address proves nothing about the name: the time runs from the last answer."""
    bindings = Bindings()
    bindings.bind("db.corp", ["10.0.0.5"], now=0.0)
    bindings.hold("db.corp", "10.0.0.5")
    bindings.release("db.corp", "10.0.0.5")
    assert bindings.names_for("10.0.0.5", LIFETIME) == ()


def test_a_mapped_address_is_the_ipv4_address() -> None:
    """What AI_V4MAPPED makes of an IPv4 address is bound as that address, and found as either."""
    bindings = Bindings()
    bindings.bind("a.corp", ["::ffff:10.0.0.5"], now=0.0)
    bindings.bind("b.corp", ["10.0.0.6", "fd00::6"], now=0.0)
    assert bindings.names_for("10.0.0.5", 1.0) == ("a.corp",)
    assert bindings.names_for("::ffff:10.0.0.6", 1.0) == ("b.corp",)
    assert bindings.names_for("fd00::6", 1.0) == ("b.corp",)


def test_recent_names_are_the_latest_each_once() -> None:
    """The names answered last come first, each once, and no more than asked for."""
    bindings = Bindings()
    for number in range(10):
        bindings.bind(f"n{number}.corp", [f"10.0.0.{number}", "10.0.1.1"], now=float(number))
    assert bindings.recent(3) == ["n9.corp", "n8.corp", "n7.corp"]
    assert len(bindings.recent(100)) == 10


def test_a_scan_forgets_the_oldest() -> None:
    """Beyond the limits the oldest goes: the first address, and the first name of an address with too many."""
    bindings = Bindings(addresses=3)
    for number in range(5):
        bindings.bind("db.corp", [f"10.0.0.{number}"], now=0.0)
    assert [bool(bindings.names_for(f"10.0.0.{number}", 1.0)) for number in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    for number in range(NAMES + 1):
        bindings.bind(f"n{number}.corp", ["10.0.0.4"], now=0.0)
    names = bindings.names_for("10.0.0.4", 1.0)
    assert len(names) == NAMES
    assert "db.corp" not in names


def test_a_release_of_what_was_crowded_out_does_nothing() -> None:
    """The end of a lease whose pair is gone, or was made anew, takes nothing away."""
    bindings = Bindings(addresses=1)
    bindings.bind("db.corp", ["10.0.0.5"], now=0.0)
    bindings.hold("db.corp", "10.0.0.5")
    bindings.bind("other.corp", ["10.0.0.6"], now=0.0)
    bindings.release("db.corp", "10.0.0.5")
    bindings.bind("db.corp", ["10.0.0.5"], now=0.0)
    bindings.release("db.corp", "10.0.0.5")
    assert bindings.names_for("10.0.0.5", 1.0) == ("db.corp",)


@given(
    st.lists(
        st.tuples(st.sampled_from(["bind", "hold", "release", "ask"]), st.integers(0, 20), st.integers(0, 20)),
        max_size=200,
    )
)
def test_never_more_than_the_limits(steps: list[tuple[str, int, int]]) -> None:
    """Whatever happens, no more than the limits is kept, and only names that were bound or held are ever given."""
    bindings = Bindings(addresses=4)
    known: set[str] = set()
    for now, (step, name, address) in enumerate(steps):
        text = f"n{name}.corp"
        if step == "bind":
            bindings.bind(text, [f"10.0.0.{address}"], float(now))
        elif step == "hold":
            bindings.hold(text, f"10.0.0.{address}")
        elif step == "release":
            bindings.release(text, f"10.0.0.{address}")
        else:
            assert set(bindings.names_for(f"10.0.0.{address}", float(now))) <= known
        if step in ("bind", "hold"):
            known.add(text)
        assert len(bindings) <= 4 * NAMES
