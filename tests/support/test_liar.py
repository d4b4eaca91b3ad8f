"""The lying name server lies as its names say, and ends when it is told to."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from support import dns
from support.liar import ZONE, Liar

HONEST, SECRET = socket.inet_aton("93.184.215.14"), socket.inet_aton("10.9.9.9")


@pytest.fixture
def client() -> Iterator[socket.socket]:
    """A datagram socket that is connected to a liar on loopback."""
    datagrams, listener = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
    for sock in (datagrams, listener):
        sock.bind(("127.0.0.1", 0))
    listener.listen()
    with (
        Liar(datagrams, listener, socket.inet_ntoa(HONEST), socket.inet_ntoa(SECRET)),
        socket.socket(type=socket.SOCK_DGRAM) as sock,
    ):
        sock.settimeout(10)
        sock.connect(datagrams.getsockname())
        yield sock


def ask(client: socket.socket, host: str, number: int = 7) -> bytes:
    client.send(dns.pack_query(f"{host}.{ZONE}", number=number))
    return client.recv(65535)


@pytest.mark.parametrize(
    ("host", "ends"),
    [("honest", [HONEST] * 3), ("alternate", [HONEST, SECRET, HONEST]), ("rebind", [HONEST, SECRET, SECRET])],
)
def test_what_a_name_answers_follows_from_its_first_label(client: socket.socket, host: str, ends: list[bytes]) -> None:
    """Three questions for one name get the addresses that its habit gives, and another name starts afresh."""
    assert [ask(client, host)[-4:] for _ in range(3)] == ends
    assert ask(client, f"{host}-again")[-4:] == ends[0]


def test_a_held_name_is_answered_after_its_release(client: socket.socket) -> None:
    """The answer to a held name comes when the name that releases it is asked, and before that one's own."""
    client.send(dns.pack_query(f"held.{ZONE}", number=1))
    client.send(dns.pack_query(f"release.{ZONE}", number=2))
    assert [client.recv(512)[1] for _ in range(2)] == [1, 2]


def test_silence_and_a_name_of_nobody(client: socket.socket) -> None:
    """A silent name gets no answer at all, and a name out of the zone does not exist."""
    client.send(dns.pack_query(f"silent.{ZONE}", number=1))
    client.send(dns.pack_query("www.elsewhere.example", number=2))
    answer = client.recv(512)
    assert (answer[1], answer[3] & 15) == (2, dns.NXDOMAIN)
