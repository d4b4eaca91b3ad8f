"""The shape of the code: who may import whom, what stays out of the core, how large a module may be."""

from __future__ import annotations

import ast
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path

import pytest

from support.pythons import interpreters

SOURCE = Path(__file__).parent.parent / "src"
PACKAGE = SOURCE / "outgate"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ROOMS = ("errors", "core", "client", "gate", "guard", "lookout", "console", "dev", "cli", "testing")
#: The modules of the core that are loaded into other people's interpreters with the client.
SHARED = (
    "core.foreign",
    "core.formats.fetchline",
    "core.formats.frames",
    "core.formats.messages",
    "core.formats.quickjson",
    "core.options",
    "core.paths",
)
#: Room → what it may import besides itself: rooms, or single modules of one. The front is ``outgate`` itself, which
#: everybody may import for its version; ``outgate.urlfetch`` lies beside it.
ARROWS: dict[str, tuple[str, ...]] = {
    "front": ("errors", "client"),
    "errors": (),
    "core": ("errors",),
    "client": ("errors", *SHARED),
    "gate": ("errors", "core"),
    "guard": ("errors", "core", "client.packets"),
    "lookout": ("errors", "core", "gate", "client"),
    "console": ("errors", "core", "gate", "lookout"),
    "dev": ("errors", "core", "gate", "lookout", "console", "urlfetch"),
    "cli": ROOMS,
    "testing": ROOMS,
}

#: Rooms within rooms: what each may import of the room around it. ``""`` are the modules that lie in that room itself,
#: which may import all of the rooms below it.
INNER: dict[str, dict[str, tuple[str, ...]]] = {
    "core": {
        "formats": (),
        "address": (),
        "name": ("address",),
        "policy": ("name", "address"),
        "learn": ("policy", "name", "address"),
        "quota": ("",),
        "fetch": ("formats",),
        "fleet": (),
        "guard": ("", "formats"),
        "bill": ("", "policy", "name", "address"),
        "seal": ("",),
        "doors": (),
        "wayout": ("policy", "name", "address"),
    },
    "gate": {
        "answering": ("", "decisionlog"),
        "kernel": (),
        "configuration": (),
        "decisionlog": ("", "kernel", "datagram"),
        "doors": ("", "kernel", "configuration", "names"),
        "fetching": ("", "kernel", "names", "tls"),
        "fleet": ("", "kernel", "configuration", "names", "reclaim", "relay", "travel"),
        "ledger": ("", "kernel", "configuration", "datagram", "decisionlog"),
        "live": ("", "datagram", "decisionlog"),
        "metering": ("", "kernel", "datagram"),
        "metrics": ("", "kernel"),
        "names": ("", "metrics"),
        "quota": ("", "configuration", "datagram", "decisionlog", "kernel", "shared"),
        "reclaim": ("", "kernel", "datagram"),
        "restart": ("", "kernel", "configuration", "datagram", "takeover", "travel"),
        "relay": ("", "kernel", "takeover", "tls"),
        "seal": ("configuration",),
        "shared": ("", "configuration"),
        "datagram": ("", "answering", "kernel", "decisionlog", "names", "relay", "takeover", "quota"),
        "takeover": ("", "kernel", "configuration", "doors", "names", "datagram", "seal", "travel"),
        "travel": ("", "kernel", "datagram", "names", "relay"),
        "tls": (),
        "wayout": ("", "kernel", "names", "configuration", "tls"),
    },
    "client": {"autoload": ("",), "relay": ("",), "travel": ("", "relay"), "urlfetch": ("",)},
    "guard": {"supervision": (), "ways": ()},
    "dev": {"inside": ("",)},
}

#: Module → why it is longer than the limit. Empty is best.
LONG: dict[str, str] = {}
MAX_LINES = 400

#: What a decision may not depend on.
NOT_IN_CORE = _words(
    "_io _socket _thread aiohttp asyncio builtins concurrent fcntl fileinput getpass glob http io logging mmap "
    "multiprocessing os pathlib platform pwd queue random resource sched secrets select selectors shutil signal "
    "socket socketserver sqlite3 ssl subprocess sys tempfile termios threading time urllib.request uuid uvloop"
)
#: Calls that read a clock or a file without an import of the modules above.
NOT_CALLED_IN_CORE = frozenset({"now", "utcnow", "today", "open", "input", "print", "breakpoint", "exec", "eval"})

#: Names that the client imports and that are not of the standard library.
CLIENT_EXTRAS = {
    "sitecustomize": "the injected one hands on to the one it stands before",
    "usercustomize": "the same, for a user's own",
}
#: Not there in 3.9, the oldest Python that may load the client.
NEWER_THAN_39 = frozenset({"tomllib", "annotationlib", "compression", "pathlib._os"})
#: Modules that cost a program's start more than all of the client together: 20 ms for ``typing`` where the client's own
#: code is about one. They are imported under ``TYPE_CHECKING``, or in the function that needs them.
COSTLY = _words(
    "argparse asyncio collections contextlib ctypes dataclasses enum functools inspect ipaddress json logging "
    "pickle re selectors socket ssl struct subprocess tempfile threading typing"
)


