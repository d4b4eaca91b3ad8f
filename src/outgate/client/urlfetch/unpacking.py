"""Unpack what a server has packed with gzip, never more than a limit of it, however small it was packed."""

from __future__ import annotations

import zlib

#: Windows of zlib for gzip alone (zlib manual, inflateInit2).
_GZIP = 16 + zlib.MAX_WBITS


class TooLarge(Exception):
    """There is more than the limit.

    :ivar content: as much as the limit is.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(len(content))
        self.content = content


class Torn(Exception):
    """It is not what it is said to be; the text says why."""


class Plain:
    """What is not packed; whoever sent it has seen to the limit."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, piece: bytes) -> None:
        """Take in a piece."""
        self._pieces.append(piece)

    def end(self, torn: bool = False) -> bytes:
        """Return all of it."""
        return b"".join(self._pieces)


class Packed:
    """What is packed with gzip: any number of members (RFC 1952, 2.2), and zeros after them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._content = bytearray()
        self._stream = zlib.decompressobj(_GZIP)
        self._is_between = True  # members; before the first as well

    def feed(self, piece: bytes) -> None:
        """Take in a piece. Raises :class:`TooLarge` or :class:`Torn`."""
        while piece:
            if self._is_between:
                piece = piece.lstrip(b"\0") if self._content else piece
                if not piece:
                    return
                self._stream = zlib.decompressobj(_GZIP)
                self._is_between = False
            try:
                self._content += self._stream.decompress(piece, self._limit - len(self._content) + 1)
            except zlib.error as e:
                raise Torn(str(e)) from None
            if len(self._content) > self._limit:
                raise TooLarge(bytes(self._content[: self._limit]))
            self._is_between = self._stream.eof
            piece = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail

    def end(self, torn: bool = False) -> bytes:
        """Return all of it. Raises :class:`Torn` where it stops before its end.

        :param torn: whether that is known, and wanted.
        """
        if not self._is_between and not torn:
            raise Torn("it stops before its end")
        return bytes(self._content)
