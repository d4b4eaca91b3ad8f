"""Read app.yaml: today's and the original's keys that concern us, checked, and what is ignored named.

The keys are those of "app.yaml reference" of App Engine's documentation, Python 2.7 and Python 3 runtimes.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import msgspec

from outgate.core.profiles import APP_ENGINE
from outgate.dev import tasks, yamlfile
from outgate.errors import ConfigError
from outgate.gate.configuration.places import Place, convert

__all__ = ["DEFAULT", "MAX_INSTANCES", "AppYaml", "Handler", "bare", "of_table", "read"]

#: What an application and a service without a name are called.
DEFAULT: Final = "default"
#: The most instances of a service; each is a process.
MAX_INSTANCES: Final = 20
#: What serves where nothing says so: App Engine's default entrypoint is ``gunicorn main:app``.
DEFAULT_SCRIPT: Final = "main:app"

#: Keys of App Engine's that mean nothing on a developer's machine.
_IGNORED: Final = frozenset(
    (
        *("admin_console", "api_config", "api_version", "app_engine_apis", "app_engine_bundled_services"),
        *("auto_id_policy", "automatic_scaling", "basic_scaling", "beta_settings", "build_env_variables", "builtins"),
        *("code_lock", "datastore_auto_id_policy", "default_expiration", "derived_file_type", "env", "env_config"),
        *("error_handlers", "health_check", "inbound_services", "includes", "instance_class", "liveness_check"),
        *("network", "nobuild_files", "readiness_check", "resources", "runtime_config", "service_account"),
        *("skip_files", "threadsafe", "version", "vm", "vm_settings", "vpc_access_connector", "zones"),
    )
)
_SERVICE_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_APPLICATION_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DOTTED: Final = r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*"
_TARGET: Final = re.compile(rf"({_DOTTED}):([A-Za-z_][A-Za-z0-9_.]*)(?:\(\))?")
_ORIGINAL: Final = re.compile(rf"({_DOTTED})\.([A-Za-z_][A-Za-z0-9_]*)")
#: The variables of ours that an app may set; the others tell an instance where its gate is.
_OPEN_VARIABLES: Final = frozenset({"OUTGATE_HTTP"})
#: Keys of ``[apps.NAME]`` that say who a program is; here it is an instance.
_IDENTITY: Final = ("uid", "gid", "socket", "token_file")


class _Handler(msgspec.Struct):
    url: str
    script: str | None = None
    login: str = "optional"


class _Library(msgspec.Struct):
    name: str
    version: str | float | int = "latest"


class _Manual(msgspec.Struct):
    instances: int = 1


class _Tables(msgspec.Struct):
    """The types of the keys that are read."""

    application: str = DEFAULT
    service: str | None = None
    module: str | None = None
    runtime: str = ""
    entrypoint: str | None = None
    handlers: list[dict[str, Any]] | None = None
    env_variables: dict[str, str | int | float | bool | None] | None = None
    libraries: list[dict[str, Any]] | None = None
    manual_scaling: dict[str, Any] | None = None
    instances: int | None = None
    outgate: dict[str, Any] | None = None


@dataclass(frozen=True)
class Handler:
    """One line of ``handlers`` that has a script.

    :ivar url: the regular expression that the whole path must match.
    :ivar script: ``module:attribute`` of the app that answers.
    :ivar admin: whether only the task queue may ask (``login: admin``).
    """

    url: str
    script: str
    admin: bool = False

    def matches(self, path: str) -> bool:
        """Whether this handler answers a path."""
        return re.fullmatch(self.url, path) is not None


@dataclass(frozen=True)
class AppYaml:
    """One service.

    :ivar path: the file, for people; the folder where there is none.
    :ivar folder: absolute path of the folder its code is in.
    :ivar application: the app that it is of; its sockets are that app's.
    :ivar service: its name.
    :ivar runtime: as written, "" where it is not.
    :ivar handlers: what answers which path, the first that matches; never empty.
    :ivar env: variables for its instances.
    :ivar libraries: names of the libraries that it lists.
    :ivar instances: how many processes.
    :ivar policy: keys of an ``[apps.NAME]`` table, not checked yet.
    :ivar tasks: queue → service that runs its tasks.
    :ivar ignored: what was read over, a sentence each.
    """

    path: str
    folder: str
    application: str = DEFAULT
    service: str = DEFAULT
    runtime: str = ""
    handlers: tuple[Handler, ...] = (Handler("/.*", DEFAULT_SCRIPT),)
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    libraries: tuple[str, ...] = ()
    instances: int = 1
    policy: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    tasks: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    ignored: tuple[str, ...] = ()

    @property
    def has_original_rules(self) -> bool:
        """Whether it asks for the rules of App Engine itself: by ``profile``, or by the runtime that had them."""
        profile: object = self.policy.get("profile", APP_ENGINE if self.runtime == "python27" else "")
        return profile == APP_ENGINE

    @property
    def has_ssl(self) -> bool:
        """Whether its code may import ``ssl`` (S18: by those rules the library must be listed)."""
        return not self.has_original_rules or "ssl" in self.libraries


def read(path: str) -> AppYaml:
    """Read an app.yaml. Raises :class:`ConfigError` that names the place and a way out."""
    return of_table(yamlfile.read(path), path)


def bare(folder: str) -> AppYaml:
    """Return the service of a folder without an app.yaml whose ``main.py`` has ``app``.

    :raises ConfigError: there is no ``main.py``.
    """
    if not os.path.isfile(os.path.join(folder, "main.py")):
        raise ConfigError(f"{folder}: neither app.yaml nor main.py is here; name the file: outgate dev FOLDER/app.yaml")
    return AppYaml(folder, os.path.abspath(folder))


def of_table(raw: Mapping[str, Any], path: str) -> AppYaml:
    """Return the service that a decoded file describes.

    :param path: of the file; its folder has the code.
    :raises ConfigError: it says something that cannot be.
    """
    top = Place(path)
    ignored = _ignored(raw)
    known = {key: value for key, value in raw.items() if key in _Tables.__struct_fields__ and value is not None}
    table = convert(top, known, _Tables)
    if table.service and table.module and table.service != table.module:
        raise top.at("module").error(f'"{table.module}" is not "{table.service}"', "keep service, its name of today")
    service = table.service or table.module or DEFAULT
    if not _SERVICE_NAME.fullmatch(service):
        raise top.at("service").error(
            f'"{service}" is not a name for a service', "lower-case letters, digits and '-', at most 63"
        )
    if not _APPLICATION_NAME.fullmatch(table.application):
        raise top.at("application").error(
            f'"{table.application}" is not a name for an app',
            "lower-case letters, digits, '.', '_' and '-', at most 63, the first a letter or digit",
        )
    if table.runtime and not table.runtime.startswith("python"):
        raise top.at("runtime").error(f'"{table.runtime}" is not run here', "outgate dev runs Python: python311")
    policy, queues = _section(top.at("outgate"), table.outgate or {})
    entry = _entrypoint(top.at("entrypoint"), table.entrypoint)
    return AppYaml(
        path=path,
        folder=os.path.dirname(os.path.abspath(path)),
        application=table.application,
        service=service,
        runtime=table.runtime,
        handlers=_handlers(top.at("handlers"), table.handlers, entry, ignored),
        env=_variables(top.at("env_variables"), table.env_variables or {}),
        libraries=_libraries(top.at("libraries"), table.libraries or [], ignored),
        instances=_instances(top, table),
        policy=policy,
        tasks=queues,
        ignored=tuple(ignored),
    )


def _ignored(raw: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each key that is read over."""
    read_here = _Tables.__struct_fields__
    said = []
    plain = [key for key in raw if key in _IGNORED]
    if plain:
        said.append("of no effect here: " + ", ".join(plain))
    for key in raw:
        if key in read_here or key in _IGNORED:
            continue
        near = difflib.get_close_matches(key.lower(), read_here, 1)
        said.append(f"{key} is no key that is known" + (f"; did you mean {near[0]}?" if near else ""))
    return said


