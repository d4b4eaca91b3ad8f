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
    from _json import make_encoder as _make_encoder
    from _json import make_scanner as _make_scanner
except ImportError:
    from json import JSONDecoder, JSONEncoder

    _scan: Any = JSONDecoder().scan_once  # type: ignore[attr-defined]
    _chunks: Any = JSONEncoder(separators=(",", ":")).iterencode
else:

    class _Context:
        """What the scanner asks of a decoder, at json.JSONDecoder's defaults."""

        strict = True
        object_hook = object_pairs_hook = None
        parse_float = parse_constant = float
        parse_int = int

    def _refuse(value: Any) -> Any:
        raise TypeError(f"{value!r} is not for JSON")

    _scan = _make_scanner(_Context)  # type: ignore[arg-type]
    # As json.JSONEncoder makes it: no look for circles, no indent, no sorted keys, none left out, NaN as JavaScript's.
    _chunks = _make_encoder(None, _refuse, _quoted, None, ":", ",", False, False, True)

__all__ = ["dumps", "loads"]


def dumps(value: Any) -> str:
    """Return the JSON text, in ASCII, of a value made of dicts with text for keys, lists, tuples and plain values.

    :raises TypeError: for a value of another type.
    """
    return "".join(_chunks(value, 0))


def loads(text: str) -> Any:
    """Return the value of a JSON text without white space around it. Raises ``ValueError`` for anything else."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value
