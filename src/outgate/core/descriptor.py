"""Name a lease so that another process can ask for it: versioned, unguessable, and safe to copy as text.

A descriptor is made of ``a-z``, ``0-9``, dots and hyphens, for JSON, URLs, environment variables and file names::

    outgate1.GATE.LEASE.SERIAL.SENT.RECEIVED.MAC

GATE is what this very gate is known by; in a fleet the gate's name there and a hyphen stand before it, so that every
other gate of the fleet knows whom to ask (:func:`owner`).

What stands in it is readable and can be changed by anybody; the code at the end (keyed BLAKE2, RFC 7693) covers it all
and the app as well, so that a descriptor that was changed, made up, or comes from another app is told apart without a
look at the leases. Who asks cannot tell these cases from that of a lease that has ended: the answer is one and the
same, and takes as long.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b
from typing import NamedTuple

PREFIX = "outgate1"
#: Characters of the longest descriptor, and of the key in bytes.
MOST = 160
KEY_SIZE = 32
_MAC_SIZE = 16
_PERSON = b"outgate lease 1"


class Descriptor(NamedTuple):
    """What a descriptor says.

    :ivar gate: which gate has the lease.
    :ivar lease: its number there.
    :ivar serial: which of the lease's descriptors it is, so that one redeemed twice does not count for another.
    :ivar sent: application bytes that had been sent when it was made, for a look at what happened since.
    :ivar received: the same, received.
    """

    gate: str
    lease: int
    serial: int = 0
    sent: int = 0
    received: int = 0


def seal(key: bytes, app: str, descriptor: Descriptor) -> str:
    """Return the text of a descriptor for an app.

    :param key: the gate's own, :data:`KEY_SIZE` random bytes.
    """
    _, _, serial, sent, received = descriptor
    body = f"{PREFIX}.{descriptor.gate}.{descriptor.lease:x}.{serial}.{sent}.{received}"
    return f"{body}.{_mac(key, app, body)}"


def unseal(key: bytes, app: str, text: str) -> Descriptor | None:
    """Return what a descriptor says, or ``None`` where it was not made with this key for this app.

    :param text: anything at all.
    """
    body, _, mac = text.rpartition(".")
    if not hmac.compare_digest(_mac(key, app, body).encode(), mac.encode("utf-8", "replace")):
        return None
    # The code holds: this is a text of our own making.
    _, gate, lease, serial, sent, received = body.split(".")
    return Descriptor(gate, int(lease, 16), int(serial), int(sent), int(received))


def owner(text: str) -> str:
    """Return the name in its fleet of the gate that a descriptor says it is of; "" for none.

    Anybody can write one that says so: only that gate knows whether it is true.

    :param text: anything at all.
    """
    parts = text.split(".")
    if len(parts) != 7 or parts[0] != PREFIX:
        return ""
    return parts[1].rpartition("-")[0]


def _mac(key: bytes, app: str, body: str) -> str:
    # The app's name may hold any character, but for a null: a rule of the configuration, and of TOML.
    said = f"{app}\0{body}".encode("utf-8", "replace")
    return blake2b(said, digest_size=_MAC_SIZE, key=key, person=_PERSON).hexdigest()
