"""Say whether ``http.client`` goes through URL Fetch, as on App Engine, or over sockets."""

from __future__ import annotations

import os

from outgate.client import channel
from outgate.core import paths
from outgate.core.formats import messages


def goes_through_urlfetch() -> bool:
    """Tell whether a connection that is made now does: with the profile ``app-engine``, or where the environment says.

    :raises outgate.errors.GateUnavailable: no gate answers, and so none says which profile the app has.
    """
    said = os.environ.get(paths.HTTP_VARIABLE, "")
    if said == "sockets" or paths.HTTP_SOCKETS_VARIABLE in os.environ:
        return False
    return said == "urlfetch" or channel.profile() == messages.APP_ENGINE
