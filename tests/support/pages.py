"""Read the examples in the pages: every block of code, and what the comments before and after it say about running it.

A page is written for its readers; what else a test must know stands in HTML comments, which nobody sees:

``<!-- not run: needs systemd -->``
    before a block: it cannot be run here, for one of :data:`EXCUSES`.
``<!-- file: /etc/outgate.toml -->``
    before a block: it is this file, for the examples below it. Of a comment with more lines these are the file.
``<!-- before`` … ``-->``, ``<!-- after`` … ``-->``
    before and after a block: lines in its language that are run too.
``<!-- with: outgate run --except db.corp:5432 -->``
    before the first block of Python of a page: how the page's Python is run.
``<!-- exit status: 1 -->``
    before a block of commands: how the last one ends; 0 unless said.

What becomes of a block follows from its language: see :data:`KINDS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]

#: Language of a block → what the tests do with it.
KINDS = {
    "console": "run, and its output compared",
    "python": "run under outgate run, with the page's other Python as one program",
    "toml": "read as a configuration, a part of one, or a table of expectations",
    "yaml": "read as an app.yaml",
    "json": "held against the fields of the decision log",
    "promql": "checked by promtool",
    "mermaid": "drawn by the site",
    "text": "a drawing, or words that a page made from the code took from it",
    "{toctree}": "read by Sphinx",
}

#: Why a block may stand on a page without being run.
EXCUSES = (
    "needs systemd",
    "needs a container runtime",
    "needs another host",
    "needs the internet",
    "takes minutes",
    "installs something",
    "runs inside of outgate dev",
    "a test of its own runs it",
    "a list; the guides run each",
    "as an ordinary user sees it; tests are root",
    "shows a host with more on it",
)

_COMMENT = re.compile(
    r"<!--\s*(?:file: *(?P<path>\S+)\n(?P<content>.*?)|(?P<word>not run|file|with|exit status): *(?P<said>[^\n]*?)\s*"
    r"|(?P<place>before|after)\n(?P<code>.*?))-->",
    re.DOTALL,
)


@dataclass
class Block:
    """One block of code on a page.

    :ivar page: path of the page below the tree.
    :ivar line: of its first line of code, from 1.
    :ivar language: what stands behind the fence; empty for an indented block.
    :ivar notes: what a comment before it says, by its first words; of ``before`` and ``after`` the lines.
    :ivar lines: the line at which ``before`` and ``after`` begin.
    :ivar files: what must be there before it: path → text.
    """

    page: str
    line: int
    language: str
    text: str
    notes: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def excuse(self) -> str | None:
        """Why it is not run."""
        return self.notes.get("not run")


def paths() -> list[Path]:
    """Return the pages that have examples: those of the site, and the README."""
    return [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def is_generated(page: str) -> bool:
    """Tell whether docs/generate.py made a page."""
    return "<!-- Made by docs/generate.py; do not edit. -->" in (ROOT / page).read_text(encoding="utf-8")


def blocks(path: Path) -> list[Block]:
    """Return the blocks of a page in order. Raises ``ValueError`` for a comment to no block."""
    return list(_read(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")))


def _read(page: str, text: str) -> Iterator[Block]:
    coming, last = Block(page, 0, "", ""), None
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "html_block":
            assert token.map is not None
            for match in _COMMENT.finditer(token.content):
                where = token.map[0] + token.content[: match.start()].count("\n") + 2
                if match["path"]:
                    coming.files[match["path"]] = match["content"]
                elif match["place"] != "after":
                    word = match["word"] or match["place"]
                    coming.notes[word], coming.lines[word] = match["said"] or match["code"] or "", where
                elif last is None:
                    raise ValueError(f"{page}:{where}: there is no block before this comment")
                else:
                    last.notes["after"], last.lines["after"] = match["code"], where
        elif token.type in ("fence", "code_block"):
            assert token.map is not None
            last, coming = coming, Block(page, 0, "", "")
            last.text, last.line = token.content, token.map[0] + 1
            if token.type == "fence":
                last.language, last.line = token.info.strip(), last.line + 1
            yield last
        elif token.nesting >= 0 and (coming.notes or coming.files):
            raise ValueError(f"{page}:{token.map and token.map[0]}: a comment about a block is not just before one")


def spans(path: Path) -> list[str]:
    """Return what stands as code within the sentences of a page, a line end as a blank."""
    tokens = MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8"))
    inline = [child for token in tokens for child in token.children or ()]
    return [child.content.replace("\\|", "|") for child in inline if child.type == "code_inline"]


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Return each command of a console block and the lines of its output; one that ends in a backslash goes on below.

    :raises ValueError: the block does not begin with a command.
    """
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found and found[-1][1] and found[-1][1][-1].endswith(" \\"):
            found[-1][1][-1] = found[-1][1][-1][:-1] + line
        elif found:
            found[-1][1].append(line)
        elif line.strip():
            raise ValueError(f"a console block begins with a command, as in $ outgate ps, not with {line!r}")
    return found
