"""What the two protocols of a door have in common: a talk takes bytes, tells what they ask for, and says what to send.

A talk is driven as follows: :meth:`Talk.feed` it what came, ask :meth:`Talk.next` what that means until it says
``None`` (more must come), and send :attr:`Talk.out` after each step. What comes behind the last word of a handshake is
:attr:`Talk.rest`: it is for whoever the connection leads to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Optional, Union

from outgate.core.doors.failures import Failure

__all__ = ["CONNECT", "UDP", "Event", "Login", "Refused", "Talk", "Wanted", "host_of"]

#: What may be wanted: a TCP connection, or a way for datagrams.
CONNECT, UDP = "connect", "udp"

#: Characters of a name in a request: a length of SOCKS5 is one byte, and no name is longer (RFC 1035).
MAX_HOST = 255


class Login(NamedTuple):
    """Somebody says which app it is; answer by :meth:`Talk.welcome` or :meth:`Talk.reject`."""

    app: str
    token: str


class Wanted(NamedTuple):
    """Somebody asks for a way to a destination; answer by :meth:`Talk.opened` or :meth:`Talk.failed`.

    :ivar what: :data:`CONNECT` or :data:`UDP`.
    :ivar family: 4 or 6 where the host was given as the bytes of an address; 0 for a text, be it a name or a number.
    """

    what: str
    host: str
    port: int
    family: int = 0


class Refused(NamedTuple):
    """The talk is over: what came is no request that a door answers. :attr:`Talk.out` says so, then it is closed.

    :ivar why: for the log.
    """

    why: str


Event = Union[Login, Wanted, Refused]


class Malformed(Exception):
    """What came is none of the protocol's.

    :ivar answer: what to send before it is closed.
    """

    def __init__(self, why: str, answer: bytes = b"") -> None:
        super().__init__(why)
        self.answer = answer


class Talk:
    """One talk, on the door's side.

    :ivar out: bytes to send; whoever sends them empties it.
    """

    #: How the protocol is called in the log.
    name = ""
    #: What reads the next word; given the talk, for a bound method would keep it until the garbage collector comes.
    _step: Callable[[Any], Optional[Event]]

    def __init__(self) -> None:
        #: What has come and was not taken yet. No bytearray: mostly it is what one read gave, as it is.
        self._in = b""
        self._is_over = False
        self.out = b""

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._in = self._in + data if self._in else data

    @property
    def rest(self) -> bytes:
        """What came behind the handshake."""
        return self._in

    def next(self) -> Optional[Event]:
        """Return what the bytes so far ask for, or ``None`` where more must come."""
        if self._is_over:
            return None
        try:
            return self._step(self)
        except Malformed as e:
            self.out += e.answer
            self._is_over = True
            return Refused(str(e))

    def _take(self, count: int) -> bytes:
        """Take so many bytes out of what came."""
        data = self._in
        self._in = data[count:]
        return data[:count]

    def welcome(self) -> None:
        """Say that the credentials are good."""

    def reject(self) -> None:
        """Say that they are not; it is closed then."""

    def opened(self, address: str, port: int) -> None:
        """Say that what was wanted is there.

        :param address: numeric, of the door's own socket that leads there.
        """
        raise NotImplementedError

    def failed(self, failure: Failure) -> None:
        """Say that it is not, and why as far as the protocol has words for it; it is closed then."""
        raise NotImplementedError


def host_of(raw: bytes) -> str:
    """Return the host in a request: a name in ASCII or UTF-8, or a number as text.

    :raises ValueError: it cannot be one.
    """
    if not 0 < len(raw) <= MAX_HOST:
        raise ValueError("a host has 1 to 255 characters")
    host = raw.decode("utf-8")  # UnicodeDecodeError is a ValueError
    if any(letter <= " " or letter == "\x7f" for letter in host):
        raise ValueError("a host has no spaces or control characters")
    return host
