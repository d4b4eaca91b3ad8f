"""Decide about one request of a fetch: URL, port, method, payload, redirects and deadline.

The numbers are those of App Engine's URL Fetch in its last years (outbound-requests page and limits table). What is
refused is a code of :data:`outgate.errors.TABLE` and its facts.
"""

from __future__ import annotations

from typing import Any, Final, Optional, Tuple

from outgate.core.formats.fetchline import shown

#: Code and facts of a refusal.
Refusal = Tuple[str, "dict[str, Any]"]

METHODS: Final = ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH")
MAX_URL: Final = 10_240
MAX_PAYLOAD: Final = 10 * 1024 * 1024
MAX_RESPONSE: Final = 32 * 1024 * 1024
MAX_REDIRECTS: Final = 5
#: Seconds: where the program says nothing, at most, and at most while it works on a task of a queue.
DEADLINE: Final = 5.0
MAX_DEADLINE: Final = 60
MAX_TASK_DEADLINE: Final = 600

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PORTS: Final = (range(80, 91), range(440, 451), range(1024, 65536))


def invalid_url(url: str, why: str, cure: str = "") -> Refusal:
    """Return the refusal of a URL."""
    return "fetch-url", {"url": shown(url), "why": why, "cure": cure}


def judge_url(url: str, scheme: str, host: str, port: int | None) -> Refusal | None:
    """Return why a URL may not be fetched, or ``None``; of a redirect as well.

    :param url: the whole of it; the other parameters are its parts as whoever fetches it has read them.
    :param port: ``None`` where it names none.
    """
    if len(url) > MAX_URL:
        return invalid_url(url, f"it has {len(url)} characters; at most {MAX_URL:,}", "put what is long in the payload")
    if scheme not in _DEFAULT_PORTS:
        return invalid_url(url, f"scheme {scheme[:20]!r}; only http and https are fetched", "use a socket for others")
    if not host:
        return invalid_url(url, "it has no host", "write it whole: https://example.com/path")
    number = _DEFAULT_PORTS[scheme] if port is None else port
    if not any(number in ports for ports in _PORTS):
        return invalid_url(
            url, f"port {number}; only 80-90, 440-450 and 1024-65535 are fetched from", "use a socket for others"
        )
    return None


def judge_request(url: str, method: str, size: int) -> Refusal | None:
    """Return why a request is none that can be made, or ``None``.

    :param size: bytes of its payload.
    """
    if method not in METHODS:
        return "fetch-method", {"url": shown(url), "method": repr(method[:20]), "methods": ", ".join(METHODS)}
    if size > MAX_PAYLOAD:
        return "fetch-payload", {"url": shown(url), "size": size, "limit": MAX_PAYLOAD}
    return None


def judge_redirect(url: str, count: int) -> Refusal | None:
    """Return why a redirect is not followed, or ``None``.

    :param url: where it leads.
    :param count: which it is of this fetch, from 1.
    """
    return None if count <= MAX_REDIRECTS else ("fetch-redirects", {"url": shown(url), "limit": MAX_REDIRECTS})


def most(in_task: bool) -> int:
    """Return the longest deadline, in seconds."""
    return MAX_TASK_DEADLINE if in_task else MAX_DEADLINE


def deadline(asked: Optional[float], in_task: bool) -> float:
    """Return the seconds in which the whole answer must have come; what is asked beyond the most is cut to it."""
    return DEADLINE if asked is None else min(asked, most(in_task))
