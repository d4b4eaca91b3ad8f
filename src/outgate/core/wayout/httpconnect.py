"""Ask an HTTP proxy to connect: RFC 9110 section 9.3.6, with Basic credentials by RFC 7617."""

from __future__ import annotations

import base64
import errno
import re
from typing import Final

from outgate.core.wayout.handshake import FAR_ENDS, Failed, Target, host_of, printable
from outgate.core.wayout.proxy import Credentials

__all__ = ["MOST", "HttpConnect", "request"]

#: Bytes that an answer's head may have: what nginx, Squid and h11 take at most is from 8 to 64 KiB.
MOST: Final = 16 * 1024
#: Answers of the kind "there is more to come" before the one that counts.
_MOST_INTERIM: Final = 8
#: The line that ends a head, by RFC 9112 section 2.2 also where only line feeds are written.
_END: Final = re.compile(rb"\r?\n\r?\n")
_STATUS: Final = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9][0-9])(?: ([^\r\n]*))?\r?\n")
_BEGIN: Final = b"HTTP/1."
#: 407 is a proxy's word; tinyproxy says 401, which is a server's, of a wrong password.
_WHO_ARE_YOU: Final = (401, 407)
#: Status → errno of what the proxy says; others are EPROTO.
_NUMBERS: Final = {
    400: errno.EPROTO,
    403: errno.EACCES,
    404: errno.EHOSTUNREACH,
    405: errno.EOPNOTSUPP,
    429: errno.EAGAIN,
    500: errno.EHOSTUNREACH,
    501: errno.EOPNOTSUPP,
    502: errno.EHOSTUNREACH,
    503: errno.EHOSTUNREACH,
    504: errno.ETIMEDOUT,
}
#: What ``Proxy-Status`` calls an error → what the far end said (RFC 9209 section 2.3).
_PROXY_STATUS: Final = {
    b"connection_refused": errno.ECONNREFUSED,
    b"connection_timeout": errno.ETIMEDOUT,
    b"destination_ip_unroutable": errno.EHOSTUNREACH,
    b"destination_unavailable": errno.EHOSTUNREACH,
}
_SQUID: Final = re.compile(rb"^x-squid-error:[ \t]*ERR_CONNECT_FAIL[ \t]+([0-9]{1,3})[ \t]*\r?$", re.I | re.M)
_PROXY_STATUS_ERROR: Final = re.compile(rb"^proxy-status:[^\r\n]*;[ \t]*error=([a-z_]+)", re.I | re.M)
_CHALLENGE: Final = re.compile(rb"^proxy-authenticate:[ \t]*([A-Za-z0-9-]+)", re.I | re.M)


def request(target: Target, credentials: Credentials | None = None) -> bytes:
    """Return the request to connect.

    :raises ValueError: the host cannot stand in a line of HTTP.
    """
    authority = f"{host_of(target.host)}:{target.port}"
    if not authority.isascii() or not authority.isprintable() or " " in authority:
        raise ValueError(f"the host {target.host!r}")
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if credentials is not None:
        lines.append("Proxy-Authorization: Basic " + base64.b64encode(b":".join(credentials)).decode())
    return "\r\n".join((*lines, "", "")).encode("ascii")


class HttpConnect:
    """One handshake: a request, and an answer's head; see :class:`~outgate.core.wayout.handshake.Handshake`.

    :param target: where to.
    :param credentials: sent with the request; ``None`` for none.
    :raises ValueError: as :func:`request`.
    """

    def __init__(self, target: Target, credentials: Credentials | None = None) -> None:
        self.is_done = False
        self.has_asked = True
        self._out = request(target, credentials)
        self._has_credentials = credentials is not None
        self._read = b""
        self._interim = 0

    def say(self) -> bytes:
        """Return what is to be sent now."""
        out, self._out = self._out, b""
        return out

    def take(self, seen: bytes) -> int:
        """Take what belongs to the head of the answer; a tunnel's first bytes follow it without a gap."""
        taken = 0
        while not self.is_done and taken < len(seen):
            before = len(self._read)
            read = self._read + seen[taken:]
            if read[: len(_BEGIN)] != _BEGIN[: len(read)]:
                raise Failed(code="via-garbage", facts={"protocol": "HTTP", "said": printable(read)})
            end = _END.search(read, max(0, before - 3))
            length = end.end() if end is not None else len(read)
            if length > MOST:
                raise Failed(code="via-garbage", facts={"protocol": "HTTP", "said": f"a head above {MOST} bytes"})
            taken += length - before
            if end is None:
                self._read = read
                break
            self._read = b""
            self._answered(read[:length])
        return taken

    def _answered(self, head: bytes) -> None:
        match = _STATUS.match(head)
        if match is None:
            raise Failed(code="via-garbage", facts={"protocol": "HTTP", "said": printable(head)})
        status, reason = int(match[1]), match[2] or b""
        if 200 <= status < 300:
            self.is_done = True
            return
        if status < 200 and status != 101:
            self._interim += 1
            if self._interim <= _MOST_INTERIM:
                return
        raise self._failure(status, reason, head)

    def _failure(self, status: int, reason: bytes, head: bytes) -> Failed:
        said = f"{status} {printable(reason)}".rstrip()
        if status in _WHO_ARE_YOU:
            challenge = _CHALLENGE.search(head)
            scheme = challenge[1].decode("ascii") if challenge is not None else "Basic"
            if scheme.lower() != "basic":
                why = f"it wants {scheme} authentication, and Basic is what is offered"
            elif self._has_credentials:
                why = "it does not accept this user and password"
            else:
                why = "it takes no one without credentials"
            return Failed(code="via-credentials", facts={"why": why})
        far_end = _far_end(head)
        if far_end:
            return Failed(far_end)
        return Failed(code="via-refused", facts={"why": said, "errno": _NUMBERS.get(status, errno.EPROTO)})


def _far_end(head: bytes) -> int:
    """Return what a proxy says that the far end has said, 0 where it does not say."""
    match = _PROXY_STATUS_ERROR.search(head)
    if match is not None:
        return _PROXY_STATUS.get(match[1].lower(), 0)
    match = _SQUID.search(head)  # the errno of its connect(2)
    return int(match[1]) if match is not None and int(match[1]) in FAR_ENDS else 0
