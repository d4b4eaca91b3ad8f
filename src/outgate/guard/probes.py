"""Look what this host has: the thin readers behind the questions of :mod:`outgate.guard.features`.

Nothing here judges, and nothing here alters this process or the host.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from outgate.core import notices
from outgate.guard import cable, features, guard, landlock, launch
from outgate.guard.features import Check, Loaded
from outgate.guard.obstacles import read_setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from outgate.guard.fence import Fence, FenceUnavailable

__all__ = ["checks", "loaded_by", "pythons", "reachable_daemons", "takes_pass_rights", "tells_of_closes"]

#: Seconds an interpreter may take to say whether it loaded the client.
_LIMIT = 10.0

#: socket(7): the first since Linux 6.16; the second is the kernel's own name of a socket.
_SO_PASSRIGHTS, _SO_COOKIE = 83, 57
#: Seconds in which the kernel has told of a close, if it tells at all.
_MOMENT = 1.0

#: Sockets of daemons that start programs, dial or log in for whoever may write to them. ``{uid}`` is the user's.
_DAEMONS = (
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/user/{uid}/docker.sock",
    "/run/user/{uid}/podman/podman.sock",
    "/run/crio/crio.sock",
    "/var/lib/lxd/unix.socket",
    "/var/lib/incus/unix.socket",
    "/run/libvirt/libvirt-sock",
    "/run/user/{uid}/bus",
    "/run/user/{uid}/systemd/private",
)

#: What an interpreter is asked. ``-c`` and nothing else: any option could be the one that keeps the client out.
_ASK = "import sys, _socket; print('%d %d %d' % (sys.version_info[:2] + ('outgate.client.standin' in sys.modules,)))"


def checks(
    verdict: Fence | FenceUnavailable, unsealed: str, autoload_dir: str, environ: Mapping[str, str]
) -> Iterator[Check]:
    """Ask this host every question, one after the other.

    :param verdict: what :func:`outgate.guard.fence.probe` returned.
    :param unsealed: what :func:`outgate.gate.seal.seal.trial` returned.
    :param autoload_dir: the folder that ``outgate run`` puts in front of PYTHONPATH.
    :param environ: of the programs that would be started.
    """
    running = os.uname().release
    yield features.python(sys.version_info[:3])
    yield features.kernel(running)
    yield features.event_loop(_uvloop())
    yield features.autoload([loaded_by(path, autoload_dir, environ) for path in pythons(environ)])
    yield features.descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    yield features.fast_open(read_setting("/proc/sys/net/ipv4/tcp_fastopen"))
    yield features.pass_rights(takes_pass_rights())
    yield features.closes(tells_of_closes())
    yield features.fence(verdict)
    yield features.user_namespaces(read_setting)
    yield features.user(os.geteuid())
    yield features.tracing(read_setting("/proc/sys/kernel/yama/ptrace_scope"))
    yield features.daemons(reachable_daemons(environ, os.geteuid()))
    yield features.seal(unsealed, features.capabilities(_whole("/proc/self/status")))
    yield features.guard(guard.probe())
    yield features.landlock(landlock.version())


def pythons(environ: Mapping[str, str]) -> list[str]:
    """Return what ``python3`` and ``python`` mean on the PATH, each program once."""
    found: dict[str, str] = {}
    for name in ("python3", "python"):
        for folder in os.get_exec_path(dict(environ)):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and os.access(path, os.X_OK):
                found.setdefault(os.path.realpath(path), path)
                break
    return list(found.values())


def loaded_by(path: str, autoload_dir: str, environ: Mapping[str, str]) -> Loaded:
    """Start an interpreter as ``outgate run`` would and tell whether it loaded the client; no gate is asked.

    :param path: the interpreter.
    :param autoload_dir: the folder that is put in front of PYTHONPATH.
    :param environ: the environment to start from.
    """
    # No socket is made, so nothing asks at that address.
    injected = launch.environment(environ, "/nonexistent/outgate.sock", autoload_dir)
    try:
        done = subprocess.run(
            [path, "-c", _ASK], env=injected, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT
        )
        major, minor, client = map(int, done.stdout.split())
    except subprocess.TimeoutExpired:
        return Loaded(path, None, False, f"no answer within {_LIMIT:g} s")
    except OSError as e:
        return Loaded(path, None, False, e.strerror or str(e))
    except ValueError:
        return Loaded(path, None, False, _last_line(done.stderr) or f"exit status {done.returncode}")
    return Loaded(path, (major, minor), bool(client), _last_line(done.stderr))


def reachable_daemons(environ: Mapping[str, str], uid: int) -> list[str]:
    """Return those of the well-known sockets that are there and that this user may write to."""
    paths = [path.format(uid=uid) for path in _DAEMONS]
    agent = environ.get("SSH_AUTH_SOCK", "")
    if agent:
        paths.append(agent)
    return [path for path in paths if os.access(path, os.W_OK)]


def takes_pass_rights() -> bool:
    """Whether this kernel's Unix sockets know SO_PASSRIGHTS."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
        except OSError:
            return False
    return True


def tells_of_closes() -> bool:
    """Whether the kernel tells of sockets that are no more: one is made, and closed."""
    for sock in cable.closes():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
            cookie = int.from_bytes(made.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), sys.byteorder)
        waiting = select.poll()
        waiting.register(sock.fileno(), select.POLLIN)
        deadline = time.monotonic() + _MOMENT
        try:
            while waiting.poll(max(0.0, 1000 * (deadline - time.monotonic()))):  # others' are told as well
                if notices.cookie_of(sock.recv(notices.ROOM)) == cookie:
                    return True
        except OSError:  # more than there was room for: a busy host, and it tells
            return True
        finally:
            sock.close()
    return False


def _uvloop() -> str:
    try:
        import uvloop
    except ImportError:
        return ""
    return str(getattr(uvloop, "__version__", "of unknown version"))


def _whole(path: str) -> str:
    """Return the text of a file under /proc, however long; ``""`` where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
