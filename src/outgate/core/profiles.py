"""Know the profiles: the sets of rules that an app's defaults come from.

``default`` keeps what the original's rules protected and lifts what were limits of its machinery. ``app-engine`` is the
original to the letter. A profile is what holds where the configuration says nothing; what it says comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from outgate.core import idle
from outgate.core.address import google
from outgate.core.formats.messages import APP_ENGINE
from outgate.core.policy.lists import BUILT_IN_DENIALS
from outgate.core.quota import quotas
from outgate.core.quota.quotas import Quota

__all__ = ["APP_ENGINE", "DEFAULT", "PROFILES", "Profile"]

DEFAULT: Final = "default"


class Profile(NamedTuple):
    """What an app has that says nothing else.

    :ivar denials: rules that come before its own in ``deny``.
    :ivar exceptions: rules that come before its own in ``except``.
    :ivar groups: groups that those name, unless the configuration has some of the same names.
    :ivar quotas: what it may use.
    :ivar zone: whose days its quotas go by.
    :ivar idle_reclaim: when idle sockets are taken.
    :ivar to_the_letter: whether its programs get the original's socket options (eight, mocked), no bind but the
        wildcard's, no ``gethostbyaddr()``, and ``http.client`` through URL Fetch.
    """

    denials: tuple[str, ...] = BUILT_IN_DENIALS
    exceptions: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = {}
    quotas: tuple[Quota, ...] = quotas.DEFAULT
    zone: str = "UTC"
    idle_reclaim: str = idle.PRESSURE
    to_the_letter: bool = False


#: The group of Google's own ranges; ``[groups] google = [...]`` says newer ones (``outgate ranges``).
GOOGLE: Final = "google"

PROFILES: Final[Mapping[str, Profile]] = {
    DEFAULT: Profile(),
    APP_ENGINE: Profile(
        denials=(*BUILT_IN_DENIALS, GOOGLE),
        exceptions=(
            "8.8.8.8:53",
            "8.8.4.4:53",
            "[2001:4860:4860::8888]:53",
            "[2001:4860:4860::8844]:53",
            "tcp://smtp.gmail.com:465,587",
            "tcp://pop.gmail.com:995",
            "tcp://imap.gmail.com:993",
        ),
        groups={GOOGLE: google.RANGES},
        quotas=quotas.APP_ENGINE,
        zone="America/Los_Angeles",
        idle_reclaim=idle.ALWAYS,
        to_the_letter=True,
    ),
}
