"""Carry requests to the gate and answers back.

A process keeps one *anchor* channel, which carries only one-way packets and whose end tells the gate that the process
has ended, and a free-list of request channels, one per request in flight. Channels are never shared over fork: a
child joins with a token of its own and names its parent's.

Nothing here may import :mod:`socket`: this module is what ``socket`` will be built on.
"""

from __future__ import annotations

import errno
import os
import sys
from posix import close as close_natively  # os.close looks for the program's sockets

from outgate.client.held import HANDLED, SIG_BLOCK, SIG_SETMASK, sigmask
from outgate.client.packets import ONE_WAY_LIMIT, Channel, Gone
from outgate.core import paths
from outgate.core.formats import messages, quickjson

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any


class Process:
    """What the gate knows this process by."""

    __slots__ = ("boot", "dev", "idle", "is_led", "parents", "path", "pid", "profile", "token")

    def __init__(self, parents: tuple[str, ...] = ()) -> None:
        self.pid = os.getpid()
        self.token = os.urandom(16).hex()
        self.parents = parents
        self.boot = ""
        self.dev = False
        #: Seconds after which the gate takes sockets that are idle, wherever they are; 0 for not at all.
        self.idle = 0
        #: Whether any of its connections leaves by a proxy, and so may be answered late.
        self.is_led = False
        self.path = ""
        #: Whose rules the app has chosen, "" for the usual ones; ``None`` until the gate has said it.
        self.profile: str | None = None


#: What is answered with fds.
_WITH_FDS = (messages.NEW, messages.REDEEM, messages.FETCH)

_process: Process = Process()
_free: list[Channel] = []
_anchor: list[Channel] = []
#: Called when everything the gate had given us is void: its end, or a fork.
on_lost: list[Any] = []
#: Called when there is a new anchor.
on_joined: list[Any] = []
#: Called before that in a forked child, where locks may be held by threads that it does not have. Not by
#: os.register_at_fork: functions that the program has registered before us run first, and may open connections.
on_fork: list[Any] = []
#: Called with the seconds of :attr:`Process.idle` when the gate says others than before.
on_idle_limit: list[Any] = []


def process() -> Process:
    """Return who we are to the gate; a child that C code forked behind our back becomes a process of its own here."""
    if _process.pid != os.getpid():
        start_anew()
    return _process


def is_to_the_letter() -> bool:
    """Tell whether the app has App Engine's own rules, as far as the gate has said: not before it has been asked."""
    return _process.profile == messages.APP_ENGINE


def token() -> str:
    """Return what the gate knows this process by, without a look whether it has been forked."""
    return _process.token


def profile() -> str:
    """Return whose rules the app has chosen, "" for the usual ones; the gate is asked if nothing was asked of it yet.

    :raises outgate.errors.GateUnavailable: if no gate answers.
    """
    if process().profile is None:
        request({"op": messages.STAT})
    return _process.profile or ""


def start_anew() -> None:
    """Begin as a new process (after fork): nothing of the parent's channels may be used."""
    global _process
    before = _process
    for hook in on_fork:
        hook()
    forget()
    _process = Process((before.token, *before.parents)[:8])
    _process.path, _process.dev, _process.idle = before.path, before.dev, before.idle
    _process.profile = before.profile


def forget() -> None:
    """Let go of every channel and of what came over them."""
    _drop_all(_free)
    _drop_all(_anchor)
    for hook in on_lost:
        hook()


def _drop_all(channels: list[Channel]) -> None:
    while True:
        try:
            channel = channels.pop()
        except IndexError:  # empty, perhaps by another thread
            return
        channel.drop()


def is_gate_alive() -> bool:
    """Tell whether the gate that we are joined to still is; without any channel there is nothing to say against it."""
    anchor = next(iter(_anchor), None)
    return anchor is None or not anchor.has_ended()


def encode(message: dict[str, Any]) -> bytes:
    """Return a packet for the message."""
    return quickjson.dumps(message).encode("ascii")


