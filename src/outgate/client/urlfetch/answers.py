"""What a fetch brings: status, headers and content."""

from __future__ import annotations

from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from email.message import Message
    from typing import Iterable, Iterator, Optional, Tuple

    Base = Mapping[str, str]
else:
    Base = Mapping


class Headers(Base):
    """Headers by name, whatever its case; those that came more than once are joined by commas.

    :ivar pairs: name and value of each, as they came.
    """

    def __init__(self, pairs: Iterable[Tuple[str, str]]) -> None:
        self.pairs = list(pairs)

    def get_all(self, name: str) -> list[str]:
        """Return the values of a header, in their order; none where it did not come."""
        wanted = name.lower()
        return [value for each, value in self.pairs if each.lower() == wanted]

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter({name.lower(): name for name, _ in reversed(self.pairs)}.values())

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self.pairs})

    def __repr__(self) -> str:
        return f"Headers({self.pairs!r})"


class Answer:
    """The answer of a server.

    :ivar status_code: 200, 404 …
    :ivar headers: :class:`Headers`.
    :ivar content: the bytes of it, unpacked unless the program asked for something else by Accept-Encoding.
    :ivar final_url: where redirects have led, ``None`` where there was none.
    :ivar content_was_truncated: whether it was too large, and its end was left out.
    """

    __slots__ = ("content", "content_was_truncated", "final_url", "headers", "status_code")

    def __init__(
        self, status_code: int, headers: Headers, content: bytes, final_url: Optional[str], truncated: bool
    ) -> None:
        self.status_code = status_code
        self.headers = headers
        self.content = content
        self.final_url = final_url
        self.content_was_truncated = truncated

    @property
    def header_msg(self) -> Message:
        """The headers as a message of :mod:`email`, as App Engine had them."""
        from email.message import Message

        message = Message()
        for name, value in self.headers.pairs:
            message[name] = value
        return message

    def __repr__(self) -> str:
        return f"<Answer {self.status_code}, {len(self.content)} bytes>"
