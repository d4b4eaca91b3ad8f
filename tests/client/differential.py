"""Make the same wrong call on the native socket class and on the stand-in, and say where the two differ.

Runs on every Python the client is made for, with nothing but the client on its path: as a script it goes through
:func:`table` and prints what differed as JSON. No gate is needed: whatever would ask one raises :class:`Asked`.
"""

import json
import os
import sys
from decimal import Decimal
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

if __name__ == "__main__":
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src"))

import _socket

from outgate.client import channel, names, standin
from outgate.client.state import State
from outgate.client.state import table as known
from outgate.errors import GateError

AF_INET, AF_INET6, SOCK_STREAM = _socket.AF_INET, _socket.AF_INET6, _socket.SOCK_STREAM
EAI = _socket.gaierror


class Asked(BaseException):
    """The stand-in was about to ask the gate."""


class Reached(BaseException):
    """The C class has judged all arguments and is about to act (its audit event)."""


class Outcome(NamedTuple):
    """How a call ended: ``returned``, ``reached``, ``asked``, or ``raised`` with type and text."""

    how: str
    kind: str = ""
    text: str = ""


_ACTS = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg")
#: Natively these ask name servers next.
_LOOKS_UP = ("socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo", "socket.getaddrinfo")
_NEAR = (None, "localhost", "127.0.0.1", "::1")
_EXACT = (str, type(None))
_stopping: Tuple[str, ...] = ()
asked: List[str] = []


def _audit(event: str, arguments: Tuple[Any, ...]) -> None:
    if event in _stopping and not (event in _LOOKS_UP and type(arguments[0]) in _EXACT and arguments[0] in _NEAR):
        raise Reached


sys.addaudithook(_audit)


def _ask(message: Dict[str, Any], *_: Any, **__: Any) -> Any:
    if message["op"] == "close":
        return {}
    asked.append(message["op"])
    raise Asked


class NoGate:
    """Stand where the channel is, for the length of a ``with``: whatever asks the gate raises :class:`Asked`."""

    def __enter__(self) -> None:
        self.before = channel.request, channel.post, channel.one_way
        channel.request = channel.post = _ask  # type: ignore[assignment]
        channel.one_way = lambda message: None
        asked.clear()

    def __exit__(self, *_: object) -> None:
        channel.request, channel.post, channel.one_way = self.before


def outcome(call: Callable[[], Any], stopping: Tuple[str, ...] = _ACTS) -> Outcome:
    """Make a call and say how it ended, stopping the C class before it acts."""
    global _stopping
    _stopping = stopping
    try:
        call()
    except Asked:
        return Outcome("asked")
    except Reached:
        return Outcome("reached")
    except Exception as e:
        if type(e).__name__ == "BeyondLoopback":
            return Outcome("reached")  # the suite's own audit hook, which comes before ours
        return Outcome("refused" if isinstance(e, GateError) else "raised", type(e).__name__, str(e))
    finally:
        _stopping = ()
    return Outcome("returned")


#: Of these the kernel or a resolver is the judge, whose place the gate takes.
_JUDGED_ELSEWHERE = ("socket(", "if_", "setsockopt(", "getsockopt(")
_FROM_A_RESOLVER = ("gaierror", "herror")
_AFTER_ITS_EVENT = ("wildcard resolved to multiple address", "IPv4 sockaddr must be 2 tuple")


def agree(label: str, native: Outcome, ours: Outcome) -> bool:
    """Tell whether the stand-in may end so where the C class ends so.

    What C raises we raise. Where C finds nothing wrong, we do what C does, ask the gate, or refuse. What a resolver
    or the kernel says natively, the gate may be asked for, and we may refuse.
    """
    if ours == native:
        return True
    if label.startswith("count "):  # how many arguments: Python says it in other words than C
        return ours[:2] == native[:2]
    if native.how == "raised":
        of_the_kernel = native.kind in ("OSError", "PermissionError") and label.startswith(_JUDGED_ELSEWHERE)
        return (of_the_kernel or native.kind in _FROM_A_RESOLVER) and ours.how in ("asked", "reached", "refused")
    if native.how == "reached" and label.startswith("get"):  # C was stopped, and might have raised these
        return ours.how != "raised" or ours.kind in _FROM_A_RESOLVER or ours.text in _AFTER_ITS_EVENT
    return ours.how != "raised"


