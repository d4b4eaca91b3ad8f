"""Say whom the gate trusts where it speaks TLS itself: with the servers of fetches, and with proxies.

Whom a certificate must come from is the gate's host's to say, and not the program's: the authorities that OpenSSL finds
(``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` in the gate's own environment, else those of the system), and certifi's where
the system has none. Only a proxy may have authorities of its own (:class:`~outgate.gate.tls.secured.Contexts`).
"""

from __future__ import annotations

import ssl


class Trust:
    """The two contexts of fetches, each made on the thread that needs it first, and again after a reload."""

    def __init__(self) -> None:
        self._made: dict[bool, tuple[int, ssl.SSLContext]] = {}

    def context(self, verify: bool, number: int) -> ssl.SSLContext:
        """Return the context that verifies certificates, or the one that does not; to make one takes milliseconds.

        :param number: of the policy in force: a reload reads the authorities again.
        """
        known = self._made.get(verify)
        if known is None or known[0] != number:
            known = self._made[verify] = number, make(verify)
        return known[1]


def make(verify: bool) -> ssl.SSLContext:
    """Return a fresh context for a client.

    :param verify: whether certificates are held to the authorities, and to the name that was asked for.
    """
    context = ssl.create_default_context()
    if not any(ssl.get_default_verify_paths()[:2]):  # neither the file nor the folder is there
        import certifi

        context.load_verify_locations(certifi.where())
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
