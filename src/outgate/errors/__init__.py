"""What can go wrong: the classes that programs see, and by name what makes one from a row of the table.

Programs see ``OSError`` with the true errno, so code that was written for :mod:`socket` keeps working; the precise
class is one ``except`` deeper. A new refusal is one new row in :mod:`outgate.errors.table`; the exception a program
sees, the code in the log, the message on the channel and ``docs/errors.md`` all follow from it.

This room is loaded into other people's interpreters: standard library only, Python 3.9+, and without ``typing`` at
run time, which costs more than all the rest of an import of outgate.
"""

from __future__ import annotations

from _socket import gaierror

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping, Optional

__all__ = [
    "TABLE",
    "BillingDisabled",
    "ConfigError",
    "ConnectionCut",
    "GateError",
    "GateUnavailable",
    "InternalError",
    "LeaseReclaimed",
    "LookUpDenied",
    "LookUpsExceeded",
    "NotOffered",
    "OutboundOnly",
    "OutgateError",
    "PolicyDenied",
    "ProtocolError",
    "QuotaExceeded",
    "Refusal",
    "ResolveFailed",
    "Row",
    "TooManyLeases",
    "UnknownDescriptor",
    "WayOutFailed",
    "build",
    "describe",
    "number_of",
]


class OutgateError(Exception):
    """The root of everything outgate raises on its own account."""


class Refusal(OutgateError):
    """What the gate refused, and the reason.

    :ivar code: the stable word for this refusal, as in the log and in ``docs/errors.md``.
    :ivar reason: one sentence that says why.
    :ivar cure: what would permit it, or ``None`` where nothing does.
    :ivar facts: the plain data the sentence was made from.
    """

    code: str = "refused"
    reason: str = ""
    cure: Optional[str] = None
    facts: Mapping[str, Any] = {}

    def __reduce__(self) -> Any:
        return (build, (self.code, dict(self.facts)))


class GateError(Refusal, OSError):
    """A refusal by the gate: an ``OSError`` with a true errno, and the reason beside it."""


class NotOffered(Refusal, NotImplementedError):
    """A function that App Engine did not have, in its profile. No ``OSError``: ``socket.getfqdn()`` would hide it."""


class PolicyDenied(GateError, PermissionError):
    """The policy of the app forbids this destination (EACCES)."""


class LookUpDenied(PolicyDenied, gaierror):
    """The policy of the app forbids to look this name up, or all that it leads to (EACCES).

    It is a look-up that failed as well: some programs wait for ever for one that raised anything else (Twisted).
    """


class BillingDisabled(GateError, PermissionError):
    """The app has no billing, and sockets are for paid apps (EACCES)."""


class OutboundOnly(GateError, PermissionError):
    """Listening, accepting, or binding to an address or port (EACCES)."""


class QuotaExceeded(GateError):
    """A calendar or burst quota of the app is used up (EDQUOT).

    :ivar quota: which: ``connect.minute``, as its key in the configuration.
    :ivar retry_after: seconds from when it was refused until the next window begins.
    """

    @property
    def quota(self) -> str:
        return str(self.facts.get("quota", ""))

    @property
    def retry_after(self) -> float:
        return float(self.facts.get("retry_after", 0.0))


class LookUpsExceeded(QuotaExceeded, gaierror):
    """The app's quota of look-ups is used up (EDQUOT); a look-up that failed, as :class:`LookUpDenied` is."""


class TooManyLeases(GateError):
    """The app holds as many sockets as it may (EMFILE)."""


class LeaseReclaimed(GateError, BrokenPipeError):
    """The socket was idle and has been reclaimed (EPIPE)."""


class ConnectionCut(GateError, ConnectionResetError):
    """Quota, policy or an operator ended this connection (ECONNRESET)."""


class UnknownDescriptor(GateError):
    """No such descriptor for this app: unknown, forged and foreign ones look alike (EBADF)."""


class ResolveFailed(GateError, gaierror):
    """A name could not be looked up; carries the resolver's own EAI number."""


class GateUnavailable(GateError, ConnectionError):
    """No gate answers (ENETDOWN)."""


class WayOutFailed(GateError, ConnectionError):
    """The way out that the configuration says, a proxy or an address to leave from, did not work (its own errno)."""


class ProtocolError(OutgateError):
    """Client and gate do not speak the same protocol."""


class ConfigError(OutgateError, ValueError):
    """A configuration that cannot be used; the text names the place and a way out."""


class InternalError(OutgateError):
    """A fault of outgate's own. Please report it with the text that came with it."""


from outgate.errors.row import Row  # noqa: E402 - as below
from outgate.errors.table import TABLE, build, describe, number_of  # noqa: E402 - its rows name the classes above
