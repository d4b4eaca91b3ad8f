"""Ask a running gate, from the command line: one channel, one request."""

import json
import os
import sys
from _socket import AF_UNIX, SO_RCVTIMEO, SO_SNDTIMEO, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET
from _socket import socket as native
from typing import Any, Dict, Tuple

from outgate.core import messages, paths


class NoGate(Exception):
    """Nobody answers."""


class Refused(Exception):
    """The gate answered with a refusal, whose sentence this is."""


def request(path: str, message: Dict[str, Any]) -> Dict[str, Any]:
    """Send one request over a channel of its own and return the whole reply.

    :raises NoGate: nobody answers at the path.
    :raises Refused: a refusal, for instance because this user is no app.
    """
    sock = native(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    seconds = int(messages.LIMITS[message["op"]])
    limit = seconds.to_bytes(8, sys.byteorder) + bytes(8)
    sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, limit)
    sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, limit)
    hello = {
        "v": [messages.OLDEST, messages.VERSION],
        "role": "request",
        "token": os.urandom(16).hex(),
        "python": "%d.%d.%d" % sys.version_info[:3],
        "program": "outgate",
    }
    try:
        sock.connect(path)
        sock.send(json.dumps({**message, "hello": hello}).encode())
        packet = sock.recv(messages.MAX_PACKET)
    except BlockingIOError:
        raise NoGate(f"the gate at {path} did not answer within {seconds} s") from None
    except OSError as e:
        raise NoGate(f"no gate answers at {path}: {e.strerror}") from None
    finally:
        sock.close()
    if not packet:
        raise NoGate(f"the gate at {path} closed the channel")
    reply: Dict[str, Any] = json.loads(packet)
    refusal = reply.get("error")
    if refusal is not None:
        from outgate import errors

        reason, cure = errors.describe(refusal["code"], refusal["facts"])
        raise Refused(reason + (f"; {cure}" if cure else ""))
    return reply


def greet(path: str) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return the gate's greeting and its counts."""
    reply = request(path, {"op": messages.STAT})
    return reply["hello"], reply["answer"]


def find(message: Dict[str, Any], socket: str = "") -> Tuple[str, Dict[str, Any]]:
    """Ask the first gate that answers, and return (its path, its reply).

    :param socket: the only path to try; default: OUTGATE_SOCKET, else the host's gate and then the user's own.
    :raises NoGate: with every path that was tried.
    """
    tried = []
    for path in (socket,) if socket else paths.search_paths(os.environ, os.getuid()):
        try:
            return path, request(path, message)
        except NoGate as e:
            tried.append(str(e))
    raise NoGate("; ".join(tried) + "; start one with: outgate serve")