class Side:
    """One of the two: sockets and functions of the C module, or ours."""

    def __init__(self, is_ours: bool) -> None:
        self.is_ours = is_ours

    def socket(self, family: int = AF_INET) -> Any:
        """Return an unconnected TCP socket; ours believes that the gate made it."""
        if not self.is_ours:
            return _socket.socket(family, SOCK_STREAM)
        sock = standin.socket.__new__(standin.socket)
        standin.native.__init__(sock, family, SOCK_STREAM)
        known[sock.fileno()] = State(1, 1, family, 0)
        return sock

    def function(self, name: str) -> Any:
        """Return a look-up function."""
        return names.STAND_INS[name] if self.is_ours else getattr(_socket, name)

    def create(self, *arguments: Any, **keywords: Any) -> None:
        """Make a socket from arguments."""
        cls = standin.socket if self.is_ours else standin.native
        cls(*arguments, **keywords).close()

    def method(self, name: str, family: int, *arguments: Any) -> None:
        """Call a method of a new socket."""
        sock = self.socket(family)
        try:
            getattr(sock, name)(*arguments)
        finally:
            sock.close()


NATIVE, OURS = Side(False), Side(True)


class Index:
    """An integer by ``__index__``."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __index__(self) -> Any:
        if isinstance(self.value, BaseException):
            raise self.value
        return self.value

    def __repr__(self) -> str:
        return f"Index({self.value!r})"


class Text(str):
    """A plain subclass of ``str``."""

    def __repr__(self) -> str:
        return f"Text({str.__repr__(self)})"


class Liar(str):
    """A text that shows another one to whoever asks politely."""

    LIE = "127.0.0.66"

    def __str__(self) -> str:
        return self.LIE

    def encode(self, *_: Any, **__: Any) -> bytes:
        return self.LIE.encode()

    def split(self, *_: Any, **__: Any) -> Any:
        return self.LIE.split(".")

    def isascii(self) -> bool:
        return True

    def __eq__(self, _: object) -> bool:
        return True

    def __ne__(self, _: object) -> bool:
        return False

    def __hash__(self) -> int:
        return hash(self.LIE)

    def __contains__(self, _: object) -> bool:
        return False

    def startswith(self, *_: Any) -> bool:
        return True

    def __repr__(self) -> str:
        return f"Liar({str.__repr__(self)})"


class LyingBytes(bytes):
    """Bytes that show others to whoever asks politely."""

    def __bytes__(self) -> bytes:
        return b"127.0.0.66"

    def decode(self, *_: Any, **__: Any) -> str:
        return "127.0.0.66"

    def __contains__(self, _: object) -> bool:
        return False


class LyingTuple(tuple):  # type: ignore[type-arg]
    """A tuple whose methods show another one."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, _: Any) -> Any:
        return "127.0.0.66"

    def __iter__(self) -> Iterator[Any]:
        return iter(("127.0.0.66", 53))


class Whole(int):
    """An ``int`` whose ``__index__`` and ``__int__`` lie."""

    def __index__(self) -> int:
        return 25

    __int__ = __index__


HOSTS: Tuple[Any, ...] = (
    # Names that would be looked up natively are not here: the C class looks them up before it judges the port.
    *(None, 0, 1.5, True, [], (), {}, object, Decimal(1), ["127.0.0.1"]),
    *("", "127.0.0.1", "0", "1.2.3", "0x7f.1", "<broadcast>", Text("127.0.0.1"), Liar("127.0.0.1")),
    *(b"", b"127.0.0.1", bytearray(b"127.0.0.1"), memoryview(b"127.0.0.1"), LyingBytes(b"127.0.0.1")),
    *("\0", "127.0.0.1\0", "127.0.0.1\0.example", b"127.0.0.1\0", bytearray(b"\0"), Text("a\0b"), "é\0"),
    *("é" * 70, "a" * 64 + "é", "a..é", ".é", "\ud800", "é" + "." * 5, Text("a" * 70), Text("a..b"), Text("é" * 70)),
    *("::1", "::", "::ffff:1.2.3.4", "fe80::1%lo", "fe80::1%99", "fe80::1%nosuch", Text("::1")),
)
PORTS: Tuple[Any, ...] = (
    *(0, 1, 80, 65535, -1, 65536, 1 << 31, -(1 << 31) - 1, 1 << 63, -(1 << 63) - 1, 1 << 70, True, Whole(80)),
    *(None, "80", b"80", "", 80.0, float("nan"), float("inf"), 80j, [], (), object, Liar("80")),
    *(Index(80), Index(-1), Index(65536), Index(1 << 40), Index(1 << 70), Index(True)),
    *(Index("80"), Index(80.0), Index(None), Index(KeyError("port")), Index(OSError(5, "port")), Index(Index(1))),
)
#: Python 3.9 still took ``__int__`` for an integer, with a warning; nobody else does.
if sys.version_info[:2] != (3, 9):
    PORTS += (Decimal(80),)
