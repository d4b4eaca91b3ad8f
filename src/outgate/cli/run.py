"""``outgate run``: start a program so that all its sockets go out through the gate.

The program takes this process over by exec: its exit status, signals, terminal and pid are what they would be without
us. An embedded gate runs beside it, in a session of its own, and ends after it.
"""

from __future__ import annotations

import os
import sys

from outgate.cli.options import Options, attribute, read
from outgate.core import paths

TYPE_CHECKING = False  # typing costs more than all of this
if TYPE_CHECKING:
    from typing import Any, Dict, NoReturn, Tuple

#: How a program is contained.
OPEN, FENCED, GUARDED = "open", "fenced", "guarded"


def fail(text: str, status: int = 2) -> NoReturn:
    """Say why nothing was started, and end."""
    print(f"outgate run: {text}", file=sys.stderr)
    raise SystemExit(status)


def main(argv: list[str]) -> int:
    """Run a program in place of this process. Returns only if nothing was started."""
    options = read(argv)
    command = options.command
    _check(options)
    _occupy_standard_fds()
    if options.learn:
        from outgate.cli import rehearsal

        rehearsal.begin(options)
    if options.label:
        _label(options.label)
    if options.token_file:
        os.environ[paths.TOKEN_VARIABLE] = os.path.abspath(options.token_file)
    socket, source, gate = _gate_for(options)
    environ = _environment(socket)
    if options.narrow:
        _narrow(options.narrow, socket, environ)
    if options.quiet:
        environ[paths.UNTESTED_VARIABLE] = "quiet"
    contained, level = _contain(options, socket, gate)
    if not options.quiet:
        learning = ", learning: nothing is refused" if options.learn else ""
        way = "direct" if level == GUARDED else gate.get("path", "direct")
        print(f"outgate: app {source}, {way} path, {contained}{learning}", file=sys.stderr)
        _warn_about(command, level)
    _name_foreign(command, environ, level, options.quiet)
    if sys.stderr is not None:
        sys.stderr.flush()
    _restore_signals()
    try:
        os.execvpe(command[0], command, environ)
    except (FileNotFoundError, NotADirectoryError):
        fail(f"{command[0]}: command not found", 127)
    except OSError as e:
        fail(f"{command[0]}: {e.strerror}", 126)


def _policy_options(options: Options) -> list[str]:
    """Return those options that were given and ask for a gate of the program's own."""
    asking = ("--config", "--dev", "--allow", "--deny", "--except", "--path", "--log", "--learn", "--ledger")
    return [option for option in asking if getattr(options, attribute(option))]


def _check(options: Options) -> None:
    """Refuse options that contradict one another before anything is started."""
    asked = _policy_options(options)
    if options.app and not options.config:
        fail("--app chooses an app of a configuration; name the file: --config FILE")
    if options.config and (options.allow or options.deny or options.except_ or options.path or options.dev):
        other = next(name for name in asked if name not in ("--config", "--log", "--ledger"))
        fail(f"the policy is in {options.config}; {other} cannot add to it")
    if options.dev and options.fence:
        fail("--dev is not fenced; leave out one of --dev and --fence")
    if options.force and not options.learn:
        fail("--force is about the file of --learn")
    if options.token_file and asked:
        fail(f"--token-file is for a gate that runs; {asked[0]} asks for one of the program's own, which has one app")
    if options.socket and asked:
        fail(f"{asked[0]} is for a gate of the program's own; the one at {options.socket} has its policy")
    from outgate.cli import nested

    inner = nested.reason(os.environ) if asked else ""
    if inner:
        fail(f"{asked[0]}: {inner}")
    if options.learn:
        _check_file(options.learn, options.force)


def _check_file(path: str, replace: bool) -> None:
    """Refuse a file that could not be written at the end, before the program is started."""
    if os.path.lexists(path) and not replace:
        fail(f"{path} is there already; name another file, or replace it with --force")
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.access(folder, os.W_OK | os.X_OK):
        fail(f"{path} cannot be written; name a file in a folder that is there and yours to write")


def _gate_for(options: Options) -> Tuple[str, str, Dict[str, Any]]:
    """Return the socket of the gate to use, what to say of its policy, and what it says of guards.

    Starts a gate unless one is running.
    """
    if not _policy_options(options):
        from outgate.lookout import ask

        named = os.path.abspath(options.socket) if options.socket else os.environ.get(paths.SOCKET_VARIABLE)
        for path in (named,) if named else ask.candidates():
            try:
                hello, answer = ask.greet(path)
            except ask.NoGate as e:
                if named:
                    fail(f"{e} ({'--socket' if options.socket else paths.SOCKET_VARIABLE})")
                continue
            except ask.Refused as e:
                fail(f"the gate at {path} refuses this user: {e}")
            if not hello["app"] and os.environ.get(paths.TOKEN_VARIABLE):
                fail(f"the gate at {path} has no app for the token in {os.environ[paths.TOKEN_VARIABLE]}")
            if not hello["app"]:
                fail(
                    f"the gate at {path} has no app for uid {os.getuid()}; add one with uid = [{os.getuid()}], "
                    "or have a gate of the program's own: --config FILE"
                )
            policy = f"policy {answer['policy']} ({answer['source']})"
            return path, f"{hello['app']} of the running gate, {policy}", hello
    from outgate.cli import embedded

    if options.token_file:
        fail("--token-file: no gate runs here that it could be shown to; start one with: outgate serve")
    os.environ.pop(paths.TOKEN_VARIABLE, None)  # for another gate: this one has one app, which the program is
    try:
        return embedded.start(options)
    except embedded.CannotStart as e:
        fail(str(e))