def room_of(module: str) -> str:
    """Return the room of a module; what lies beside the rooms is the front, and ``python -m outgate`` a command."""
    part = module.split(".")[1] if "." in module else ""
    if part == "__main__":
        return "cli"
    return part if part in ROOMS else "front"


def inner_of(module: str) -> tuple[str, str]:
    """Return the room of a module and the room within that it lies in, "" for none."""
    parts = MODULES[module].relative_to(PACKAGE).parts
    return room_of(module), parts[1] if len(parts) > 2 else ""


def is_loaded_into_programs(module: str) -> bool:
    """Whether this module is loaded into other people's interpreters."""
    inner = module.removeprefix("outgate").lstrip(".")
    return room_of(module) in ("client", "errors", "front") or inner in (*SHARED, "core", "core.formats")


@cache
def imports_of(module: str) -> frozenset[str]:
    """Return the full names of what a module imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            found.update(name if name in MODULES else base for name in names)
    return frozenset(found)


def own_imports_of(module: str) -> set[str]:
    """Return those imports of a module that are of outgate itself, without the front."""
    return {name for name in imports_of(module) if name.startswith("outgate.")}


@pytest.mark.parametrize("module", MODULES)
def test_arrows_between_rooms(module: str) -> None:
    """A module imports of outgate only what its room may."""
    room = room_of(module)
    allowed = (room, *ARROWS[room])
    wrong = {
        name
        for name in own_imports_of(module)
        if not any(name == f"outgate.{each}" or name.startswith(f"outgate.{each}.") for each in allowed)
        # `from outgate.core import messages` loads outgate.core, a docstring, on the way
        and not (name == "outgate.core" and room == "client")
    }
    assert not wrong, f"{room} may import {allowed}"


@pytest.mark.parametrize("module", [name for name in MODULES if inner_of(name)[1]])
def test_arrows_within_rooms(module: str) -> None:
    """A module of a room within a room imports of the outer one only what its own may."""
    outer, inner = inner_of(module)
    allowed = (inner, *INNER[outer][inner])
    found = {name: inner_of(name) for name in own_imports_of(module) if name in MODULES}
    assert not {name for name, (room, part) in found.items() if room == outer and part not in allowed}


@pytest.mark.parametrize("module", [name for name in MODULES if room_of(name) == "core"])
def test_core_does_nothing(module: str) -> None:
    """A module of the core neither imports nor calls what reads a clock, a file, the network or a random number."""
    imported = imports_of(module)
    assert not {name for name in imported for each in NOT_IN_CORE if name == each or name.startswith(each + ".")}
    calls = [node.func for node in ast.walk(_tree(module)) if isinstance(node, ast.Call)]
    named = {each.id if isinstance(each, ast.Name) else getattr(each, "attr", "") for each in calls}
    assert not named & NOT_CALLED_IN_CORE


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short(module: str) -> None:
    """A module has at most 400 lines, or a reason why it has more; and no reason outlives its module's length."""
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert (lines > MAX_LINES) == (module in LONG), f"{lines} lines"


@pytest.mark.parametrize("module", MODULES)
def test_first_docstring_line_is_a_sentence(module: str) -> None:
    """A module's first line is one plain sentence of its job."""
    docstring = ast.get_docstring(_tree(module)) or ""
    first, _, rest = docstring.partition("\n")
    assert first.endswith((".", "?"))
    assert first[0].isupper() or first.startswith(("outgate", "``"))
    assert not rest or rest.startswith("\n"), "the sentence fits its line, an empty one follows"


@pytest.mark.parametrize("module", [name for name in MODULES if is_loaded_into_programs(name)])
def test_client_is_python_39_and_standard_library(module: str) -> None:
    """What is loaded into other people's programs has the grammar of 3.9 and imports nothing that must be installed."""
    ast.parse(MODULES[module].read_text(encoding="utf-8"), feature_version=(3, 9))
    foreign = {name for name in imports_of(module) if name.split(".")[0] not in ("outgate", *CLIENT_EXTRAS)}
    standard = sys.stdlib_module_names - NEWER_THAN_39
    assert {name.split(".")[0] for name in foreign} <= standard


@pytest.mark.pythons
@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_client_loads_in_other_pythons(version: str) -> None:
    """Every client module, the ones it shares and the errors import in that Python with warnings as errors."""
    path = interpreters().get(version)
    if path is None:
        pytest.skip(f"no Python {version} on this machine")
    names = [name for name in MODULES if is_loaded_into_programs(name) and "autoload" not in name]
    code = f"import sys; sys.path.insert(0, {str(SOURCE)!r})\nfor name in {names!r}: __import__(name)"
    done = subprocess.run([path, "-I", "-B", "-W", "error", "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["outgate.client.install", "outgate.errors", "outgate.guard.fence"])
def test_nothing_costly_is_loaded_at_a_programs_start(module: str) -> None:
    """Importing what stands before a program's first line loads none of the standard library's costly modules."""
    code = f"import sys; sys.path.insert(0, {str(SOURCE)!r}); import {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-IS", "-B", "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert not COSTLY & set(done.stdout.split())


def test_warnings_are_errors() -> None:
    """A warning in a test fails it, so none is ever waved through."""
    with pytest.raises(UserWarning, match="noticed"):
        warnings.warn("noticed", UserWarning, stacklevel=1)


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))
