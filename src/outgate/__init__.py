"""outgate: outbound sockets as a service, for unmodified Python programs."""

__version__ = "0.1.0.dev0"

TYPE_CHECKING = False  # importing typing would cost more than the rest of the client
if TYPE_CHECKING:
    from typing import Any

__all__ = ["__version__", "adopt", "descriptor", "install"]


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


def descriptor(sock: "Any") -> str:
    """Return a text by which another process of the same app can have this socket: for JSON, URLs, the environment.

    The socket stays usable here. It ends when the last process that has it closes it; a descriptor that nobody adopts
    keeps it for the app's ``idle_timeout``.

    :param sock: a TCP or UDP socket that leaves through the gate, connected or not.
    :raises TypeError: for any other socket, and for one that carries TLS.
    :raises outgate.errors.GateError: what the gate refuses.
    """
    from outgate.client.travel.sockets import describe

    return describe(sock)


def adopt(text: str, exclusive: bool = False) -> "Any":
    """Return the socket of a descriptor, with the time-out that a new socket has here.

    :param exclusive: take it from all others that have it, which the gate refuses where it cannot.
    :raises outgate.errors.UnknownDescriptor: it was changed, is another app's, or the socket has ended.
    :raises outgate.errors.GateUnavailable: no gate answers.
    """
    import socket  # first: what follows is loaded by it, where it is our own

    from outgate.client.travel.sockets import redeem

    sock = redeem(text, exclusive=exclusive)
    sock.settimeout(socket.getdefaulttimeout())  # whether reads wait belongs to the file, as whoever shared it left it
    return sock
