"""Read and write small JSON without the json package, whose import compiles regular expressions: 10 ms of a start.

Its parts in C are used directly; where an interpreter has none, the package itself. Writing is quicker too: the package
makes a C encoder anew for every text. Standard library only, Python 3.9+: the client uses it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    from _json import encode_basestring_ascii as _quoted
    from _json import make_scanner as _make_scanner
except ImportError:
    from json import JSONDecoder
    from json import dumps as _quoted

    _scan: Any = JSONDecoder().scan_once  # type: ignore[attr-defined]
else:

    class _Context:
        """What the scanner asks of a decoder, at json.JSONDecoder's defaults."""

        strict = True
        object_hook = object_pairs_hook = None
        parse_float = parse_constant = float
        parse_int = int

    _scan = _make_scanner(_Context)  # type: ignore[arg-type]

__all__ = ["dumps", "loads"]


def dumps(value: Any) -> str:
    """Return the JSON text, in ASCII, of a value made of dicts, lists, tuples, text, whole numbers, booleans, None."""
    if isinstance(value, str):
        return str(_quoted(value))
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, dict):
        parts = []
        for name, item in value.items():
            kind = type(item)  # text and numbers are nearly all there is: a call for each would double the time
            text = _quoted(item) if kind is str else repr(item) if kind is int else dumps(item)
            parts.append(f"{_quoted(name)}:{text}")
        return "{" + ",".join(parts) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([dumps(item) for item in value]) + "]"
    if value is None:
        return "null"
    raise TypeError(f"{value!r} is not for JSON")


def loads(text: str) -> Any:
    """Return the value of a JSON text without white space around it. Raises ``ValueError`` for anything else."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value
