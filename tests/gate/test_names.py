"""Names: what is looked up and what is not, what is judged, what is dialled, and what a program is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outgate.core.name.bindings import LIFETIME
from outgate.gate import requests
from outgate.gate.configuration import config
from outgate.gate.kernel import dial
from outgate.gate.names import lookup, relearn, resolver
from outgate.testing.running import ThreadGate
from support import peers
from support.raw import RawChannel
from support.zone import Zone

DB, PUBLIC, INSIDE, METADATA = "10.0.0.5", "192.0.1.7", "10.0.0.9", "169.254.169.254"
TCP = socket.SOCK_STREAM


class World:
    """A gate whose look-ups are a zone's, and whose dials go nowhere: they are noted, and refused by nobody.

    :ivar dialled: (address, port) of each dial.
    """

    def __init__(self, gate: ThreadGate, zone: Zone, dialled: list[tuple[str, int]], channel: RawChannel) -> None:
        self.gate = gate
        self.zone = zone
        self.dialled = dialled
        self.channel = channel
        self._marks = 0

    def resolve(self, host: str, port: Any = None, call: str = "getaddrinfo") -> dict[str, Any]:
        """Look a name up as a program does, and return the reply."""
        args = [host, port, 0, TCP] if call == "getaddrinfo" else [host]
        return self.channel.ask("resolve", call=call, args=args)

    def addresses(self, host: str, port: Any = None) -> list[str]:
        """Return the addresses that a program gets for a name."""
        return [item[4][0] for item in self.resolve(host, port)["answer"]]

    def refused(self, reply: dict[str, Any]) -> str:
        """Return the code of a refusal."""
        code: str = reply["error"]["code"]
        return code

    def connect(self, host: str, port: int, family: int = 4) -> dict[str, Any]:
        """Connect a fresh socket, which is closed again, and return the reply."""
        with self.open(host, port, family) as reply:
            return reply

    @contextlib.contextmanager
    def open(self, host: str, port: int, family: int = 4) -> Iterator[dict[str, Any]]:
        """Connect a fresh socket and keep it for the block; gives the reply."""
        ((id, sock),) = self.channel.new(family=family)
        with sock:
            yield self.channel.connect(id, (host, port))
        self.channel.ask("close", sock=id, shared=False)

    def lines(self, event: str = "decision", **fields: Any) -> list[dict[str, Any]]:
        """Return the lines of the log so far."""
        self._marks += 1
        self.gate._log.event("mark", number=self._marks)
        self.gate.wait_for(event="mark", number=self._marks)
        return self.gate.log.all(event=event, **fields)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Make a world: keys of the one app, in TOML, and its zone. At the end no gate may have had a fault."""
    with contextlib.ExitStack() as stack:

        def make(keys: str, zone: Zone, trusted: bool = True) -> World:
            text = f"version = 1\n[apps.blog]\nuid = [{os.getuid()}]\nbilling = true\ntrusted = true\n{keys}\n"
            path = tmp_path / "outgate.toml"
            path.write_text(text)
            dialled: list[tuple[str, int]] = []

            def begin(sock: Any, address: tuple[Any, ...]) -> int:
                dialled.append(address[:2])
                return begin_really(sock, (peer.address if len(address) == 2 else ("::ffff:127.0.0.1", peer.port)))

            peer = stack.enter_context(peers.sink())
            begin_really = dial.begin
            monkeypatch.setattr(requests.dial, "begin", begin)
            monkeypatch.setattr(resolver, "CALLS", {**resolver.CALLS, **zone.calls()})
            gate = ThreadGate(config.load(str(path)))
            stack.callback(lambda: _no_faults(gate))
            stack.enter_context(gate)
            gate.gate.reloader = config.reload
            stack.callback(zone.release)
            channel = stack.enter_context(RawChannel(gate.socket))
            return World(gate, zone, dialled, channel)

        yield make


def _no_faults(gate: ThreadGate) -> None:
    assert gate.faults == []


