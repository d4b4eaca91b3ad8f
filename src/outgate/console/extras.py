"""Say what pages of its own somebody who mounts a console has in it: tables, and nothing but text in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Column", "Extra", "Table"]


class Column(NamedTuple):
    """One column.

    :ivar name: the key of its texts in the rows.
    :ivar label: its head.
    :ivar style: ``number`` stands to the right, ``state`` has the colour of the row's kind, ``code`` is verbatim.
    """

    name: str
    label: str
    style: str = ""


class Table(NamedTuple):
    """One table as it is at this moment.

    :ivar name: of it, unlike the others of the page.
    :ivar columns: the first names the row.
    :ivar rows: in their order: texts by column; ``key`` tells a row from the others, ``kind`` is ``allow``, ``report``,
        ``deny`` or "", and gives its state a colour.
    :ivar empty: what is said where there are none.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, str]]
    empty: str


class Extra(NamedTuple):
    """A page.

    :ivar path: where it is, as in ``/server``.
    :ivar name: what it is called among the pages.
    :ivar tables: makes its tables; called in threads, each second while somebody looks.
    """

    path: str
    name: str
    tables: Callable[[], Sequence[Table]]
