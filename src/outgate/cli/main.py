"""Find the command and run it. Commands are imported only when they are called: ``run`` must cost next to nothing."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from outgate import __version__

#: command → one line of help, in the order in which they are listed. The module of the same name has ``main(argv)``.
COMMANDS = {
    "run": "run a program; all its sockets go out through the gate",
    "serve": "run the gate as a daemon for all apps of a host",
    "dev": "run the services of app.yaml files: front ends, back ends, a task queue",
    "why": "say which rule decides a destination, without connecting",
    "check": "read a configuration and say what was understood",
    "policy": "hold a policy against expectations, or say what a new one would change",
    "learn": "make a small policy of what a decision log says was reached",
    "ranges": "make the group of Google's own ranges, for the profile app-engine, of Google's lists",
    "token": "make a token, by which a program says which app it is",
    "env": "print the variables by which programs in any language go out through the gate's doors",
    "status": "say whether a gate answers (exit status 0)",
    "stats": "show sockets, connects and bytes per app",
    "top": "watch apps, sockets, rates, refusals and quotas, live in a terminal",
    "log": "read the decision log: who connected where, and what was refused and why",
    "quota": "show how much of each quota is used, and when it resets",
    "usage": "say what every app has sent and received, and what it costs",
    "ps": "show the sockets that are open",
    "kill": "reset connections",
    "doctor": "say what this host can hold, prove it, and name what to change",
    "drain": "have the gate open nothing new, wait for what is open, and stop it",
    "fleet": "make gates of several hosts one fleet, which sockets may travel in",
    "reload": "have the gate read its configuration again",
}

_GATE = "there can be no gate"
#: The commands that are of use on Linux alone → what of it is missing elsewhere. The others read files.
LINUX_ONLY = {
    "run": "sockets that a gate hands to a program, and namespaces to contain it in",
    "serve": "sockets that are handed over in whole packets, and the kernel's meters of them",
    "dev": "sockets that a gate hands to a program, and namespaces to contain it in",
    **dict.fromkeys(("status", "stats", "top", "quota", "ps", "kill", "drain", "reload"), _GATE),
    "doctor": "the levels that it proves are made of namespaces, seccomp and BPF",
}

_EXAMPLES = """\
examples:
  outgate run -- python agent.py
  outgate run --except 10.2.0.0/16:5432 -- python report.py
  outgate why 169.254.169.254:80
  outgate serve --config /etc/outgate.toml

outgate COMMAND --help tells more. A command that fails says what to do; exit status 2 is a wrong call.
"""


def usage() -> str:
    """Return the help text of the whole."""
    lines = ["usage: outgate COMMAND [OPTIONS]", "", "outbound sockets as a service, for unmodified programs", ""]
    lines += [f"  {name:<8} {text}" for name, text in COMMANDS.items()]
    return "\n".join(lines) + "\n\n" + _EXAMPLES


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    args = sys.argv[1:] if argv is None else argv
    if args[:1] == ["help"] and len(args) > 1:
        args = [args[1], "--help"]
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage(), end="", file=sys.stdout if args else sys.stderr)
        return 0 if args else 2
    if args[0] in ("-V", "--version"):
        print(f"outgate {__version__}")
        return 0
    name = args[0]
    if name not in COMMANDS:
        from difflib import get_close_matches

        near = get_close_matches(name, COMMANDS, 2)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; outgate --help lists them"
        print(f"outgate: no command {name!r}{hint}", file=sys.stderr)
        return 2
    if name in LINUX_ONLY and not {"-h", "--help"} & set(args[1:]):
        from outgate.errors import systems

        system = systems.foreign()
        if system:
            here = ", ".join(each for each in COMMANDS if each not in LINUX_ONLY)
            print(
                f"outgate {name}: needs Linux, and this is {system}: {LINUX_ONLY[name]}; {systems.CURE}. "
                f"Here there are: {here}",
                file=sys.stderr,
            )
            return 2
    try:
        status: int = import_module(f"outgate.cli.{name}").main(args[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, head(1) or a pager, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for the flush at exit
        return 141
    except ModuleNotFoundError as e:
        if e.name is None or e.name.partition(".")[0] == "outgate":
            raise
        print(f"outgate: {e.name} is not installed here; pip install 'outgate[gate]'", file=sys.stderr)
        return 2
    return status
