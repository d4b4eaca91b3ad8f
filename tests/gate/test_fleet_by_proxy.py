"""A proxy between gates that lies, stalls or ends: the descriptor says so in time, and the socket is as it was."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
import trustme

from outgate.gate.configuration import config
from outgate.gate.fleet import asking
from outgate.testing.running import RunningGate
from support import peers, proxies
from support.driven import Driven, Refused
from support.fleets import fleet, folder_of
from support.forward import carry
from support.proxies import Client, Proxy, Script

Running = tuple[dict[str, RunningGate], Proxy]
Stage = tuple[Proxy, Driven, str]


def onward(at: str = "") -> Script:
    """Return a script that connects to where it is told to, or that lies and connects to another place.

    :param at: ``HOST:PORT`` of that place.
    """

    def script(client: Client) -> None:
        asked = client.hear_head().split()[1].decode()
        host, _, port = (at or asked).rpartition(":")
        with socket.create_connection((host, int(port)), 15) as far:
            far.settimeout(None)
            client.say(proxies.CONNECTED)
            back = threading.Thread(target=carry, args=(far, client.sock))
            back.start()
            carry(client.sock, far)
            back.join()

    return script


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """Three gates that reach each other by a proxy of the test's."""
    with Proxy(onward()) as proxy, fleet(("a", "b", "c"), proxy="{}:{}".format(*proxy.address)) as gates:
        yield gates, proxy


@pytest.fixture
def stage(running: Running) -> Iterator[Stage]:
    """The proxy, a program at b, and the descriptor of a socket of a's, which afterwards can still be redeemed."""
    gates, proxy = running
    with peers.echo() as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        front.do(f"sock = socket.create_connection({peer.address!r}, 15); import outgate")
        text = front.do("outgate.descriptor(sock)")
        worker.do("import outgate")
        yield proxy, worker, text
        proxy.script = onward()
        worker.do(f"sock = outgate.adopt({text!r}); sock.sendall(b'still there')")
        assert worker.do("sock.recv(11, socket.MSG_WAITALL).decode()") == "still there"
        worker.do("sock.close()")
        front.do("sock.close()")


def place_of(gate: RunningGate) -> str:
    """Return where a gate listens."""
    found = config.load(gate.config or "").fleet
    assert found is not None
    return found.listen


def _stranger(client: Client) -> None:
    """Answer in the other gate's place, with a certificate in its name of an authority of one's own."""
    issued, context = trustme.CA().issue_cert("a.gate.outgate"), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    proxies.http(behind=proxies.secured(Client.echo, context))(client)


def _for_ever(client: Client) -> None:
    client.hear_head()
    client.say(b"HTTP/1.1 200 OK\r\n")
    while True:
        client.say(b"X-More: of it\r\n")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        pytest.param(proxies.answering(), "the proxy does not answer as one", id="ends"),
        pytest.param(proxies.answering(b""), "the proxy does not answer as one", id="ends when it is asked"),
        pytest.param(proxies.answering(b"\x00\xff\r\n\r\n", stalls=True), "a head that is not ASCII", id="nonsense"),
        pytest.param(_for_ever, "the proxy does not answer as one", id="a head without an end"),
        pytest.param(proxies.answering(b"HTTP/1.1 302 Found\r\n\r\n", stalls=True), "status 302", id="elsewhere"),
        pytest.param(proxies.http(), "SSL", id="what it hears"),
        pytest.param(_stranger, "local issuer certificate", id="a stranger of the same name"),
    ],
)
def test_a_proxy_that_lies_is_found_out(stage: Stage, script: Script, why: str) -> None:
    """Whatever it says, and whoever answers behind it, the descriptor is refused with what is wrong."""
    proxy, worker, text = stage
    proxy.script = script
    with pytest.raises(Refused) as refused:
        worker.do(f"outgate.adopt({text!r})")
    assert (refused.value.code, refused.value.errno) == ("fleet-unreachable", errno.ENETDOWN)
    assert why in str(refused.value)


def test_another_gate_of_the_fleet_is_not_the_owner(stage: Stage, running: Running) -> None:
    """A proxy that leads to gate c, whose certificate is good: what is a's is not asked for there."""
    proxy, worker, text = stage
    proxy.script = onward(place_of(running[0]["c"]))
    with pytest.raises(Refused, match="certificate is not valid for") as refused:
        worker.do(f"outgate.adopt({text!r})")
    assert refused.value.code == "fleet-unreachable"
    assert running[0]["c"].log.all(event="fleet-redeemed") == []


def test_a_proxy_that_stalls_is_waited_for_six_seconds(stage: Stage, running: Running) -> None:
    """Before its answer or after it: a program hears in time that the owner is not reached, and the gate goes on."""
    proxy, worker, text = stage
    with Driven(running[0]["b"]) as other:
        began = threading.Event()

        def silent(client: Client) -> None:
            began.set()
            client.wait_for_end()

        proxy.script = silent
        worker.begin(f"outgate.adopt({text!r})")
        assert began.wait(20)
        proxy.script = proxies.answering(proxies.CONNECTED, stalls=True)
        other.begin(f"import outgate; outgate.adopt({text!r})")
        for program, why in ((worker, "it did not answer within 6 s"), (other, "handshake is taking longer")):
            with pytest.raises(Refused, match=why) as refused:
                program.end()
            assert refused.value.code == "fleet-unreachable"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_who_asks_for_a_certificate_is_not_held_by_a_proxy_that_dribbles(
    said: bytes, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then is no answer, however many come: a gate that is to be renewed by it hears so, and why."""
    gates, proxy = running

    def dribble(client: Client) -> None:
        client.hear_head()
        client.say(said)
        while True:
            client.say(b"x")
            time.sleep(0.02)  # what it is about

    proxy.script = dribble
    monkeypatch.setattr(asking, "WHOLE", 0.5)
    why = asking.trouble(folder_of(gates["b"]), "a", place_of(gates["a"]), "{}:{}".format(*proxy.address))
    assert why.startswith("gate a does not answer at")
    assert "it took longer than 0.5 s" in why
