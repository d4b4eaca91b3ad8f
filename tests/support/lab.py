"""The servers that libraries are tried with, added to the world when a test first needs them.

They are at the world's public addresses, so that the default policy lets programs reach them; each starts at its first
use. ``support/corp.py`` has what lies on private addresses.
"""

from __future__ import annotations

import functools
from pathlib import Path

from support.servers import grpc_echo, mariadb, mosquitto, moto, rpc, rsyslog, slapd, telnetd, vsftpd
from support.servers.process import Server
from support.world import MAIL, NEWS, WWW, World

#: Debian's slapd would be on 389 and 636.
LDAP, LDAPS = 389, 636


class Lab:
    """What is added to a world; see the top of this module. It ends when the world does."""

    def __init__(self, world: World) -> None:
        self.world = world

    def _folder(self, name: str) -> Path:
        folder = self.world.folder / name
        folder.mkdir()
        return folder

    def _keep(self, name: str, server: Server, addresses: tuple[str, ...], *ports: int) -> None:
        self.world.keep(name, server)
        for address in addresses:
            for port in ports:
                self.world.wait_for(name, address, port)

    @functools.cached_property
    def vsftpd(self) -> Server:
        """The file server, on every public address."""
        server = vsftpd.start(self.world.far, self._folder("vsftpd"), self.world.certificate, self.world.key)
        self._keep("vsftpd", server, WWW, 21)
        return server

    @functools.cached_property
    def slapd(self) -> Server:
        """The directory, on :data:`MAIL`."""
        folder = self._folder("slapd")
        server = slapd.start(self.world.far, folder, MAIL, (LDAP, LDAPS), self.world.certificate, self.world.key)
        self._keep("slapd", server, MAIL, LDAP, LDAPS)
        return server

    @functools.cached_property
    def mosquitto(self) -> Server:
        """The message hub, on :data:`WWW`."""
        folder = self._folder("mosquitto")
        server = mosquitto.start(self.world.far, folder, WWW, self.world.certificate, self.world.key)
        self._keep("mosquitto", server, WWW, 1883, 8883)
        return server

    @functools.cached_property
    def mariadb(self) -> Server:
        """The database, on :data:`WWW`."""
        server = mariadb.start(self.world.far, self._folder("mariadb"), WWW, self.world.certificate, self.world.key)
        self._keep("mariadb", server, WWW, 3306)
        return server

    @functools.cached_property
    def telnetd(self) -> Server:
        """The terminal server, on :data:`NEWS`."""
        server = telnetd.start(self.world.far, self._folder("telnetd"), NEWS)
        self._keep("telnetd", server, NEWS, 23)
        return server

    @functools.cached_property
    def rsyslog(self) -> rsyslog.Rsyslog:
        """The log host, on :data:`MAIL`."""
        server = rsyslog.start(self.world.far, self._folder("rsyslog"), MAIL)
        self._keep("rsyslog", server, MAIL, 514)
        return server

    @functools.cached_property
    def moto(self) -> Server:
        """The object store, on the IPv4 address of :data:`WWW`."""
        server = moto.start(self.world.far, self._folder("moto"), WWW[0])
        self._keep("moto", server, WWW[:1], moto.PORT)
        return server

    @functools.cached_property
    def rpc(self) -> Server:
        """The procedures, on the IPv4 address of :data:`WWW`."""
        server = rpc.start(self.world.far, self._folder("rpc"), WWW[0])
        self._keep("rpc", server, WWW[:1], rpc.PORT)
        return server

    @functools.cached_property
    def grpc(self) -> Server:
        """The echo by gRPC, on the IPv4 address of :data:`WWW`."""
        server = grpc_echo.start(self.world.far, self._folder("grpc"), WWW[0])
        self._keep("grpc", server, WWW[:1], grpc_echo.PORT)
        return server
