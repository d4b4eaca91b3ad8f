"""Say what is to be dialled, with which mark, and what a way is."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["CLIENT", "FENCE", "LIMIT", "SEAL", "USER", "V4", "V6", "Target", "Untried", "Way", "command"]

V4, V6 = "127.0.0.1", "::1"

#: Seconds one way may take. On loopback every answer is there at once.
LIMIT = 5.0

# What stops a way, from the least.
CLIENT = "client"  #: the client: it goes by Python's own sockets
FENCE = "fence"  #: the fence: it goes round the client
USER = "user"  #: the fence around an ordinary user: root can leave
SEAL = "seal"  #: the seal, or a relay, which has nothing to turn: it turns a socket that the gate itself gave

#: What an interpreter runs to be this program. At the end of the path, so that it can shadow nothing.
_LAUNCH = "import sys; sys.path.append(sys.argv.pop(1)); from outgate.guard.ways.program import main; main()"


class Untried(Exception):
    """This way does not exist here; the text says what is missing."""


class Target(NamedTuple):
    """What is dialled, and with what.

    :ivar root: the folder that outgate is in.
    :ivar port: the listener's, the same for TCP and UDP, IPv4 and IPv6.
    :ivar nonce: stands before every mark, so that nobody else's bytes are taken for one.
    :ivar ipv6: whether the listener has IPv6.
    :ivar only: the ways to try; all where it is empty.
    :ivar outside: pid of a process of the same user that nothing contains.
    :ivar bait: an fd of that process's: a socket that is not connected.
    :ivar mark: name of the way to deliver as, where one way is carried out by another in a child.
    :ivar fd: a socket that was handed on to this process.
    """

    root: str
    port: int
    nonce: str
    ipv6: bool
    only: tuple[str, ...] = ()
    outside: int = 0
    bait: int = -1
    mark: str = ""
    fd: int = -1

    def marked(self, name: str) -> bytes:
        """Return the bytes that tell the listener which way they came."""
        return f"{self.nonce}:{self.mark or name}\n".encode()


class Way(NamedTuple):
    """One way to dial.

    :ivar name: in a word.
    :ivar title: what is done, as a table shows it.
    :ivar stopped_by: :data:`CLIENT`, :data:`FENCE`, :data:`USER` or :data:`SEAL`.
    :ivar dial: called with the target and the bytes to deliver. Raises what stopped it, or :class:`Untried`; returns
        what there is to tell of how it went, or nothing.
    """

    name: str
    title: str
    stopped_by: str
    dial: Callable[[Target, bytes], str | None]


def command(target: Target, options: Sequence[str] = (), python: str = sys.executable) -> list[str]:
    """Return the command of this program with that target.

    :param options: the interpreter's.
    """
    return [python, *options, "-c", _LAUNCH, target.root, json.dumps(target._asdict())]