def decode(packet: bytes) -> dict[str, Any]:
    """Return the message in a packet."""
    message: dict[str, Any] = quickjson.loads(packet.decode())
    return message


def _hello(role: str) -> dict[str, Any]:
    argv = getattr(sys, "argv", None) or [""]
    program = os.path.basename(argv[0] or sys.executable or "?")
    said = {
        "v": [messages.OLDEST, messages.VERSION],
        "role": role,
        "token": _process.token,
        "parents": list(_process.parents),
        "pid": _process.pid,
        "python": ".".join(map(str, sys.version_info[:3])),
        "program": program.encode("ascii", "backslashreplace").decode()[:200],
    }
    if paths.LABELS_VARIABLE in os.environ:
        said["labels"] = os.environ[paths.LABELS_VARIABLE].encode("ascii", "replace").decode()[: messages.MAX_LABELS]
    environ = os.environ
    if paths.TOKEN_VARIABLE in environ or paths.NARROW_VARIABLE in environ or "outgate.client.rights" in sys.modules:
        from outgate.client import rights

        said.update(rights.said())
    return said


def unavailable(code: str, **facts: Any) -> Exception:
    """Return the error of a row about the gate itself, with its path."""
    from outgate import errors

    facts.setdefault("path", _process.path or paths.socket_path(os.environ, os.getuid()))
    return errors.build(code, facts)


def _open() -> Channel:
    if _process.path:
        candidates: tuple[str, ...] = (_process.path,)
    else:
        candidates = paths.search_paths(os.environ, os.getuid())
    failure = "not found"
    for path in candidates:
        try:
            if len(candidates) > 1:  # not named but searched for
                folder = os.lstat(os.path.dirname(path))
                if not paths.is_private(folder.st_uid, folder.st_mode, os.getuid()):
                    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            mask = sigmask(SIG_BLOCK, ())
            try:
                sigmask(SIG_BLOCK, HANDLED)
                channel = Channel(path)
            finally:
                sigmask(SIG_SETMASK, mask)
        except (FileNotFoundError, ConnectionRefusedError, PermissionError, BlockingIOError, NotADirectoryError) as e:
            failure = os.strerror(e.errno or 0)
            if path == candidates[-1]:
                raise unavailable("gate-unavailable", path=path, why=failure) from None
        else:
            _process.path = path
            return channel
    raise unavailable("gate-unavailable", why=failure)


def ensure_anchor() -> Channel:
    """Return the anchor channel, opening it if there is none or if the program took its number."""
    known = next(iter(_anchor), None)
    if known is not None:
        if known.is_ours():
            return known
        _drop_all(_anchor)
    anchor = _open()
    anchor.send(encode({"op": messages.HELLO, "hello": _hello("anchor")}))
    _anchor.append(anchor)
    for hook in on_joined:
        hook()
    first = next(iter(_anchor), anchor)
    if first is not anchor:  # another thread was as quick
        try:
            _anchor.remove(anchor)
        except ValueError:  # a third has dropped them all
            return anchor
        anchor.drop()
    return first


def take() -> Channel:
    """Return a channel with no request in flight. Give it back with :func:`give_back`, or drop it."""
    process()
    while True:
        try:
            channel = _free.pop()
        except IndexError:
            break
        if channel.is_ours():
            return channel
        channel.drop()
    ensure_anchor()
    return _open()


def give_back(channel: Channel) -> None:
    """Return a channel whose reply has been read whole."""
    if len(_free) < 16:
        _free.append(channel)
    else:
        channel.drop()


def one_way(message: dict[str, Any]) -> None:
    """Send a packet that has no answer. A gate that is not there is no error: it knows by then, or knows nothing."""
    process()
    packet = encode(message)
    for _ in range(2):
        try:
            ensure_anchor().send(packet)
            return
        except Gone:
            forget()
        except BlockingIOError:
            _drop_all(_anchor)
        except OSError:
            return


