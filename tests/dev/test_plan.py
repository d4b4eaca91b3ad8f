"""The plan: which services run together, who runs a queue's tasks, and where a request goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.dev import plan, policies
from outgate.dev.appyaml import AppYaml, Handler
from outgate.dev.plan import Dispatch, Plan, Refusal, Target, route
from outgate.errors import ConfigError

FRONT = AppYaml(
    "front.yaml",
    "/f",
    handlers=(Handler("/admin/.*", "main:app", admin=True), Handler("/.*", "main:app")),
    tasks={"mail": "back"},
    policy={"except": ["10.0.0.1:5432"]},
)
BACK = AppYaml("back.yaml", "/b", service="back", instances=2, handlers=(Handler("/work", "main:app"),))
BOTH = Plan((FRONT, BACK), (Dispatch("*/work*", "back"), Dispatch("shop.localhost.test/*", "back")))


def write(folder: Path, **files: str) -> list[str]:
    """Write files and return their paths."""
    made = []
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        made.append(str(path))
    return made


@pytest.mark.parametrize(
    ("host", "path", "target"),
    [
        ("localhost:8080", "/", Target(FRONT)),
        ("127.0.0.1:8080", "/", Target(FRONT)),
        ("[::1]:8080", "/", Target(FRONT)),
        ("LOCALHOST", "/", Target(FRONT)),
        ("localhost", "/work", Target(BACK)),
        ("default.localhost", "/work", Target(FRONT)),
        ("back.localhost:8080", "/work", Target(BACK)),
        ("1.back.localhost:8080", "/work", Target(BACK, 1)),
    ],
)
def test_requests_that_go_somewhere(host: str, path: str, target: Target) -> None:
    """A service is reached by its host name, an instance by its number before that, and by dispatch otherwise."""
    assert route(BOTH, host, path, local=True) == target


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("evil.example", "/", 421),
        ("", "/", 421),
        ("localhost.evil.example", "/", 421),
        ("nobody.localhost", "/", 404),
        ("2.back.localhost", "/work", 404),
        ("x.back.localhost", "/work", 404),
        ("1.2.back.localhost", "/work", 404),
        ("back.localhost", "/other", 404),
        ("localhost", "/admin/x", 403),
        ("localhost", "/_ah/queue", 403),
        ("localhost", "/_ah/queue/deferred", 403),
        ("back.localhost", "/_ah/queue/deferred", 403),
    ],
)
def test_requests_that_go_nowhere(host: str, path: str, status: int) -> None:
    """Foreign host names, unknown services, paths without a handler and what is the queue's alone are refused."""
    found = route(BOTH, host, path, local=True)
    assert isinstance(found, Refusal)
    assert found.status == status


def test_other_hosts_may_call_where_that_was_asked_for() -> None:
    """A server that other machines reach takes any host name, and dispatch decides on it."""
    assert route(BOTH, "evil.example", "/", local=False) == Target(FRONT)
    assert route(BOTH, "shop.localhost.test", "/work", local=False) == Target(BACK)


@given(st.text(max_size=30), st.text(max_size=30).map("/".__add__), st.booleans())
def test_no_request_from_outside_reaches_what_is_the_queues(host: str, path: str, local: bool) -> None:
    """Whatever host and path, a target is never a path of the queue or of an admin handler."""
    found = route(BOTH, host, path, local=local)
    if isinstance(found, Target):
        assert not path.startswith("/_ah/queue/")
        assert not next(each for each in found.service.handlers if each.matches(path)).admin


@pytest.mark.parametrize(
    ("queue", "target", "adder", "runs"),
    [
        ("default", None, "default", "default"),
        ("default", None, "back", "back"),
        ("mail", None, "default", "back"),
        ("mail", "default", "back", "default"),
        ("default", "nobody", "default", None),
        ("default", None, "nobody", None),
    ],
)
def test_who_runs_a_task(queue: str, target: str | None, adder: str, runs: str | None) -> None:
    """The task's own target, else the queue's service, else who adds it; and nobody outside of the app."""
    assert BOTH.runs_tasks("default", queue, target, adder) == runs


def test_tasks_stay_within_their_app() -> None:
    """A service of another app never runs a task, though it was named."""
    other = Plan((FRONT, replace(BACK, application="other")))
    assert other.runs_tasks("default", "q", "back", "default") is None


