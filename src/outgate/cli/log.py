"""``outgate log``: read the decision log: who connected where, what was refused and why, now or as it happens."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime

from outgate.cli import output, parsing
from outgate.cli.logline import in_words
from outgate.core.formats import messages
from outgate.errors import ConfigError
from outgate.lookout import ask
from outgate.lookout.loglines import Wanted, parse, since
from outgate.lookout.tailing import Tail

_EPILOG = """\
Without FILE the gate that runs is asked where its log is. "-" is standard input. One line a decision: when (in the
zone of this terminal), app, process, verdict, destination, rule; and of a refusal why, and the line for the
configuration that would permit it. --all shows the ends of connections and what the gate has to say of itself, too.

--follow goes on over rotations, until it is interrupted. It begins with the last ten lines, or with --since.

T is 90s, 15m, 2h, 3d or 1w before now, or a time as in 2026-03-01T14:00 (in the zone of this terminal).

exit status: 0 read, 1 there is no log to be read, 2 a wrong call, 130 interrupted.

examples:
  outgate log --denied --since 1h
  outgate log --follow --app blog
  outgate log --reason metadata                        # whatever the rule or the reason has this word in
  outgate log --json --denied | jq -r .cure | sort | uniq -c | sort -rn
  outgate log --all /var/log/outgate/decisions.jsonl.1
  zcat /var/log/outgate/decisions.jsonl.*.gz | outgate log --denied -
"""

_OF_JOURNAL = "journalctl -t outgate --output=cat --output-fields=OUTGATE_LINE"
#: Lines that --follow begins with, and bytes before the end in which they are looked for.
_LAST = 10
_LAST_BYTES = 1 << 20


def main(argv: list[str]) -> int:
    """Print the lines that are wanted."""
    parser = _parser()
    options = parser.parse_args(argv)
    wanted = _wanted(parser, options)
    try:
        path = options.file or _path(options)
        if path == "-" and not options.file:
            return _fail(options, "the gate writes its log to its standard output; pipe that into: outgate log -")
        if path == "journald" and not options.file:
            return _fail(options, f"the gate writes its log to the journal; read it by: {_OF_JOURNAL} | outgate log -")
        begin = _LAST_BYTES if options.follow and not wanted.since else None
        tail = Tail(path, begin)
    except (ask.NoGate, ask.Refused, ConfigError) as e:
        return _fail(options, str(e))
    except (OSError, ValueError) as e:  # ValueError: a NUL in the path
        hint = "; root may, or the group that the log is given to" if isinstance(e, PermissionError) else ""
        return _fail(options, f"{path}: {getattr(e, 'strerror', None) or e}{hint}")
    reading = _Reading(tail, wanted, options.json)
    try:
        if options.follow and tail.is_file:
            reading.follow(begins_late=begin is not None)
        else:
            reading.to_the_end()
    except IsADirectoryError:
        return _fail(options, f"{path}: Is a directory")
    except KeyboardInterrupt:
        reading.say_what_was_no_line()
        return 130
    finally:
        tail.close()
    reading.say_what_was_no_line()
    return 0


class _Reading:
    """The lines that are printed, and the count of those that were none."""

    def __init__(self, tail: Tail, wanted: Wanted, as_json: bool) -> None:
        self._tail = tail
        self._wanted = wanted
        self._as_json = as_json
        self._garbage = 0

    def to_the_end(self) -> None:
        """Print what is there."""
        for line in self._chosen(self._tail.lines()):
            self._print(line)
        # A last line without its end is one that is just being written, or was never finished.
        rest = self._tail.rest()
        for line in self._chosen([rest] if rest else []):
            self._print(line)
        sys.stdout.flush()

    def follow(self, begins_late: bool) -> None:
        """Print what is there, or the last of it, and then what comes."""
        if begins_late:
            for line in deque(self._chosen(self._tail.lines()), _LAST):
                self._print(line)
        for text in self._tail.follow():
            if text is None:
                sys.stdout.flush()
                continue
            for line in self._chosen([text]):
                self._print(line)

    def _chosen(self, lines: Iterable[bytes]) -> Iterator[tuple[bytes, str]]:
        """Give the wanted ones: as they stand in the file, and in words if people are to read them."""
        for text in lines:
            line = parse(text)
            if line is None:
                self._garbage += bool(text.strip())
            elif self._wanted.has(line):
                yield text, "" if self._as_json else in_words(line)

    def _print(self, line: tuple[bytes, str]) -> None:
        text, words = line
        if self._as_json:
            sys.stdout.buffer.write(text + b"\n")
        else:
            output.say(words)

    def say_what_was_no_line(self) -> None:
        """Say how much was not to be read, if anything was."""
        count = self._garbage + self._tail.torn
        if count:
            output.warn(f"{count} {'line is' if count == 1 else 'lines are'} cut short, or no line of a log")


def _parser() -> ArgumentParser:
    p = ArgumentParser(
        prog="outgate log",
        description="Read the decision log: who connected where, and what was refused and why.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("file", metavar="FILE", nargs="?", help="the log (default: that of the gate that runs)")
    p.add_argument("-f", "--follow", action="store_true", help="go on with what is written from now on")
    p.add_argument("--app", default="", metavar="NAME", help="only those of this app")
    p.add_argument("--denied", action="store_true", help="only what was refused, or would be but for report mode")
    p.add_argument("--since", default="", metavar="T", help="only what happened since then")
    p.add_argument("--reason", default="", metavar="TEXT", help="only where reason, rule or end has this in it")
    p.add_argument("--all", action="store_true", help="ends and events, too")
    p.add_argument("--json", action="store_true", help="print the lines as they are in the file")
    p.add_argument("--config", metavar="FILE", help="the log that this configuration names")
    parsing.add_socket_option(p)
    return p


def _wanted(parser: ArgumentParser, options: Namespace) -> Wanted:
    begin = ""
    if options.since:
        try:
            begin = since(options.since, datetime.now().astimezone())
        except ValueError:
            parser.error(f"--since: {options.since!r} is no time; write 15m, 2h, 3d, or a time as in 2026-03-01T14:00")
    return Wanted(options.app, options.denied, begin, options.reason, options.all)


def _path(options: Namespace) -> str:
    """Return where the log is: as the configuration says, or the gate that runs.

    :raises ConfigError: the configuration cannot be used.
    :raises ask.NoGate, ask.Refused: no gate says.
    """
    if options.config:
        from outgate.gate.configuration import config

        return config.load(options.config).gate.log
    _path, reply = ask.find({"op": messages.STAT}, options.socket)
    return str(reply["answer"]["log"])


def _fail(options: Namespace, text: str) -> int:
    if not options.json:
        return output.fail("log", text, 1)
    output.print_json({"ok": False, "error": text})
    return 1