def post(message: dict[str, Any]) -> Channel:
    """Send a request and return the channel its reply will come on.

    Idle channels whose gate has ended are found here: everything of the old gate is dropped and the new one is asked.

    :raises outgate.errors.GateUnavailable: if no gate answers.
    """
    for _ in range(2):
        try:
            channel = take()
        except Gone:  # a gate that ends what it has just accepted
            forget()
            continue
        try:
            if not channel.greeted:
                channel.send(encode({**message, "hello": _hello("request")}))
            else:
                channel.send(encode(message))
        except Gone:
            channel.drop()
            forget()
            continue
        except BlockingIOError:
            channel.drop()
            raise unavailable("gate-timeout", op=message["op"], limit=ONE_WAY_LIMIT) from None
        except BaseException:
            channel.drop()
            raise
        return channel
    raise unavailable("gate-unavailable", why="it ends every channel")


def collect(channel: Channel, op: str, keep: bool = False) -> tuple[dict[str, Any], list[int]]:
    """Read the reply to a request that :func:`post` sent, with its fds if the operation has any.

    The channel goes back to the free-list, or is dropped on any error, an interruption by a signal among them. A reply
    with fds is only fetched, not waited for: if it is not there yet, ``BlockingIOError`` leaves the channel as it is.

    :param keep: leave the channel to the caller, who has more to say on it.
    """
    fds: list[int] = []
    try:
        if op in _WITH_FDS:
            packet, fds = channel.receive_fds()
        else:
            packet = channel.receive(op)
        reply = decode(packet)
    except BlockingIOError:
        if op in _WITH_FDS:
            raise
        channel.drop()
        raise late(op) from None
    except BaseException:
        for fd in fds:
            close_natively(fd)
        channel.drop()
        raise
    hello = reply.get("hello")
    if hello is not None:
        channel.greeted = True
        _process.dev = bool(hello.get("dev"))
        _process.boot = hello.get("boot", "")
        _process.is_led = bool(hello.get("led"))
        if _process.profile is None:  # what a program has seen of its sockets stays so
            _process.profile = hello.get("profile", "")
        if hello.get("idle", 0) != _process.idle:
            _process.idle = hello["idle"]
            for hook in on_idle_limit:
                hook(_process.idle)
    if reply.get("end"):
        channel.drop()
    elif not keep:
        give_back(channel)
    return reply, fds


def late(op: str) -> Exception:
    """Return the error of a gate that did not answer within the limit of the operation."""
    return unavailable("gate-timeout", op=op, limit=messages.LIMITS[op])


def request(message: dict[str, Any], repeat: bool = True) -> dict[str, Any]:
    """Ask the gate and return its reply.

    :param repeat: whether asking twice does no harm, should the gate end between request and reply.
    :raises outgate.errors.GateError: what the gate refused, as the exception of its row.
    :raises outgate.errors.GateUnavailable: if no gate answers, or not within the limit of the operation.
    """
    op = message["op"]
    for attempt in range(2):
        channel = post(message)
        try:
            reply, _ = collect(channel, op)
        except Gone:
            forget()
            if repeat and attempt == 0:
                continue
            raise unavailable("gate-unavailable", why="it ended during the request") from None
        return checked(reply)
    raise AssertionError("unreachable")


def checked(reply: dict[str, Any]) -> dict[str, Any]:
    """Return the reply, or raise the refusal that is in it."""
    refusal = reply.get("error")
    if refusal is not None:
        from outgate import errors

        raise errors.build(refusal["code"], refusal["facts"])
    return reply


def last_error(reply: dict[str, Any]) -> OSError | None:
    """Return the network's or kernel's own error in a reply, as the native module would raise it."""
    number = reply.get("errno")
    if number is None:
        return None
    kind = reply.get("kind")
    if kind is not None:
        import _socket

        error: OSError = getattr(_socket, kind)(number, reply["text"])
        return error
    return OSError(number, os.strerror(number))
