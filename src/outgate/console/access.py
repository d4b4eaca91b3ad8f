"""Say who may look: by a token, once, and then by a cookie; and from which pages a form may come. Nothing is read here.

A browser sends whatever page is open in it to our address, so three things are held apart: a page of somebody else's
that has its name resolve to our address (the Host header then has that name), one that sends a form here (it knows no
proof), and one that shows ours in a frame (the headers of every answer forbid it).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from urllib.parse import urlsplit

__all__ = ["HEADERS", "Access", "is_local", "new_token"]

#: What every answer says, so that a hostile text in a page has nothing it could do (CSP level 3; OWASP ASVS 3.4).
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    # Not no-referrer: a form would come from the origin "null" then.
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

_LOCAL = ("localhost", "127.0.0.1", "[::1]")


def new_token() -> str:
    """Return a token that nobody can guess: 32 random bytes."""
    return secrets.token_urlsafe(32)


def is_local(host: str) -> bool:
    """Whether a Host header names this machine, by whatever port: it may have been forwarded (``ssh -L``)."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", host)
    if match is None:
        return False
    name = match[1].lower().removesuffix(".")
    if name in _LOCAL or name.endswith(".localhost"):  # the latter cannot be made to mean another (RFC 6761, 6.3)
        return True
    return name.startswith("127.") and re.fullmatch(r"127(\.[0-9]{1,3}){3}", name) is not None


class Access:
    """What one console is opened by. Every comparison takes as long whatever is shown.

    :param token: as it was printed.
    :ivar cookie: name of the cookie; it is this console's alone, since cookies do not know ports.
    :ivar session: the cookie's value.
    :ivar proof: what a form must carry; who reads it could send the form anyway.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self.cookie = f"outgate-{self._derived('name')[:8]}"
        self.session = self._derived("session")
        self.proof = self._derived("form")

    def _derived(self, purpose: str) -> str:
        return hmac.new(self._token.encode(), purpose.encode(), hashlib.sha256).hexdigest()

    def has_token(self, shown: str) -> bool:
        """Whether this is the token."""
        return _same(shown, self._token)

    def has_session(self, shown: str) -> bool:
        """Whether this is the value of the cookie that the token was changed for."""
        return _same(shown, self.session)

    def may_change(self, proof: str, host: str, origin: str | None, site: str | None) -> bool:
        """Whether a form may change something: it carries the proof, and comes from a page of ours.

        :param host: the Host header.
        :param origin: the Origin header, ``None`` where there is none.
        :param site: the Sec-Fetch-Site header, likewise.
        """
        is_ours = origin is None or urlsplit(origin).netloc == host
        return _same(proof, self.proof) and is_ours and site in (None, "same-origin", "none")


def _same(shown: str, expected: str) -> bool:
    return hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), expected.encode())
