"""Know the host: its own addresses, which the policy treats as ``own``, and how many files a gate may have there.

A dial to one of its own addresses would reach the host's services.
"""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):  # on other systems, where commands need what else is here
    import resource


def own_addresses(proc: str = "/proc") -> tuple[str, ...]:
    """Return the addresses of this network namespace's interfaces, loopback's apart.

    From the kernel's table of local routes (``/proc/net/fib_trie``) and ``/proc/net/if_inet6``; a kernel without IPv6
    has no second file.
    """
    found: dict[str, None] = {}
    try:
        with open(f"{proc}/net/fib_trie", encoding="ascii") as trie:
            last = ""
            for line in trie:
                word = line.split()
                if len(word) == 2 and word[0] == "|--":
                    last = word[1]
                elif "/32 host LOCAL" in line and not last.startswith("127."):
                    found[last] = None
    except OSError:
        pass
    try:
        with open(f"{proc}/net/if_inet6", encoding="ascii") as table:
            for line in table:
                digits = line.split()[0]
                address = ":".join(digits[i : i + 4] for i in range(0, 32, 4))
                if not digits.startswith("0" * 31) and not digits.startswith("fe8"):
                    found[address] = None
    except OSError:
        pass
    return tuple(found)


def raise_descriptors() -> int:
    """Raise RLIMIT_NOFILE to its hard limit and return it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
