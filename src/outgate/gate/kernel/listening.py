"""Listen for channels at a path that only the gate's user can put something else at."""

from __future__ import annotations

import errno
import os
import socket
import stat

from outgate.core import paths
from outgate.errors import ConfigError

#: Channels that may wait to be accepted. net.core.somaxconn caps it.
_BACKLOG = 1024


def listen(path: str, mode: int, key: str = "gate.socket", kind: int = socket.SOCK_SEQPACKET) -> socket.socket:
    """Return a listening channel socket at the path; one that a dead gate left is replaced.

    :param mode: its permissions.
    :param key: of the configuration, for what may be wrong with it.
    :param kind: of socket; channels are SOCK_SEQPACKET.
    :raises ConfigError: another gate answers there, or the path cannot be used.
    """
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o755 if mode & 0o077 else 0o700, exist_ok=True)
        _refuse_shared(folder, key)
        _remove_dead(path, key, kind)
        sock = socket.socket(socket.AF_UNIX, kind)
        before = os.umask(0o777 & ~mode)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(_BACKLOG)
    except OSError as e:
        why = "the path is too long for a Unix socket (107 bytes)" if e.errno is None else e.strerror
        raise ConfigError(f"{key}: cannot listen at {path}: {why or e}") from None
    return sock


def _refuse_shared(folder: str, key: str) -> None:
    seen = os.stat(folder)
    sticky = seen.st_uid == 0 and seen.st_mode & stat.S_ISVTX  # as /tmp: others may add files, and not replace ours
    if not sticky and not paths.is_private(seen.st_uid, seen.st_mode, os.getuid()):
        raise ConfigError(
            f"{key}: others may change {folder}, so they could stand in for the gate; name a folder of your own"
        )


def _remove_dead(path: str, key: str, kind: int) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise ConfigError(f"{key}: {path} exists and is not a socket; name another path")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(path)
    if result in (0, errno.EAGAIN):
        raise ConfigError(f"{key}: a gate is already listening at {path}; stop it or name another socket")
    os.unlink(path)
