"""A network that one may leave only by a proxy: three network namespaces in a row, and nothing routed between them.

``near`` is where a gate and the programs run; it reaches ``mid`` and nothing else. ``mid`` has the proxies, at a
private address that the default policy denies to programs. ``far`` has what they want, at addresses that look public.
Names mean one far address in ``near`` and the other in ``mid``, so that it can be seen who has looked them up.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import trustme

from support import peers
from support.namespaces import Namespace, ip, join
from support.servers import leading
from support.servers.process import Server
from support.world import World

#: The proxies' address, and those of the host of the programs.
PROXY, NEAR, SECOND = "10.50.0.1", "10.50.0.2", "10.50.0.3"
PROXY6, NEAR6 = "fd00:50::1", "fd00:50::2"
#: What ``name`` means to who is near, and to the proxies.
NAME = "www.island.test"
SEEN_NEAR, SEEN_BY_PROXIES = "93.184.215.11", "93.184.215.12"
FAR6 = "2a00:dead:beef:1::11"
#: Where the far end says its address, and then what it hears; and where nobody listens.
PORT, CLOSED = 7777, 7778
#: Ports of the proxies.
PORTS = {"microsocks": 1080, "asking": 1081, "dante": 1082, "squid": 3128, "secure": 3129, "tinyproxy": 8888}

_PROGRAMS = ("ip", "microsocks", "danted", "squid", "tinyproxy", "openssl")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_numbers = itertools.count(1)


def missing() -> str | None:
    """Return why this host cannot hold an island, or ``None`` when it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    absent = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    return f"not installed: {', '.join(absent)} (sh tests/integration/install.sh)" if absent else None


def _telling(connection: peers.Connection) -> None:
    """Say at once which address was reached, and then whatever is heard."""
    connection.send(f"{connection.socket.getsockname()[0]}\n".encode())
    while data := connection.receive():
        connection.send(data)


class Island:
    """The three namespaces with their servers running; a context manager.

    :ivar far_ends: the peer of each far address.
    :ivar authority: has signed the certificate of the proxy that speaks TLS.
    """

    environ = World.environ

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._name = f"outgate-{os.getpid()}-i{next(_numbers)}"
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="ogi-", dir="/tmp"))
            self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.folder.chmod(0o755)
            self.ca = self.folder / "none.pem"
            self.authority = trustme.CA()
            self._make_namespaces()
            self._start_servers()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Island:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _make_namespaces(self) -> None:
        self.near, self.mid, self.far = (self._namespace(role) for role in ("near", "mid", "far"))
        join(self.near, self.mid)
        join(self.mid, self.far)
        for namespace, device, *addresses in (
            (self.near, "near0", f"{NEAR}/24", f"{SECOND}/24", f"{NEAR6}/64"),
            (self.mid, "far0", f"{PROXY}/24", f"{PROXY6}/64"),
            (self.mid, "near0", "93.184.215.2/24", "2a00:dead:beef:1::2/64"),
            (self.far, "far0", f"{SEEN_NEAR}/24", f"{SEEN_BY_PROXIES}/24", f"{FAR6}/64"),
        ):
            for address in addresses:
                words = ("nodad",) if ":" in address else ()
                ip("-n", namespace.name, "address", "add", address, "dev", device, *words)
        self.near.file("hosts", f"127.0.0.1 localhost\n{SEEN_NEAR} {NAME}\n{PROXY} proxy.island.test\n")
        self.mid.file("hosts", f"127.0.0.1 localhost\n{SEEN_BY_PROXIES} {NAME}\n")

    def _namespace(self, role: str) -> Namespace:
        made = Namespace(f"{self._name}-{role}")
        self._stack.callback(made.close)
        made.file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        return made

    def _start_servers(self) -> None:
        self.far_ends = {
            address: self.listen(self.far, address, _telling) for address in (SEEN_NEAR, SEEN_BY_PROXIES, FAR6)
        }
        mid, folder = self.mid, self.folder
        self._keep(leading.microsocks(mid, folder, PROXY, PORTS["microsocks"]), "microsocks")
        self._keep(leading.microsocks(mid, folder, PROXY, PORTS["asking"], asks=True), "asking")
        self._keep(leading.dante(mid, folder, PROXY, PORTS["dante"], "near0"), "dante")
        certificate = folder / "proxy.pem"
        self.authority.issue_cert("proxy.island.test", PROXY).private_key_and_cert_chain_pem.write_to_path(
            str(certificate)
        )
        self._keep(
            leading.squid(mid, folder, PROXY, PORTS["squid"], secure=PORTS["secure"], certificate=certificate), "squid"
        )
        self._keep(leading.tinyproxy(mid, folder, PROXY, PORTS["tinyproxy"]), "tinyproxy")

    def listen(self, namespace: Namespace, address: str, habit: object = None) -> peers.Peer:
        """Have a peer on :data:`PORT` of an address, which echoes unless it has another habit."""
        listener = namespace.socket(peers.socket.AF_INET6 if ":" in address else peers.socket.AF_INET)
        listener.bind((address, PORT))
        peer = peers.echo(listener=listener) if habit is None else peers.Peer(habit, listener=listener)  # type: ignore[arg-type]
        self._stack.callback(peer.stop)
        return peer

    def _keep(self, server: Server, name: str) -> None:
        self._stack.callback(server.stop)
        server.wait_until(lambda: self.near.connect(PROXY, PORTS[name]).close())

    def run(self, config: Path, log: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program in ``near`` under ``outgate run`` with this configuration, to its end."""
        options = ("-q", "--config", str(config), "--log", str(log))
        return self.execute(sys.executable, "-m", "outgate", "run", *options, "--", *words)

    def execute(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command in ``near`` to its end, and wait for what it has started there.

        :param more: of its environment, over :meth:`environ`.
        """
        done = subprocess.run(
            self.near.command(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
            cwd=self.folder,
            env={**self.environ(), **more},  # type: ignore[arg-type]
        )
        self.near.wait_empty()
        return done