# --- what is not looked up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "host", "code"),
    [
        ('allow = ["db.corp:5432"]', "other.corp", "policy-name-no-rule"),
        ('allow = ["*.corp"]', "corp", "policy-name-no-rule"),
        ('deny = ["*.evil.test"]', "data.in.a.label.evil.test", "policy-name-denied"),
        ('deny = ["evil.test"]', "EVIL.test.", "policy-name-denied"),
        ('names = ["db.corp"]', "other.corp", "policy-names"),
        ("allow = []", "db.corp", "policy-name-no-rule"),
    ],
)
@pytest.mark.parametrize("call", ["getaddrinfo", "gethostbyname_ex", "gethostbyaddr"])
def test_a_refused_name_is_never_looked_up(
    world: Callable[..., World], keys: str, host: str, code: str, call: str
) -> None:
    """A name that is denied, left out of names, or that no rule could allow is refused, logged, and nobody is asked."""
    zone = Zone(**{host.lower().rstrip(".").replace(".", "__"): [PUBLIC]})
    w = world(keys, zone)
    assert w.refused(w.resolve(host, call=call)) == code
    assert zone.asked == []
    (line,) = w.lines()
    assert (line["host"], line["verdict"], line.get("address")) == (host, "deny", None)


def test_a_connect_by_a_refused_name_looks_nothing_up(world: Callable[..., World]) -> None:
    """A connect by such a name, or by a permitted one at another port, is refused before any look-up."""
    zone = Zone(db__corp=[DB], other__corp=[DB])
    w = world('allow = []\nexcept = ["db.corp:5432"]', zone)
    assert w.refused(w.connect("other.corp", 5432)) == "policy-no-rule"
    assert w.refused(w.connect("db.corp", 22)) in ("policy-no-rule", "policy-denied")
    assert (zone.asked, w.dialled) == ([], [])


def test_names_limits_look_ups_only_to_what_no_rule_permits_by_name(world: Callable[..., World]) -> None:
    """With names, those in it and those that a rule permits by name are looked up, and no others."""
    zone = Zone(a__corp=[PUBLIC], db__test=[PUBLIC], else__test=[PUBLIC])
    w = world('names = ["*.corp"]\nallow = ["public", "db.test"]', zone)
    assert w.addresses("a.corp") == [PUBLIC]
    assert w.addresses("db.test") == [PUBLIC]
    assert w.refused(w.resolve("else.test")) == "policy-names"
    assert zone.asked == ["a.corp", "db.test"]


def test_a_number_is_no_look_up(world: Callable[..., World]) -> None:
    """Numeric hosts in any spelling ask nobody, whatever names there are, and are judged as addresses."""
    zone = Zone()
    w = world('names = ["db.corp"]\nexcept = ["127.0.0.1"]', zone)
    for host in ("127.0.0.1", "0x7f.1", "2130706433"):
        assert w.addresses(host) == ["127.0.0.1"]
        assert "lease" in w.connect(host, 80)
    assert w.refused(w.resolve("10.0.0.5")) == "policy-name"
    assert zone.asked == []


@pytest.mark.parametrize(
    "host",
    [
        "a" * 64 + ".test",
        "a." * 150 + "b",
        "a..b",
        ".",
        "a b",
        "localhost\n",
        "*",
        "%lo",
        "xn--a.test\\",
        "-",
    ],
    ids=lambda host: host[:12],
)
def test_what_is_no_name_is_not_known(world: Callable[..., World], host: str) -> None:
    """What can be no name is answered as the C library answers it, EAI_NONAME, without asking."""
    zone = Zone()
    w = world("", zone)
    for reply in (w.resolve(host), w.connect(host, 80), w.resolve(host, call="gethostbyaddr")):
        assert (reply["errno"], reply["kind"]) == (socket.EAI_NONAME, "gaierror")
        assert reply["text"] == "Name or service not known"
    assert zone.asked == []


