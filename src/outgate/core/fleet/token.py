"""Write and read join tokens: by one a host becomes a gate of a fleet, once.

A token says which name the gate will have, where the gate is that issues certificates and by which fingerprint its
authority is known, so that the host that joins need trust nobody else on the way; and a secret that is good for one
certificate. It is JSON in base64 (RFC 4648 §5) behind a prefix, so that it survives a chat, a mail and a shell.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final, NamedTuple

from outgate.core.fleet.names import is_name, place

PREFIX: Final = "outgate-join1."
#: Characters of the longest token, and bytes of the secret.
MOST: Final = 1024
SECRET_SIZE: Final = 32
_HEX: Final = frozenset("0123456789abcdef")


class Token(NamedTuple):
    """What a join token says.

    :ivar name: of the gate that joins.
    :ivar issuer: the name of the gate that issues its certificate.
    :ivar at: where that one is, as ``HOST:PORT``.
    :ivar fingerprint: SHA-256 of the authority's certificate, in hexadecimal.
    :ivar secret: in hexadecimal.
    :ivar expires: Unix seconds.
    """

    name: str
    issuer: str
    at: str
    fingerprint: str
    secret: str
    expires: int


def write(token: Token) -> str:
    """Return the text of a token."""
    text = json.dumps(token._asdict(), separators=(",", ":")).encode()
    return PREFIX + base64.urlsafe_b64encode(text).decode().rstrip("=")


def read(text: str, now: float) -> Token:
    """Return what a token says.

    :param text: anything at all; blanks around it do not count.
    :param now: Unix seconds.
    :raises ValueError: it is none, is damaged or has expired; the text says which.
    """
    text = text.strip()
    if not text.startswith(PREFIX) or len(text) > MOST:
        raise ValueError(f'this is no join token: one begins with "{PREFIX}"; outgate fleet invite NAME makes one')
    said = text.removeprefix(PREFIX)
    try:
        found = json.loads(base64.b64decode(said + "=" * (-len(said) % 4), altchars=b"-_", validate=True))
        token = Token(**found)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise ValueError("this join token is damaged: copy all of it") from None
    if not _is_sound(token):
        raise ValueError("this join token is damaged: copy all of it")
    if now >= token.expires:
        raise ValueError("this join token has expired: outgate fleet invite NAME makes another")
    return token


def _is_sound(token: Token) -> bool:
    if type(token.expires) is not int or any(type(each) is not str for each in token[:5]):
        return False
    try:
        place(token.at)
    except ValueError:
        return False
    numbers = ((token.fingerprint, 64), (token.secret, 2 * SECRET_SIZE))
    return is_name(token.name) and is_name(token.issuer) and all(_is_hex(text, size) for text, size in numbers)


def _is_hex(text: str, size: int) -> bool:
    return len(text) == size and _HEX.issuperset(text)
