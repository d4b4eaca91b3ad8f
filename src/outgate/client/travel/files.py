"""Pickle the files of sockets (``socket.makefile``), with what they have read ahead.

What was written and is not flushed is sent at pickling: two copies would send it twice. What was read ahead and not
given out yet goes along and stays as well: both copies have it.
"""

from __future__ import annotations

import codecs
import copyreg
import gc
import sys

# Names, not modules: what a module of ours holds is taken down with the interpreter's last modules, and a file of a
# socket that is as old as they are could not be closed in silence (SocketIO.close looks for io; said since 3.13).
from io import DEFAULT_BUFFER_SIZE, BufferedRWPair, IncrementalNewlineDecoder, TextIOWrapper
from socket import SocketIO
from typing import Any

from outgate.client.state import table

__all__ = [
    *("fill", "note_newline", "note_pair", "noted"),
    *("reduce_pair", "reduce_raw", "reduce_reader", "reduce_text", "reduce_writer"),
]

#: In the ``__dict__`` of a file that C made: the raw file below a pair and the size of its buffers, and the ``newline``
#: of a text.
_RAW, _SIZE, _NEWLINE = "_outgate_raw", "_outgate_size", "_outgate_newline"


class _Empty(Exception):
    """Nothing is left of what was read ahead."""


def noted(file: Any, sock: Any, buffering: Any, newline: Any) -> Any:
    """Note with a file what cannot be asked of it later: which pair of C's has which raw file, what ends a line."""
    copyreg.pickle(SocketIO, reduce_raw)
    _prepare_imap()
    below = file
    if type(file) is TextIOWrapper:
        note_newline(file, newline)
        below = file.buffer
    if type(below) is BufferedRWPair:
        # C does not give its raw file out: make both anew.
        raw = SocketIO(sock, "rw")
        note_pair(below, raw, DEFAULT_BUFFER_SIZE if buffering is None or buffering < 0 else buffering)
    return file


def note_pair(pair: Any, raw: Any, size: int) -> None:
    """Make a pair anew, over a raw file that is noted with it."""
    pair.__init__(raw, raw, size)
    setattr(pair, _RAW, raw)
    setattr(pair, _SIZE, size)


def note_newline(text: Any, newline: str | None) -> None:
    """Note what ends a line in a text."""
    setattr(text, _NEWLINE, newline)


def _prepare_imap() -> None:
    imaplib = sys.modules.get("imaplib")
    if imaplib is not None and "__getstate__" not in vars(imaplib.IMAP4):
        imaplib.IMAP4.__getstate__ = _state_of_imap


def _state_of_imap(self: Any) -> dict[str, Any]:
    """Leave out the match of its last line, which cannot be pickled and is looked at by nobody between commands."""
    state = dict(self.__dict__)
    state["mo"] = None
    return state


def _opener(name: str) -> Any:
    from outgate.client.travel import opening

    return getattr(opening, name)


# --- reducers ---------------------------------------------------------------------------------------------------------


def reduce_raw(raw: Any) -> Any:
    """Reduce an unbuffered file."""
    if not _is_ours(raw):
        return _natively(raw)
    return _opener("raw"), (raw._sock, raw._mode)


def reduce_reader(reader: Any) -> Any:
    """Reduce a file for reading."""
    raw = _raw_below(reader)
    if not _is_ours(raw):
        return _natively(reader)
    return _opener("reader"), (raw, _unread(reader, raw), _size(reader))


def reduce_writer(writer: Any) -> Any:
    """Reduce a file for writing, and flush it."""
    raw = _raw_below(writer)
    if not _is_ours(raw):
        return _natively(writer)
    writer.flush()
    return _opener("writer"), (raw, _size(writer))


def reduce_pair(pair: Any) -> Any:
    """Reduce a file for both, and flush it."""
    raw = _raw_below(pair)
    if not _is_ours(raw):
        return _natively(pair)
    pair.flush()
    return _opener("pair"), (raw, _unread(pair, raw), _size(pair))


def reduce_text(text: Any) -> Any:
    """Reduce a file of text, and flush it."""
    buffer = getattr(text, "buffer", None)
    raw = _raw_below(buffer)
    if not _is_ours(raw):
        return _natively(text)
    text.flush()
    newline = getattr(text, _NEWLINE, None)
    options = (text.encoding, text.errors, newline, text.line_buffering, text.write_through)
    if text.readable():
        _put_back(text, buffer, raw, options)
    return _opener("text"), (buffer, *options, getattr(text, "mode", None))