def test_what_is_too_long_is_not_carried_along(world: Callable[..., World]) -> None:
    """A service of a thousand characters is none, as natively; arguments that no function takes end the channel."""
    w = world("", Zone(www__test=[PUBLIC]))
    reply = w.resolve("www.test", "x" * 1000)
    assert (reply["errno"], reply["kind"]) == (socket.EAI_SERVICE, "gaierror")
    with RawChannel(w.gate.socket) as other:
        other.post("resolve", call="getaddrinfo", args=["www.test", 80, ["x" * 5000]])
        assert other.refusal() == "arguments of getaddrinfo: more than 4096 characters"


def test_the_spelling_is_judged_once_and_asked_for_as_given(world: Callable[..., World]) -> None:
    """Case, a trailing dot and other scripts lead to the same rule; the C library gets what the program wrote."""
    zone = Zone(db__corp=[PUBLIC])
    zone.set("xn--bcher-kva.corp", PUBLIC)
    w = world('allow = ["DB.corp:5432", "bücher.corp"]', zone)
    for host in ("db.corp", "DB.CORP", "db.corp.", "xn--bcher-kva.corp", "XN--BCHER-KVA.corp."):
        assert w.addresses(host) == [PUBLIC]
        assert "lease" in w.connect(host, 5432)


# --- what is answered -------------------------------------------------------------------------------------------------


def test_a_mixed_answer_is_what_is_permitted_of_it(world: Callable[..., World]) -> None:
    """Of a public name with inside addresses only the public ones are given, and only those are dialled."""
    zone = Zone(mixed__test=[INSIDE, METADATA, PUBLIC, "127.0.0.1"])
    w = world("", zone)
    assert w.addresses("mixed.test") == [PUBLIC]
    assert w.resolve("mixed.test", call="gethostbyname_ex")["answer"][2] == [PUBLIC]
    assert "lease" in w.connect("mixed.test", 443)
    assert w.dialled == [(PUBLIC, 443)]


