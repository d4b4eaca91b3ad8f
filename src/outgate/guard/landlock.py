"""Have Landlock forbid a process, and all that it starts, what no guarded program may: thin wrappers over its calls.

It is judged by who calls, so that it holds for sockets of the gate's as well: no TCP connect or bind of the program's
own (ABI 4), no signal to a process outside the tree, its guard among them, and no abstract Unix socket from outside it
(ABI 6). It needs no privilege, and from its first rule on nobody inside may trace whom is outside.

Source: landlock(7), ``include/uapi/linux/landlock.h``.
"""

from __future__ import annotations

import os
import struct

from outgate.guard.libc import call

_CREATE, _RESTRICT = 444, 446
_ONLY_VERSION = 1
_BIND_TCP, _CONNECT_TCP = 1, 2
_ABSTRACT_UNIX, _SIGNAL = 1, 2
#: ``struct landlock_ruleset_attr``: handled access to files, to the network, and scopes.
_ATTRIBUTES = struct.Struct("=QQQ")
#: The versions from which on it knows TCP, and scopes.
NETWORK, SCOPES = 4, 6
#: ABI → the size of that structure then.
_SIZES = {4: 16, 5: 16}


def version() -> int:
    """Return which Landlock there is, its ABI; 0 for none."""
    try:
        return call("syscall", _CREATE, b"", 0, _ONLY_VERSION)
    except OSError:
        return 0


def restrict(abi: int) -> None:
    """Restrict this process and what it will start, as far as an ABI goes. Raises ``OSError``."""
    attributes = _ATTRIBUTES.pack(0, _BIND_TCP | _CONNECT_TCP, _ABSTRACT_UNIX | _SIGNAL)
    size = _SIZES.get(abi, len(attributes))
    ruleset = call("syscall", _CREATE, attributes[:size], size, 0)
    try:
        call("syscall", _RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)
