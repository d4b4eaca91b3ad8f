"""Make network namespaces, run programs and make sockets in them, and remove what was made.

Everything goes through iproute2's ``ip`` (see ip-netns(8)): ``ip netns exec`` also bind-mounts the files of
``/etc/netns/NAME/`` over those of ``/etc``, which is how the programs in a namespace get a resolver of their own.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import socket as sockets
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable, TypeVar

T = TypeVar("T")

#: From <linux/sched.h>; ``os.setns`` exists only since Python 3.12.
CLONE_NEWNET = 0x40000000

#: What ``ip netns exec`` mounts at /sys has no cgroups, and a gate of root's seals its sockets where there are some.
_WITH_CGROUPS = ("sh", "-c", 'mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null; exec "$@"', "sh")

_libc = ctypes.CDLL(None, use_errno=True)


def ip(*words: str) -> None:
    """Run ``ip`` with these words. Raises ``RuntimeError`` with its complaint when it fails."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


class Namespace:
    """One network namespace with its loopback up and its own files under ``/etc``.

    :param name: its name for ``ip netns``; two test runs on one host must not choose the same.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.etc = Path("/etc/netns", name)
        ip("netns", "add", name)
        self.etc.mkdir(parents=True)
        self.file("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
        self.file("hosts", "127.0.0.1 localhost\n::1 localhost\n")
        self.call(_enable_ipv6)
        ip("-n", name, "link", "set", "lo", "up")

    def __repr__(self) -> str:
        return f"<Namespace {self.name}>"

    def file(self, name: str, text: str) -> None:
        """Give programs of this namespace their own ``/etc/NAME``, where the host has such a file to cover."""
        if Path("/etc", name).exists():
            (self.etc / name).write_text(text)

    def command(self, *words: str) -> list[str]:
        """Return the command that runs these words in here; ``ip`` becomes the program, so its pid is the program's."""
        return ["ip", "netns", "exec", self.name, *_WITH_CGROUPS, *words]

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function on a thread of this namespace and return what it returns, or raise what it raises.

        A socket that it makes belongs to this namespace for good and can then be used from any thread.
        """
        result: list[T] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                with open(f"/run/netns/{self.name}") as handle:
                    if _libc.setns(handle.fileno(), CLONE_NEWNET):
                        number = ctypes.get_errno()
                        raise OSError(number, f"setns to {self.name}: {os.strerror(number)}")
                result.append(function(*arguments))
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=work, name=f"in {self.name}")
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return result[0]

    def socket(self, family: int = sockets.AF_INET, kind: int = sockets.SOCK_STREAM, proto: int = 0) -> sockets.socket:
        """Make a socket that belongs to this namespace."""
        return self.call(sockets.socket, family, kind, proto)

    def connect(self, host: str, port: int, timeout: float = 5.0) -> sockets.socket:
        """Connect from this namespace to a numeric address. Raises ``OSError`` as ``connect`` does."""
        made = self.socket(sockets.AF_INET6 if ":" in host else sockets.AF_INET)
        made.settimeout(timeout)
        try:
            made.connect((host, port))
        except BaseException:
            made.close()
            raise
        return made

    def pids(self) -> list[int]:
        """List the processes whose network this is."""
        done = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
        return [int(word) for word in done.stdout.split()]

    def wait_empty(self, limit: float = 20.0) -> None:
        """Wait until no process uses this network any more.

        :raises TimeoutError: one still does; it is named, and ended so that it cannot be in the way of later tests.
        """
        for pid in self.pids():
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            with open(handle, "rb", buffering=0):  # readable when the process has ended (pidfd_open(2))
                if not select.select([handle], [], [], limit)[0]:
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    raise TimeoutError(f"{self!r}: still running: {pid} {words}")

    def end_all(self) -> None:
        """End what still runs in here, and only that."""
        for pid in self.pids():
            if pid != os.getpid():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def close(self) -> None:
        """End what still runs in here, and only that, and remove the namespace and its files."""
        self.end_all()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)
        shutil.rmtree(self.etc, ignore_errors=True)


def _enable_ipv6() -> None:
    """Switch IPv6 on, as a host may hand its own "off" down to new namespaces, and skip the wait for duplicates.

    ``/proc/sys/net`` shows the network namespace of the thread that looks.
    """
    for which in ("all", "default"):
        base = Path("/proc/sys/net/ipv6/conf", which)
        for key, value in (("disable_ipv6", "0"), ("accept_dad", "0"), ("accept_ra", "0")):
            (base / key).write_text(value)


def join(near: Namespace, far: Namespace) -> None:
    """Join two namespaces by a veth pair, named ``near0`` and ``far0`` in them; neither end is ever in the host's."""
    ip("-n", near.name, "link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", far.name)
    ip("-n", near.name, "link", "set", "near0", "up")
    ip("-n", far.name, "link", "set", "far0", "up")
