"""Where the gate's socket, log and state are, from the environment and the uid. Pure: looks nothing up.

Standard library only, Python 3.9+: the client uses it too.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing costs more than everything else that the client imports
if TYPE_CHECKING:
    from typing import Mapping, Tuple

#: Names the socket for clients; ``outgate run`` sets it for the program it starts.
SOCKET_VARIABLE = "OUTGATE_SOCKET"
#: Says to clients of which untested versions of Python they need not warn (again): ``3.15``, or ``quiet`` of none.
UNTESTED_VARIABLE = "OUTGATE_UNTESTED"
#: Has clients say what makes its sockets itself, and holds what has been said of; not there: they say nothing.
FOREIGN_VARIABLE = "OUTGATE_FOREIGN"
#: Names the file with the token that says which app a program is; the secret itself is in no environment.
TOKEN_VARIABLE = "OUTGATE_TOKEN_FILE"
#: What a program and those that started it have narrowed themselves to, as JSON, for what they start.
NARROW_VARIABLE = "OUTGATE_NARROW"

#: Whether ``http.client`` goes over ``sockets`` or through ``urlfetch``, whatever the app's profile is.
HTTP_VARIABLE = "OUTGATE_HTTP"
#: App Engine's own word for sockets: it is there, whatever it says, even nothing.
HTTP_SOCKETS_VARIABLE = "GAE_USE_SOCKETS_HTTPLIB"
#: Labels under which the bytes of a program, and of what it starts, are booked, as in ``job=17,team=web``.
LABELS_VARIABLE = "OUTGATE_LABELS"


def runtime_dir(environ: Mapping[str, str], uid: int) -> str:
    """Return the folder for sockets: ``/run/outgate`` for root, else below XDG_RUNTIME_DIR or /tmp."""
    if uid == 0:
        return "/run/outgate"
    base = environ.get("XDG_RUNTIME_DIR")
    return f"{base}/outgate" if base else f"/tmp/outgate-{uid}"


def socket_path(environ: Mapping[str, str], uid: int) -> str:
    """Return where this user's gate listens: OUTGATE_SOCKET, else ``gate.sock`` in :func:`runtime_dir`."""
    return environ.get(SOCKET_VARIABLE) or runtime_dir(environ, uid) + "/gate.sock"


def search_paths(environ: Mapping[str, str], uid: int) -> Tuple[str, ...]:
    """Return the sockets to try in turn: the named one alone, else the host's gate and then the user's own."""
    named = environ.get(SOCKET_VARIABLE)
    if named:
        return (named,)
    host, own = "/run/outgate/gate.sock", socket_path(environ, uid)
    return (host,) if host == own else (host, own)


def is_private(owner: int, mode: int, uid: int) -> bool:
    """Tell whether a folder (its ``st_uid`` and ``st_mode``) is one that nobody but root and this user may change.

    A gate found by searching must lie in such a folder: in ``/tmp`` anybody could make it first, and hand out sockets.
    """
    return owner in (0, uid) and mode & 0o170022 == 0o040000


def state_dir(environ: Mapping[str, str], uid: int) -> str:
    """Return the folder for logs and kept state: ``/var/lib/outgate`` for root, else below XDG_STATE_HOME."""
    if uid == 0:
        return "/var/lib/outgate"
    base = environ.get("XDG_STATE_HOME")
    return (base or environ.get("HOME", "/tmp") + "/.local/state") + "/outgate"


def log_path(environ: Mapping[str, str], uid: int) -> str:
    """Return where the decision log goes when nothing else is said."""
    return ("/var/log/outgate" if uid == 0 else state_dir(environ, uid)) + "/decisions.jsonl"
