"""Make the TLS contexts of fetches, on the thread of the app that needs one first.

Whom a certificate must come from is the gate's host's to say, and not the program's: the authorities that OpenSSL finds
(``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` in the gate's own environment, else those of the system), and certifi's where
the system has none.
"""

from __future__ import annotations

import ssl


class Trust:
    """The two contexts, each made at its first use, and again for the first fetch after a reload."""

    def __init__(self) -> None:
        self._made: dict[bool, tuple[int, ssl.SSLContext]] = {}

    def context(self, verify: bool, number: int) -> ssl.SSLContext:
        """Return the context that verifies certificates, or the one that does not; the first takes milliseconds.

        :param number: of the policy in force: a reload reads the authorities again.
        """
        known = self._made.get(verify)
        if known is None or known[0] != number:
            known = self._made[verify] = number, make(verify)
        return known[1]


def make(verify: bool) -> ssl.SSLContext:
    """Return a fresh context."""
    context = ssl.create_default_context()
    if not any(ssl.get_default_verify_paths()[:2]):  # neither the file nor the folder is there
        import certifi

        context.load_verify_locations(certifi.where())
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
