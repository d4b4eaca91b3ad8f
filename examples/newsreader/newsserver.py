"""A small news server on this machine, for reading without a network: python newsserver.py [--port 7119].

It serves the articles in ``sample``, a folder for each group, as far as a reader needs it (RFC 3977). Put a file there,
and it is an article.
"""

from __future__ import annotations

import argparse
import itertools
import socketserver
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

SAMPLE = Path(__file__).with_name("sample")
#: The fields of an overview, in the order in which every server has them (RFC 3977, 8.4).
OVERVIEW = ("Subject", "From", "Date", "Message-ID", "References")


class Spool:
    """The groups and their articles.

    :ivar groups: name → articles, of which the first has number 1.
    :ivar about: name → what the group is about.
    """

    def __init__(self, folder: Path = SAMPLE) -> None:
        self.groups: dict[str, list[bytes]] = {}
        self.about: dict[str, str] = {}
        for group in sorted(each for each in folder.iterdir() if each.is_dir()):
            self.groups[group.name] = [each.read_bytes() for each in sorted(group.glob("*.eml"))]
            about = group / "about.txt"
            self.about[group.name] = about.read_text(encoding="utf-8").strip() if about.exists() else ""


class Session(socketserver.StreamRequestHandler):
    """One connection."""

    server: Server

    def handle(self) -> None:
        """Answer a command a line until QUIT."""
        self.number = next(self.server.numbers)
        self.group: str | None = None
        self.commands: list[str] = []
        self.say("200 the sample news server; posting is not for it")
        for line in self.rfile:
            words = line.decode("utf-8", "replace").split() or [""]
            self.commands.append(words[0].upper())
            if not self.answer(words):
                break
        print(f"connection {self.number}: {' '.join(self.commands)}", flush=True)

    def answer(self, words: list[str]) -> bool:
        """Answer one command, and return whether the connection goes on."""
        name = words[0].upper()
        if name == "QUIT":
            self.say("205 goodbye")
            return False
        if name == "CAPABILITIES":
            self.say("101 what it can", "VERSION 2", "READER", "OVER", "LIST ACTIVE NEWSGROUPS OVERVIEW.FMT")
        elif name == "MODE":
            self.say("201 posting is not for it")
        elif name == "LIST":
            self.list(*words[1:3])
        elif name == "GROUP" and len(words) > 1:
            self.choose(words[1])
        elif name in ("OVER", "XOVER", "ARTICLE") and self.group is None:
            self.say("412 choose a group first")
        elif name in ("OVER", "XOVER"):
            self.over(words[1] if len(words) > 1 else "")
        elif name == "ARTICLE":
            self.article(words[1] if len(words) > 1 else "")
        else:
            self.say("500 that is not for it")
        return True

    def say(self, *lines: str | bytes) -> None:
        """Write an answer: a line, or several that a dot ends."""
        coded = [each.encode() if isinstance(each, str) else each for each in lines]
        text = coded[0] + b"\r\n"
        if len(coded) > 1:
            text += b"".join((b"." if each.startswith(b".") else b"") + each + b"\r\n" for each in coded[1:]) + b".\r\n"
        self.wfile.write(text)

    def list(self, what: str = "ACTIVE", pattern: str = "*") -> None:
        """Answer LIST."""
        what = what.upper()
        spool = self.server.spool
        names = [each for each in spool.groups if fits(each, pattern)]
        if what == "ACTIVE":
            self._several("215 groups", (f"{each} {len(spool.groups[each])} 1 n" for each in names))
        elif what == "NEWSGROUPS":
            self._several("215 what they are about", (f"{each}\t{spool.about[each]}" for each in names))
        elif what == "OVERVIEW.FMT":
            self._several("215 fields", (*(f"{each}:" for each in OVERVIEW), ":bytes", ":lines"))
        else:
            self.say("503 it has no such list")

    def _several(self, first: str, lines: Iterator[str] | tuple[str, ...]) -> None:
        rest = list(lines)
        self.say(first, *rest) if rest else self.wfile.write(first.encode() + b"\r\n.\r\n")

    def choose(self, name: str) -> None:
        """Answer GROUP."""
        found = self.server.spool.groups.get(name)
        if found is None:
            self.say("411 no such group")
            return
        self.group = name
        self.say(f"211 {len(found)} {1 if found else 0} {len(found)} {name}")

    @property
    def articles(self) -> list[bytes]:
        """The articles of the chosen group."""
        return self.server.spool.groups[self.group or ""]

    def over(self, wanted: str) -> None:
        """Answer OVER."""
        first, _, last = wanted.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            self.say("501 a range, as in 1-10")
            return
        chosen = range(max(int(first), 1), min(int(last or len(self.articles)), len(self.articles)) + 1)
        if not chosen:
            self.say("423 no articles there")
            return
        self.say("224 overview", *(line(number, self.articles[number - 1]) for number in chosen))

    def article(self, wanted: str) -> None:
        """Answer ARTICLE, as fast as a far server would."""
        if not wanted.isdecimal() or not 0 < int(wanted) <= len(self.articles):
            self.say("423 no such article")
            return
        time.sleep(self.server.pace)
        self.say(f"220 {wanted} article", *self.articles[int(wanted) - 1].rstrip(b"\n").split(b"\n"))


class Server(socketserver.ThreadingTCPServer):
    """As many readers at one time as want to read.

    :param port: of loopback; 0 for a free one.
    :param pace: seconds that an article takes, as it would from far away.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self, port: int, pace: float = 0, session: type[Session] = Session, spool: Spool | None = None
    ) -> None:
        self.numbers = itertools.count(1)
        self.pace = pace
        self.spool = spool or Spool()
        super().__init__(("127.0.0.1", port), session)


def fits(name: str, patterns: str) -> bool:
    """Whether a name fits a wildmat: patterns with commas, the last that fits says, one with ! says no."""
    said = False
    for each in patterns.split(","):
        if fnmatchcase(name, each.removeprefix("!")):
            said = not each.startswith("!")
    return said


def line(number: int, raw: bytes) -> bytes:
    """Return the overview of an article: its number and fields, with tabs between."""
    head = raw.partition(b"\n\n")[0].replace(b"\n ", b" ").replace(b"\n\t", b" ")
    parts = (each.partition(b":") for each in head.split(b"\n"))
    fields = {name.lower(): b" ".join(value.split()) for name, _, value in parts}
    shown = [fields.get(each.lower().encode(), b"") for each in OVERVIEW]
    return b"\t".join([b"%d" % number, *shown, b"%d" % len(raw), b"%d" % raw.count(b"\n")])


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A small news server with sample articles, on this machine alone.")
    parser.add_argument("--port", type=int, default=7119, help="where to listen (default: 7119; 0: a free one)")
    parser.add_argument("--pace", type=float, default=0, metavar="SECONDS", help="how long an article takes")
    options = parser.parse_args()
    with Server(options.port, options.pace) as server:
        print("news at", f"127.0.0.1:{server.server_address[1]}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
