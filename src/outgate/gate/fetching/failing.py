"""Say why a fetch came to nothing: from whatever was raised, the refusal that its program gets."""

from __future__ import annotations

import errno
import ssl

import httpcore
import httpx

from outgate.core.fetch.limits import Refusal, invalid_url
from outgate.core.formats.fetchline import shown
from outgate.gate.fetching.connecting import Connections, LookUpFailed, Refused, text_of
from outgate.gate.replies import Reply, refusal

#: What a fetch may fail with; all else is a fault of the gate's own. ``UnicodeError`` is idna's, of a host that is no
#: name; httpx raises it when the host is asked for.
FAILED = (
    *(Refused, LookUpFailed, httpx.HTTPError, httpx.InvalidURL, UnicodeError),
    *(httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError),
)


class Withheld(Refused):
    """A limit of URL Fetch refuses this."""

    def __init__(self, refused: Refusal) -> None:
        code, facts = refused
        super().__init__(refusal(code, **facts))


async def reply_to(error: Exception, url: str, connections: Connections) -> Reply:
    """Return the refusal of a fetch that has raised one of :data:`FAILED`.

    :param url: what was fetched when it did: a redirect's, perhaps.
    """
    if isinstance(error, Refused):
        return error.reply
    taken = await connections.taken()
    if taken is not None:
        return taken
    where = shown(url)
    if isinstance(error, LookUpFailed):
        return refusal("fetch-dns", url=where, why=error.text, errno=error.number)
    if isinstance(error, ssl.SSLCertVerificationError):
        return refusal("fetch-certificate", url=where, why=error.verify_message.rstrip("."))
    if isinstance(error, ssl.SSLError):
        return refusal("fetch-connect", url=where, why=f"no TLS: {error.reason or error}", errno=errno.EPROTO)
    if isinstance(error, httpcore.ConnectError):
        number, text = text_of(error)
        return refusal("fetch-connect", url=where, why=text, errno=number)
    if isinstance(error, (httpx.InvalidURL, UnicodeError)):
        code, facts = invalid_url(url, str(error), "quote what a URL cannot have (urllib.parse.quote)")
        return refusal(code, **facts)
    if connections.is_ended or isinstance(error, httpcore.NetworkError):
        return refusal("fetch-closed", url=where)
    return refusal("fetch-malformed", url=where, why=str(error).rstrip(".") or type(error).__name__)
