"""Write and read the heads of what gates ask each other: HTTP/1.1 requests (RFC 9112) of a few fixed kinds.

A descriptor is redeemed by ``CONNECT`` with the descriptor as the host of the authority, so that a proxy that takes
TLS apart sees a request like any other; a certificate is asked for by ``POST``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote, unquote

from outgate.errors import ProtocolError

#: Bytes of the longest head, and of the longest body (a request for a certificate is below 1 KiB).
MOST: Final = 8192
MOST_BODY: Final = 16384
END: Final = b"\r\n\r\n"

#: Names of fields, in lower case, as they are read; they are written with capitals. Of the request: the app of the
#: program, and whether it wants the socket for itself alone. Of the answer: facts.
APP: Final = "outgate-app"
EXCLUSIVE: Final = "outgate-exclusive"
SOCKET: Final = "outgate-socket"

_REQUEST: Final = re.compile(r"([A-Z]{3,10}) ([!-~]{1,2048}) HTTP/1\.1")
_STATUS: Final = re.compile(r"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [ -~]*)?")
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~]*?)[ \t]*")
_REASONS: Final = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}


class Request(NamedTuple):
    """One request: method, target, and fields by their names in lower case."""

    method: str
    target: str
    fields: Mapping[str, str]


class Answer(NamedTuple):
    """One answer: status, and fields by their names in lower case."""

    status: int
    fields: Mapping[str, str]


def redeem(descriptor: str, port: int, app: str, exclusive: bool = False) -> bytes:
    """Return the request for the socket of a descriptor.

    :param port: of the gate that is asked; an authority has one (RFC 9110 §9.3.6).
    """
    target = f"{descriptor}:{port}"
    fields = {"host": target, APP: quote(app, safe="")}
    if exclusive:
        fields[EXCLUSIVE] = "1"
    return _write(f"CONNECT {target} HTTP/1.1", fields)


def redeemed(request: Request) -> tuple[str, str, bool]:
    """Return descriptor, app and whether exclusively, of such a request."""
    return request.target.rpartition(":")[0], unquote(request.fields.get(APP, "")), request.fields.get(EXCLUSIVE) == "1"


def tunnel(host: str) -> bytes:
    """Return what asks a proxy for a tunnel to ``HOST:PORT``."""
    return _write(f"CONNECT {host} HTTP/1.1", {"host": host})


def granted(facts: Mapping[str, Any]) -> bytes:
    """Return the answer that opens a link, with what the other gate should know of the socket."""
    return _write("HTTP/1.1 200 OK", {SOCKET: json.dumps(facts)})


def refused(reply: Mapping[str, Any]) -> bytes:
    """Return the answer that carries a refusal."""
    return _write("HTTP/1.1 404 Not Found", {SOCKET: json.dumps(reply), "content-length": "0"})


def facts_of(answer: Answer) -> dict[str, Any]:
    """Return what an answer says of a socket, or why it is refused.

    :raises ProtocolError: nothing that can be understood.
    """
    try:
        found = json.loads(answer.fields[SOCKET])
    except (KeyError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ProtocolError("the gate's answer says nothing of the socket")
    return found


def answer(status: int, body: bytes, kind: str = "application/json") -> bytes:
    """Return a whole answer."""
    fields = {"content-type": kind, "content-length": str(len(body)), "connection": "close"}
    return _write(f"HTTP/1.1 {status} {_REASONS[status]}", fields) + body


def read_request(head: bytes) -> Request:
    """Return the request of a head, which ends before :data:`END`.

    :raises ProtocolError: it is none.
    """
    match, fields = _read(head, _REQUEST, "request")
    return Request(match[1], match[2], fields)


def read_answer(head: bytes) -> Answer:
    """Return the answer of a head, which ends before :data:`END`.

    :raises ProtocolError: it is none.
    """
    match, fields = _read(head, _STATUS, "answer")
    return Answer(int(match[1]), fields)


def body_size(request: Request) -> int:
    """Return how many bytes follow the head of a request.

    :raises ProtocolError: too many, or it does not say.
    """
    text = request.fields.get("content-length", "0")
    if "transfer-encoding" in request.fields or not (text.isascii() and text.isdecimal()) or len(text) > 6:
        raise ProtocolError("a body of no stated length")
    if int(text) > MOST_BODY:
        raise ProtocolError("too long a body")
    return int(text)


def _read(head: bytes, pattern: re.Pattern[str], what: str) -> tuple[re.Match[str], dict[str, str]]:
    try:
        first, *lines = head.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise ProtocolError("a head that is not ASCII") from None
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None or match[1].lower() in fields:
            raise ProtocolError("a field that is none, or is there twice")
        fields[match[1].lower()] = match[2]
    found = pattern.fullmatch(first)
    if found is None:
        raise ProtocolError(f"no {what} of HTTP/1.1")
    return found, fields


def _write(first: str, fields: Mapping[str, str]) -> bytes:
    lines = [f"{name.title()}: {value}" for name, value in fields.items()]
    return "\r\n".join([first, *lines, "", ""]).encode("ascii")
