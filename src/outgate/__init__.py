"""outgate: outbound sockets as a service, for unmodified Python programs."""

__version__ = "0.1.0.dev0"

TYPE_CHECKING = False  # importing typing would cost more than the rest of the client
if TYPE_CHECKING:
    from typing import Any, Iterable, Optional

__all__ = ["__version__", "adopt", "descriptor", "install", "narrow"]


def _need_linux() -> None:
    """Raise the error that says so where there can be no gate. Importing this package is harmless everywhere."""
    from outgate.errors.systems import foreign

    system = foreign()
    if system:
        from outgate.errors import build

        raise build("not-linux", {"system": system})


def install() -> "list[str]":
    """Make this running program's sockets leave through the gate, from now on.

    ``outgate run`` does this before the program starts, which reaches more. Here ``socket`` may have been imported
    already: it is patched in place.

    :returns: what could not be reached, a sentence each; empty is complete. The same is warned about.
    :raises outgate.errors.GateUnavailable: this is no Linux.
    """
    _need_linux()
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
    _need_linux()
    from outgate.client.travel.sockets import describe

    return describe(sock)


def adopt(text: str, exclusive: bool = False) -> "Any":
    """Return the socket of a descriptor, with the time-out that a new socket has here.

    :param exclusive: take it from all others that have it, which the gate refuses where it cannot.
    :raises outgate.errors.UnknownDescriptor: it was changed, is another app's, or the socket has ended.
    :raises outgate.errors.GateUnavailable: no gate answers.
    """
    _need_linux()
    import socket  # first: what follows is loaded by it, where it is our own

    from outgate.client.travel.sockets import redeem

    sock = redeem(text, exclusive=exclusive)
    sock.settimeout(socket.getdefaulttimeout())  # whether reads wait belongs to the file, as whoever shared it left it
    return sock


def narrow(
    allow: "Optional[Iterable[str]]" = None,
    deny: "Iterable[str]" = (),
    names: "Optional[Iterable[str]]" = None,
) -> None:
    """Give up rights: this process, and what it starts from now on, reaches only what these rules leave it.

    It can be called again, and only ever takes more away: what is reached is what the app's policy and every narrowing
    allow. Nothing takes it back. Connections that are open stay open.

    :param allow: the rules of what may still be reached, in the grammar of the policy; everything that the app may
        reach unless given, nothing if empty.
    :param deny: rules of what may not be reached any more; they come before ``allow``.
    :param names: patterns of the names that may still be looked up, beside those that ``allow`` names.
    :raises outgate.errors.ConfigError: (a ``ValueError``) a rule is none, or there are too many.
    :raises outgate.errors.GateUnavailable: no gate answers, or this program's sockets do not leave through one.
    """
    _need_linux()
    import _socket  # under "outgate run" this brings the stand-in
    import sys

    stand_in = sys.modules.get("outgate.client.standin")
    if stand_in is None or _socket.socket is not stand_in.socket:
        from outgate.errors import build

        raise build("no-client", {"call": "narrow()"})
    from outgate.client.rights import narrow

    narrow(allow, deny, names)
