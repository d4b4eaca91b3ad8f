"""Make the environment variables by which programs in any language find a door: those that curl made a convention.

A program takes HTTPS_PROXY for https:// URLs, HTTP_PROXY for http:// ones, ALL_PROXY for everything else, and what
NO_PROXY names it does not ask a proxy for. Some read them in capitals, some in small letters, so both are set.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

__all__ = ["NO_PROXY", "url", "variables"]

#: To a door "localhost" would be the gate's host. A program means its own.
NO_PROXY: Final = "localhost,127.0.0.1,::1"


def url(scheme: str, app: str, token: str, address: str) -> str:
    """Return the URL of a door, with credentials.

    :param scheme: ``socks5h`` (the door looks names up) or ``http``.
    :param address: ``host:port``.
    """
    return f"{scheme}://{quote(app, safe='')}:{quote(token, safe='')}@{address}"


def variables(socks: str, http: str) -> dict[str, str]:
    """Return the variables, in the order in which they are shown.

    https:// goes by CONNECT where there is a door for it, since every client can do that. The same door fetches no
    http:// URL, so these and everything else go by SOCKS5, where there is one.

    :param socks: URL of the SOCKS5 door, "" for none; likewise ``http``. There is at least one of them.
    """
    found = {
        "ALL_PROXY": socks or http,
        "HTTPS_PROXY": http or socks,
        "HTTP_PROXY": socks or http,
        "NO_PROXY": NO_PROXY,
    }
    return {**found, **{name.lower(): value for name, value in found.items()}}
