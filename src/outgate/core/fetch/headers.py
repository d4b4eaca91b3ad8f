"""Decide which headers a fetch sends and hands back: which are the program's to set, and what is added."""

from __future__ import annotations

import re
from typing import Final, Iterable, NamedTuple

from outgate.core.fetch.limits import Refusal
from outgate.core.formats.fetchline import shown

#: Bytes of all of them together.
MAX_HEADERS: Final = 16 * 1024

#: What App Engine kept for itself.
_RESERVED: Final = "content-length host vary via x-appengine-inbound-appid x-forwarded-for x-proxyuser-ip"
#: What one end of a connection says to the other (RFC 9110, 7.6.1): the connection is the gate's.
_HOP_BY_HOP: Final = (
    "connection expect keep-alive proxy-authorization proxy-connection te trailer transfer-encoding upgrade"
)
_NOT_SETTABLE: Final = frozenset(f"{_RESERVED} {_HOP_BY_HOP}".split())
#: RFC 9110: a name is a token, a value is visible characters, spaces and tabs, and bytes beyond ASCII.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUE: Final = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_FORM: Final = "application/x-www-form-urlencoded"


class Sent(NamedTuple):
    """The headers of a request.

    :ivar pairs: names and values, as they are sent.
    :ivar unpacks: whether the answer is unpacked for the program: it has not said itself what it accepts.
    """

    pairs: list[tuple[str, str]]
    unpacks: bool


def judge(url: str, pairs: Iterable[tuple[str, str]]) -> Refusal | None:
    """Return why these headers are refused, or ``None``: one that is none (a line's end in it), or too many."""
    size = 0
    for name, value in pairs:
        if not _NAME.fullmatch(name):
            return _refusal(url, f"{name[:40]!r} is no name of a header", "leave it out")
        found = _NOT_IN_VALUE.search(value)
        if found is not None:
            return _refusal(url, f"{name} has the character {found[0]!r}", "quote it, or leave it out")
        size += len(name) + len(value) + len(": \r\n")
    if size > MAX_HEADERS:
        return _refusal(url, f"they have {size} bytes; at most {MAX_HEADERS:,}", "send what is long as the payload")
    return None


def _refusal(url: str, why: str, cure: str) -> Refusal:
    return "fetch-header", {"url": shown(url), "why": why, "cure": cure}


def prepare(pairs: Iterable[tuple[str, str]], method: str, app: str) -> Sent:
    """Return what is sent of a program's headers and added to them.

    :param pairs: that :func:`judge` has not refused.
    :param app: name of the app, which the server is told, as App Engine told it.
    """
    kept = [(name, value) for name, value in pairs if name.lower() not in _NOT_SETTABLE]
    given = {name.lower() for name, _ in kept}
    agent = next((value for name, value in kept if name.lower() == "user-agent"), "")
    sent = [(name, value) for name, value in kept if name.lower() != "user-agent"]
    # Of a name only what a comment of RFC 9110 can have.
    mark = f"outgate (app {re.sub('[^0-9A-Za-z._-]', '_', app)})"
    sent.append(("User-Agent", f"{agent} {mark}" if agent else mark))
    if method == "POST" and "content-type" not in given:
        sent.append(("Content-Type", _FORM))
    unpacks = "accept-encoding" not in given
    if unpacks:
        sent.append(("Accept-Encoding", "gzip"))
    sent.append(("Connection", "close"))  # a fetch keeps no connection for the next
    return Sent(sent, unpacks)