ADDRESSES: Tuple[Any, ...] = (
    *(None, 0, "127.0.0.1", "127.0.0.1:80", b"127.0.0.1", [], ["127.0.0.1", 80], {}, object, 1.5),
    *((), ("127.0.0.1",), ("127.0.0.1", 80, 0), ("::1", 80, 0, 0, 0), ("127.0.0.1", 80, 0, 0, 0, 0)),
    *(LyingTuple(("127.0.0.1", 80)), LyingTuple(("127.0.0.1", 1 << 20)), LyingTuple(("127.0.0.1",)), LyingTuple()),
    *((80, "127.0.0.1"), ("", ""), (None, None), (("127.0.0.1", 80),), iter(("127.0.0.1", 80))),
)
NUMBERS6: Tuple[Any, ...] = (
    *(0, 1, 0xFFFFF, 0x100000, -1, 1 << 32, (1 << 32) - 1, (1 << 32) + 5, 1 << 64, -(1 << 70), True, 1.0, None, "0"),
    *(Index(7), Index(1 << 40), Index(-3), Index("x"), Index(KeyError("k")), [], b"0", Whole(80), 2j),
)
BUFFERS: Tuple[Any, ...] = (None, "text", 5, [], ["x"], [b"x", "y"], object, memoryview(b"abcdef")[::2], b"x", [b"x"])
FLAGS: Tuple[Any, ...] = (*PORTS, 0x20000000, 0x20000000 | 1 << 40, Index(0x20000000))
ANCILLARY: Tuple[Any, ...] = (None, 5, [], (), [()], [(1, 1)], [(1, 1, "x")], [("a", 1, b"")], [(1, 1, b"", 2)])

Case = Tuple[str, Callable[[Side], Any]]


