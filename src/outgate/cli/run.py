"""``outgate run``: start a program so that all its sockets go out through the gate.

The program takes this process over by exec: its exit status, signals, terminal and pid are what they would be without
us. An embedded gate runs beside it, in a session of its own, and ends after it.
"""

import os
import sys
from argparse import REMAINDER, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from typing import Dict, List, NoReturn, Optional, Tuple

from outgate.core import paths

_EPILOG = """\
Without a gate on this host one is started for this program alone, with the app "default": public destinations
allowed, everything else refused. The program sees an empty network (the fence) where the host allows that.

examples:
  outgate run -- python agent.py
  outgate run --except 10.2.0.0/16:5432 -- python report.py     # one exception to the private range
  outgate run --config outgate.toml -- pytest
  outgate run --dev -- python app.py                            # may listen and connect on loopback

The decision log is JSON lines; --log names the file. Programs that do not load the client (python -I, C libraries,
other languages) reach nothing inside the fence: they see ENETUNREACH.
"""


def parser() -> ArgumentParser:
    """Return the options of ``outgate run``."""
    p = ArgumentParser(
        prog="outgate run",
        usage="outgate run [OPTIONS] -- COMMAND [ARG ...]",
        description="Run a program; all its sockets go out through the gate.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    p.add_argument("--config", metavar="FILE", help="start a gate for this program with this configuration")
    p.add_argument("--app", metavar="NAME", help="which app of --config the program is (default: the only one)")
    p.add_argument("--allow", metavar="RULE", action="append", default=[], help="allow only this (repeatable)")
    p.add_argument("--deny", metavar="RULE", action="append", default=[], help="deny this as well (repeatable)")
    p.add_argument(
        "--except", metavar="RULE", action="append", default=[], dest="except_", help="except this from denials"
    )
    p.add_argument("--dev", action="store_true", help="development: no fence, loopback may be used both ways")
    p.add_argument("--log", metavar="FILE", help="where the decision log goes, - for standard error's file")
    fence = p.add_mutually_exclusive_group()
    fence.add_argument("--fence", action="store_true", help="fail unless the program can be fenced")
    fence.add_argument("--unconfined", action="store_true", help="do not fence the program")
    p.add_argument("-q", "--quiet", action="store_true", help="do not print the line that says what is in force")
    p.add_argument("command", nargs=REMAINDER, metavar="COMMAND", help="the program and its arguments")
    return p


def fail(text: str, status: int = 2) -> NoReturn:
    """Say why nothing was started, and end."""
    print(f"outgate run: {text}", file=sys.stderr)
    raise SystemExit(status)


def main(argv: List[str]) -> int:
    """Run a program in place of this process. Returns only if nothing was started."""
    p = parser()
    options = p.parse_args(argv)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        p.error("what to run? outgate run -- COMMAND [ARG ...]")
    socket, source = _gate_for(options)
    environ = _environment(socket)
    contained = _contain(options)
    if not options.quiet:
        print(f"outgate: app {source}, direct path, {contained}", file=sys.stderr)
        _warn_about(command)
    sys.stderr.flush()
    try:
        os.execvpe(command[0], command, environ)
    except FileNotFoundError:
        fail(f"{command[0]}: command not found", 127)
    except OSError as e:
        fail(f"{command[0]}: {e.strerror}", 126)


def _gate_for(options: Namespace) -> Tuple[str, str]:
    """Return the socket of the gate to use, and what to say of its policy; starts a gate unless one is running."""
    special = options.config or options.dev or options.allow or options.deny or options.except_ or options.log
    if not special:
        from outgate.cli import ask

        for path in paths.search_paths(os.environ, os.getuid()):
            try:
                hello, answer = ask.greet(path)
            except ask.NoGate:
                continue
            except ask.Refused as e:
                fail(f"the gate at {path} refuses this user: {e}")
            return path, f"{hello['app']} of the running gate, policy {answer['policy']} ({answer['source']})"
        if os.environ.get(paths.SOCKET_VARIABLE):
            fail(f"no gate answers at {os.environ[paths.SOCKET_VARIABLE]} ({paths.SOCKET_VARIABLE})")
    from outgate.cli import embedded

    try:
        return embedded.start(options)
    except embedded.CannotStart as e:
        fail(str(e))


def _environment(socket: str) -> Dict[str, str]:
    from outgate.guard import launch

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environ = launch.environment(os.environ, socket, os.path.join(package, "client", "autoload"))
    if not os.access(os.path.join(package, "client"), os.W_OK):
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.environ.get("HOME", "/tmp"), ".cache")
        environ["OUTGATE_PYCACHE"] = os.path.join(base, "outgate")
    return environ


def _contain(options: Namespace) -> str:
    """Fence this process if that was asked for or is possible, and say how the program is contained."""
    if options.dev:
        return "not fenced (--dev)"
    if options.unconfined:
        return "not fenced (--unconfined): only programs that load the client are held"
    from outgate.guard import fence
    from outgate.guard.inherited import inherited_network_fds

    leads_out = inherited_network_fds()
    try:
        fence.enter()
    except fence.FenceUnavailable as e:
        if options.fence:
            fail(f"cannot fence: {e}")
        return f"NOT fenced: {e}"
    if leads_out:
        print(f"outgate: warning: inherited sockets lead out of the fence: {leads_out}", file=sys.stderr)
    return "fenced" if os.getuid() else "fenced (as root it can leave: use another user)"


def _warn_about(command: List[str]) -> None:
    name = os.path.basename(command[0])
    if not name.startswith(("python", "pypy")):
        return
    for argument in command[1:]:
        if not argument.startswith("-") or argument in ("-", "-c", "-m"):
            return
        letters = set(argument[1:]) if not argument.startswith("--") else set()
        if letters & set("IES"):
            print(
                f"outgate: warning: {name} {argument} does not load the client; in the fence it reaches nothing",
                file=sys.stderr,
            )
            return


def pidfd_of_self() -> Optional[int]:
    """Return a pidfd of this process, which will be the program, or ``None`` on a kernel before 5.3."""
    try:
        return os.pidfd_open(os.getpid())
    except (AttributeError, OSError):
        return None
