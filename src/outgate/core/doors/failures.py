"""Say in the words of SOCKS5 (RFC 1928 §6) and of HTTP (RFC 9110, RFC 9209) why there is no connection.

SOCKS5 has eight numbers and no text. HTTP has a status, an ``error`` of Proxy-Status (RFC 9209 §2.3), and a body, which
carries the gate's sentence with its cure.
"""

from __future__ import annotations

import errno
from typing import Final, NamedTuple

__all__ = ["Failure", "late", "of_look_up", "of_network", "of_refusal"]

#: Reply field of RFC 1928.
GENERAL, NOT_ALLOWED, NET_UNREACHABLE, HOST_UNREACHABLE, CONNECTION_REFUSED, TTL_EXPIRED = 1, 2, 3, 4, 5, 6
COMMAND_NOT_SUPPORTED, ADDRESS_TYPE_NOT_SUPPORTED = 7, 8

#: EAI numbers of the C library (netdb.h): no such name, for now no answer, no such address.
_NO_NAME, _AGAIN, _NO_DATA = -2, -3, -5


class Failure(NamedTuple):
    """Why there is no connection.

    :ivar socks: reply field of SOCKS5.
    :ivar status: of HTTP.
    :ivar error: a proxy error type of RFC 9209.
    :ivar text: the sentence.
    :ivar retry_after: seconds until another try may succeed; 0 for none known.
    """

    socks: int
    status: int
    error: str
    text: str
    retry_after: int = 0


#: What the network said → (SOCKS5, HTTP, RFC 9209). A time-out is "TTL expired", as other SOCKS servers say it.
_NETWORK: Final = {
    errno.ENETUNREACH: (NET_UNREACHABLE, 502, "destination_ip_unroutable"),
    errno.ENETDOWN: (NET_UNREACHABLE, 502, "destination_ip_unroutable"),
    errno.EHOSTUNREACH: (HOST_UNREACHABLE, 502, "destination_ip_unroutable"),
    errno.EHOSTDOWN: (HOST_UNREACHABLE, 502, "destination_ip_unroutable"),
    errno.ECONNREFUSED: (CONNECTION_REFUSED, 502, "connection_refused"),
    errno.ETIMEDOUT: (TTL_EXPIRED, 504, "connection_timeout"),
    errno.ECONNRESET: (CONNECTION_REFUSED, 502, "connection_terminated"),
}
_OTHERWISE: Final = (GENERAL, 502, "destination_unavailable")

#: errno of a refusal by the gate → the same.
_REFUSALS: Final = {
    errno.EACCES: (NOT_ALLOWED, 403, "http_request_denied"),
    errno.EDQUOT: (NOT_ALLOWED, 429, "http_request_denied"),
    errno.EMFILE: (GENERAL, 503, "connection_limit_reached"),
    errno.ECONNRESET: (GENERAL, 502, "connection_terminated"),
}
_UNAVAILABLE: Final = (GENERAL, 503, "proxy_internal_error")


def of_network(number: int, text: str) -> Failure:
    """Return the failure of a dial.

    :param number: errno.
    :param text: what the C library says of it, and of what.
    """
    return Failure(*_NETWORK.get(number, _OTHERWISE), text)


def of_look_up(number: int, text: str) -> Failure:
    """Return the failure of a look-up.

    :param number: EAI number of the C library.
    """
    if number == _AGAIN:
        return Failure(HOST_UNREACHABLE, 504, "dns_timeout", text)
    return Failure(HOST_UNREACHABLE, 502, "dns_error", text)


def of_refusal(number: int, text: str, retry_after: float = 0.0) -> Failure:
    """Return the failure that a refusal by the gate is.

    :param number: its errno.
    :param text: its sentence, as much of it as the app may know.
    :param retry_after: seconds.
    """
    return Failure(*_REFUSALS.get(number, _UNAVAILABLE), text, -int(-retry_after // 1) if retry_after > 0 else 0)


def late(text: str) -> Failure:
    """Return the failure of a dial that nobody has answered within the door's own patience."""
    return of_network(errno.ETIMEDOUT, text)
