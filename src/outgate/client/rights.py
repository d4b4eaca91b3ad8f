"""Say with every hello who this program is by its token, and what it has narrowed itself to.

Both come by the environment and go on by it to what this process starts. The environment has the path of the token
and never the token; the gate reads the same file, or a copy of it.
"""

from __future__ import annotations

import os
from _thread import allocate_lock

from outgate.client import channel
from outgate.core import paths
from outgate.core.formats import messages, quickjson

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any, Iterable, Optional

#: What was told to narrow() in this process, and in those that it was forked from; the environment has it as well.
_narrowings: list[dict[str, Any]] = []
_lock = allocate_lock()


def said() -> dict[str, Any]:
    """Return what a hello says beside the facts of the process.

    :raises outgate.errors.PolicyDenied: the token file cannot be read, or holds no token.
    :raises outgate.errors.ConfigError: the environment has something else where narrowings should be: who they limit
        must not go on without.
    """
    more: dict[str, Any] = {}
    path = os.environ.get(paths.TOKEN_VARIABLE)
    if path:
        more["identity"] = token(path)
    narrowed = _known()
    if narrowed:
        more["narrow"] = narrowed
    return more


def token(path: str) -> str:
    """Return the token in a file: one line of it, read anew each time.

    :raises outgate.errors.PolicyDenied: it cannot be read, or holds none.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(messages.MAX_IDENTITY + 2).decode("ascii").strip()
    except OSError as e:
        why = os.strerror(e.errno or 0)
    except ValueError:  # a NUL in the path, or not ASCII in the file
        why = "it holds no token"
    else:
        if messages.MIN_IDENTITY <= len(text) <= messages.MAX_IDENTITY and text.isprintable() and " " not in text:
            return text
        why = "it is empty" if not text else "it holds no token"
    from outgate import errors

    raise errors.build("token-file", {"path": path, "why": why})


def narrow(allow: Optional[Iterable[str]], deny: Iterable[str], names: Optional[Iterable[str]]) -> None:
    """Narrow this process, and what it starts from now on.

    :raises outgate.errors.ConfigError: a rule is none, or there are too many.
    :raises outgate.errors.GateUnavailable: no gate answers. Nothing has changed then.
    """
    one = {
        "allow": None if allow is None else _rules("allow", allow),
        "deny": _rules("deny", deny),
        "names": None if names is None else _rules("names", names),
    }
    if one["allow"] is None and not one["deny"] and one["names"] is None:
        return
    with _lock:
        narrowed = _known()
        if one not in narrowed:
            narrowed.append(one)
        text = quickjson.dumps(narrowed)
        if len(text) > messages.MAX_NARROW_TEXT:
            raise _too_much(f"more than {messages.MAX_NARROW_TEXT} characters of rules altogether")
        reply = channel.request({"op": messages.NARROW, **one})
        if "invalid" in reply:
            from outgate.errors import ConfigError

            raise ConfigError(reply["invalid"])
        _narrowings[:] = narrowed
        os.environ[paths.NARROW_VARIABLE] = text
    _forget_ways()


def _too_much(what: str) -> Exception:
    from outgate.errors import ConfigError

    return ConfigError(f"narrow: {what}; name ranges and suffixes instead of each destination")


def _rules(name: str, rules: Any) -> list[str]:
    """Return rules as a list of plain text. Raises ``TypeError``, or ``ConfigError`` for too many."""
    if isinstance(rules, (str, bytes)):
        raise TypeError(f"narrow: {name} is a list of rules, as in {name}=[{str(rules)!r}]")
    found = list(rules)
    for rule in found:
        if not isinstance(rule, str):
            raise TypeError(f"narrow: a rule is text, not {type(rule).__name__}")
    if len(found) > messages.MAX_NARROW_RULES:
        raise _too_much(f"{name} has more than {messages.MAX_NARROW_RULES} rules")
    if any(len(rule) > messages.MAX_RULE for rule in found):
        raise _too_much(f"{name} has a rule of more than {messages.MAX_RULE} characters")
    return ["".join(rule) for rule in found]


def _known() -> list[dict[str, Any]]:
    """Return the narrowings of this process: those that it was told, and those that stand in the environment."""
    text = os.environ.get(paths.NARROW_VARIABLE)
    found = list(_narrowings)
    if text:
        try:
            for each in quickjson.loads(text):
                one = {"allow": each["allow"], "deny": each["deny"], "names": each["names"]}
                if one not in found:
                    found.append(one)
        except (LookupError, TypeError, ValueError):
            from outgate.errors import ConfigError

            raise ConfigError(f"{paths.NARROW_VARIABLE} is not what outgate.narrow() has written") from None
    return found


def _forget_ways() -> None:
    """Have every UDP socket ask for its destinations again."""
    from outgate.client.state import by_cookie

    for state in list(by_cookie.values()):
        if state.is_datagram:
            state.ways.forget(state)


def _renew_lock() -> None:
    global _lock
    _lock = allocate_lock()  # another thread of the parent may have held it


channel.on_fork.append(_renew_lock)
