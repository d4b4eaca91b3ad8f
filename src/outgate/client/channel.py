"""Carry requests to the gate and answers back.

A process keeps one *anchor* channel, which carries only one-way packets and whose end tells the gate that the process
has ended, and a free-list of request channels, one per request in flight. Channels are never shared over fork: a
child joins with a token of its own and names its parent's.

Nothing here may import :mod:`socket`: this module is what ``socket`` will be built on.
"""

import _signal  # type: ignore[import-not-found]
import os
import sys
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_DONTWAIT,
    SCM_RIGHTS,
    SO_RCVTIMEO,
    SO_SNDTIMEO,
    SOCK_CLOEXEC,
    SOCK_SEQPACKET,
    SOL_SOCKET,
)
from _socket import socket as _native
from fcntl import F_DUPFD_CLOEXEC, fcntl
from typing import Any, Dict, List, Optional, Tuple

from outgate.core import messages, paths

_ALL_SIGNALS = _signal.valid_signals()
_MSG_CMSG_CLOEXEC = 0x40000000
_ANCILLARY = CMSG_SPACE(messages.MAX_BORN * 4)
#: Unread one-way packets wait in the kernel; a gate that is hung must not hang close() for longer than this.
_ONE_WAY_LIMIT = 5.0


class _Quiet(_native):
    """A native socket whose end, when the interpreter shuts down, is no leak to warn the program about."""

    __slots__ = ()

    def __del__(self) -> None:
        pass


class Gone(Exception):
    """The other end of a channel has ended; the request was not, or may not have been, carried out."""

    def __init__(self, sent: bool) -> None:
        self.sent = sent


class Process:
    """What the gate knows this process by."""

    __slots__ = ("boot", "dev", "parents", "path", "pid", "token")

    def __init__(self, parents: Tuple[str, ...] = ()) -> None:
        self.pid = os.getpid()
        self.token = os.urandom(16).hex()
        self.parents = parents
        self.boot = ""
        self.dev = False
        self.path = ""


class Channel:
    """One connected channel, parked at a high number where programs do not look."""

    __slots__ = ("greeted", "inode", "limit", "sock")

    def __init__(self, path: str) -> None:
        sock = _Quiet(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
        sock.settimeout(None)  # undo socket.setdefaulttimeout(), which C applies to every new socket
        sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, _timeval(_ONE_WAY_LIMIT))
        sock.connect(path)
        self.sock = park(sock)
        self.inode = os.fstat(self.sock.fileno()).st_ino
        self.greeted = False
        self.limit = 0.0

    def is_ours(self) -> bool:
        """Tell whether our fd number still is our channel: ``closerange`` and daemonising give it to the program."""
        try:
            return os.fstat(self.sock.fileno()).st_ino == self.inode
        except OSError:
            return False

    def drop(self) -> None:
        """Close the channel, or let go of its number if the program uses that for something else by now."""
        if self.is_ours():
            self.sock.close()
        else:
            self.sock.detach()

    def send(self, packet: bytes) -> None:
        """Send one packet. Raises :class:`Gone` if the gate has closed the channel."""
        try:
            self.sock.send(packet)
        except (BrokenPipeError, ConnectionResetError, ConnectionRefusedError):
            raise Gone(sent=False) from None

    def receive(self, op: str) -> bytes:
        """Wait for one packet without fds. Raises :class:`Gone`, or ``BlockingIOError`` at the operation's limit."""
        self._set_limit(op)
        try:
            packet = self.sock.recv(messages.MAX_PACKET)
        except ConnectionResetError:
            raise Gone(sent=True) from None
        if not packet:
            raise Gone(sent=True)
        return packet

    def receive_fds(self, op: str, wait: bool = True) -> Tuple[bytes, List[int]]:
        """Wait for one packet and the fds in it. Call it with signals blocked, or a handler that raises loses fds."""
        if wait:
            self._set_limit(op)
        flags = _MSG_CMSG_CLOEXEC | (0 if wait else MSG_DONTWAIT)
        try:
            packet, ancillary, _, _ = self.sock.recvmsg(messages.MAX_PACKET, _ANCILLARY, flags)
        except ConnectionResetError:
            raise Gone(sent=True) from None
        fds = [
            int.from_bytes(data[start : start + 4], sys.byteorder)
            for level, kind, data in ancillary
            if level == SOL_SOCKET and kind == SCM_RIGHTS
            for start in range(0, len(data) - len(data) % 4, 4)
        ]
        if not packet:
            raise Gone(sent=True)
        return packet, fds

    def _set_limit(self, op: str) -> None:
        limit = messages.LIMITS[op]
        if limit != self.limit:
            self.sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, _timeval(limit))
            self.limit = limit


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return whole.to_bytes(8, sys.byteorder) + int((seconds - whole) * 1e6).to_bytes(8, sys.byteorder)


