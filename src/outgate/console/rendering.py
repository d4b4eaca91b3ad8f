"""Make pages of templates. All that is put into one is text: the templates escape it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from outgate import __version__
from outgate.console.access import Access

__all__ = ["STATIC", "Rendering"]

_HERE: Final = Path(__file__).parent
#: Path and name of the pages that one goes to.
_PAGES: Final = (("/", "Overview"), ("/log", "Log"), ("/policy", "Policy"))
#: Where style and script are.
STATIC: Final = _HERE / "static"


class Rendering:
    """The templates, and what every page is given.

    :param access: whose proof forms carry.
    :param extras: path and name of pages beside the console's own.
    """

    def __init__(self, access: Access, extras: Iterable[tuple[str, str]] = ()) -> None:
        self._access = access
        self._pages = (*_PAGES, *extras)
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        for name in self._templates.list_templates():
            self._templates.get_template(name)  # now, and not when somebody waits for the first page
        # A browser keeps style and script until they are others.
        made = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(STATIC.iterdir())))
        self._edition = made.hexdigest()[:12]

    def page(self, request: Request, template: str, status: int = 200, **given: Any) -> HTMLResponse:
        """Return a page.

        :param template: its file.
        :param given: what the template shows.
        """
        text = self._templates.get_template(template).render(
            root=request.scope.get("root_path", ""),
            here=request.scope["path"].removeprefix(request.scope.get("root_path", "")),
            pages=self._pages,
            proof=self._access.proof,
            edition=self._edition,
            version=__version__,
            **given,
        )
        return HTMLResponse(text, status)
