"""outgate: outbound sockets as a service, for unmodified Python programs."""

__version__ = "0.1.0.dev0"

__all__ = ["__version__", "install"]


def install() -> "list[str]":
    """Make this running program's sockets leave through the gate, from now on.

    ``outgate run`` does this before the program starts, which reaches more. Here ``socket`` may have been imported
    already: it is patched in place.

    :returns: what could not be reached, a sentence each; empty is complete. The same is warned about.
    """
    import sys

    fresh = "_socket" not in sys.modules
    import _socket  # under "outgate run" this brings the stand-in already

    from outgate.client.install import module, patch
    from outgate.client.standin import socket as stand_in

    if _socket.socket is stand_in:
        return []
    if fresh:
        sys.modules["_socket"] = module()
        return []
    import warnings

    missed = patch()
    for sentence in missed:
        warnings.warn("outgate: " + sentence, RuntimeWarning, stacklevel=2)
    return missed
