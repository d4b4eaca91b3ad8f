"""Say what the gate refuses in the words of the doors."""

from __future__ import annotations

from outgate.core.doors import failures
from outgate.core.doors.failures import Failure
from outgate.errors import PolicyDenied, build
from outgate.gate.replies import Reply

__all__ = ["failure_of", "is_by_policy"]


def is_by_policy(reply: Reply) -> bool:
    """Tell of a refusal whether it is the policy's, which may say yes to another address."""
    return isinstance(build(reply["error"]["code"], reply["error"]["facts"]), PolicyDenied)


def failure_of(reply: Reply, host: str) -> Failure:
    """Return why the gate, or the C library, has said no, in the words of the doors.

    :param host: that was asked for.
    """
    if "error" not in reply:
        return failures.of_look_up(reply["errno"], f"{host}: {reply.get('text') or 'no such name'}")
    error = build(reply["error"]["code"], reply["error"]["facts"])
    number = getattr(error, "errno", None) or 0
    return failures.of_refusal(number, str(getattr(error, "strerror", None) or error), getattr(error, "retry_after", 0))
