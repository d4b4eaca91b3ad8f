"""Let a program set, read and send beside its data only what the table of options permits.

The table is :mod:`outgate.core.options`, loaded at the first call. C judges what is wrong with arguments; what it then
gets are exact numbers, the ones that were judged. Sockets that are not of the gate's are the kernel's alone.
"""

from __future__ import annotations

import sys
from _socket import socket as native

from outgate.client import channel, reclaimed
from outgate.client.address import parse
from outgate.client.calls import c_int, judge, refusal
from outgate.client.constants import SO_LINGER, SO_TYPE, SOL_SOCKET
from outgate.client.state import table

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

    from outgate.core.options import Refusal

#: The table's answer to nearly every call, as soon as there has been one.
_settable: frozenset[tuple[int, int]] = frozenset()
_gettable: frozenset[tuple[int, int]] = frozenset()
_LINGER = (SOL_SOCKET, SO_LINGER)


def setsockopt(self: native, *args: Any) -> None:
    """Set an option that the table permits; close must be exact about SO_LINGER, so remember that it was touched.

    :raises outgate.errors.GateError: ENOPROTOOPT or EACCES for any other, before and after connect, with the reason.
    """
    state = table.get(native.fileno(self))
    if state is None:
        return native.setsockopt(self, *args)
    if len(args) < 2 or type(args[0]) is not int or type(args[1]) is not int:
        args = _freeze("setsockopt", args)
    key = args[:2]
    if key not in _settable and _look_up("setsockopt", args):
        return reclaimed.check(self, state)
    reclaimed.check(self, state)
    if state.is_relay:
        from outgate.client.relay import relayed

        relayed.setsockopt(self, state, args)
        if key == _LINGER:
            state.lingered = True
        return None
    native.setsockopt(self, *args)
    if key == _LINGER:
        state.lingered = True
    return None


def getsockopt(self: native, *args: Any) -> int | bytes:
    """Read an option that the table permits.

    :raises outgate.errors.GateError: ENOPROTOOPT or EACCES for any other.
    """
    state = table.get(native.fileno(self))
    if state is None:
        return native.getsockopt(self, *args)
    if len(args) < 2 or type(args[0]) is not int or type(args[1]) is not int:
        args = _freeze("getsockopt", args)
    is_mocked = args[:2] not in _gettable and _look_up("getsockopt", args)
    reclaimed.check(self, state)
    if is_mocked:
        from outgate.core.options import mocked

        return mocked(*args)
    if state.is_relay:
        from outgate.client.relay import relayed

        return relayed.getsockopt(self, state, args)
    return native.getsockopt(self, *args)


def _freeze(call: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments with level and number as C will read them, or raise what C raises."""
    try:
        level, number = args[:2]
        return (c_int(level), c_int(number), *args[2:])
    except Exception:
        judge(call, *args)  # C has the words
        raise


def _look_up(call: str, args: tuple[Any, ...]) -> bool:
    """Raise the table's refusal, if it refuses; return whether the option is only there for show, as App Engine's were.

    What C finds wrong with the arguments of such a one is raised here.
    """
    global _gettable, _settable
    from outgate.core import options

    if channel.is_to_the_letter():
        if args[:2] == (SOL_SOCKET, SO_TYPE) and call == "getsockopt" and _is_asked_by_ssl():
            return False  # App Engine's ssl was the platform's, and knew a socket's type without asking
        ask = options.app_engine_set if call == "setsockopt" else options.app_engine_get
        refused = ask(args[0], args[1])
        is_shown = args[:2] in options.MOCKED
    else:
        _settable, _gettable = options.SETTABLE, options.GETTABLE
        may = options.may_set if call == "setsockopt" else options.may_get
        refused = may(args[0], args[1], dev=channel.process().dev)
        is_shown = False
    if refused is not None or is_shown:
        judge(call, *args)
    if refused is not None:
        raise refusal(refused.code, **refused.facts)
    return is_shown


def _is_asked_by_ssl() -> bool:
    """Tell whether it is the ssl module that calls us, and not the program."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("outgate.client."):
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") == "ssl"


def freeze_ancillary(family: int, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], Refusal | None]:
    """Return the arguments of ``sendmsg`` with the ancillary data as they were judged, and the first that is refused.

    What C finds wrong with them it raises here.
    """
    if not 2 <= len(args) <= 4 or (type(args[1]) in (list, tuple) and not args[1]):
        return args, None
    from outgate.core.options import may_accompany

    items: Any = args[1]
    try:
        items = list(items)
        frozen = [(c_int(level), c_int(kind), data) for level, kind, data in items]
    except Exception:
        judge_message(family, (args[0], items, *args[2:]))
        raise
    refusals = [may_accompany(level, kind) for level, kind, _ in frozen]
    return (args[0], frozen, *args[2:]), next(filter(None, refusals), None)


def judge_message(family: int, args: tuple[Any, ...]) -> None:
    """Raise what C finds wrong with the arguments of ``sendmsg``, in its order: flags, address, the rest."""
    if len(args) > 2:
        try:
            c_int(args[2])
        except Exception:
            judge("sendmsg", *args[:3])
            raise
    if len(args) > 3 and args[3] is not None:
        parse(family, args[3], "sendmsg", (), (), 0)
    judge("sendmsg", *args[:3])
