"""Start a gate for one program: beside it, in a session of its own, ending after it."""

from __future__ import annotations

import os
import sys

from outgate.core import paths
from outgate.core.formats import quickjson

TYPE_CHECKING = False  # typing costs "outgate run" more than all of this
if TYPE_CHECKING:
    from typing import Any, Dict, NoReturn, Tuple

    from outgate.cli.options import Options
    from outgate.gate.configuration.config import Settings
    from outgate.gate.server import Gate

#: Seconds a gate may take to say that it is ready; it takes a third of one.
_READY_LIMIT = 20.0

#: What the gate's Python runs, isolated (-I) from the program's: a json.py in its folder, its PYTHONPATH and its
#: sitecustomize are not for the gate. Where we found outgate and its dependencies comes last, so it can shadow nothing.
_LAUNCH = """\
import sys
sys.path += [folder for folder in sys.argv.pop(1).split("\\n") if folder not in sys.path]
from outgate.cli.embedded import launch
launch()
"""


class CannotStart(Exception):
    """The gate did not start; the text says why and what to do."""


def start(options: Options) -> Tuple[str, str, Dict[str, Any]]:
    """Start it and return (socket path, what to say of its policy, what it says of guards).

    :raises CannotStart: a wrong configuration, or whatever else the gate said.
    """
    import select

    folder = _private_folder()
    socket = os.path.join(folder, "gate.sock")
    ready, said = os.pipe()
    pidfd = os.pidfd_open(os.getpid())
    os.set_inheritable(said, True)
    os.set_inheritable(pidfd, True)
    plain = _plain(options)
    argv = [sys.executable, "-I", "-c", _LAUNCH, _folders(), str(said), str(pidfd), socket, quickjson.dumps(plain)]
    keep = (0, 1, 2, said, pidfd, *_named_fds(plain))
    child = os.fork()
    if child == 0:
        # Twice: the program must not find a child it never started, nor wait() for it.
        try:
            os.setsid()
            if os.fork() == 0:
                _keep_only(keep)
                os.execve(sys.executable, argv, _gate_environment())
        finally:
            os._exit(127)
    try:
        os.waitpid(child, 0)
    except ChildProcessError:  # whoever started us ignores SIGCHLD: the kernel has waited already
        pass
    os.close(said)
    os.close(pidfd)
    text = b""
    while not text.endswith(b"\n"):
        if not select.select([ready], [], [], _READY_LIMIT)[0]:
            raise CannotStart(f"the gate did not start within {_READY_LIMIT:g} s")
        more = os.read(ready, 65536)
        if not more:
            break
        text += more
    os.close(ready)
    try:
        answer = quickjson.loads(text.decode().rstrip())
    except ValueError:
        _remove(folder)
        raise CannotStart("the gate ended before it was ready; try: outgate serve") from None
    if "error" in answer:
        _remove(folder)
        raise CannotStart(answer["error"])
    for warning in answer["warnings"]:
        print(f"outgate: warning: {warning}", file=sys.stderr)
    return socket, answer["source"], answer


def _keep_only(fds: Tuple[int, ...]) -> None:
    """Have the exec close every other fd: whoever reads a pipe of the program's would wait for the gate's copy too."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            os.set_inheritable(fd, fd in fds)
        except OSError:  # the listing's own
            pass


def _remove(folder: str) -> None:
    """Remove what a gate that did not come to its end has left."""
    for remove, path in ((os.unlink, os.path.join(folder, "gate.sock")), (os.rmdir, folder)):
        try:
            remove(path)
        except OSError:
            pass


def _named_fds(plain: Dict[str, Any]) -> list[int]:
    """Return the fds that options name by path, as a shell's ``--log >(jq .)`` does."""
    named = [str(plain[key]).rpartition("/") for key in ("config", "log")]
    return [int(fd) for folder, _, fd in named if folder in ("/dev/fd", "/proc/self/fd") and fd.isdecimal()]


