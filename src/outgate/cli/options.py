"""Read the command line of ``outgate run``.

argparse and what it loads cost as much as all the rest of a start, so it is asked only where it has to speak: for the
help, and to say what is wrong.
"""

from __future__ import annotations

from outgate.core.paths import SOCKET_VARIABLE

TYPE_CHECKING = False  # typing costs more than all of this
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from typing import NoReturn

__all__ = ["OPTIONS", "Options", "parser", "read"]

_EPILOG = """\
A gate that runs on this host is used. Without one, or with options that say what the policy is, a gate is started for
this program alone, with the app "default": public destinations allowed, everything else refused. The program sees an
empty network (the fence) where the host allows that.

A RULE is [tcp://|udp://](name | *.suffix | address | CIDR | [IPv6] | group | *)[:ports], as in db.corp:5432,
10.2.0.0/16:5432 or loopback:8000-8100.

The decision log is JSON lines; --log names the file. Programs that do not load the client (python -I, C libraries,
other languages) reach nothing inside the fence: they see ENETUNREACH.

exit status: the program's own; 2 nothing was started, and why is said; 126 and 127 as a shell has them.

examples:
  outgate run -- python agent.py
  outgate run --except 10.2.0.0/16:5432 -- python report.py     # one exception to the private range
  outgate run --allow 203.0.113.0/24:443 -- python sync.py      # nothing but this
  outgate run --config outgate.toml --app blog -- pytest
  outgate run --log decisions.jsonl -- python agent.py
  outgate run --dev -- python app.py                            # may listen and connect on loopback
  outgate run --learn policy.toml -- pytest                     # refuse nothing, write down what was reached
  outgate run --config policy.toml -- pytest                    # and hold it to that
"""

#: Option → the name of its value and its help. No name: it takes none. In brackets: it may be given several times.
#: After "=": it may have that value, in the same word, or none.
OPTIONS = {
    "--config": ("FILE", "start a gate for this program with this configuration"),
    "--app": ("NAME", "which app of --config the program is (default: the only one)"),
    "--allow": ("[RULE]", "allow only this (repeatable)"),
    "--deny": ("[RULE]", "deny this as well (repeatable)"),
    "--except": ("[RULE]", "except this from denials (repeatable)"),
    "--narrow": ("[RULE]", "of what the app may reach leave only this (repeatable); what it starts has no more either"),
    "--token-file": ("FILE", "be the app whose token_file this is, at a gate that runs"),
    "--path": ("PATH", "direct: the kernel's own sockets; relay: the gate carries the bytes (default: direct)"),
    "--dev": ("", "development: no fence, loopback may be used both ways"),
    "--learn": ("FILE", "refuse nothing, and write a policy of what was reached to FILE"),
    "--force": ("", "with --learn: replace FILE if it is there"),
    "--log": ("FILE", "where the decision log goes, - for standard error's file"),
    "--label": ("[KEY=VALUE]", "book its bytes, and those of what it starts, under this beside the app (repeatable)"),
    "--ledger": ("FILE", "keep a ledger of its bytes there (outgate usage --ledger FILE shows it)"),
    "--socket": ("PATH", f"use the gate that runs there (default: {SOCKET_VARIABLE})"),
    "--guard": ("=best-effort", "have a guard answer the network calls of programs in any language, or do not start"),
    "--fence": ("", "fail unless the program can be fenced"),
    "--unconfined": ("", "do not fence the program"),
    "--quiet": ("", "do not print the line that says what is in force"),
}
_SHORT = {"-q": "--quiet"}
_CONTRADICTING = ("--fence", "--unconfined", "--guard")
#: The value of an option that may have one and was given without.
REQUIRED = "require"


class Options:
    """What was asked for: :data:`OPTIONS`, and the program with its arguments."""

    def __init__(self) -> None:
        self.config: str | None = None
        self.app: str | None = None
        self.allow: list[str] = []
        self.deny: list[str] = []
        self.except_: list[str] = []
        self.narrow: list[str] = []
        self.token_file: str | None = None
        self.path: str | None = None
        self.dev = False
        self.learn: str | None = None
        self.force = False
        self.log: str | None = None
        self.label: list[str] = []
        self.ledger: str | None = None
        self.socket: str | None = None
        self.guard: str | None = None
        self.fence = False
        self.unconfined = False
        self.quiet = False
        self.command: list[str] = []

    def take(self, option: str, value: str) -> None:
        """Note an option that was given."""
        name = attribute(option)
        before = getattr(self, name)
        setattr(
            self, name, True if isinstance(before, bool) else [*before, value] if isinstance(before, list) else value
        )


def attribute(option: str) -> str:
    """Return the name of the attribute that holds an option."""
    return "except_" if option == "--except" else option.lstrip("-").replace("-", "_")


def read(argv: list[str]) -> Options:
    """Return the options in a command line; prints help or what is wrong, and ends, where there is cause.

    :raises SystemExit: 0 after the help, 2 after a wrong call.
    """
    options = Options()
    words = iter(enumerate(argv))
    for place, word in words:
        if word == "--":
            options.command = argv[place + 1 :]
            break
        if not word.startswith("-"):
            options.command = argv[place:]
            break
        option, equals, value = word.partition("=")
        option = _SHORT.get(option, option)
        if option not in OPTIONS or (equals and not OPTIONS[option][0]):
            _explain(argv)
        expected = OPTIONS[option][0]
        if expected.startswith("="):
            if equals and value != expected[1:]:
                _explain(argv)
            value = value or REQUIRED
        elif expected:
            if not equals:
                _, value = next(words, (0, ""))
            if not value or (value.startswith("-") and value != "-" and not equals):
                _explain(argv)
        options.take(option, value)
    if not options.command or options.fence + options.unconfined + bool(options.guard) > 1:
        _explain(argv)
    return options


def _explain(argv: list[str]) -> NoReturn:
    """Print the help if that is asked for, else what is wrong with a command line, and end."""
    p = parser()
    if p.parse_args(argv).command in ([], ["--"]):
        p.error("what to run? outgate run -- COMMAND [ARG ...]")
    p.error("an option that takes a value has none")


def parser() -> ArgumentParser:
    """Return a parser of the same command lines, which can explain them."""
    from argparse import REMAINDER, ArgumentParser, RawDescriptionHelpFormatter

    p = ArgumentParser(
        prog="outgate run",
        usage="outgate run [OPTIONS] -- COMMAND [ARG ...]",
        description="Run a program; all its sockets go out through the gate.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    group = p.add_mutually_exclusive_group()
    for option, (value, text) in OPTIONS.items():
        names = [short for short, long in _SHORT.items() if long == option] + [option]
        owner = group if option in _CONTRADICTING else p
        if not value:
            owner.add_argument(*names, dest=attribute(option), action="store_true", help=text)
        elif value.startswith("="):
            owner.add_argument(
                *names,
                dest=attribute(option),
                nargs="?",
                const=REQUIRED,
                choices=[value[1:]],
                metavar=value[1:],
                help=text,
            )
        elif value.startswith("["):
            p.add_argument(*names, dest=attribute(option), metavar=value[1:-1], action="append", default=[], help=text)
        else:
            p.add_argument(*names, dest=attribute(option), metavar=value, help=text)
    p.add_argument("command", nargs=REMAINDER, metavar="COMMAND", help="the program and its arguments")
    return p