def test_a_plan_of_files(tmp_path: Path) -> None:
    """Files, folders and dispatch.yaml make one plan, which knows what it was made of."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "main.py").touch()
    (tmp_path / "front").mkdir()
    front = write(tmp_path / "front", app="application: shop\nservice: front")
    rest = write(tmp_path, dispatch="dispatch:\n- {url: '*/Front/*', module: front}")
    found = plan.read([str(tmp_path / "bare"), str(tmp_path / "front"), *rest])
    assert [each.service for each in found.services] == ["default", "front"]
    assert found.dispatch == (Dispatch("*/Front/*", "front"),)
    assert found.files == (*front, *rest)
    assert found.applications == ("default", "shop")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a": "service: x", "b": "service: x"}, '"x" is the service of'),
        ({"a": "outgate: {tasks: {q: back}}"}, 'outgate.tasks.q: no service "back" runs here'),
        ({"a": "dispatch: [{url: x, service: y}]", "b": ""}, 'dispatch[0].service: no service "y"'),
        ({"a": "dispatch: []"}, "no service is described"),
        (
            {"a": "outgate: {tasks: {q: a}}\nservice: a", "b": "outgate: {tasks: {q: b}}\nservice: b"},
            "gives this queue to a",
        ),
        (
            {"a": "outgate: {tasks: {q: b}}\nservice: a", "b": "application: other\nservice: b"},
            '"b" is of another app',
        ),
    ],
)
def test_files_that_do_not_fit_together(tmp_path: Path, files: dict[str, str], says: str) -> None:
    """Equal names, services that are not there, and two ways for one queue are refused with the place."""
    with pytest.raises(ConfigError) as caught:
        plan.read(write(tmp_path, **files))
    assert says in str(caught.value)


def test_one_policy_for_the_services_of_an_app() -> None:
    """Services of one app may each say a part of its policy, and may not contradict one another."""
    other = replace(BACK, policy={"deny": ["*:443"]})
    assert Plan((FRONT, other)).policies() == {"default": {"except": ["10.0.0.1:5432"], "deny": ["*:443"]}}
    against = replace(BACK, policy={"except": []})
    with pytest.raises(ConfigError, match=r"back.yaml: outgate.except: front.yaml says another"):
        Plan((FRONT, against)).policies()


def test_the_gates_configuration() -> None:
    """Each app is known by a socket of its own, billed, trusted, and held to what its files say."""
    settings = policies.check(Plan((FRONT, replace(BACK, application="other"))), "/run/x")
    app, other = settings.apps.values()
    assert (app.name, app.billing, app.trusted, app.except_) == ("default", True, True, ("10.0.0.1:5432",))
    assert (other.name, other.except_, other.allow) == ("other", (), ("public",))
    assert app.socket.startswith("/run/x/")
    assert app.socket != other.socket
    assert settings.gate.socket_mode == 0o600


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"exept": []}, 'outgate.exept: unknown key; did you mean "except"?'),
        ({"allow": "public"}, "outgate.allow: takes a list"),
        ({"deny": ["10.0.0.0/33"]}, "outgate.deny[0]"),
        ({"billing": "yes"}, "outgate.billing: takes true or false"),
        ({"mode": "reprot"}, 'outgate.mode: "reprot" is not a value it takes'),
    ],
)
def test_a_wrong_policy_is_named_where_it_stands(policy: dict[str, object], says: str) -> None:
    """A wrong key of the section is refused in the words of the configuration, at its place in app.yaml."""
    with pytest.raises(ConfigError) as caught:
        policies.check(Plan((replace(FRONT, policy=policy),)), "/run/x")
    assert says in str(caught.value)
    assert "apps." not in str(caught.value)


def test_the_environment_of_an_instance() -> None:
    """It has App Engine's variables, and what app.yaml sets comes last."""
    service = replace(BACK, env={"GAE_ENV": "own", "A": "b"})
    made = plan.environment(service, 1, {"A": "outer", "PATH": "/bin"})
    assert made["PATH"] == "/bin"
    assert (made["A"], made["GAE_ENV"], made["GAE_SERVICE"], made["GAE_INSTANCE"]) == ("b", "own", "back", "1")
