"""A small internet in two network namespaces, with real servers behind addresses that look public.

``near`` is where a gate and the programs run, ``far`` has the servers; a veth pair joins them and nothing leads out of
either, so the addresses, which belong to somebody on the real internet, cannot be reached by accident. The default
policy must see them as public: the ranges for documentation (RFC 5737, RFC 3849) are refused by it.

``far`` also answers on :data:`FORBIDDEN` addresses, which a missing or wrong refusal would reach: :meth:`World.watch`
sees every packet. Needs root and the packages of ``tests/integration/packages.txt``; :func:`missing` says what is not
there.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

import trustme

from support import peers
from support.namespaces import Namespace, ip, join
from support.servers import dnsmasq, dovecot, inn, nginx, postgresql
from support.servers.process import Server
from support.sniffer import Watch

NEAR4, FAR4 = "93.184.215.2", "93.184.215.1"
NEAR6, FAR6 = "2a00:dead:beef:1::2", "2a00:dead:beef:1::1"

#: The servers' addresses, IPv4 and IPv6. The name server has the gateway's.
NEWS = ("93.184.215.11", "2a00:dead:beef:1::11")
MAIL = ("93.184.215.12", "2a00:dead:beef:1::12")
WWW = ("93.184.215.13", "2a00:dead:beef:1::13")
PUBLIC = (*NEWS, *MAIL, *WWW)

#: Reachable from ``near``, with a listener on :data:`TRAP_PORT`, and refused by the default policy.
PRIVATE4, PRIVATE6, METADATA = "10.9.9.9", "fd00:9::9", "169.254.169.254"
FORBIDDEN = (PRIVATE4, PRIVATE6, METADATA)
TRAP_PORT = 80

DOMAIN = "outgate.test"  # RFC 6761: the top level .test is nobody's
ZONE = {
    f"news.{DOMAIN}": [*NEWS],
    f"mail.{DOMAIN}": [*MAIL],
    f"www.{DOMAIN}": [*WWW],
    f"news4.{DOMAIN}": [NEWS[0]],
    f"mail4.{DOMAIN}": [MAIL[0]],
    f"www4.{DOMAIN}": [WWW[0]],
    f"www6.{DOMAIN}": [WWW[1]],
    # Names whose owner points them where only the inside may go.
    f"inside.{DOMAIN}": [PRIVATE4, PRIVATE6],
    f"metadata.{DOMAIN}": [METADATA],
    f"both.{DOMAIN}": [PRIVATE4, WWW[1]],
}

_PROGRAMS = ("ip", "innd", "rnews", "dovecot", "nginx", "dnsmasq", "curl", "setpriv")
_PROGRAMS += ("named", "master", "initdb", "redis-server", "sshd", "ssh", "chronyd")  # of support/corp.py
_PROGRAMS += ("vsftpd", "slapd", "mosquitto", "mariadbd", "mariadb-install-db", "rsyslogd", "telnetd")  # support/lab.py
_PATH = f"/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/news/bin:/usr/lib/postfix/sbin:{postgresql.programs()}"
_SOURCE = Path(__file__).parents[2] / "src"

if TYPE_CHECKING:
    Finished = subprocess.CompletedProcess[str]


def missing() -> str | None:
    """Return why this host cannot hold a world, or ``None`` when it can."""
    if sys.platform != "linux":
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces and servers on low ports need root"
    absent = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    absent += [f"dovecot-{word}d" for word in ("imap", "pop3") if not Path("/usr/lib/dovecot", word).exists()]
    if absent:
        return f"not installed: {', '.join(absent)} (sh tests/integration/install.sh)"
    return None


class World:
    """Both namespaces with their servers running; a context manager.

    :ivar near: where programs run.
    :ivar far: where servers run.
    :ivar folder: configuration, logs and data, removed at the end.
    :ivar ca: path of the certificate authority that signed the servers' certificates.
    :ivar authority: that authority, for more certificates.
    :ivar trap: the peer that accepts on :data:`FORBIDDEN` addresses, by address.
    """

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._number = next(World._numbers)
        self.servers: dict[str, Server] = {}
        self.trap: dict[str, peers.Peer] = {}
        try:
            # Below /tmp, as the path of a Unix socket may have 107 bytes only; servers run as several users.
            self.folder = Path(tempfile.mkdtemp(prefix="ogw-", dir="/tmp"))
            self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.folder.chmod(0o755)
            self._make_namespaces()
            self._make_certificates()
            self._set_traps()
            self._start_servers()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # -- using it ------------------------------------------------------------------------------------------------

    def environ(self) -> dict[str, str]:
        """Return a clean environment for programs: the world's CA, outgate's source, nothing of the host's."""
        path = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environ = {"PATH": path, "LC_ALL": "C.UTF-8", "HOME": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        environ.update(SSL_CERT_FILE=str(self.ca), REQUESTS_CA_BUNDLE=str(self.ca), CURL_CA_BUNDLE=str(self.ca))
        if not _installed():
            environ["PYTHONPATH"] = str(_SOURCE)
        return environ

    def run(self, *words: str, environ: dict[str, str] | None = None, stdin: str = "") -> Finished:
        """Run a command in ``near`` to its end, with :meth:`environ` and what is given here over it."""
        return subprocess.run(
            self.near.command(*words),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=50,
            cwd=self.folder,
            env={**self.environ(), **(environ or {})},
        )

    def python(self, program: Path | str, *words: str) -> Finished:
        """Run a Python program in ``near`` natively."""
        return self.run(sys.executable, str(program), *words)

    def outgate(self, *words: str) -> Finished:
        """Run the ``outgate`` command in ``near``, and wait for the gate beside it to end: its log is then whole."""
        done = self.run(sys.executable, "-m", "outgate", *words)
        self.near.wait_empty()
        return done

    @contextlib.contextmanager
    def watch(self) -> Iterator[Watch]:
        """See every packet that comes from ``near``, from here on."""

        def mark(payload: bytes) -> None:
            # Port 9 is "discard" (RFC 863); nobody listens, and the sniffer sees it all the same.
            with self.near.socket(kind=socket.SOCK_DGRAM) as sock:
                sock.sendto(payload, (PRIVATE4, 9))

        with Watch(self.far.socket, "far0", mark) as watch:
            yield watch

    @contextlib.contextmanager
    def watch_loopback(self) -> Iterator[Watch]:
        """See every packet on the loopback of ``near``, from here on."""

        def mark(payload: bytes) -> None:
            with self.near.socket(kind=socket.SOCK_DGRAM) as sock:
                sock.sendto(payload, ("127.0.0.1", 9))

        with Watch(self.near.socket, "lo", mark) as watch:
            yield watch

    def use_resolver(self, address: str = FAR4, options: str = "timeout:2 attempts:1") -> None:
        """Let programs in ``near``, those that run already too, ask this name server from now on (resolv.conf(5))."""
        self.near.file("resolv.conf", f"nameserver {address}\noptions {options}\n")

    # -- making it -----------------------------------------------------------------------------------------------

    def _make_namespaces(self) -> None:
        self.near = self._namespace("near")
        self.far = self._namespace("far")
        near, far = self.near.name, self.far.name
        self.use_resolver()
        self.far.file("resolv.conf", f"nameserver {FAR4}\noptions timeout:2 attempts:1\n")
        join(self.near, self.far)
        for address in (f"{NEAR4}/24", f"{NEAR6}/64"):
            ip("-n", near, "address", "add", address, "dev", "near0")
        for address in (f"{FAR4}/24", f"{FAR6}/64", *PUBLIC):
            ip("-n", far, "address", "add", address, "dev", "far0")
        for address in FORBIDDEN:
            ip("-n", far, "address", "add", address, "dev", "lo")
            ip("-n", near, "route", "add", address, "via", FAR6 if ":" in address else FAR4)

    def _namespace(self, role: str) -> Namespace:
        made = Namespace(f"outgate-{os.getpid()}-{self._number}-{role}")
        self._stack.callback(made.close)
        return made

    def _make_certificates(self) -> None:
        self.authority = trustme.CA()
        self.ca = self.folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca))
        self.certificate, self.key = self.issue(self.folder, *ZONE, *PUBLIC)

    def issue(self, folder: Path, *identities: str) -> tuple[Path, Path]:
        """Make a certificate for names and addresses; return the paths of its chain and of its key."""
        issued = self.authority.issue_cert(*identities)
        chain, key = folder / "cert.pem", folder / "key.pem"
        for number, blob in enumerate(issued.cert_chain_pems):
            blob.write_to_path(str(chain), append=number > 0)
        issued.private_key_pem.write_to_path(str(key))
        return chain, key

    def tls(self) -> ssl.SSLContext:
        """Return a context that trusts the world's CA, for use in the test's own process."""
        return ssl.create_default_context(cafile=str(self.ca))

    def _set_traps(self) -> None:
        for address in FORBIDDEN:
            self.trap[address] = self.listen(self.far, address, TRAP_PORT)

    def listen(self, namespace: Namespace, address: str, port: int) -> peers.Peer:
        """Have a peer that echoes on an address of a namespace until the world ends."""
        listener = namespace.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(listener, address, port)
        return self._stack.enter_context(peers.echo(listener=listener))

    def _start_servers(self) -> None:
        folders = {name: self.folder / name for name in ("dnsmasq", "inn", "dovecot", "nginx")}
        for folder in folders.values():
            folder.mkdir()
        self.keep("dnsmasq", dnsmasq.start(self.far, folders["dnsmasq"], FAR4, ZONE))
        self.keep("dovecot", dovecot.start(self.far, folders["dovecot"], self.certificate, self.key))
        self.keep("nginx", nginx.start(self.far, folders["nginx"], WWW, self.certificate, self.key))
        self.keep("inn", inn.start(self.far, folders["inn"]))
        self.servers["dnsmasq"].wait_until(lambda: dnsmasq.ask(self.near, FAR4, f"www.{DOMAIN}"))
        for name, addresses, ports in (
            ("inn", NEWS, (119,)),
            ("dovecot", MAIL, (110, 143, 993, 995)),
            ("nginx", WWW, (80, 443)),
        ):
            for address in addresses:
                for port in ports:
                    self.wait_for(name, address, port)
        inn.fill(self.far, folders["inn"])

    def wait_for(self, name: str, address: str, port: int) -> None:
        """Wait until a server accepts on an address and port."""
        self.servers[name].wait_until(lambda: self.near.connect(address, port).close())

    def keep(self, name: str, server: Server) -> None:
        """Note a server by name, and stop it when the world ends."""
        self.servers[name] = server
        self._stack.callback(server.stop)


@functools.cache
def _installed() -> bool:
    """Tell whether the running Python finds outgate by itself, without this suite's help."""
    done = subprocess.run(
        [sys.executable, "-c", "import outgate"], capture_output=True, env={"PATH": os.environ["PATH"]}, cwd="/"
    )
    return done.returncode == 0


def _bind(listener: socket.socket, address: str, port: int) -> None:
    """Bind to an address that was just added: the kernel makes it fit for use a little later, by a worker."""
    until = time.monotonic() + 10.0
    while True:
        try:
            listener.bind((address, port))
        except OSError as e:
            if e.errno != errno.EADDRNOTAVAIL or time.monotonic() >= until:
                listener.close()
                raise
            time.sleep(0.01)
        else:
            return
