"""A company's inside and its attackers, added to the world when a test first needs them: names, mail, data, shells.

BIND serves :data:`ZONES`; programs in ``near`` ask it for as long as a test holds the fixture ``corp``. Each other
server starts at its first use. The company's addresses are private, so that the default policy refuses them and a rule
by name must permit them; its mail server's are public.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from pathlib import Path
from typing import Iterator

from support import dns
from support.liar import Liar
from support.namespaces import ip
from support.servers import bind, openssh, postfix, postgresql, redis
from support.servers.process import Server
from support.world import FAR4, FAR6, METADATA, NEAR4, PRIVATE4, TRAP_PORT, WWW, World

BIND, LIAR = "93.184.215.53", "93.184.215.54"
SMTP = ("93.184.215.14", "2a00:dead:beef:1::14")
#: Where the company's servers are: the database with a shell beside it, the cache, and a shell of its own.
DATABASE, CACHE, SHELL = "10.9.9.20", "10.9.9.21", ("10.9.9.22", "fd00:9::22")
#: What also answers there, by echo, so that a connection that is let through by mistake succeeds.
TRAPS = ((DATABASE, 5433), (DATABASE, TRAP_PORT), (CACHE, 5432), (CACHE, TRAP_PORT), (SHELL[0], TRAP_PORT))
#: An IPv6 address of somebody else's that carries ``WWW``'s in the way of ISATAP (RFC 5214).
DISGUISE = "2a00:dead:beef:1:0:5efe:5db8:d70d"
#: The first 60 addresses of names with many; all of them answer on :data:`TRAP_PORT`.
MANY = tuple(f"93.184.215.{number}" for number in range(100, 160))

CORP, EVIL = "corp.example", "evil.example"

_CORP_ZONE = f"""\
$TTL 60
db       A     {DATABASE}
reports  A     {DATABASE}
data     CNAME db
cache    A     {CACHE}
shell    A     {SHELL[0]}
shell    AAAA  {SHELL[1]}
smtp     A     {SMTP[0]}
smtp     AAAA  {SMTP[1]}
www      A     {WWW[0]}
gate     A     {NEAR4}
worker   A     {NEAR4}
many     {f"{chr(10)}         ".join(f"A     {address}" for address in MANY)}
zero   0 A     {WWW[0]}
; Names with letters beyond ASCII (RFC 3492): bücher, and paypal with a Cyrillic first a.
xn--bcher-kva A {DATABASE}
xn--pypal-4ve A {DATABASE}
paypal   A     {DATABASE}
strasse  A     {WWW[0]}
a.very.long.chain CNAME b.very.long.chain
b.very.long.chain CNAME c.very.long.chain
c.very.long.chain CNAME d.very.long.chain
d.very.long.chain CNAME www
"""

_EVIL_ZONE = f"""\
$TTL 60
private    A     {PRIVATE4}
metadata   A     {METADATA}
to-private  CNAME private
to-metadata CNAME metadata
to-db       CNAME db.{CORP}.
to-gate     CNAME gate.{CORP}.
chain1   CNAME chain2
chain2   CNAME chain3
chain3   CNAME chain4
chain4   CNAME private
mixed    A     {PRIVATE4}
mixed    A     {WWW[0]}
many     A     {PRIVATE4}
many     {f"{chr(10)}         ".join(f"A     {address}" for address in MANY)}
loopback A     127.0.0.1
loopback AAAA  ::1
zero     A     0.0.0.0
zero     AAAA  ::
mapped   AAAA  ::ffff:{PRIVATE4}
compat   AAAA  ::{PRIVATE4}
nat64    AAAA  64:ff9b::{PRIVATE4}
6to4     AAAA  2002:0a09:0909::1
teredo   AAAA  2001:0:5db8:d70d::f5f6:f6f6
isatap   AAAA  2a00:dead:beef:1:0:5efe:{PRIVATE4}
mapped-loopback AAAA ::ffff:127.0.0.1
linklocal AAAA fe80::1
multicast A    224.0.0.1
broadcast A    255.255.255.255
*.leak   A     {WWW[0]}
"""
ZONES = {
    CORP: _CORP_ZONE,
    EVIL: _EVIL_ZONE,
    "215.184.93.in-addr.arpa": f"$TTL 60\n13 PTR www.{CORP}.\n14 PTR smtp.{CORP}.\n2 PTR worker.{CORP}.\n"
    # Whoever has an address decides what its reverse name claims.
    f"159 PTR db.{CORP}.\n",
    "9.9.10.in-addr.arpa": f"$TTL 60\n20 PTR db.{CORP}.\n21 PTR cache.{CORP}.\n22 PTR shell.{CORP}.\n",
}


class Corp:
    """What is added to a world; see the top of this module. It ends when the world does.

    :ivar world: the world.
    :ivar bind: its new name server.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        far, near = world.far.name, world.near.name
        for address in (BIND, LIAR, *SMTP, *MANY, DISGUISE):
            ip("-n", far, "address", "add", address, "dev", "far0")
        for address in (DATABASE, CACHE, *SHELL):
            ip("-n", far, "address", "add", address, "dev", "lo")
            ip("-n", near, "route", "add", address, "via", FAR6 if ":" in address else FAR4)
        for address, port in (*TRAPS, (DISGUISE, TRAP_PORT)):
            world.listen(world.far, address, port)
        # The gate's host has something to protect too.
        for address in ("127.0.0.1", "127.0.1.1", NEAR4):
            world.listen(world.near, address, TRAP_PORT)
        self.bind = bind.start(world.far, self._folder("bind"), BIND, FAR4, ZONES)
        world.keep("bind", self.bind)
        self.bind.wait_until(lambda: dns.ask(world.near, BIND, f"db.{CORP}"))

    def _folder(self, name: str) -> Path:
        folder = self.world.folder / name
        folder.mkdir()
        return folder

    def _keep(self, name: str, server: Server, *places: tuple[str, int]) -> None:
        self.world.keep(name, server)
        for address, port in places:
            self.world.wait_for(name, address, port)

    def use(self) -> None:
        """Let programs in ``near`` ask BIND, which answers at once but on a busy host."""
        self.world.use_resolver(BIND, "timeout:15 attempts:1")

    @contextlib.contextmanager
    def liar(self, patience: int = 15) -> Iterator[Liar]:
        """Start the lying name server and let programs in ``near`` ask it, and nobody else, until this ends.

        :param patience: seconds that the C library waits for an answer.
        """
        far = self.world.far
        datagrams, listener = far.socket(kind=socket.SOCK_DGRAM), far.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for sock in (datagrams, listener):
            sock.bind((LIAR, 53))
        listener.listen()
        with Liar(datagrams, listener, honest=WWW[0], secret=PRIVATE4) as liar:
            self.world.use_resolver(LIAR, f"timeout:{patience} attempts:1")
            try:
                yield liar
            finally:
                self.use()

    @functools.cached_property
    def postfix(self) -> Server:
        """Postfix on :data:`SMTP`; whom it lets in is the same as Dovecot's."""
        folder = self._folder("postfix")
        name = f"smtp.{CORP}"
        sasl = self.world.folder / "dovecot/run/auth-postfix"
        server = postfix.start(self.world.far, folder, name, SMTP, sasl, *self.world.issue(folder, name))
        self._keep("postfix", server, *((address, port) for address in SMTP for port in (25, 587)))
        return server

    @functools.cached_property
    def postgresql(self) -> Server:
        """PostgreSQL on :data:`DATABASE`."""
        folder = self._folder("postgresql")
        server = postgresql.start(self.world.far, folder, DATABASE, *self.world.issue(folder, f"db.{CORP}"))
        self._keep("postgresql", server, (DATABASE, 5432))
        return server

    @functools.cached_property
    def redis(self) -> Server:
        """Redis on :data:`CACHE`."""
        server = redis.start(self.world.far, self._folder("redis"), CACHE)
        self._keep("redis", server, (CACHE, 6379))
        return server

    @functools.cached_property
    def openssh(self) -> openssh.OpenSsh:
        """OpenSSH's server on :data:`DATABASE` and :data:`SHELL`."""
        addresses = (DATABASE, *SHELL)
        server = openssh.start(self.world.far, self._folder("openssh"), addresses)
        self._keep("openssh", server, *((address, 22) for address in addresses))
        return server
