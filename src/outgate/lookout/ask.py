"""Ask a running gate as its operator: one channel, one request."""

from __future__ import annotations

import os
import sys

from outgate.core import paths
from outgate.core.formats import messages, quickjson
from outgate.errors import systems

TYPE_CHECKING = False  # typing costs "outgate run" more than all of this
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, List, Tuple


class NoGate(Exception):
    """Nobody answers."""


class Refused(Exception):
    """The gate answered with a refusal, whose sentence this is.

    :ivar path: the gate's socket.
    """

    def __init__(self, text: str, path: str) -> None:
        super().__init__(text)
        self.path = path


def request(path: str, message: Dict[str, Any]) -> Dict[str, Any]:
    """Send one request over a channel of its own and return the whole reply; of counts those of all apps.

    :raises NoGate: nobody answers at the path, or something that is no gate.
    :raises Refused: a refusal, for instance because this user is no app.
    """
    _need_linux()
    from _socket import AF_UNIX, SO_RCVTIMEO, SO_SNDTIMEO, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET
    from _socket import socket as native

    sock = native(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    seconds = int(messages.LIMITS[message["op"]])
    limit = seconds.to_bytes(8, sys.byteorder) + bytes(8)
    sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, limit)
    sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, limit)
    hello = {
        "v": [messages.OLDEST, messages.VERSION],
        "role": "request",
        "token": os.urandom(16).hex(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "program": "outgate",
    }
    token_file = os.environ.get(paths.TOKEN_VARIABLE)
    if token_file:
        hello["identity"] = _token(token_file, path)
    try:
        sock.connect(path)
        sock.send(quickjson.dumps({**message, "hello": hello}).encode())
        packet = sock.recv(messages.MAX_PACKET)
    except BlockingIOError:
        raise NoGate(f"the gate at {path} did not answer within {seconds} s") from None
    except (OSError, ValueError) as e:  # ValueError: a NUL in the path
        raise NoGate(f"no gate answers at {path}: {getattr(e, 'strerror', None) or e}") from None
    finally:
        sock.close()
    if not packet:
        raise NoGate(f"the gate at {path} closed the channel")
    try:
        reply: Dict[str, Any] = quickjson.loads(packet.decode())
        refusal = reply.get("error")
    except (ValueError, AttributeError):
        raise NoGate(f"what answers at {path} is no gate") from None
    if refusal is not None:
        from outgate import errors

        error = errors.build(refusal["code"], refusal["facts"])
        raise Refused(error.reason + (f"; {error.cure}" if error.cure else ""), path)
    if message["op"] == messages.STAT and reply["answer"].get("next"):
        page = request(path, {**message, "after": reply["answer"]["next"]})["answer"]
        reply["answer"]["apps"].update(page["apps"])
        reply["answer"]["next"] = None
    return reply


def _token(file: str, path: str) -> str:
    """Return the token that this program shows. Raises :class:`Refused` where there is none in the file."""
    from outgate.client import rights
    from outgate.errors import GateError

    try:
        return rights.token(file)
    except GateError as e:
        raise Refused(f"{e.reason}; {e.cure}", path) from None


def greet(path: str) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return the gate's greeting and its counts. Raises as :func:`request`."""
    reply = request(path, {"op": messages.STAT})
    return reply["hello"], reply["answer"]


def _need_linux() -> None:
    system = systems.foreign()
    if system:
        raise NoGate(f"no gate can run here: it needs Linux, and this is {system}")


def candidates() -> List[str]:
    """Return the sockets to try: the one that is named, else those that nobody could have put there but us or root.

    :raises NoGate: this is no Linux.
    """
    _need_linux()
    found = paths.search_paths(os.environ, os.getuid())
    if len(found) == 1:
        return list(found)
    return [path for path in found if _is_private(os.path.dirname(path))] or list(found[:1])


def _is_private(folder: str) -> bool:
    try:
        seen = os.lstat(folder)
    except OSError:
        return True  # nothing there to mistake for a gate; asking says so
    return paths.is_private(seen.st_uid, seen.st_mode, os.getuid())


def find(message: Dict[str, Any], socket: str = "") -> Tuple[str, Dict[str, Any]]:
    """Ask the first gate that answers, and return (its path, its reply).

    :param socket: the only path to try; default: OUTGATE_SOCKET, else the host's gate and then the user's own.
    :raises NoGate: with every path that was tried.
    :raises Refused: the first that answered did so with a refusal.
    """
    tried = []
    for path in (socket,) if socket else candidates():
        try:
            return path, request(path, message)
        except NoGate as e:
            tried.append(str(e))
    raise NoGate("; ".join(tried) + "; start one with: outgate serve")


class Gate:
    """The gate that is asked: the one at a path, or the first that answers, and from then on that one.

    :param path: of its socket; "" for the first that answers, as :func:`find` looks for it.
    :ivar path: the same; what it was found to be, once it has answered.
    """

    def __init__(self, path: str = "") -> None:
        self.path = path

    def ask(self, message: Dict[str, Any]) -> Any:
        """Send one request and return the answer. Raises :class:`NoGate` or :class:`Refused`."""
        self.path, reply = find(message, self.path)
        return reply["answer"]


def paged(ask: Callable[[Dict[str, Any]], Any], message: Dict[str, Any]) -> Iterator[Any]:
    """Ask for what comes in pages, and give the answer with each; one is asked for when the one before is done with.

    :param ask: sends a request and returns the answer, as :meth:`Gate.ask`.
    """
    answer = ask(message)
    yield answer
    while answer.get("next") is not None:
        answer = ask({**message, "after": answer["next"]})
        yield answer
