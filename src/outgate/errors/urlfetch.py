"""What can go wrong with a fetch of a URL: the classes, named as App Engine named them, and their rows of the table.

What the policy, a quota or billing refuses is not among them: a fetch raises what a socket raises.
"""

from __future__ import annotations

import _socket
import errno as _errno

from outgate.errors import GateError, GateUnavailable, TooManyLeases
from outgate.errors.row import Row

__all__ = [
    "ConnectionClosedError",
    "DNSLookupFailedError",
    "DeadlineExceededError",
    "DownloadError",
    "InvalidHeaderError",
    "InvalidMethodError",
    "InvalidURLError",
    "MalformedReplyError",
    "PayloadTooLargeError",
    "ResponseTooLargeError",
    "SSLCertificateError",
    "TooManyRedirectsError",
    "URLFetchError",
]


class URLFetchError(GateError):
    """A fetch of a URL came to nothing."""


class InvalidURLError(URLFetchError, ValueError):
    """The URL is none that can be fetched (EINVAL)."""


class InvalidMethodError(URLFetchError, ValueError):
    """The method is none of those that there are (EINVAL)."""


class InvalidHeaderError(URLFetchError, ValueError):
    """A header of the request is none, or all of them together are too large (EINVAL)."""


class PayloadTooLargeError(URLFetchError):
    """The payload of the request is too large (EMSGSIZE)."""


class ResponseTooLargeError(URLFetchError):
    """The response is too large (EFBIG)."""


class SSLCertificateError(URLFetchError):
    """The certificate of the server is not valid for it (EPROTO)."""


class DownloadError(URLFetchError):
    """The server could not be reached, or its answer could not be had; the errno is the network's own."""


class DNSLookupFailedError(DownloadError, _socket.gaierror):
    """The name in the URL could not be looked up; carries the resolver's own EAI number."""


class ConnectionClosedError(DownloadError):
    """The server closed or reset the connection before its answer was whole (ECONNRESET)."""


class DeadlineExceededError(DownloadError, TimeoutError):
    """The answer was not whole within the deadline (ETIMEDOUT)."""


class MalformedReplyError(DownloadError):
    """What the server answered is no HTTP, or not packed as it says (EBADMSG)."""


class TooManyRedirectsError(DownloadError):
    """The server redirected further and further (ELOOP)."""


#: Every one has the fact url: what was fetched, or redirected to, and shortened where it is long.
ROWS = (
    Row("fetch-url", InvalidURLError, _errno.EINVAL, "invalid URL: {url}: {why}", "{cure}"),
    Row(
        "fetch-method",
        InvalidMethodError,
        _errno.EINVAL,
        "{method} is no method of URL Fetch, for URL: {url}",
        "use one of {methods}",
    ),
    Row("fetch-header", InvalidHeaderError, _errno.EINVAL, "invalid headers for URL: {url}: {why}", "{cure}"),
    Row(
        "fetch-payload",
        PayloadTooLargeError,
        _errno.EMSGSIZE,
        "request of {size} bytes exceeds the limit of {limit} for URL: {url}",
        "send it in parts, or over a socket",
    ),
    Row(
        "fetch-response",
        ResponseTooLargeError,
        _errno.EFBIG,
        "HTTP response too large from URL: {url}: more than {limit} bytes",
        "ask for a part of it (Range), fetch with allow_truncated=True, or use a socket",
    ),
    Row(
        "fetch-certificate",
        SSLCertificateError,
        _errno.EPROTO,
        "invalid or missing SSL certificate for URL: {url}: {why}",
        "an authority of your own belongs into the gate's SSL_CERT_FILE; validate_certificate=False asks for none",
    ),
    Row("fetch-connect", DownloadError, _errno.ECONNREFUSED, "unable to connect to server at URL: {url}: {why}"),
    Row(
        "fetch-dns",
        DNSLookupFailedError,
        getattr(_socket, "EAI_AGAIN", -3),
        "DNS lookup failed for URL: {url}: {why}",
    ),
    Row(
        "fetch-closed",
        ConnectionClosedError,
        _errno.ECONNRESET,
        "connection closed unexpectedly by server at URL: {url}",
        "fetch again, if that does no harm",
    ),
    Row(
        "fetch-deadline",
        DeadlineExceededError,
        _errno.ETIMEDOUT,
        "deadline of {deadline:g} s exceeded while waiting for HTTP response from URL: {url}",
        "fetch with a longer deadline; {most} s is the most",
    ),
    Row(
        "fetch-malformed",
        MalformedReplyError,
        _errno.EBADMSG,
        "malformed HTTP reply from URL: {url}: {why}",
        "fetch it over a socket to see what it sends",
    ),
    Row(
        "fetch-redirects",
        TooManyRedirectsError,
        _errno.ELOOP,
        "more than {limit} redirects, the last to URL: {url}",
        "fetch with follow_redirects=False, and follow them yourself",
    ),
    Row(
        "fetch-too-many",
        TooManyLeases,
        _errno.EMFILE,
        "app '{app}' has {used} fetches under way, its limit is {limit}",
        "wait until some have ended",
    ),
    Row(
        "fetch-missing",
        URLFetchError,
        _errno.EOPNOTSUPP,
        "this gate has no URL Fetch: httpx is not installed where it runs",
        "there: pip install 'outgate[urlfetch]'",
    ),
    Row(
        "fetch-unknown",
        GateUnavailable,
        _errno.ENETDOWN,
        "the gate at {path} is older than URL Fetch, and does not know it",
        "upgrade the gate",
    ),
)
