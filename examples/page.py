"""What a page shows, as text: for the demo where there is no browser, and for tests."""

from html.parser import HTMLParser


class Element:
    """An element of a page.

    :ivar names: its id and its classes.
    :ivar text: everything in it.
    """

    def __init__(self, tag: str, attributes: "dict[str, str]") -> None:
        self.tag = tag
        self.attributes = attributes
        self.names = {*attributes.get("class", "").split(), attributes.get("id", "")}
        self.text = ""


class Page(HTMLParser):
    """A page, or a part of one.

    :ivar elements: in the order of the page.
    """

    _VOID = frozenset(("meta", "link", "input", "img", "br"))

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: "list[tuple[str, str | None]]") -> None:
        """Begin an element."""
        made = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(made)
        if tag not in self._VOID:
            self._open.append(made)

    def handle_endtag(self, tag: str) -> None:
        """End the element that is open."""
        if self._open and tag not in self._VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        """Take text for every element that is open."""
        for each in self._open:
            each.text += data

    def all(self, name: str) -> "list[str]":
        """Return the texts of all elements of a class or an id."""
        return [" ".join(each.text.split()) for each in self.elements if name in each.names]

    def one(self, name: str) -> str:
        """Return the text of the only element of a class or an id, "" where there is none."""
        found = self.all(name)
        if len(found) > 1:
            raise ValueError(f"there are {len(found)} of {name}")
        return found[0] if found else ""
