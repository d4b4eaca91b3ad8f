"""The world itself: what it shows must be true before any test may lean on it."""

from __future__ import annotations

import socket
import subprocess

import pytest

from outgate.core.address.addresses import classify
from support.corp import Corp
from support.world import DOMAIN, FORBIDDEN, MAIL, NEWS, PUBLIC, TRAP_PORT, WWW, ZONE, World


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_forbidden_address_is_reachable_natively_and_its_packets_are_seen(world: World, address: str) -> None:
    """Without a gate a connection to a forbidden address works, and the sniffer sees it begin."""
    with world.watch() as watch:
        assert watch.to(address) == []
        with world.near.connect(address, TRAP_PORT) as sock:
            sock.sendall(b"anybody there?")
            assert sock.recv(100) == b"anybody there?"
        assert [(packet.protocol, packet.port) for packet in watch.to(address)] == [("tcp", TRAP_PORT)]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_datagram_that_nobody_receives_is_seen_too(world: World, address: str) -> None:
    """A UDP packet to a closed port of a forbidden address shows on the wire."""
    with world.watch() as watch:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with world.near.socket(family, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", (address, 5353))
        assert [(packet.protocol, packet.port) for packet in watch.to(address)] == [("udp", 5353)]


def test_a_connection_on_the_near_loopback_is_seen(world: World) -> None:
    """The loopback sniffer sees a SYN to a port where nothing listens."""
    with world.watch_loopback() as watch:
        with pytest.raises(ConnectionRefusedError):
            world.near.connect("127.0.0.1", 7)
        assert [packet.port for packet in watch.to("127.0.0.1")] == [7]


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_nothing_leads_out_of_the_world(world: World, address: str) -> None:
    """Neither namespace has a route to an address outside of the world."""
    for namespace in (world.near, world.far):
        with pytest.raises(OSError, match="unreachable"):
            world.near.connect(address, 9) if namespace is world.near else world.far.connect(address, 9)


@pytest.mark.parametrize(
    ("address", "port", "greeting"),
    [
        *((address, 119, b"200 news.outgate.test InterNetNews NNRP server INN") for address in NEWS),
        *((address, 110, b"+OK Dovecot") for address in MAIL),
        *((address, 143, b"* OK [CAPABILITY IMAP4rev1") for address in MAIL),
    ],
)
def test_a_server_greets_as_the_real_one(world: World, address: str, port: int, greeting: bytes) -> None:
    """INN and Dovecot answer on their addresses, IPv4 and IPv6, with their own greeting."""
    with world.near.connect(address, port) as sock:
        assert sock.recv(500).startswith(greeting)


@pytest.mark.parametrize("address", WWW)
def test_nginx_answers_over_tls_with_a_certificate_of_our_authority(world: World, address: str) -> None:
    """The web server's certificate is valid for its names and addresses."""
    for name in (f"www.{DOMAIN}", address):
        with world.near.connect(address, 443) as sock, world.tls().wrap_socket(sock, server_hostname=name) as tls:
            tls.sendall(b"HEAD /hello HTTP/1.0\r\n\r\n")
            assert tls.recv(500).startswith(b"HTTP/1.1 200 OK\r\nServer: nginx/")


@pytest.mark.parametrize("name", ZONE)
def test_names_resolve_to_the_zone_for_programs_in_near(world: World, name: str) -> None:
    """The C library's resolver gives a program in the near namespace exactly the zone's addresses."""
    answer = world.run("getent", "ahosts", name)
    assert {line.split()[0] for line in answer.stdout.splitlines()} == set(ZONE[name])


def test_every_server_address_is_public_and_every_trap_is_not() -> None:
    """The default policy's own table sees the world's addresses the way the tests need them."""
    assert {classify(address) for address in PUBLIC} == {"public"}
    assert {classify(address) for address in FORBIDDEN} == {"private", "metadata"}


def test_a_second_world_leaves_nothing_behind(world: World) -> None:
    """After a world has ended, its namespaces, processes and files are gone."""
    with World() as second:
        company = Corp(second)
        company.openssh, company.redis
        names, folder = (second.near.name, second.far.name), second.folder
        pids = second.far.pids()
        assert len(pids) >= len(second.servers)
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.split()
    assert not set(names) & set(left)
    assert not folder.exists()
    assert not any(second.far.etc.parent.glob(f"{name}*") for name in names if (second.far.etc.parent / name).exists())
    assert second.far.pids() == []
