"""Read the files with the tokens by which programs say which app they are, and compare what they show.

Only a digest is kept: whoever looks into the gate's memory, its settings or its log finds no token.
"""

from __future__ import annotations

import hmac
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from outgate.core.formats import messages
from outgate.gate.configuration.places import Place

if TYPE_CHECKING:
    from outgate.gate.configuration.settings import AppSettings

__all__ = ["digest", "found", "read", "same"]

_MAKE_ONE: Final = "outgate token new {path} makes one"


def digest(token: str) -> bytes:
    """Return what a token is known by."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


#: A FIFO would hold the gate. Windows has none of these flags, and no file that needs them.
_READ: Final = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY"))


def same(known: bytes, shown: bytes) -> bool:
    """Tell whether two digests are of one token, in the same time wherever they differ; b"" is no token's."""
    return hmac.compare_digest(known, shown)


def read(place: Place, path: str) -> bytes:
    """Return the digest of the token in a file.

    :raises ConfigError: it cannot be read, everybody may read it, others than its owner may change it, or what it holds
        is no token: one line of 32 to 256 printable characters without a space.
    """
    try:
        fd = os.open(path, _READ)
    except OSError as error:
        raise place.error(f"{path} cannot be read: {error.strerror}", _MAKE_ONE.format(path=path)) from None
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise place.error(f"{path} is not a file", _MAKE_ONE.format(path=path))
        if mode & 0o022:
            raise place.error(f"{path} may be changed by others than its owner", f"chmod 600 {path}")
        if mode & 0o004:
            raise place.error(f"{path} may be read by everybody, who then is this app", f"chmod 600 {path}")
        said = os.read(fd, messages.MAX_IDENTITY + 2)
    finally:
        os.close(fd)
    text = said.decode("ascii", "replace").strip()
    if not text:
        raise place.error(f"{path} is empty", _MAKE_ONE.format(path=path))
    if not text.isascii() or not text.isprintable() or " " in text:
        raise place.error(f"{path} holds no token: one line without spaces", _MAKE_ONE.format(path=path))
    if not messages.MIN_IDENTITY <= len(text) <= messages.MAX_IDENTITY:
        raise place.error(
            f"{path} holds a token of {len(text)} characters; "
            f"from {messages.MIN_IDENTITY} to {messages.MAX_IDENTITY} it may have",
            _MAKE_ONE.format(path=path),
        )
    return digest(text)


def found(place: Place, apps: Mapping[str, AppSettings], folder: str, *, reads: bool) -> dict[str, AppSettings]:
    """Return the apps with what their token files hold.

    :param place: of the apps.
    :param folder: where a path starts that is not absolute.
    :param reads: whether the files are read at all, or only their paths made absolute.
    :raises ConfigError: as :func:`read`, and where two apps have one token: who shows it would be both.
    """
    result: dict[str, AppSettings] = {}
    owners: dict[bytes, str] = {}
    for name, app in apps.items():
        result[name] = app
        if not app.token_file:
            continue
        here = place.at(name).at("token_file")
        if "\0" in app.token_file:
            raise here.error("is not a path", "leave the key out for none")
        path = os.path.join(folder, app.token_file)
        token = read(here, path) if reads else b""
        if token and owners.setdefault(token, name) != name:
            raise here.error(f"{path} has the token of app {owners[token]!r}", _MAKE_ONE.format(path=path))
        result[name] = replace(app, token_file=path, token=token)
    return result
