"""One refusal of the table: its code, exception class, errno, sentence and cure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Type

    from outgate.errors import Refusal


class Row:
    """One refusal: its code, class, errno (``None``: it is no ``OSError``), sentence and cure.

    Sentence and cure are format strings over the facts.

    ``brief`` is the sentence for a program that is only told the kind of rule (``reasons = "brief"``, fact ``kind``).
    """

    __slots__ = ("brief", "cls", "code", "cure", "errno", "sentence")

    def __init__(
        self,
        code: str,
        cls: Type[Refusal],
        errno: Optional[int],
        sentence: str,
        cure: Optional[str] = None,
        brief: Optional[str] = None,
    ) -> None:
        self.brief = brief
        self.code = code
        self.cls = cls
        self.errno = errno
        self.sentence = sentence
        self.cure = cure