def table() -> Iterator[Case]:
    """Yield every case: its name, and what to do on a side."""

    def method(name: str, family: int, *arguments: Any) -> Case:
        label = f"{name}{arguments!r} of AF_INET{'6' if family == AF_INET6 else ''}"
        return label, lambda side: side.method(name, family, *arguments)

    def function(name: str, *arguments: Any) -> Case:
        return f"{name}{arguments!r}", lambda side: side.function(name)(*arguments)

    for name in ("connect", "connect_ex", "bind"):
        for family in (AF_INET, AF_INET6):
            for address in ADDRESSES:
                yield method(name, family, address)
            near = "127.0.0.1" if family == AF_INET else "::1"
            for host in HOSTS:
                for port in (80, 65536, "80"):
                    if port == 65536 and host == "fe80::1%nosuch":
                        continue  # looked up, as a name is, before the port is judged
                    yield method(name, family, (host, port))
            for port in PORTS:
                yield method(name, family, (near, port))
        for number in NUMBERS6:
            yield method(name, AF_INET6, ("::1", 80, number))
            yield method(name, AF_INET6, ("::1", 80, 0, number))
            yield method(name, AF_INET6, ("::1", 65536, number, number))
    for address in ADDRESSES:
        yield method("sendto", AF_INET, b"x", address)
        yield method("sendto", AF_INET, b"x", 0, address)
        yield method("sendmsg", AF_INET, [b"x"], [], 0, address)
    for flags in FLAGS:
        yield method("sendto", AF_INET, b"x", flags, ("127.0.0.1", 80))
        yield method("sendmsg", AF_INET, [b"x"], [], flags)
        yield method("sendmsg", AF_INET, [b"x"], [], flags, ("127.0.0.1", 80))
        yield method("listen", AF_INET, flags)
    for data in BUFFERS:
        for flags in (0, 0x20000000, "0"):
            yield method("sendto", AF_INET, data, flags, ("127.0.0.1", 80))
            yield method("sendmsg", AF_INET, data, [], flags, ("127.0.0.1", 80))
            yield method("sendmsg", AF_INET, data, (), flags)
    for ancillary in ANCILLARY:
        for flags in (0, 0x20000000, "0"):
            yield method("sendmsg", AF_INET, [b"x"], ancillary, flags, ("127.0.0.1", 80))
    for name in ("sendto", "sendmsg"):
        for arguments in ((), (b"x",), (b"x", 0, ("127.0.0.1", 80), 4, 5)):
            yield method(name, AF_INET, *arguments)
    for value in PORTS:
        yield method("setsockopt", AF_INET, value, 1, 1)
        yield method("setsockopt", AF_INET, 1, value, 1)
        yield method("setsockopt", AF_INET, 1, _socket.SO_LINGER, value)
        yield method("setsockopt", AF_INET, 1, _socket.SO_BINDTODEVICE, value)
        yield method("setsockopt", AF_INET, 1, _socket.SO_BINDTODEVICE, None, value)
        yield method("getsockopt", AF_INET, value, 2)
        yield method("getsockopt", AF_INET, 1, value)
        yield method("getsockopt", AF_INET, 1, _socket.SO_LINGER, value)
        yield method("getsockopt", AF_INET, 1, _socket.SO_BINDTODEVICE, value)
        yield method("sendmsg", AF_INET, [b"x"], [(value, 1, b"")])
        yield method("sendmsg", AF_INET, [b"x"], [(1, value, b"")])
    for arguments in ((), (1,), (1, 2, 3, 4)):
        yield method("getsockopt", AF_INET, *arguments)
    for arguments in ((), (1,), (1, 2), (1, 13, None), (1, 13, None, 8), (1, 13, 1, 8, 9)):
        yield method("setsockopt", AF_INET, *arguments)
    for port in PORTS:
        # Negative and huge families, types and protocols are refused with a reason where C calls socket(2).
        yield f"socket({port!r})", lambda side, port=port: side.create(port)
        yield f"socket(2, {port!r})", lambda side, port=port: side.create(2, port)
        yield f"socket(2, 1, {port!r})", lambda side, port=port: side.create(2, 1, port)
    for number in (-1, 99_999, "3", 3.0, b"3", 1 << 40, Index(-1), [], object):
        yield f"socket(fileno={number!r})", lambda side, n=number: side.create(2, 1, 0, n)
    for host in HOSTS:
        for name in ("gethostbyname", "gethostbyname_ex", "gethostbyaddr"):
            yield function(name, host)
        for port in (None, 80, "80", "nosuchservice"):
            yield function("getaddrinfo", host, port)
        yield function("getnameinfo", (host, 80), 0)
        yield function("if_nametoindex", host)
    for port in PORTS:
        yield function("getaddrinfo", "127.0.0.1", port)
        yield function("getaddrinfo", "localhost", port)
        yield function("getaddrinfo", None, port)
        for place in range(4):
            numbers: List[Any] = [0, 0, 0, 0]
            numbers[place] = port
            yield function("getaddrinfo", "127.0.0.1", 80, *numbers)
            yield function("getaddrinfo", "localhost", 80, *numbers)
        yield function("getnameinfo", ("127.0.0.1", port), 0)
        yield function("getnameinfo", ("127.0.0.1", 80), port)
        yield function("if_indextoname", port)
    for number in NUMBERS6:
        yield function("getnameinfo", ("::1", 80, number), 0)
        yield function("getnameinfo", ("::1", 80, 0, number), 0)
    for address in ADDRESSES:
        yield function("getnameinfo", address, 0)
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo", "if_nametoindex"):
        for arguments in ((), (1, 2, 3, 4, 5, 6, 7), ("127.0.0.1", 1, 2, 3, 4, 5, 6, 7)):
            label, act = function(name, *arguments)
            yield "count " + label, act
    yield "count if_nameindex(1)", lambda side: side.function("if_nameindex")(1)
    for name in ("connect", "connect_ex", "bind", "listen", "_accept", "close", "detach"):
        arguments = (("127.0.0.1", 80),) if name in ("connect", "connect_ex", "bind") else ()
        for end in ("close", "detach"):
            yield f"{name}{arguments} after {end}", lambda side, *a, n=name, e=end, x=arguments: _after(side, e, n, x)


def _after(side: Side, end: str, name: str, arguments: Tuple[Any, ...]) -> None:
    sock = side.socket()
    fd = getattr(sock, end)()
    try:
        getattr(sock, name)(*arguments)
    finally:
        if fd is not None:
            known.pop(fd, None)
            os.close(fd)


def compare(act: Callable[[Side], Any]) -> Tuple[Outcome, Outcome]:
    """Return how a case ends natively and on the stand-in."""
    native = outcome(lambda: act(NATIVE), (*_ACTS, *_LOOKS_UP))
    with NoGate():
        ours = outcome(lambda: act(OURS))
    return native, ours


def main() -> None:
    """Print how many cases were made and which differed."""
    import warnings

    warnings.simplefilter("ignore")
    count, different = 0, []
    for label, act in table():
        native, ours = compare(act)
        count += 1
        if not agree(label, native, ours):
            different.append([label, native, ours])
    print(json.dumps({"python": sys.version.split()[0], "cases": count, "different": different}))


if __name__ == "__main__":
    main()