def _high() -> int:
    soft = min(os.sysconf("SC_OPEN_MAX"), 4096)
    return soft - min(soft // 4, 128)


def park(sock: _native) -> _native:
    """Move a native socket to a high fd number, so that the program's own fds keep the numbers they would have."""
    low = sock.fileno()
    moved = park_fd(low)
    if moved == low:
        return sock
    sock.detach()
    parked = _Quiet(sock.family, sock.type, sock.proto, moved)
    parked.settimeout(None)
    return parked


def park_fd(fd: int) -> int:
    """Move an fd to a high number and return it; near the limit of fds it stays where it is."""
    try:
        moved = fcntl(fd, F_DUPFD_CLOEXEC, _high())
    except OSError:
        return fd
    os.close(fd)
    return int(moved)


def block_signals() -> Any:
    """Keep handlers from running between receiving fds and writing them down (C's call: 40 times cheaper)."""
    return _signal.pthread_sigmask(_signal.SIG_BLOCK, _ALL_SIGNALS)


def unblock_signals(before: Any) -> None:
    """Undo :func:`block_signals`; handlers that were held back run here."""
    _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


_process: Process = Process()
_free: List[Channel] = []
_anchor: List[Channel] = []
#: Called when everything the gate had given us is void: its end, or a fork.
on_lost: List[Any] = []
_json: List[Any] = []


def process() -> Process:
    """Return who we are to the gate; a child that C code forked behind our back becomes a process of its own here."""
    if _process.pid != os.getpid():
        start_anew()
    return _process


def start_anew() -> None:
    """Begin as a new process (after fork): nothing of the parent's channels may be used."""
    global _process
    parents = (_process.token, *_process.parents)[:8]
    forget()
    _process = Process(parents)


def forget() -> None:
    """Let go of every channel and of what came over them."""
    while _free:
        _free.pop().drop()
    while _anchor:
        _anchor.pop().drop()
    for hook in on_lost:
        hook()


def _codec() -> Any:
    if not _json:
        import json  # 5 ms: only for programs that make a socket

        _json.append(json.JSONEncoder(separators=(",", ":"), check_circular=False).encode)
        _json.append(json.loads)
    return _json


def encode(message: Dict[str, Any]) -> bytes:
    """Return a packet for the message."""
    text: str = _codec()[0](message)
    return text.encode("ascii")


def decode(packet: bytes) -> Dict[str, Any]:
    """Return the message in a packet."""
    message: Dict[str, Any] = _codec()[1](packet)
    return message


def _hello(role: str) -> Dict[str, Any]:
    argv = getattr(sys, "argv", None) or [""]
    program = os.path.basename(argv[0] or sys.executable or "?")
    return {
        "v": [messages.OLDEST, messages.VERSION],
        "role": role,
        "token": _process.token,
        "parents": list(_process.parents),
        "python": "%d.%d.%d" % sys.version_info[:3],
        "program": program.encode("ascii", "backslashreplace").decode()[:200],
    }


def _unavailable(code: str, **facts: Any) -> Exception:
    from outgate import errors

    facts.setdefault("path", _process.path or paths.socket_path(os.environ, os.getuid()))
    return errors.build(code, facts)


def _open() -> Channel:
    if _process.path:
        candidates: Tuple[str, ...] = (_process.path,)
    else:
        candidates = paths.search_paths(os.environ, os.getuid())
    failure = "not found"
    for path in candidates:
        try:
            channel = Channel(path)
        except (FileNotFoundError, ConnectionRefusedError, PermissionError, BlockingIOError, NotADirectoryError) as e:
            failure = os.strerror(e.errno or 0)
            if path == candidates[-1]:
                raise _unavailable("gate-unavailable", path=path, why=failure) from None
        else:
            _process.path = path
            return channel
    raise _unavailable("gate-unavailable", why=failure)


def ensure_anchor() -> Channel:
    """Return the anchor channel, opening it if there is none or if the program took its number."""
    if _anchor:
        if _anchor[0].is_ours():
            return _anchor[0]
        _anchor.pop().drop()
    anchor = _open()
    anchor.send(encode({"op": messages.HELLO, "hello": _hello("anchor")}))
    if _anchor:  # another thread was quicker
        anchor.drop()
    else:
        _anchor.append(anchor)
    return _anchor[0]


def take() -> Channel:
    """Return a channel with no request in flight. Give it back with :func:`give_back`, or drop it."""
    process()
    while _free:
        channel = _free.pop()
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


def one_way(message: Dict[str, Any]) -> None:
    """Send a packet that has no answer. A gate that is not there is no error: it knows by then, or knows nothing."""
    process()
    packet = encode(message)
    for _ in range(2):
        try:
            ensure_anchor().send(packet)
            return
        except (Gone, BlockingIOError):
            while _anchor:
                _anchor.pop().drop()
        except OSError:
            return


def post(message: Dict[str, Any]) -> Channel:
    """Send a request and return the channel its reply will come on.

    Idle channels whose gate has ended are found here: everything of the old gate is dropped and the new one is asked.

    :raises outgate.errors.GateUnavailable: if no gate answers.
    """
    for _ in range(2):
        channel = take()
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
            raise _unavailable("gate-timeout", op=message["op"], limit=_ONE_WAY_LIMIT) from None
        except BaseException:
            channel.drop()
            raise
        return channel
    raise _unavailable("gate-unavailable", why="it ends every channel")


def collect(channel: Channel, op: str, wait: bool = True) -> Tuple[Dict[str, Any], List[int]]:
    """Read the reply to a request that :func:`post` sent, with its fds if the operation has any.

    The channel goes back to the free-list, or is dropped on any error, an interruption by a signal among them.
    With ``wait=False`` raises ``BlockingIOError`` if the reply is not there yet, and the channel stays as it is.
    """
    fds: List[int] = []
    try:
        if op == messages.NEW:
            packet, fds = channel.receive_fds(op, wait)
        else:
            packet = channel.receive(op)
        reply = decode(packet)
    except BlockingIOError:
        if not wait:
            raise
        channel.drop()
        raise _unavailable("gate-timeout", op=op, limit=messages.LIMITS[op]) from None
    except Gone:
        channel.drop()
        raise
    except BaseException:
        for fd in fds:
            os.close(fd)
        channel.drop()
        raise
    hello = reply.get("hello")
    if hello is not None:
        channel.greeted = True
        _process.dev = bool(hello.get("dev"))
        if _process.boot != hello.get("boot", ""):
            _process.boot = hello.get("boot", "")
    if reply.get("end"):
        channel.drop()
    else:
        give_back(channel)
    return reply, fds


def request(message: Dict[str, Any], repeat: bool = True) -> Dict[str, Any]:
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
            raise _unavailable("gate-unavailable", why="it ended during the request") from None
        return checked(reply)
    raise AssertionError("unreachable")


def checked(reply: Dict[str, Any]) -> Dict[str, Any]:
    """Return the reply, or raise the refusal that is in it."""
    refusal = reply.get("error")
    if refusal is not None:
        from outgate import errors

        raise errors.build(refusal["code"], refusal["facts"])
    return reply


def last_error(reply: Dict[str, Any]) -> Optional[OSError]:
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
