"""Name the system that this is, where it is none that a gate runs on. Standard library only, Python 3.9+.

A gate is Linux's: it makes sockets that it connects without blocking (MSG_FASTOPEN), hands them out in whole packets
(SOCK_SEQPACKET), reads meters by sock_diag and sees who is who in /proc. What only decides, reads and counts is at home
everywhere: a policy is written, checked and tested where its author is.
"""

import sys

_NAMES = {"darwin": "macOS", "win32": "Windows", "cygwin": "Cygwin"}

#: What to do about it, everywhere the same.
CURE = "run it on Linux: a container, a virtual machine or WSL 2"


def foreign() -> str:
    """Return what this system is called where it is not Linux, else ""."""
    platform = str(sys.platform)  # a str of its own, or a type checker takes what follows for dead on its own system
    return "" if platform == "linux" else _NAMES.get(platform, platform)
