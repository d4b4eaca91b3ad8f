"""What a gate writes down is read back as it was, and what the disk has spoiled costs the spoilt lines alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outgate.core import tenure
from outgate.core.policy.decision import Decision
from outgate.gate.restart import records
from outgate.gate.restart.records import line, replay

HEADER = records.Header(records.VERSION, "kernel", 7, "b00t", 0, 1000, 2000, b"k" * 32)
DECISION = Decision("allow", "public", "apps.web.allow[0]", "public", "x is 192.0.2.1 (public)", 3, name="x")
KNOWN = records.Known(1, "web", "t" * 32, 10, 1001, 1001, "agent.py", ["p" * 32], True, "job=17")


def opened(id: int, serial: int = 1, process: int = 1, path: str = "direct") -> records.Opened:
    """Return the record of a connection; its cookie tells whose it is."""
    return records.Opened(
        id, process, id * 7, id * 11, 4, "tcp", path, serial, 12.5, 0.25, "x", 443, "192.0.2.1", DECISION
    )


def ended(id: int, serial: int = 1) -> records.Ended:
    """Return the record of its end."""
    return records.Ended(id, serial, 500, 600, 1.5, 0.25, "closed")


#: What a gate may come to write, in any order: also such as it never would.
_RECORDS = st.one_of(
    st.builds(opened, st.integers(1, 5), st.integers(1, 2), st.integers(1, 2)),
    st.builds(ended, st.integers(1, 5), st.integers(1, 2)),
    st.builds(records.Read, st.integers(1, 6), st.integers(0, 2**63), st.integers(0, 2**63)),
    st.builds(records.Reads, st.lists(st.tuples(st.integers(1, 6), st.integers(0, 2**63), st.integers(0, 2**63)))),
    st.builds(
        records.Shared,
        st.integers(1, 6),
        st.lists(
            st.tuples(st.text(), st.text(), st.integers(0, 65535), st.integers(0, 2**63), st.integers(0, 2**63)),
            max_size=3,
        ),
    ),
    st.builds(records.Logged, st.lists(st.tuples(st.integers(1, 5), st.integers(1, 2)), max_size=3)),
    st.builds(records.Lent, st.integers(1, 5), st.sampled_from(tenure.STATES), st.integers(0, 9), st.integers(0, 9)),
    st.builds(records.Reserved, st.integers(0, 2**60)),
    st.just(KNOWN),
)
_FILES = st.lists(_RECORDS, max_size=12).map(lambda made: [line(HEADER), line(KNOWN), *map(line, made)])


def test_a_life() -> None:
    """A file says which leases are open with their last reading, and which ends may be missing from the log."""
    past = replay(
        b"".join(
            line(record)
            for record in (
                HEADER,
                KNOWN,
                opened(1),
                opened(2),
                opened(3, path="relay"),
                opened(4),
                records.Read(1, 10, 20),
                records.Reads([(1, 30, 40), (9, 50, 60)]),
                records.Shared(3, [("a.test", "192.0.2.7", 53, 1, 2)]),
                records.Shared(3, [("", "192.0.2.8", 53, 3, 4), ("a.test", "192.0.2.7", 53, 5, 6)]),
                records.Lent(1, tenure.LENT, 2, 3),
                ended(2),
                ended(4),
                records.Logged([(4, 1)]),
                records.Reserved(3000),
            )
        )
    )
    assert past.header == HEADER
    assert (past.reserved, past.damaged, past.problem) == (3000, 0, "")
    assert [share[-1] for share in past.left[3].shares] == [2, 4, 6]
    assert sorted(past.left) == [1, 3]
    one = past.left[1]
    assert (one.opened, one.known, one.sent, one.received) == (opened(1), KNOWN, 30, 40)
    assert one.lent == records.Lent(1, tenure.LENT, 2, 3)
    assert list(past.unlogged) == [(2, 1)]


def test_a_socket_that_is_dialled_again() -> None:
    """The end of an earlier connection on a socket does not end the one that is open on it now, whose count is new."""
    past = replay(
        b"".join(map(line, (HEADER, KNOWN, opened(1), records.Read(1, 5, 5), ended(1), opened(1, 2), ended(1, 1))))
    )
    assert past.left[1].opened.serial == 2
    assert (past.left[1].sent, past.left[1].received) == (0, 0)


def test_another_version_is_not_believed() -> None:
    """A file of another version is refused whole, with the reason."""
    other = records.Header(99, "kernel", 7, "b00t", 0, 1000, 2000, b"")
    past = replay(line(other) + line(KNOWN) + line(opened(1)))
    assert past.header is None
    assert past.problem == "it is of version 99, not 1"
    assert past.left == {}


@given(st.binary(max_size=300))
def test_garbage(data: bytes) -> None:
    """Bytes that no gate wrote amount to nothing, with a reason, and never raise."""
    past = replay(data)
    assert (past.header, past.left, past.unlogged) == (None, {}, {})
    assert past.problem


@given(_FILES, st.data())
def test_cut_anywhere(lines: list[bytes], data: st.DataObject) -> None:
    """A file that is cut anywhere is what its whole lines say."""
    whole = b"".join(lines)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    count = cut.count(b"\n")
    past, expected = replay(cut), replay(b"".join(lines[:count]))
    assert past == expected
    assert past.header == (HEADER if count else None)


@given(_FILES, st.data())
def test_a_byte_flipped_anywhere(lines: list[bytes], data: st.DataObject) -> None:
    """A byte that the disk has changed costs its line, or the two that it parted, and makes no lease that was none."""
    whole = bytearray(b"".join(lines))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    past = replay(bytes(whole))
    if past.header is None:
        assert past.left == {}
        return
    written = {bytes(each) for each in lines}
    assert past.header == HEADER
    for left in past.left.values():
        assert line(left.opened) in written
        assert left.known == KNOWN
    for left, end in past.unlogged.values():
        assert line(left.opened) in written
        assert line(end) in written
    spoilt = bytes(whole).count(b"\n") != b"".join(lines).count(b"\n")
    assert past.damaged <= replay(b"".join(lines)).damaged + (2 if spoilt else 1) + _depends(lines)


def _depends(lines: list[bytes]) -> int:
    """Return how many records are lost with the line that says whose they are."""
    return sum(b'"open"' in each for each in lines)
