"""Hosts with a gate each, in network namespaces of their own: what a fleet runs on.

Each has one cable, to a namespace in the middle, where servers are and which may pass packets on from host to host.
Addresses look public, so that the default policy is what is tested; nothing leads out of the namespaces.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from outgate.testing.running import PATIENCE
from support.driven import CODE, Driven
from support.namespaces import Namespace, ip
from support.servers.process import Server
from support.world import World

Finished = subprocess.CompletedProcess[str]

#: Where the gates listen for each other.
PORT = 7400
GATE = """\
version = 1
[gate]
socket = "{folder}/gate.sock"
log = "{folder}/decisions.jsonl"
state = "{folder}/state"
"""


class Host:
    """A host that may have a gate; ends with :meth:`close`.

    :param namespace: its network.
    :param folder: for what its gate keeps; made here.
    :param environ: of everything that is run here.
    :ivar environ: the same, to add to.
    :ivar config: the gate's configuration (:meth:`configure`).
    """

    def __init__(self, namespace: Namespace, folder: Path, environ: Mapping[str, str]) -> None:
        folder.mkdir()
        self.namespace = namespace
        self.folder = folder
        self.config = folder / "outgate.toml"
        self.gate: subprocess.Popen[str] | None = None
        self.environ = dict(environ)

    def configure(self, *tables: str) -> None:
        """Write the gate's configuration: where it keeps what, and these tables."""
        self.config.write_text(GATE.format(folder=self.folder) + "\n".join(tables) + "\n")

    @property
    def log(self) -> Path:
        """The gate's decision log."""
        return self.folder / "decisions.jsonl"

    def outgate(self, *words: str, stdin: str = "") -> Finished:
        """Run a command of outgate's here to its end."""
        return subprocess.run(
            self._command(*words), input=stdin, capture_output=True, text=True, timeout=50, env=self._programs()
        )

    def fleet(self, *words: str, stdin: str = "") -> str:
        """Run ``outgate fleet`` with the gate's configuration, and return what it has printed."""
        done = self.outgate("fleet", *words, "--config", str(self.config), stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def begin_gate(self) -> None:
        """Start the gate, without waiting for it (:meth:`wait`)."""
        words = self._command("serve", "--config", str(self.config))
        self.gate = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=self.environ)

    def wait(self) -> None:
        """Wait until the gate serves."""
        assert self.gate is not None
        assert self.gate.stderr is not None
        said = self.gate.stderr.readline()
        while said and "ready" not in said:  # warnings stand before
            said = self.gate.stderr.readline()
        assert "ready" in said, f"{said}{self.log.read_text() if self.log.exists() else ''}"

    def start(self) -> None:
        """Start the gate, and wait until it serves."""
        self.begin_gate()
        self.wait()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the gate."""
        assert self.gate is not None
        gate, self.gate = self.gate, None
        gate.send_signal(number)
        gate.communicate(timeout=PATIENCE)

    def python(self, code: str, *words: str) -> Finished:
        """Run a Python program of the app to its end."""
        return subprocess.run(
            self._command("run", "-q", "--", sys.executable, "-c", code, *words),
            capture_output=True,
            text=True,
            timeout=50,
            env=self._programs(),
        )

    def begin(self, code: str, *words: str) -> subprocess.Popen[str]:
        """Start a Python program of the app, with its standard streams in pipes."""
        pipe = subprocess.PIPE
        command = self._command("run", "-q", "--", sys.executable, "-c", code, *words)
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=self._programs())

    def driven(self) -> Driven:
        """Start a program of the app that does what it is told line by line."""
        return Driven.of(self.begin(CODE))

    def close(self) -> None:
        """End the gate, if it runs."""
        if self.gate is not None:
            self.stop()

    def _programs(self) -> dict[str, str]:
        return {**self.environ, "OUTGATE_SOCKET": str(self.folder / "gate.sock")}

    def _command(self, *words: str) -> list[str]:
        return self.namespace.command(sys.executable, "-m", "outgate", *words)


class Hosts:
    """Hosts by their names, and what is between them; a context manager.

    :param forwards: whether the middle passes packets on; else a host reaches only what is there.
    :ivar middle: where servers are.
    :ivar folder: below which everything is kept, removed at the end.
    """

    environ = World.environ

    def __init__(self, *names: str, forwards: bool = True) -> None:
        self._stack = contextlib.ExitStack()
        self._names = names
        self._hosts: dict[str, Host] = {}
        try:
            # Below /tmp, as the path of a Unix socket may have 107 bytes only; servers run as several users.
            self.folder = Path(tempfile.mkdtemp(prefix="ogh-", dir="/tmp"))
            self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            self.folder.chmod(0o755)
            self.ca = self.folder / "none.pem"
            self.middle = self._namespace("middle")
            if forwards:
                self.middle.call(Path("/proc/sys/net/ipv4/ip_forward").write_text, "1")
            for name in names:
                self._add(name)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __iter__(self) -> Iterator[Host]:
        return iter(self._hosts.values())

    def _namespace(self, role: str) -> Namespace:
        made = Namespace(f"directory{os.getpid()}-{role}")
        self._stack.callback(made.close)
        return made

    def _add(self, name: str) -> None:
        made = self._namespace(name)
        near, far = made.name, self.middle.name
        ip("-n", near, "link", "add", "near0", "type", "veth", "peer", "name", f"to-{name}", "netns", far)
        ip("-n", near, "address", "add", f"{self.address(name)}/24", "dev", "near0")
        ip("-n", far, "address", "add", f"{self.middle_for(name)}/24", "dev", f"to-{name}")
        ip("-n", near, "link", "set", "near0", "up")
        ip("-n", far, "link", "set", f"to-{name}", "up")
        ip("-n", near, "route", "add", "default", "via", self.middle_for(name))
        host = Host(made, self.folder / name, self.environ())  # type: ignore[arg-type]
        self._hosts[name] = host
        self._stack.callback(host.close)

    def address(self, name: str) -> str:
        """Return a host's address."""
        return f"93.184.{216 + self._names.index(name)}.2"

    def middle_for(self, name: str) -> str:
        """Return the address of the middle at a host's cable."""
        return f"93.184.{216 + self._names.index(name)}.1"

    @property
    def gates(self) -> str:
        """What ``fleet.gates`` says of them all."""
        return "{ " + ", ".join(f'{name} = "{self.address(name)}:{PORT}"' for name in self._names) + " }"

    def pull(self, name: str) -> None:
        """Pull a host's cable: what goes there is lost, and nobody is told."""
        ip("-n", self.middle.name, "link", "set", f"to-{name}", "down")

    def plug(self, name: str) -> None:
        """Put it in again."""
        ip("-n", self.middle.name, "link", "set", f"to-{name}", "up")

    def keep(self, server: Server, port: int) -> Server:
        """Wait until a server in the middle accepts on a port, and stop it at the end."""
        self._stack.callback(server.stop)
        first = self._names[0]
        server.wait_until(lambda: self._hosts[first].namespace.connect(self.middle_for(first), port).close())
        return server

    def join(self, order: Sequence[str] = ()) -> None:
        """Make all of them one fleet, as the pages say to, and start the gates; the first one issues certificates."""
        first, *others = order or self._names
        self[first].fleet("init")
        self[first].start()
        for name in others:
            self[name].fleet("join", "-", stdin=self[first].fleet("invite", name))
            self[name].begin_gate()
        for name in others:
            self[name].wait()
