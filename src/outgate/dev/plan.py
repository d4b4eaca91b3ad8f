"""Put services together: which run, whose tasks go where, which host name means which, and where a request goes.

A plan is plain data, and :func:`route` decides about a request from it alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from outgate.dev import appyaml, tasks, yamlfile
from outgate.dev.appyaml import AppYaml
from outgate.errors import ConfigError
from outgate.gate.configuration.places import Place, convert

__all__ = ["CONSOLE", "Dispatch", "Plan", "Refusal", "Target", "is_console", "read", "route"]

_FILES: Final = ("app.yaml", "app.yml")
#: Host names of this machine: requests under any other came by somebody else's (DNS rebinding).
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


@dataclass(frozen=True)
class Dispatch:
    """One line of dispatch.yaml: requests whose ``host/path`` fits the pattern are this service's."""

    pattern: str
    service: str

    def matches(self, host: str, path: str) -> bool:
        """Whether a request fits: ``*`` stands for any text, at the pattern's beginning or end."""
        expression = ".*".join(map(re.escape, self.pattern.split("*")))
        return re.fullmatch(expression, host + path) is not None


@dataclass(frozen=True)
class Plan:
    """What runs.

    :ivar services: in the order given; no two have one name.
    :ivar dispatch: in the order of the file.
    :ivar files: absolute paths of what was read, whose change changes the plan.
    """

    services: tuple[AppYaml, ...]
    dispatch: tuple[Dispatch, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def default(self) -> AppYaml:
        """The service that answers where nothing says which: the one named so, else the first."""
        return self.find(appyaml.DEFAULT) or self.services[0]

    def find(self, name: str) -> AppYaml | None:
        """Return the service of a name, or ``None``."""
        return next((each for each in self.services if each.service == name), None)

    def of_app(self, application: str) -> tuple[AppYaml, ...]:
        """Return the services of an app."""
        return tuple(each for each in self.services if each.application == application)

    @property
    def applications(self) -> tuple[str, ...]:
        """The apps, each once."""
        return tuple(dict.fromkeys(each.application for each in self.services))

    def runs_tasks(self, application: str, queue: str, target: str | None, adder: str) -> str | None:
        """Return the service that runs a task, or ``None`` where its target is no service of the app.

        :param target: what the task says.
        :param adder: the service that adds it.
        """
        own = self.of_app(application)
        named = target or next((each.tasks[queue] for each in own if queue in each.tasks), None)
        wanted = named or adder
        return next((each.service for each in own if each.service == wanted), None)

    def policies(self) -> dict[str, dict[str, Any]]:
        """Return app → the keys that its services' ``outgate:`` sections say together.

        :raises ConfigError: two of them contradict one another.
        """
        found: dict[str, dict[str, Any]] = {}
        said_by: dict[tuple[str, str], str] = {}
        for service in self.services:
            table = found.setdefault(service.application, {})
            for key, value in service.policy.items():
                other = said_by.setdefault((service.application, key), service.path)
                if table.setdefault(key, value) != value:
                    raise (
                        Place(service.path)
                        .at("outgate")
                        .at(key)
                        .error(
                            f"{other} says another for the same app {service.application}",
                            "an app has one policy; keep the key in one of the files",
                        )
                    )
        return found


class _Line(msgspec.Struct):
    url: str
    service: str | None = None
    module: str | None = None


def read(given: Sequence[str]) -> Plan:
    """Return the plan of files and folders as given on the command line; the working folder where there is none.

    :raises ConfigError: one of them cannot be used, or they do not fit together.
    """
    services: list[AppYaml] = []
    lines: list[Dispatch] = []
    files: list[str] = []
    places: list[tuple[Place, str]] = []
    for name in given or (".",):
        path = _file(name)
        if path is None:
            services.append(appyaml.bare(name))
            continue
        files.append(os.path.abspath(path))
        raw = yamlfile.read(path)
        if "dispatch" in raw and "runtime" not in raw:
            here = Place(path).at("dispatch")
            for index, entry in enumerate(convert(here, raw["dispatch"] or [], list[dict[str, Any]])):
                line = convert(here.item(index), entry, _Line)
                service = line.service or line.module or ""
                places.append((here.item(index).at("service"), service))
                lines.append(Dispatch(line.url.lower() if "/" not in line.url else _lower_host(line.url), service))
            continue
        service_read = appyaml.of_table(raw, path)
        services.append(service_read)
        here = Place(path).at("outgate").at("tasks")
        places += [(here.at(queue), service) for queue, service in service_read.tasks.items()]
    if not services:
        raise ConfigError(f"{', '.join(given)}: no service is described; name an app.yaml as well")
    plan = Plan(tuple(services), tuple(lines), tuple(files))
    _check(plan, places)
    return plan


def _lower_host(pattern: str) -> str:
    host, slash, path = pattern.partition("/")
    return host.lower() + slash + path


def _file(name: str) -> str | None:
    """Return the file that a word of the command line means; ``None`` for a folder that has none."""
    if not os.path.isdir(name):
        return name
    return next((path for each in _FILES if os.path.isfile(path := os.path.join(name, each))), None)


def _check(plan: Plan, places: Sequence[tuple[Place, str]]) -> None:
    """Refuse what does not fit together: equal names, services that are named and not there, two ways for a queue."""
    seen: dict[str, str] = {}
    for service in plan.services:
        other = seen.setdefault(service.service, service.path)
        if other is not service.path or plan.find(service.service) is not service:
            raise (
                Place(service.path)
                .at("service")
                .error(
                    f'"{service.service}" is the service of {other} already',
                    "give one of them another name: service: backend",
                )
            )
    names = list(seen)
    for place, name in places:
        if name not in names:
            raise place.error(f'no service "{name}" runs here', f"name its app.yaml too; running: {', '.join(names)}")
    queues: dict[tuple[str, str], tuple[str, str]] = {}
    for service in plan.services:
        for queue, target in service.tasks.items():
            first = queues.setdefault((service.application, queue), (target, service.path))
            here = Place(service.path).at("outgate").at("tasks").at(queue)
            if first[0] != target:
                raise here.error(f"{first[1]} gives this queue to {first[0]}", "a queue's tasks go to one service")
            if target not in {each.service for each in plan.of_app(service.application)}:
                raise here.error(f'"{target}" is of another app', "an app's tasks are run by its own services")


#: The name among the hosts that is the server's own, unless a service has it.
CONSOLE: Final = "console"


def is_console(host: str) -> bool:
    """Tell whether a Host header names the console of the server: ``console.localhost``, by whatever port."""
    return _without_port(host.lower()).removesuffix(".") == f"{CONSOLE}.localhost"


class Target(NamedTuple):
    """Where a request goes: the service, and which instance of it, or ``None`` for any."""

    service: AppYaml
    instance: int | None = None


class Refusal(NamedTuple):
    """Why it goes nowhere: the HTTP status, and a sentence."""

    status: int
    text: str


def route(plan: Plan, host: str, path: str, *, local: bool) -> Target | Refusal:
    """Return where a request from outside goes.

    By host ``SERVICE.localhost`` is a service and ``N.SERVICE.localhost`` one instance of it; every other host is
    looked up in dispatch.yaml, and goes to the default service where nothing there fits.

    :param host: the header, as it came; the port in it means nothing.
    :param path: decoded, without the query.
    :param local: whether only this machine can call, so that another host name than its own is somebody's trick.
    """
    name = _without_port(host.lower())
    labels = name.removesuffix(".").split(".")
    if local and labels[-1] != "localhost" and name not in _LOCAL:
        return Refusal(421, f"{name or 'no host'} is not a name of this machine; use localhost, or start with --host")
    service, number = plan.default, None
    if labels[-1] == "localhost" and len(labels) > 1:
        found = plan.find(labels[-2])
        if found is None or len(labels) > 3:
            names = ", ".join(f"{each.service}.localhost" for each in plan.services)
            return Refusal(404, f"no service is {name}; there are {names}")
        service = found
        if len(labels) == 3:
            if not labels[0].isdecimal() or int(labels[0][:4]) >= service.instances:
                return Refusal(404, f"{service.service} has {service.instances} instances, from 0")
            number = int(labels[0])
    else:
        for line in plan.dispatch:
            chosen = plan.find(line.service)
            if chosen is not None and line.matches(name, path):
                service = chosen
                break
    return _admit(service, path) or Target(service, number)


def _admit(service: AppYaml, path: str) -> Refusal | None:
    """Return why nobody from outside may ask for a path of a service, ``None`` where they may."""
    if path == tasks.RESERVED_PATH or path.startswith(tasks.RESERVED_PATH + "/"):
        return Refusal(403, f"{path} is for the task queue alone")
    handler = next((each for each in service.handlers if each.matches(path)), None)
    if handler is None:
        return Refusal(404, f"no handler of {service.path} matches {path}")
    if handler.admin:
        return Refusal(403, f"{path} is for the task queue alone (login: admin)")
    return None


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def environment(service: AppYaml, number: int, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of an instance, but for what tells it of its gate and its server.

    The names are App Engine's; SERVER_SOFTWARE begins with ``Development`` as that of its development server did.

    :param given: the server's own environment.
    """
    return {
        **given,
        "PYTHONUNBUFFERED": "1",
        "SERVER_SOFTWARE": "Development/outgate",
        "GAE_ENV": "localdev",
        "GAE_APPLICATION": service.application,
        "GAE_SERVICE": service.service,
        "GAE_INSTANCE": str(number),
        "GAE_RUNTIME": service.runtime,
        **service.env,
    }
