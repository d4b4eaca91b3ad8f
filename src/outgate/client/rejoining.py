"""Notice that the gate which made our sockets was replaced, and see to it that the next one has them back in time."""

from __future__ import annotations

from _thread import RLock

from outgate.client import channel
from outgate.client.packets import Gone

#: Who had sockets of a gate that has ended, by its token: a forked child has another, and its parent gives them back.
_widow = ""
#: Whether the next gate is being given them, by whoever has the lock, which is re-entrant: a signal handler may close
#: a socket meanwhile.
_is_giving = False
_giving = RLock()


def rejoin() -> None:
    """See to it that the gate has our sockets, before one of them is closed: what it has not it cannot count.

    Where the gate that made them has ended and none has come yet, nothing is done: the next call asks again.
    """
    token = channel.process().token
    if channel.is_gate_alive():
        if _widow != token and not _is_giving:
            return
    else:
        channel.forget()
    try:
        channel.ensure_anchor()
        _give_back()
    except (OSError, Gone, ImportError):  # none answers; or the interpreter ends
        pass


def _give_back() -> None:
    """Give the gate what an earlier one had made, or wait until another thread has."""
    global _widow, _is_giving
    if not _widow and not _is_giving:
        return
    with _giving:
        token = channel.process().token
        if _widow != token:
            return
        _widow, _is_giving = "", True  # first: what follows needs a channel too
        try:
            from outgate.client import returning

            returning.give_back()
        except BaseException:  # a signal handler raised
            _widow = token
            raise
        finally:
            _is_giving = False


def _note_loss() -> None:
    global _widow
    _widow = channel.token()


def _renew_lock() -> None:
    global _giving, _is_giving
    _giving, _is_giving = RLock(), False  # another thread of the parent may have held it


channel.on_lost.append(_note_loss)
channel.on_joined.append(_give_back)
channel.on_fork.append(_renew_lock)
