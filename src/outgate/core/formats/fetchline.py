"""Frame what client and gate say on the line of a fetch: a stream of texts, and the bytes of an answer.

FETCH on a channel brings the program one end of a Unix stream. On it everything is a frame, of a kind, a length and
as many bytes; a text is a JSON object. The program begins::

    {"url": …, "method": …, "headers": [[name, value], …], "size": bytes of the payload, "deadline": s or null,
     "follow": bool, "verify": bool, "truncate": bool, "task": bool}

The gate says ``{"send": true}`` when it wants the payload, which then comes whole and without frames, and once more
where a redirect takes it along: so it need not keep it. It answers with ``{"status": …, "headers": …, "url": … or
null, "unpack": bool}``, with frames of bytes, and ``{"end": true, "truncated": bool}``. Instead of any of these it may
say ``{"error": {"code": …, "facts": …}}``, and that is the last. Either side ends the fetch by closing. In what either
refuses a URL is named by :func:`shown`.

This leaf is loaded into other people's interpreters: standard library only, Python 3.9+.
"""

from __future__ import annotations

TEXT = 0
BYTES = 1
#: Bytes before those of a frame.
HEADER = 5
#: Bytes of one frame. A text has headers: h11 takes 100 KiB of a server, JSON makes at most six of one.
MAX_FRAME = 1024 * 1024

#: Characters of a URL in a refusal.
_SHOWN = 200


def frame(kind: int, data: bytes | bytearray) -> bytes:
    """Return a frame. Raises ``OverflowError`` where it would be too long for its length."""
    return bytes((kind,)) + len(data).to_bytes(HEADER - 1, "big") + data


def parse(header: bytes) -> tuple[int, int]:
    """Return kind and length of the frame that begins so. Raises ``ValueError`` where it is none."""
    kind, size = header[0], int.from_bytes(header[1:HEADER], "big")
    if kind not in (TEXT, BYTES) or size > MAX_FRAME:
        raise ValueError(f"no frame: kind {kind}, {size} bytes")
    return kind, size


def shown(url: str) -> str:
    """Return a URL as refusals have it: without what may be secret (a password, what follows ``?``), and not long."""
    text, has_query, _ = url.partition("#")[0].partition("?")
    before, slashes, rest = text.partition("//") if "//" in text else ("", "", text)
    place, slash, path = rest.partition("/")
    if "@" in place:
        place = "…@" + place.rpartition("@")[2]
    text = before + slashes + place + slash + path + ("?…" if has_query else "")
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