def _raw_below(buffer: Any) -> Any:
    """Return the raw file of a buffered one, ``None`` if it has none (any more)."""
    try:
        return getattr(buffer, _RAW, None) if type(buffer) is BufferedRWPair else getattr(buffer, "raw", None)
    except ValueError:  # detached
        return None


def _size(file: Any) -> int:
    """Return the size of a file's buffer in bytes, which C tells only as part of what the object takes."""
    if type(file) is BufferedRWPair:
        return int(getattr(file, _SIZE))
    return int(file.__sizeof__() - type(file).__basicsize__)


def _is_ours(raw: Any) -> bool:
    """Tell whether a raw file is open, and that of a socket of the gate's."""
    if type(raw) is not SocketIO or raw.closed:
        return False
    return raw._sock.fileno() in table  # type: ignore[attr-defined]


def _natively(file: Any) -> Any:
    """Have C say why it does not pickle files: in its own words, which differ from version to version."""
    return file.__reduce_ex__(4)


# --- what was read ahead ----------------------------------------------------------------------------------------------


def _unread(file: Any, raw: Any) -> bytes:
    """Return what C has read ahead, and leave it there: a look, with nothing to be had from below."""
    raw.readinto = _nothing
    try:
        ahead: bytes = file.peek(1)
        return ahead
    finally:
        del raw.readinto


def _nothing(buffer: Any) -> None:
    """Stand for a read that would have to wait."""


def fill(file: Any, raw: Any, ahead: bytes) -> None:
    """Have a buffered file hold these bytes as read ahead, and nothing else."""
    if type(file) is BufferedRWPair:
        note_pair(file, raw, max(_size(file), len(ahead)))
    else:
        file.__init__(raw, max(_size(file), len(ahead)))
    if not ahead:
        return

    def give(buffer: Any) -> int:
        buffer[: len(ahead)] = ahead
        return len(ahead)

    raw.readinto = give
    try:
        file.peek(1)
    finally:
        del raw.readinto


def _put_back(text: Any, buffer: Any, raw: Any, options: tuple[Any, ...]) -> None:
    """Put the characters that a text has decoded ahead back into the bytes below it, from where they are pickled."""
    parts = gc.get_referents(text)
    at = next((i for i, part in enumerate(parts) if hasattr(part, "decode") and hasattr(part, "getstate")), None)
    if at is None:
        return  # nothing has been read
    decoder = parts[at]
    # In C's order (textiowrapper_traverse): what ends a line, if it was given, what was decoded, how errors are met.
    texts = [part for part in parts[at + 1 :] if type(part) is str and part is not text.errors]
    decoded = next(iter(texts[options[2] is not None :]), "")
    # The whole of the last piece, of which some may have been given out: looked at before anything is moved.
    _encoded(decoded, decoder, options)
    characters = _drain(text, buffer)
    ahead = _encoded(characters, decoder, options)
    if ahead:
        fill(buffer, raw, ahead + _unread(buffer, raw))
        text.__init__(buffer, *options)


def _drain(text: Any, buffer: Any) -> str:
    characters = []
    buffer.read1 = _refuse
    try:
        while True:
            characters.append(text.read(1))
    except _Empty:
        return "".join(characters)
    finally:
        del buffer.read1


def _refuse(size: int = -1) -> bytes:
    raise _Empty


def _encoded(characters: str, decoder: Any, options: tuple[Any, ...]) -> bytes:
    """Return the bytes from which a new decoder comes to these characters and to the state of this one.

    :raises TypeError: if there are none.
    """
    encoding, errors, newline = options[:3]
    state = decoder.getstate()
    is_universal = isinstance(decoder, IncrementalNewlineDecoder)
    text = characters + "\r" * (is_universal and state[1] & 1)  # one at the end waits for what follows
    for mark, plain in (*_MARKS.get(codecs.lookup(encoding).name, ()), (b"", encoding)):
        fresh: Any = codecs.getincrementaldecoder(encoding)(errors)
        if is_universal:
            fresh = IncrementalNewlineDecoder(fresh, newline is None)
        try:
            data: bytes = mark + (text.encode(plain, errors) if text else b"") + state[0]
            if fresh.decode(data) == characters and fresh.getstate() == state:
                return data
        except UnicodeError:
            pass
    raise TypeError(f"cannot pickle a text file of a socket: what it has read ahead is not {encoding} again")


#: Encoding → the marks that its text may begin with, and what the rest is in then. A decoder that has seen one goes on
#: without.
_MARKS = {
    "utf-16": ((b"", "utf-16"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
    "utf-32": ((b"", "utf-32"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
    "utf-8-sig": ((b"", "utf-8"), (codecs.BOM_UTF8, "utf-8")),
}