def _section(place: Place, table: dict[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """Return the policy and the queues of the ``outgate:`` section."""
    rest = dict(table)
    for key in _IDENTITY:
        if key in rest:
            raise place.at(key).error("says who a program is, which the server knows", "leave it out")
    here = place.at("tasks")
    queues = convert(here, rest.pop("tasks", None) or {}, dict[str, str])
    for queue, service in queues.items():
        if not tasks.is_queue_name(queue):
            raise here.error(f'"{queue}" is not a name for a queue', "letters, digits and '-', at most 100")
        if not _SERVICE_NAME.fullmatch(service):
            raise here.at(queue).error(f'"{service}" is not a name for a service', "name one of those that run here")
    return MappingProxyType(rest), MappingProxyType(queues)


def _entrypoint(place: Place, command: str | None) -> str:
    """Return the ``module:attribute`` in a command that starts gunicorn, uvicorn or the like."""
    if command is None:
        return DEFAULT_SCRIPT
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise place.error(f"{error}", "check its quotes") from None
    for word in words[1:]:
        found = _TARGET.fullmatch(word)
        if found and not word.endswith("()"):
            return word
    raise place.error(
        "names no app that could be served here",
        'the server starts gunicorn or uvicorn itself, and needs the "main:app" in: gunicorn -b :$PORT main:app',
    )


def _handlers(
    place: Place, handlers: list[dict[str, Any]] | None, entry: str, ignored: list[str]
) -> tuple[Handler, ...]:
    if handlers is None:
        return (Handler("/.*", entry),)
    found = []
    for index, raw in enumerate(handlers):
        here = place.item(index)
        handler = convert(here, raw, _Handler)
        try:
            re.compile(handler.url)
        except (re.error, RecursionError, OverflowError) as error:
            raise here.at("url").error(
                f'"{handler.url}" is no regular expression: {error}', r"as in /admin/.*"
            ) from None
        if not handler.url.startswith("/"):
            raise here.at("url").error(f'"{handler.url}" does not begin with /', "as in /.*")
        if handler.script is None:
            kind = next((key for key in ("static_dir", "static_files") if key in raw), "no script")
            ignored.append(f"handlers: {handler.url} ({kind})")
            continue
        if handler.login == "required":
            ignored.append(f"handlers: login: required of {handler.url}; there are no accounts here")
        found.append(Handler(handler.url, _script(here.at("script"), handler.script, entry), handler.login == "admin"))
    if not found:
        # Today's App Engine sends to the app what no handler matches, and there may be static ones alone.
        return (Handler("/.*", entry),)
    return tuple(found)


def _script(place: Place, script: str, entry: str) -> str:
    """Return ``module:attribute`` of a script: today's ``auto``, ``main.app`` of Python 2.7, or ``main.py`` (CGI)."""
    if script == "auto":
        return entry
    if script.endswith(".py"):
        module = script.removesuffix(".py").replace("/", ".")
        if re.fullmatch(_DOTTED, module):
            return f"{module}:app"
    if _TARGET.fullmatch(script) and not script.endswith("()"):
        return script
    found = _ORIGINAL.fullmatch(script)
    if not found:
        raise place.error(f'"{script}" is not a Python app', "write auto, or module.app as in main.app")
    return f"{found[1]}:{found[2]}"


def _variables(place: Place, variables: dict[str, str | int | float | bool | None]) -> Mapping[str, str]:
    made = {}
    for name, value in variables.items():
        here = place.at(name)
        if not _VARIABLE.fullmatch(name):
            raise here.error(f'"{name}" is not a name for a variable', "letters, digits and '_'")
        if name.startswith("OUTGATE_") and name not in _OPEN_VARIABLES:
            raise here.error("is set by the server", "leave it out")
        if isinstance(value, bool):
            raise here.error("takes text, not true or false", f'write "{str(value).lower()}" in quotes')
        text = "" if value is None else str(value)
        if "\0" in text:
            raise here.error("holds a NUL, which no variable can", "leave it out")
        made[name] = text
    return MappingProxyType(made)


def _libraries(place: Place, libraries: list[dict[str, Any]], ignored: list[str]) -> tuple[str, ...]:
    names = tuple(convert(place.item(index), raw, _Library).name for index, raw in enumerate(libraries))
    others = [name for name in names if name != "ssl"]
    if others:
        ignored.append(f"libraries: {', '.join(others)}; what pip has installed is used")
    return names


def _instances(top: Place, table: _Tables) -> int:
    place, count = top.at("instances"), table.instances
    if table.manual_scaling is not None:
        manual = top.at("manual_scaling")
        scaled = convert(manual, table.manual_scaling, _Manual).instances
        if count is not None and count != scaled:
            raise place.error(f"{count} is not {scaled}, which manual_scaling says", "keep one of the two")
        place, count = manual.at("instances"), scaled
    count = 1 if count is None else count
    if not 1 <= count <= MAX_INSTANCES:
        raise place.error(f"{count} is not a number of processes to start here", f"from 1 to {MAX_INSTANCES}")
    return count
