"""Build the site of these pages: ``make docs``.

The source is the whole tree and not this folder, so that every link means on the site what it means on a forge.
"""

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from outgate import __version__

sys.path.insert(0, str(Path(__file__).parent))
import drawings

project = author = "outgate"
version = release = __version__

extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
exclude_patterns = [".venv*", "build"]

myst_heading_anchors = 3
myst_enable_extensions = ["html_image"]
myst_fence_as_directive = ["mermaid"]

html_theme = "furo"
html_title = f"outgate {version}"
html_extra_path = ["site"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False


class StateDiagram(SphinxDirective):
    """A fenced block with the language ``mermaid``."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the drawing. A block that is no state diagram fails the build."""
        try:
            svg = drawings.draw(drawings.read("\n".join(self.content)))
        except ValueError as e:
            raise self.error(str(e)) from None
        return [nodes.raw("", f"<p>{svg}</p>", format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx of it."""
    app.add_directive("mermaid", StateDiagram)
    return {"parallel_read_safe": True}
