"""Questions are read strictly, refusals answer them, and addresses come from the chain that was asked for alone."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.formats import dnsmessage


def query(name: str = "www.example.com", type: str = "A", **more: object) -> bytes:
    """Return a query as dnspython writes it."""
    return dns.message.make_query(name, type, **more).to_wire()  # type: ignore[arg-type]


def answer(asked: bytes, *records: str, rcode: int = 0) -> bytes:
    """Return the answer to a query with these records, each ``owner ttl type data``."""
    message = dns.message.make_response(dns.message.from_wire(asked))
    message.set_rcode(dns.rcode.Rcode(rcode))
    for record in records:
        owner, ttl, type, data = record.split(maxsplit=3)
        message.answer.append(dns.rrset.from_text(owner, int(ttl), "IN", type, data))
    return message.to_wire()


@pytest.mark.parametrize("type", ["A", "AAAA", "MX", "SRV", "ANY", "HTTPS"])
@pytest.mark.parametrize("options", [{}, {"use_edns": True}, {"use_edns": 0, "want_dnssec": True}])
def test_a_question_is_read(type: str, options: dict[str, object]) -> None:
    """Number, name in lower case and type are those of the message, whatever options stand behind the question."""
    asked = query("_Sip._UDP.Example.COM", type, id=0x1234, **options)
    found = dnsmessage.question(asked)
    assert found[:3] == (0x1234, "_sip._udp.example.com", dns.rdatatype.from_text(type))
    assert asked[found.end - 2 : found.end] == b"\0\1"


def test_a_refusal_answers_the_question() -> None:
    """The refusal is a response to that query for every reader of DNS, with its question and flags, and no answer."""
    asked = query("www.example.com", use_edns=True)
    wire = dnsmessage.refusal(asked, dnsmessage.REFUSED, dnsmessage.question(asked).end)
    message, sent = dns.message.from_wire(wire), dns.message.from_wire(asked)
    assert sent.is_response(message)
    assert message.rcode() == dns.rcode.REFUSED
    assert message.flags & dns.flags.RD
    assert not message.answer


def test_a_refusal_of_what_cannot_be_read_has_no_question() -> None:
    """Without a question that could be read the response is a header alone."""
    message = dns.message.from_wire(dnsmessage.refusal(query(), dnsmessage.FORMERR))
    assert message.rcode() == dns.rcode.FORMERR
    assert not message.question


@pytest.mark.parametrize(
    ("change", "rcode"),
    [
        (lambda m: m[:11], None),
        (lambda m: m[:2] + b"\x80" + m[3:], None),
        (lambda m: m[:2] + b"\x28" + m[3:], dnsmessage.NOTIMP),
        (lambda m: m[:5] + b"\2" + m[6:], dnsmessage.FORMERR),
        (lambda m: m[:5] + b"\0" + m[6:], dnsmessage.FORMERR),
        (lambda m: m[:7] + b"\1" + m[8:], dnsmessage.FORMERR),
        (lambda m: m[:-1], dnsmessage.FORMERR),
        (lambda m: m[:-2] + b"\0\3", dnsmessage.REFUSED),
        (lambda m: m[:12] + b"\xc0\x0c" + m[-4:], dnsmessage.FORMERR),
        (lambda m: m[:13] + b"." + m[14:], dnsmessage.REFUSED),
        (lambda m: m[:13] + b"\0" + m[14:], dnsmessage.REFUSED),
        (lambda m: m[:12] + (b"\x3f" + b"a" * 63) * 4 + b"\0" + m[-4:], dnsmessage.FORMERR),
        (lambda m: m[:12] + b"\x40" + b"a" * 64 + b"\0" + m[-4:], dnsmessage.FORMERR),
    ],
    ids=[
        *("short", "response", "update", "two questions", "no question", "answers", "cut", "chaos", "compressed"),
        *("dot in a label", "NUL in a label", "long name", "long label"),
    ],
)
def test_what_is_no_plain_question_is_refused(change: object, rcode: int | None) -> None:
    """Anything else than one question in the class IN has its response code, or no answer at all."""
    with pytest.raises(dnsmessage.Malformed) as refused:
        dnsmessage.question(change(query()))  # type: ignore[operator]
    assert refused.value.rcode == rcode


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_malformed(message: bytes) -> None:
    """No bytes raise anything else than Malformed, whether they come as a question or as an answer."""
    asked = query()
    try:
        dnsmessage.question(message)
    except dnsmessage.Malformed:
        pass
    question = dnsmessage.question(asked)
    wire = asked[:2] + b"\x80" + asked[3:6] + b"\0\5" + asked[8 : question.end] + message
    assert dnsmessage.is_answer(wire, question.id, asked, question.end)
    dnsmessage.addresses(wire, question)


def test_addresses_of_an_answer() -> None:
    """Addresses come with their seconds, aliases followed, of the type that was asked for."""
    asked = query("www.example.com")
    wire = answer(
        asked,
        "www.example.com. 60 CNAME a.example.net.",
        "a.example.net. 60 CNAME b.example.net.",
        "b.example.net. 30 A 192.0.2.1",
        "b.example.net. 30 A 192.0.2.2",
    )
    question = dnsmessage.question(asked)
    assert dnsmessage.addresses(wire, question) == [("192.0.2.1", 30), ("192.0.2.2", 30)]
    asked = query("www.example.com", "AAAA")
    wire = answer(asked, "www.example.com. 7 AAAA 2001:db8::1")
    assert dnsmessage.addresses(wire, dnsmessage.question(asked)) == [("2001:db8::1", 7)]


@pytest.mark.parametrize(
    ("type", "records", "rcode"),
    [
        ("A", ["other.example.com. 60 A 192.0.2.1"], 0),
        ("A", ["www.example.com. 60 A 192.0.2.1"], 2),
        ("MX", ["www.example.com. 60 MX 1 mail.example.com."], 0),
        ("A", [], 0),
    ],
    ids=["another name", "an error", "another type", "none"],
)
def test_nothing_else_is_an_address(type: str, records: list[str], rcode: int) -> None:
    """Records of other names, answers that are errors, and other types give no address."""
    asked = query("www.example.com", type)
    assert dnsmessage.addresses(answer(asked, *records, rcode=rcode), dnsmessage.question(asked)) == []


def test_an_answer_is_to_the_question() -> None:
    """A response with another number or question is none; the case of letters does not count."""
    asked = query("www.example.com", id=7)
    question = dnsmessage.question(asked)
    assert dnsmessage.is_answer(answer(asked), 7, asked, question.end)
    assert dnsmessage.is_answer(answer(query("WWW.example.COM", id=7)), 7, asked, question.end)
    assert not dnsmessage.is_answer(answer(asked), 8, asked, question.end)
    assert not dnsmessage.is_answer(answer(query("wwx.example.com", id=7)), 7, asked, question.end)
    assert not dnsmessage.is_answer(answer(query("www.example.com", "AAAA", id=7)), 7, asked, question.end)
    assert not dnsmessage.is_answer(asked, 7, asked, question.end)
    assert not dnsmessage.is_answer(b"", 7, asked, question.end)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("5.0.0.10.in-addr.arpa", "10.0.0.5"),
        (".".join(reversed("20010db8000000000000000000000001")) + ".ip6.arpa", "2001:db8::1"),
        ("0.0.10.in-addr.arpa", None),
        ("256.0.0.10.in-addr.arpa", None),
        ("x.0.0.10.in-addr.arpa", None),
        ("www.example.com", None),
        ("", None),
    ],
)
def test_reversed_addresses(name: str, address: str | None) -> None:
    """A whole address under in-addr.arpa or ip6.arpa is told; a part of one, and any other name, is not."""
    assert dnsmessage.reversed_address(name) == address