def test_the_canonical_name_outlives_the_item_it_stood_in(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """AI_CANONNAME stands in the first item that is left where the first of all was forbidden."""
    zone = Zone()
    w = world("", zone)
    answer = [
        (2, 1, 6, "real.test", (INSIDE, 80)),
        (2, 1, 6, "", (PUBLIC, 80)),
    ]
    monkeypatch.setitem(resolver.CALLS, "getaddrinfo", lambda *_: answer)
    kept = w.resolve("alias.test", 80)["answer"]
    assert kept == [[2, 1, 6, "real.test", [PUBLIC, 80]]]


def test_none_left_is_a_refusal_with_the_ports_cure(world: Callable[..., World]) -> None:
    """Where every address is forbidden the refusal names one, and a cure for the port that was asked for."""
    w = world("", Zone(db__corp=[DB]))
    facts = w.resolve("db.corp", 5432)["error"]["facts"]
    assert facts["permit"] == "db.corp:5432"
    assert DB in facts["what"]
    assert w.resolve("db.corp", "5432")["error"]["facts"]["permit"] == "db.corp:5432"
    assert w.resolve("db.corp")["error"]["facts"]["permit"] == "db.corp"


def test_a_name_lifts_private_but_neither_loopback_nor_metadata(world: Callable[..., World]) -> None:
    """An exception by name opens a private address; loopback, link-local and metadata stay shut to it."""
    zone = Zone(db__corp=[DB])
    w = world('except = ["db.corp:5432"]', zone)
    assert w.addresses("db.corp") == [DB]
    assert "lease" in w.connect("db.corp", 5432)
    assert w.refused(w.connect("db.corp", 22)) == "policy-denied"
    for address in ("127.0.0.1", METADATA, "169.254.7.7", "224.0.0.1", "0.0.0.0"):
        zone.set("db.corp", address)
        w.gate.call(w.gate.gate.registry.apps["blog"].resolver.forget)
        assert w.refused(w.resolve("db.corp", 5432)) == "policy-name"
        assert w.refused(w.connect("db.corp", 5432)) == "policy-denied"
    assert w.dialled == [(DB, 5432)]


def test_a_huge_answer_is_cut(world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an answer of ten thousand addresses the first few hundred are judged and given, and connect works."""
    w = world("", Zone())
    answer = [(2, 1, 6, "", (f"192.1.{n >> 8}.{n & 255}", 80)) for n in range(10_000)]
    monkeypatch.setitem(resolver.CALLS, "getaddrinfo", lambda *_: answer)
    assert len(w.resolve("huge.test", 80)["answer"]) == lookup.MOST
    assert "lease" in w.connect("huge.test", 80)


# --- an address that follows a look-up --------------------------------------------------------------------------------


def test_an_address_is_bound_to_the_name_it_was_looked_up_by(world: Callable[..., World]) -> None:
    """After getaddrinfo a connect to the address is judged by the name's rule, at the rule's port, and logged as it."""
    w = world('allow = ["db.corp:5432"]\nexcept = ["db.corp:5432"]', Zone(db__corp=[DB]))
    assert w.addresses("db.corp", 5432) == [DB]
    assert "lease" in w.connect(DB, 5432)
    assert w.refused(w.connect(DB, 22)) == "policy-denied"
    allowed, _ = w.lines()
    assert (allowed["name"], allowed["host"], allowed["rule"]) == ("db.corp", DB, "db.corp:5432")


def test_gethostbyname_binds_and_a_reverse_look_up_does_not(world: Callable[..., World]) -> None:
    """gethostbyname binds like getaddrinfo; what an address calls itself opens nothing."""
    zone = Zone(db__corp=[DB], liar__corp=[INSIDE])
    w = world('except = ["db.corp:5432", "*.corp:1", "10.0.0.0/8:9"]', zone)
    zone.set("db.corp", INSIDE, DB)  # so that the reverse look-up of both says db.corp
    assert w.resolve(INSIDE, call="gethostbyaddr")["answer"][0] == "db.corp"
    zone.set("db.corp", DB)
    assert w.resolve("db.corp", call="gethostbyname_ex")["answer"][2] == [DB]
    zone.set("db.corp", "10.0.0.77")
    assert "lease" in w.connect(DB, 5432)
    assert w.refused(w.connect(INSIDE, 5432)) == "policy-denied"


def test_a_name_is_logged_also_where_no_rule_is_by_name(world: Callable[..., World]) -> None:
    """A connect by address has in the log the name that the app looked it up by."""
    w = world("", Zone(www__test=[PUBLIC]))
    w.addresses("www.test")
    w.connect(PUBLIC, 443)
    w.connect("192.0.1.99", 443)
    named, unnamed = w.lines()
    assert named["name"] == "www.test"
    assert "name" not in unnamed
    end, _ = w.lines("end")
    assert end["name"] == "www.test"


def test_a_denied_name_does_not_poison_its_address(world: Callable[..., World]) -> None:
    """Deny names never bind: an address that an allowed name has too can be connected to."""
    zone = Zone(good__test=[PUBLIC], bad__test=[PUBLIC])
    w = world('deny = ["bad.test"]', zone)
    assert w.refused(w.resolve("bad.test")) == "policy-name-denied"
    assert w.refused(w.connect("bad.test", 443)) == "policy-denied"
    assert w.addresses("good.test") == [PUBLIC]
    assert "lease" in w.connect(PUBLIC, 443)
    assert zone.asked == ["good.test"]


def test_a_binding_ends_after_its_time_unless_a_lease_lives(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten minutes after the answer the address is itself again, but not while a connection that it opened lives."""
    zone = Zone(db__corp=[DB])
    w = world('except = ["*.corp:5432"]', zone)
    bindings = w.gate.gate.registry.apps["blog"].bindings
    now = [0.0]
    real = bindings.names_for
    names_for = lambda address, _: real(address, now[0])  # noqa: E731
    monkeypatch.setattr(type(bindings), "names_for", lambda _, address, at: names_for(address, at))
    monkeypatch.setattr(relearn, "names_to_ask", lambda *_: [])
    w.gate.call(lambda: bindings.bind("db.corp", [DB], 0.0))
    with w.open(DB, 5432) as reply:
        assert "lease" in reply
        now[0] = LIFETIME + 1
        assert "lease" in w.connect(DB, 5432)
    assert w.refused(w.connect(DB, 5432)) == "policy-denied"


# --- rebinding --------------------------------------------------------------------------------------------------------


def test_what_is_dialled_is_what_was_judged(world: Callable[..., World]) -> None:
    """A name whose answers alternate between public and inside is dialled at judged addresses only."""
    zone = Zone(flip__test=[[PUBLIC], [INSIDE], [METADATA]])
    w = world("", zone)
    outcomes = []
    for _ in range(6):
        w.gate.call(w.gate.gate.registry.apps["blog"].resolver.forget)
        reply = w.connect("flip.test", 80)
        outcomes.append("lease" in reply)
    assert outcomes == [True, False, False] * 2
    assert w.dialled == [(PUBLIC, 80)] * 2


def test_a_change_between_look_up_and_connect(world: Callable[..., World]) -> None:
    """A program that was given a public address and connects by name is judged by what the name is by then."""
    zone = Zone(flip__test=[[PUBLIC], [INSIDE]])
    w = world("", zone)
    assert w.addresses("flip.test", 80) == [PUBLIC]
    assert w.refused(w.connect("flip.test", 80)) == "policy-denied"
    assert "lease" in w.connect(PUBLIC, 80)
    assert w.dialled == [(PUBLIC, 80)]


def test_an_answer_of_another_name_opens_nothing(world: Callable[..., World]) -> None:
    """A zone that answers with an address of a permitted name does not thereby get its permission, nor keep it off."""
    zone = Zone(evil__test=[DB], db__corp=["10.0.0.6"])
    w = world('except = ["db.corp:5432"]', zone)
    assert w.refused(w.resolve("evil.test", 5432)) == "policy-name"
    assert w.refused(w.connect(DB, 5432)) == "policy-denied"
    assert w.refused(w.connect("evil.test", 5432)) == "policy-denied"
    assert w.dialled == []


# --- a miss -----------------------------------------------------------------------------------------------------------


def test_a_miss_asks_the_names_that_could_permit_it(world: Callable[..., World]) -> None:
    """A connect to an address that was never looked up is permitted when a name of the rules has it by now."""
    zone = Zone(db__corp=[DB], mail__corp=[DB], other__corp=[DB])
    w = world('except = ["db.corp:5432", "mail.corp:587", "udp://other.corp:5432"]', zone)
    assert "lease" in w.connect(DB, 5432)
    assert zone.asked == ["db.corp"], "names of rules for other ports or transports are not asked"


def test_a_miss_asks_what_the_program_asked_lately(world: Callable[..., World]) -> None:
    """A name that stands for a pattern, and was looked up before, is asked again when its address has moved on."""
    zone = Zone(db__corp=[DB])
    w = world('except = ["*.corp:5432"]', zone)
    assert w.addresses("db.corp") == [DB]
    zone.set("db.corp", "10.0.0.6")
    w.gate.call(w.gate.gate.registry.apps["blog"].resolver.forget)
    assert "lease" in w.connect("10.0.0.6", 5432)


def test_misses_are_not_a_storm_of_look_ups(world: Callable[..., World]) -> None:
    """However many addresses miss, the names are asked once and then not again for some time."""
    zone = Zone(db__corp=[DB])
    w = world('except = ["db.corp:5432"]', zone)
    for number in range(20):
        assert w.refused(w.connect(f"10.1.0.{number}", 5432)) == "policy-denied"
    assert zone.asked == ["db.corp"]
    assert "lease" in w.connect(DB, 5432), "what was learnt stays"


def test_a_miss_asks_a_bounded_number_of_names(world: Callable[..., World]) -> None:
    """Of a hundred names that could permit it a miss asks no more than its bound, and the program's own first."""
    rules = ", ".join(f'"n{number}.corp:5432"' for number in range(100))
    zone = Zone(n99__corp=[DB])
    w = world(f"except = [{rules}]", zone)
    assert w.addresses("n99.corp") == [DB]
    assert w.refused(w.connect(INSIDE, 5432)) == "policy-denied"
    assert len(zone.asked) == 1 + relearn.NAMES
    assert zone.asked.count("n99.corp") == 2, "though a hundred rules stand before its own"


def test_without_rules_by_name_a_miss_asks_nobody(world: Callable[..., World]) -> None:
    """A denial that no name could lift is given at once."""
    zone = Zone(db__corp=[DB])
    w = world('except = ["10.0.0.5:5432"]\ndeny = ["bad.test"]', zone)
    assert w.refused(w.connect(INSIDE, 5432)) == "policy-denied"
    assert zone.asked == []


def test_a_dead_name_server_holds_a_miss_for_its_limit_only(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the names are not answered in time the connect is refused; what comes later counts for the next."""
    monkeypatch.setattr(relearn, "LIMIT", 0.05)
    zone = Zone(db__corp=[DB])
    answer = zone.hold("db.corp")
    w = world('except = ["db.corp:5432"]', zone)
    assert w.refused(w.connect(DB, 5432)) == "policy-denied"
    assert w.refused(w.connect(DB, 5432)) == "policy-denied", "and nobody waits for it a second time"
    task = w.gate.gate.registry.apps["blog"].relearning.task
    assert task is not None
    answer.set()
    asyncio.run_coroutine_threadsafe(asyncio.wait((task,)), w.gate._loop).result(20)
    assert "lease" in w.connect(DB, 5432)
    assert zone.asked == ["db.corp"]


# --- addresses and the host itself ------------------------------------------------------------------------------------


def test_an_address_that_no_rule_could_allow_is_not_asked_about(world: Callable[..., World]) -> None:
    """gethostbyaddr of a forbidden address is refused unasked; getnameinfo gives the number unless a name must be."""
    zone = Zone(db__corp=[DB], www__test=[PUBLIC])
    w = world("", zone)
    assert w.refused(w.resolve(DB, call="gethostbyaddr")) == "policy-name"
    ask = lambda *args: w.channel.ask("resolve", call="getnameinfo", args=list(args))  # noqa: E731
    assert ask([DB, 22], 0)["answer"][0] == DB
    assert w.refused(ask([DB, 22], int(socket.NI_NAMEREQD))) == "policy-name"
    assert ask(["db.corp", 22], 0)["errno"] == socket.EAI_NONAME
    assert zone.asked == []
    assert w.resolve(PUBLIC, call="gethostbyaddr")["answer"] == ["www.test", [], [PUBLIC]]
    assert ask([PUBLIC, 22], 0)["answer"][0] == "www.test"


def test_gethostbyaddr_of_a_name_asks_about_a_permitted_address(world: Callable[..., World]) -> None:
    """Of a mixed answer the first permitted address is asked about, and no other."""
    zone = Zone(mixed__test=[INSIDE, PUBLIC])
    w = world("", zone)
    assert w.resolve("mixed.test", call="gethostbyaddr")["answer"] == ["mixed.test", [], [PUBLIC]]
    assert zone.asked == ["mixed.test", PUBLIC]


def test_the_hosts_own_name_is_answered_as_natively(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's own name and addresses are answered whatever the rules; a connect to them is still judged."""
    monkeypatch.setattr(socket, "gethostname", lambda: "Box")
    zone = Zone(box=["127.0.1.1", DB])
    w = world('allow = ["db.corp:5432"]\nnames = []', zone)
    assert w.addresses("box") == ["127.0.1.1", DB]
    assert w.resolve("box", call="gethostbyname_ex")["answer"][2] == ["127.0.1.1", DB]
    assert w.resolve("BOX", call="gethostbyaddr")["answer"] == ["box", [], ["127.0.1.1"]]
    assert w.resolve("127.0.1.1", call="gethostbyaddr")["answer"][0] == "box"
    assert w.refused(w.connect("box", 80)) == "policy-no-rule"
    assert w.refused(w.connect("127.0.1.1", 80)) == "policy-denied"
    assert w.refused(w.resolve("other")) == "policy-name-no-rule"


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_a_look_up_is_remembered_until_a_reload(world: Callable[..., World]) -> None:
    """Equal look-ups ask once; after a reload they ask again."""
    zone = Zone(www__test=[PUBLIC])
    w = world("", zone)
    for _ in range(5):
        assert w.addresses("www.test", 443) == [PUBLIC]
        w.connect("www.test", 443)
    assert zone.asked == ["www.test"] * 2, "one with the program's arguments, one for the connects"
    assert w.channel.ask("reload")["answer"]["ok"]
    assert w.addresses("www.test", 443) == [PUBLIC]
    assert len(zone.asked) == 3


def test_a_remembered_answer_is_judged_anew(world: Callable[..., World], tmp_path: Path) -> None:
    """What is remembered is the answer and not the decision: another name for the cache is no way round the rules."""
    zone = Zone(db__corp=[DB])
    w = world('except = ["db.corp"]', zone)
    assert w.addresses("db.corp") == [DB]
    path = tmp_path / "outgate.toml"
    path.write_text(path.read_text().replace("except", "deny"))
    assert w.channel.ask("reload")["answer"]["ok"]
    assert w.refused(w.resolve("db.corp")) == "policy-name-denied"
    assert w.refused(w.connect(DB, 5432)) == "policy-denied"


def test_a_slow_name_holds_nobody_else(world: Callable[..., World]) -> None:
    """While a name is waited for, the same program's other look-ups and connects are answered."""
    zone = Zone(slow__test=[PUBLIC], quick__test=[PUBLIC])
    answer = zone.hold("slow.test")
    w = world("", zone)
    with RawChannel(w.gate.socket, token=w.channel.token) as waiting:
        waiting.post("resolve", call="getaddrinfo", args=["slow.test", 80])
        zone.wait_until_asked("slow.test")
        assert w.addresses("quick.test") == [PUBLIC]
        assert "lease" in w.connect(PUBLIC, 80)
        answer.set()
        reply = waiting.receive()
        assert reply is not None
        assert "answer" in reply


def test_too_many_look_ups_at_once_are_told_to_try_again(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look-up beyond the bound of its app is ResolveFailed, in words, by look-up and by connect."""
    monkeypatch.setattr(resolver, "WAITING", 0)
    monkeypatch.setattr(resolver, "PAUSE", 0.0)
    w = world("", Zone(www__test=[PUBLIC]))
    for reply in (w.resolve("www.test"), w.connect("www.test", 80)):
        assert w.refused(reply) == "resolve-failed"
        assert "look-ups are waiting" in reply["error"]["facts"]["why"]


# --- report mode ------------------------------------------------------------------------------------------------------


def test_report_mode_looks_up_and_tells(world: Callable[..., World]) -> None:
    """In report mode a name that would be refused is looked up and dialled, and both are in the log as reports."""
    zone = Zone(bad__test=[PUBLIC], db__corp=[DB])
    w = world('deny = ["bad.test"]\nnames = ["x.test"]\nmode = "report"', zone)
    assert w.addresses("bad.test", 443) == [PUBLIC]
    assert w.addresses("db.corp", 5432) == [DB]
    assert "lease" in w.connect("bad.test", 443)
    assert "lease" in w.connect("db.corp", 5432)
    assert [(line["host"], line["port"], line["verdict"]) for line in w.lines()] == [
        ("bad.test", 443, "report"),
        ("db.corp", 5432, "report"),
        ("bad.test", 443, "report"),
        ("db.corp", 5432, "report"),
    ]
    assert w.dialled == [(PUBLIC, 443), (DB, 5432)]


# --- how much a program is told ---------------------------------------------------------------------------------------


def test_brief_reasons_tell_the_kind_of_rule_and_the_log_the_rest(world: Callable[..., World]) -> None:
    """With reasons = "brief" no reply holds an address, a class or a rule; the log has all of it."""
    w = world('reasons = "brief"\nexcept = ["db.corp:5432"]', Zone(db__corp=[DB], inside__test=[INSIDE]))
    replies = [
        w.resolve("inside.test", 443),
        w.connect("inside.test", 443),
        w.connect(INSIDE, 443),
        w.connect("db.corp", 22),
        w.resolve(INSIDE, call="gethostbyaddr"),
    ]
    for reply in replies:
        text = str(reply["error"])
        assert "kind" in reply["error"]["facts"]
        assert not any(word in text for word in ("private", "non-public", "permit", "db.corp:5432"))
    assert INSIDE not in str(replies[:2]) + str(replies[3])
    for line in w.lines(verdict="deny"):
        assert "non-public" in line["reason"]
        assert line["address"] in (INSIDE, DB)


def test_full_reasons_tell_it_all(world: Callable[..., World]) -> None:
    """A trusted app's refusals have address, rule and cure unless it says otherwise."""
    w = world("", Zone(inside__test=[INSIDE]))
    facts = w.connect("inside.test", 443)["error"]["facts"]
    assert facts["what"] == f"inside.test is {INSIDE} (private)"
    assert facts["permit"] == "inside.test:443"


def test_why_is_as_brief_as_the_refusals_but_for_the_operator(
    world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a brief app others than the operator are told verdict and kind of rule."""
    w = world('reasons = "brief"', Zone(inside__test=[INSIDE], www__test=[PUBLIC]))
    full = w.channel.ask("why", host="inside.test", port=443)["answer"]
    assert full["addresses"] == [{"address": INSIDE, "verdict": "deny", "class": "private"}]
    monkeypatch.setattr(w.gate.gate.reception, "is_operator", lambda uid: False)
    for host, verdict in (("inside.test", "deny"), ("www.test", "allow"), (INSIDE, "deny")):
        answer = w.channel.ask("why", host=host, port=443)["answer"]
        assert (answer["verdict"], answer["addresses"], answer["rule"]) == (verdict, [], "")
        assert "private" not in str(answer)
        assert host == INSIDE or INSIDE not in str(answer)


# --- why --------------------------------------------------------------------------------------------------------------


def test_why_looks_nothing_up_that_a_connect_would_not(world: Callable[..., World]) -> None:
    """A name that would not be looked up is answered as denied, with the rule and the cure, and nobody is asked."""
    zone = Zone(bad__test=[PUBLIC])
    w = world('deny = ["bad.test"]', zone)
    answer = w.channel.ask("why", host="Bad.test.", port=443)["answer"]
    assert (answer["verdict"], answer["rule"], answer["place"]) == ("deny", "bad.test", "apps.blog.deny[0]")
    assert (answer["addresses"], answer["address"]) == ([], "")
    assert "bad.test:443" in answer["cure"]
    assert zone.asked == []


def test_why_says_of_an_address_what_a_connect_would_be_told(world: Callable[..., World]) -> None:
    """An address is judged with the names that it has for the app, and asked again on a miss like a connect."""
    w = world('except = ["db.corp:5432"]', Zone(db__corp=[DB]))
    answer = w.channel.ask("why", host=DB, port=5432)["answer"]
    assert (answer["verdict"], answer["rule"], answer["name"]) == ("allow", "db.corp:5432", "db.corp")
    assert w.channel.ask("why", host=DB, port=22)["answer"]["verdict"] == "deny"


def test_why_gives_every_address_its_verdict(world: Callable[..., World]) -> None:
    """Of a mixed answer every address is told with its class and verdict; one that may be dialled decides."""
    w = world("", Zone(mixed__test=[INSIDE, PUBLIC]))
    answer = w.channel.ask("why", host="mixed.test", port=443)["answer"]
    assert (answer["verdict"], answer["address"]) == ("allow", PUBLIC)
    assert [(each["address"], each["verdict"]) for each in answer["addresses"]] == [(INSIDE, "deny"), (PUBLIC, "allow")]


@pytest.mark.parametrize("host", ["unknown.test", "a b", "a..b", "x" * 300])
def test_why_cannot_tell_without_an_address(world: Callable[..., World], host: str) -> None:
    """Of a name that nobody knows, or that can be none, nothing is decided, and it is said why."""
    w = world("", Zone())
    answer = w.channel.ask("why", host=host, port=443)["answer"]
    assert answer["verdict"] == "unknown"
    assert answer["reason"]