def _label(given: list[str]) -> None:
    """Have the bytes of this process, which becomes the program, and of what that starts, booked under labels."""
    from outgate.core.bill import labels

    before = labels.known(os.environ.get(paths.LABELS_VARIABLE, ""))
    try:
        os.environ[paths.LABELS_VARIABLE] = labels.parse([*labels.split(before), *given])
    except ValueError as e:
        fail(f"--label: {e}")


def _narrow(rules: list[str], socket: str, environ: Dict[str, str]) -> None:
    """Have the gate narrow this process, which becomes the program, and what that starts."""
    from outgate.core.formats import messages, quickjson
    from outgate.lookout import ask

    one = {"allow": rules, "deny": [], "names": None}
    try:
        reply = ask.request(socket, {"op": messages.NARROW, **one})
    except (ask.NoGate, ask.Refused) as e:
        fail(f"--narrow: {e}")
    if "invalid" in reply:
        fail(reply["invalid"].replace("narrow.allow", "--narrow", 1))
    try:
        before = quickjson.loads(environ.get(paths.NARROW_VARIABLE) or "[]")
    except ValueError:
        fail(f"{paths.NARROW_VARIABLE} is not what outgate.narrow() has written")
    environ[paths.NARROW_VARIABLE] = quickjson.dumps([*before, one] if one not in before else before)


def _environment(socket: str) -> Dict[str, str]:
    from outgate.guard import launch

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environ = launch.environment(_given_environment(), socket, os.path.join(package, "client", "autoload"))
    if not os.access(os.path.join(package, "client"), os.W_OK):
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.environ.get("HOME", "/tmp"), ".cache")
        environ["OUTGATE_PYCACHE"] = os.path.join(base, "outgate")
    return environ


def _given_environment() -> Dict[str, str]:
    """Return the environment as it was given to us: in the C locale Python adds an LC_CTYPE to it (PEP 538)."""
    environ = dict(os.environ)
    if "LC_CTYPE" in environ:
        try:
            with open("/proc/self/environ", "rb") as block:
                if not any(entry.startswith(b"LC_CTYPE=") for entry in block.read().split(b"\0")):
                    del environ["LC_CTYPE"]
        except OSError:
            pass
    return environ


def _contain(options: Options, socket: str, gate: Dict[str, Any]) -> Tuple[str, str]:
    """Guard or fence this process as was asked for or is possible; say how, and which of these it is."""
    if options.dev:
        return "not fenced (--dev)", OPEN
    if options.unconfined:
        return "not fenced (--unconfined): only programs that load the client are held", OPEN
    from outgate.guard import fence
    from outgate.guard.inherited import inherited_network_fds

    leads_out = inherited_network_fds()
    if options.guard or (gate.get("guard") == "always" and not options.fence):
        from outgate.cli.guarding import enter

        contained = enter(options.guard == "best-effort", socket, gate, leads_out)
        if contained:
            return contained, GUARDED
    try:
        fence.enter()
    except fence.FenceUnavailable as e:
        if options.fence or e.altered:
            fail(f"cannot fence: {e}")
        from outgate.guard.namespaces import is_networkless

        if is_networkless():  # a container without network, whose default profile forbids namespaces
            return "not fenced: there is no network here but the gate", FENCED
        return f"NOT fenced: {e}", OPEN
    if leads_out and not options.quiet:
        print(
            f"outgate: warning: inherited sockets lead out of the fence: {', '.join(map(str, leads_out))}",
            file=sys.stderr,
        )
    return ("fenced" if os.getuid() else "fenced (as root it can leave: use another user)"), FENCED


def _occupy_standard_fds() -> None:
    """Open /dev/null, for ourselves, where 0, 1 or 2 is closed: a pipe of ours must not get one of these numbers."""
    while True:
        fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if fd > 2:
            os.close(fd)
            return


def _restore_signals() -> None:
    """Undo what Python does at its start and exec would hand on: it ignores these two (as subprocess does)."""
    import _signal  # type: ignore[import-not-found]  # what signal adds is enums, 3 ms of them

    for name in ("SIGPIPE", "SIGXFSZ"):
        _signal.signal(getattr(_signal, name), _signal.SIG_DFL)


def _warn_about(command: list[str], level: str) -> None:
    from outgate.cli.isolated import isolating_option

    option = isolating_option(command)
    if option and level != GUARDED:
        effect = "in the fence it reaches nothing" if level == FENCED else "its sockets go round the gate"
        print(f"outgate: warning: {option} does not load the client; {effect}", file=sys.stderr)


def _name_foreign(command: list[str], environ: Dict[str, str], level: str, quiet: bool) -> None:
    """Have the program say what in it goes round the gate and so reaches nothing; say it of the command itself."""
    if quiet or level == GUARDED:
        environ.pop(paths.FOREIGN_VARIABLE, None)
    elif level == FENCED:
        from outgate.core import foreign

        noted = environ.get(paths.FOREIGN_VARIABLE, "").split()
        found = foreign.of_command(command)
        if found is not None and found[0] not in noted:
            noted.append(found[0])
            print(f"outgate: {found[1]}", file=sys.stderr)
        environ[paths.FOREIGN_VARIABLE] = " ".join(noted)
