"""Build the site of these pages: ``make docs``.

The source is the whole tree and not this folder, so that every link means on the site what it means on a forge.
"""

import sys
from pathlib import Path

from outgate import __version__

sys.path.insert(0, str(Path(__file__).parent))  # drawings, beside this file

project = author = "outgate"
version = release = __version__

extensions = ["myst_parser", "drawings"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
exclude_patterns = [".venv*", "build"]

myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]

html_theme = "furo"
html_title = f"outgate {version}"
html_extra_path = ["site"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