def _folders() -> str:
    """Return where outgate and what it needs are found, a folder a line: ours, and our path but for the working one."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        here = os.getcwd()
    except OSError:  # removed
        here = ""
    return "\n".join([root, *(folder for folder in sys.path if os.path.isabs(folder) and folder != here)])


def _gate_environment() -> Dict[str, str]:
    environ = dict(os.environ)
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"):
        environ.pop(name, None)  # the program's, if anybody's
    return environ


def _plain(options: Options) -> Dict[str, Any]:
    plain = {key: getattr(options, key) for key in ("config", "app", "allow", "deny", "except_", "dev", "log")}
    plain["ledger"] = os.path.abspath(options.ledger) if options.ledger else None
    plain["report"] = bool(options.learn)
    plain["path"] = options.path or "auto"
    if plain["config"]:
        plain["config"] = os.path.abspath(plain["config"])
    if plain["log"] and plain["log"] != "-":
        plain["log"] = os.path.abspath(plain["log"])
    return plain


def _private_folder() -> str:
    uid = os.getuid()
    base = paths.runtime_dir(os.environ, uid)
    try:
        os.makedirs(base, mode=0o700 if uid else 0o755, exist_ok=True)  # root's also holds the host's gate, for all
        found = os.lstat(base)
        if found.st_uid != uid or found.st_mode & 0o170022 != 0o040000:
            raise PermissionError(f"{base} is not a folder that only we may change")
        folder = os.path.join(base, "run-" + os.urandom(6).hex())
        os.mkdir(folder, 0o700)
    except OSError:
        import tempfile  # costs 5 ms

        folder = tempfile.mkdtemp(prefix="outgate-run-")
    return folder


def main(argv: list[str]) -> int:
    """Be the gate: report readiness on one fd, end with the process behind the other."""
    said, pidfd, socket = int(argv[0]), int(argv[1]), argv[2]
    import json
    from dataclasses import replace

    options = json.loads(argv[3])
    os.set_inheritable(said, False)
    os.set_inheritable(pidfd, False)

    listening = True

    def say(**answer: object) -> None:
        nonlocal listening
        if not listening:
            return
        listening = False
        # Whoever reads the program's output waits for end-of-file, which must not wait for the gate.
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        os.chdir("/")  # a folder somebody works in can be removed, a file system unmounted
        os.write(said, json.dumps(answer).encode() + b"\n")
        os.close(said)

    from outgate.errors import ConfigError
    from outgate.gate import main as gate_main
    from outgate.gate.configuration import config
    from outgate.gate.kernel import host

    try:
        own = host.own_addresses()
        if options["config"]:
            settings = _as_one_app(config.load(options["config"], host=own, reads_tokens=False), options["app"])
        else:
            settings = config.default_settings(
                os.getuid(),
                options["dev"],
                options["allow"],
                options["deny"],
                options["except_"],
                path=options["path"],
                host=own,
            )
        if options["report"]:
            settings = _reporting(settings)
        log = options["log"] or settings.gate.log
        if log == "-":
            log = "/dev/stderr" if os.path.exists("/dev/stderr") else settings.gate.log
        settings = replace(settings, gate=replace(settings.gate, socket=socket, socket_mode=0o600, log=log, state=""))
        # Its name in a fleet is that of the host's gate.
        settings = _with_ledger(replace(settings, fleet=None), options["ledger"])

        def ready(gate: Gate) -> None:
            name, app = next(iter(settings.apps.items()))
            way = "relay" if app.is_relayed(gate.seal.holds_against(os.getuid())) else "direct"
            source = f"{name}, policy {settings.source}"
            warnings = [str(w) for w in settings.warnings]
            say(source=source, path=way, warnings=warnings, guard=app.guarding, unix=list(app.unix))

        def again(previous: Settings) -> Settings:
            fresh = _as_one_app(config.reload(previous, reads_tokens=False), next(iter(previous.apps)))
            if options["report"]:
                fresh = _reporting(fresh)
            mine = (w for w in fresh.warnings if not w.place.startswith(("gate.", "fleet")))
            return replace(fresh, warnings=tuple(mine))

        return gate_main.run(settings, ready=ready, while_running=pidfd, reloader=again)
    except ConfigError as e:
        say(error=str(e))
        return 2
    except Exception as e:
        say(error=f"the gate failed: {type(e).__name__}: {e}")
        raise
    finally:
        try:
            os.rmdir(os.path.dirname(socket))
        except OSError:
            pass


def _as_one_app(settings: Settings, name: str | None) -> Settings:
    """Return the settings with one app, matching this user: the program was started as that one."""
    from dataclasses import replace
    from types import MappingProxyType

    from outgate.errors import ConfigError
    from outgate.gate.configuration import wayouts
    from outgate.gate.configuration.places import Place

    if name is None:
        if len(settings.apps) != 1:
            raise ConfigError(f"{settings.source} has {len(settings.apps)} apps; say which: --app NAME")
        name = next(iter(settings.apps))
    if name not in settings.apps:
        raise ConfigError(f"{settings.source} has no app {name!r}; it has {', '.join(settings.apps)}")
    app = replace(settings.apps[name], uid=(os.getuid(),), gid=())
    # Credentials for proxies are this app's alone: those of the others need not be readable here.
    apps = wayouts.found(Place(settings.source).at("apps"), {name: app}, "/", reads=True)
    return replace(settings, apps=MappingProxyType(apps))


def _with_ledger(settings: Settings, path: str | None) -> Settings:
    """Return the settings with the ledger that was asked for; the one of a configuration is for the host's gate."""
    from dataclasses import replace

    if path is None:
        return replace(settings, ledger=None)
    from outgate.gate.configuration.ledgers import file_url
    from outgate.gate.configuration.settings import LedgerSettings

    name = "run-" + os.urandom(6).hex()
    ledger = LedgerSettings(file_url(path), name, os.path.dirname(path), is_single=True)
    return replace(settings, ledger=ledger)


def _reporting(settings: Settings) -> Settings:
    """Return the settings with every app in report mode: nothing is refused, and the log says what would be."""
    from dataclasses import replace
    from types import MappingProxyType

    apps = {
        name: replace(app, mode="report", policy=replace(app.policy, mode="report"))
        for name, app in settings.apps.items()
    }
    return replace(settings, apps=MappingProxyType(apps))


def launch() -> NoReturn:
    """Be the gate and end with it."""
    os._exit(main(sys.argv[1:]))  # threads in the C library's resolver end when it answers; nobody waits for them
