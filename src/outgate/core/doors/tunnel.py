"""Speak HTTP/1.1 as a proxy that knows one method: CONNECT (RFC 9110 §9.3.6), with Basic credentials (RFC 7617).

Everything else is answered with a sentence that says what to use. No header that a client sends is passed on: behind
the handshake the connection is the destination's alone.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final, Optional

from outgate.core.doors.failures import Failure
from outgate.core.doors.talk import CONNECT, Event, Login, Malformed, Refused, Talk, Wanted, host_of

__all__ = ["MAX_HEAD", "TunnelTalk"]

#: Bytes of a request's head.
MAX_HEAD: Final = 16 * 1024

#: Statuses that a door answers with, and what they are called (RFC 9110 §15, RFC 6585).
_PHRASES: Final = {
    400: "Bad Request",
    403: "Forbidden",
    405: "Method Not Allowed",
    407: "Proxy Authentication Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}
_END: Final = re.compile(rb"\r?\n\r?\n")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VERSION: Final = re.compile(rb"HTTP/([0-9])\.([0-9])")
_BRACKETED: Final = re.compile(rb"\[([0-9A-Fa-f:.]+)\]:([0-9]{1,5})")
_PLAIN: Final = re.compile(rb"([^\[\]:/?#@\s]+):([0-9]{1,5})")
#: What a client of SOCKS5 is told here: no method is acceptable.
_NOT_SOCKS: Final = b"\x05\xff"
_USE: Final = (
    "This door opens tunnels by CONNECT, and fetches nothing itself. For http:// URLs use the SOCKS5 door "
    "(socks5h://), or have your client tunnel them (curl --proxytunnel).\n"
)
_LOGIN: Final = (
    "Say which app you are: its name and token as Basic credentials (outgate env --app NAME prints a URL with them).\n"
)


class TunnelTalk(Talk):
    """One talk of HTTP CONNECT: a request with credentials."""

    name = "http"

    def __init__(self) -> None:
        super().__init__()
        self._step = TunnelTalk._next
        self._wanted: Optional[Wanted] = None
        self._is_answered = False
        #: How far the end of the head has been looked for.
        self._seen = 0

    def _next(self) -> Optional[Event]:
        if self._is_answered:
            wanted, self._wanted = self._wanted, None
            return wanted
        data = self._in
        if self._wanted is not None:
            return None
        if data.startswith((b"\r", b"\n")):  # RFC 9112 §2.2: empty lines before a request are not looked at
            data = self._in = data.lstrip(b"\r\n")
        if not data:
            return None
        if data[0] == 5:
            raise Malformed("SOCKS5", _NOT_SOCKS)
        if data[0] < 32:
            raise Malformed("not HTTP")
        end = _END.search(data, max(0, self._seen - 3))
        if end is None or end.end() > MAX_HEAD:
            self._seen = len(data)
            if len(data) > MAX_HEAD:
                raise _wrong(431, f"more than {MAX_HEAD} bytes of headers")
            return None
        return self._asked(self._take(end.end())[: end.start()])

    def _asked(self, head: bytes) -> Event:
        first, *lines = re.split(rb"\r?\n", head)
        method, host, port = _request(first)
        login = _credentials(lines)
        if method != b"CONNECT":
            raise _wrong(405, method.decode(), _USE, "Allow: CONNECT\r\n")
        if login is None:
            self.reject()
            return Refused("no credentials")
        self._wanted = Wanted(CONNECT, host, port)
        return login

    def welcome(self) -> None:
        self._is_answered = True

    def reject(self) -> None:
        challenge = 'Proxy-Authenticate: Basic realm="outgate", charset="UTF-8"\r\n'
        self.out += _answer(407, _LOGIN, challenge)

    def opened(self, address: str, port: int) -> None:
        self.out += b"HTTP/1.1 200 Connection established\r\n\r\n"

    def failed(self, failure: Failure) -> None:
        status = f"Proxy-Status: outgate; error={failure.error}; details={_string(failure.text)}\r\n"
        if failure.retry_after:
            status += f"Retry-After: {failure.retry_after}\r\n"
        self.out += _answer(failure.status, failure.text + "\n", status)


def _request(line: bytes) -> tuple[bytes, str, int]:
    """Return method, host and port of a request line; of any method but CONNECT no host.

    :raises Malformed: it is none.
    """
    parts = line.split(b" ")
    version = _VERSION.fullmatch(parts[-1]) if len(parts) == 3 else None
    if version is None or not _TOKEN.fullmatch(parts[0]):
        raise _wrong(400, "not a request line")
    if version[1] != b"1":
        raise _wrong(505, "not HTTP/1")
    method, target, _ = parts
    if method != b"CONNECT":
        return method[:40], "", 0
    authority = _BRACKETED.fullmatch(target) or _PLAIN.fullmatch(target)
    if authority is None or not 0 < int(authority[2]) <= 65535:
        raise _wrong(400, "CONNECT takes HOST:PORT, as in example.com:443 or [2001:db8::1]:443")
    try:
        return method, host_of(authority[1]), int(authority[2])
    except ValueError as e:
        raise _wrong(400, f"not a host: {e}") from None


def _credentials(lines: list[bytes]) -> Optional[Login]:
    """Return the credentials in the headers, or ``None`` where there are none of the scheme Basic.

    :raises Malformed: a header is not well formed, or there are two.
    """
    found: list[bytes] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):  # nor a line that goes on with the one before (RFC 9112 §5.2)
            raise _wrong(400, "a header is not well formed")
        if name.lower() == b"proxy-authorization":
            found.append(value.strip(b" \t"))
    if len(found) > 1:
        raise _wrong(400, "two headers Proxy-Authorization")
    scheme, _, said = found[0].partition(b" ") if found else (b"", b"", b"")
    if scheme.lower() != b"basic":
        return None
    try:
        text = base64.b64decode(said.strip(b" "), validate=True)
    except (binascii.Error, ValueError):
        return None
    name, _, token = text.partition(b":")
    return Login(name.decode("utf-8", "surrogateescape"), token.decode("utf-8", "surrogateescape"))


def _wrong(status: int, why: str, text: str = "", headers: str = "") -> Malformed:
    return Malformed(why, _answer(status, text or f"{why}\n", headers))


def _answer(status: int, text: str, headers: str = "") -> bytes:
    body = text.encode("utf-8", "replace")
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\n{headers}Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def _string(text: str) -> str:
    """Return a text as a string of RFC 8941 §3.3.3: printable ASCII, in quotes."""
    shown = "".join(letter if " " <= letter <= "~" else "?" for letter in text[:500])
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
