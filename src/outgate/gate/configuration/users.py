"""Know users and groups by name, also on a system that has none: a configuration is checked where it is written.

Windows has neither ``pwd`` nor uids. A file that is read there is one for a gate elsewhere, and read as root's.
"""

from __future__ import annotations

import os

__all__ = ["number_of_group", "number_of_user", "own"]


def own() -> int:
    """Return the effective uid of this process; root's where there are none."""
    ask = getattr(os, "geteuid", None)
    return 0 if ask is None else int(ask())


def number_of_user(name: str) -> int:
    """Return the uid of a user of this host. Raises ``KeyError`` where there is none, ``ValueError`` for a NUL."""
    try:
        import pwd
    except ImportError:
        raise KeyError(name) from None
    return pwd.getpwnam(name).pw_uid


def number_of_group(name: str) -> int:
    """Return the gid of a group of this host. Raises as :func:`number_of_user`."""
    try:
        import grp
    except ImportError:
        raise KeyError(name) from None
    return grp.getgrnam(name).gr_gid
