"""Fetch URLs through the gate, as App Engine's URL Fetch did; whether or not this program's sockets are the gate's.

::

    from outgate import urlfetch

    answer = urlfetch.fetch("https://example.com/", deadline=10)
    if answer.status_code == 200:
        print(answer.content)

The gate needs ``outgate[urlfetch]``; the program needs nothing.
"""

from __future__ import annotations

from outgate.client.urlfetch.answers import Answer, Headers
from outgate.client.urlfetch.tasks import in_task
from outgate.errors.urlfetch import (
    ConnectionClosedError,
    DeadlineExceededError,
    DNSLookupFailedError,
    DownloadError,
    InvalidHeaderError,
    InvalidMethodError,
    InvalidURLError,
    MalformedReplyError,
    PayloadTooLargeError,
    ResponseTooLargeError,
    SSLCertificateError,
    TooManyRedirectsError,
    URLFetchError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Mapping, Optional, Tuple, Union

    Text = Union[str, bytes]
    HeadersGiven = Union[Mapping[str, Text], Iterable[Tuple[str, Text]]]

__all__ = [
    "Answer",
    "ConnectionClosedError",
    "DNSLookupFailedError",
    "DeadlineExceededError",
    "DownloadError",
    "Headers",
    "InvalidHeaderError",
    "InvalidMethodError",
    "InvalidURLError",
    "MalformedReplyError",
    "PayloadTooLargeError",
    "ResponseTooLargeError",
    "SSLCertificateError",
    "TooManyRedirectsError",
    "URLFetchError",
    "fetch",
    "in_task",
]


def fetch(
    url: str,
    payload: Optional[Text] = None,
    method: str = "GET",
    headers: Optional[HeadersGiven] = None,
    deadline: Optional[float] = None,
    follow_redirects: bool = True,
    validate_certificate: bool = True,
    allow_truncated: bool = False,
) -> Answer:
    """Fetch a URL and return the answer, whatever its status.

    :param payload: what is sent with it; text as UTF-8. At most 10 MiB.
    :param method: GET, POST, HEAD, PUT, DELETE or PATCH.
    :param headers: a mapping, or pairs where a name comes more than once. At most 16 KiB; ``Host`` and others that
        are the gate's to say are left out.
    :param deadline: seconds in which the whole answer must have come: 5 unless given, at most 60, and 600 in a task
        (:data:`in_task`).
    :param follow_redirects: up to five of them, each judged by the policy like the first.
    :param validate_certificate: whether the server must show one that is valid for it.
    :param allow_truncated: leave out what is beyond 32 MiB of the answer, instead of raising.
    :raises URLFetchError: the request is none that can be made, or the answer could not be had; what it is, is its
        class.
    :raises outgate.errors.PolicyDenied: the policy of the app forbids it; so do a quota or billing, as for sockets.
    :raises outgate.errors.GateUnavailable: no gate answers.
    :raises ValueError: the deadline is no time.
    """
    from outgate.client.urlfetch.asking import fetch

    if deadline is not None:
        deadline = float(deadline)
        if not 0 < deadline < float("inf"):
            raise ValueError(f"deadline {deadline!r} is no number of seconds above 0")
    if isinstance(payload, str):
        payload = payload.encode()
    given = headers if headers is not None else ()
    pairs = [(_text(name), _text(value)) for name, value in (given.items() if hasattr(given, "items") else given)]
    return fetch(
        url,
        bytes(payload or b""),
        method.upper(),
        pairs,
        deadline=deadline,
        follow=bool(follow_redirects),
        verify=bool(validate_certificate),
        truncate=bool(allow_truncated),
    )


def _text(value: Text) -> str:
    return bytes(value).decode("latin-1") if isinstance(value, (bytes, bytearray)) else str(value)
