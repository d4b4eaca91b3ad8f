"""Read socket addresses as C's ``getsockaddrarg`` does: the same types accepted, the same errors raised.

Host and port are frozen to exact ``str`` and ``int`` here, once, before anything looks at them: a ``str`` subclass
that shows one text to the check and another to the dial must not exist further in.
"""

from _socket import AF_INET
from operator import index
from typing import Any, Tuple

#: (host, port, flowinfo, scope id)
Address = Tuple[str, int, int, int]


def parse(family: int, address: Any, call: str) -> Address:
    """Return the frozen parts of an AF_INET or AF_INET6 address.

    :param call: the name of the function, for C's own error texts.
    :raises TypeError: not a tuple, or wrong types in it.
    :raises OverflowError: a port or flowinfo out of range.
    :raises UnicodeError: a host that the ``idna`` codec refuses.
    """
    if family == AF_INET:
        if not isinstance(address, tuple):
            raise TypeError(f"{call}(): AF_INET address must be tuple, not {type(address).__name__}")
        if len(address) != 2:
            raise TypeError("AF_INET address must be a pair (host, port)")
        host, port = _host(tuple.__getitem__(address, 0)), _int(tuple.__getitem__(address, 1))
        flow = scope = 0
    else:
        if not isinstance(address, tuple):
            raise TypeError(f"{call}(): AF_INET6 address must be tuple, not {type(address).__name__}")
        if not 2 <= len(address) <= 4:
            raise TypeError("AF_INET6 address must be a tuple (host, port[, flowinfo[, scopeid]])")
        items = tuple(tuple.__iter__(address))
        host, port = _host(items[0]), _int(items[1])
        flow = _unsigned(items[2]) if len(items) > 2 else 0
        scope = _unsigned(items[3]) if len(items) > 3 else 0
    if not 0 <= port <= 0xFFFF:
        raise OverflowError(f"{call}(): port must be 0-65535.")
    if not 0 <= flow <= 0xFFFFF:
        raise OverflowError(f"{call}(): flowinfo must be 0-1048575.")
    return host, port, flow, scope


def _host(host: Any) -> str:
    # C's idna_converter: None is the wildcard, bytes and bytearray pass, ASCII text passes, other text is encoded.
    if host is None:
        return ""
    if isinstance(host, (bytes, bytearray)):
        raw = bytes(host)
    elif isinstance(host, str):
        text = str.__str__(host)
        raw = str.encode(text, "ascii") if str.isascii(text) else str.encode(text, "idna")
    else:
        raise TypeError(f"str, bytes or bytearray expected, not {type(host).__name__}")
    if b"\0" in raw:
        raise TypeError("host name must not contain null character")
    return raw.decode("latin-1")


def _int(value: Any) -> int:
    if type(value) is int:
        number: int = value
    elif isinstance(value, float):
        raise TypeError("'float' object cannot be interpreted as an integer")
    else:
        number = int(index(value))
    if number > 0x7FFFFFFF:
        raise OverflowError("signed integer is greater than maximum" if number < 1 << 63 else _TOO_LARGE)
    if number < -0x80000000:
        raise OverflowError("signed integer is less than minimum" if number >= -(1 << 63) else _TOO_LARGE)
    return number


_TOO_LARGE = "Python int too large to convert to C long"


def _unsigned(value: Any) -> int:
    # format "I": wraps without a check, as C's does
    if isinstance(value, float):
        raise TypeError("'float' object cannot be interpreted as an integer")
    return int(index(value)) & 0xFFFFFFFF
