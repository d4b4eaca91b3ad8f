"""app.yaml: today's and the original's keys are understood, what is ignored is named, what is wrong has a place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.dev import appyaml, yamlfile
from outgate.dev.appyaml import AppYaml, Handler
from outgate.errors import ConfigError


def read(text: str) -> AppYaml:
    """Read a document as app.yaml."""
    return appyaml.of_table(yamlfile.parse(text.encode(), "app.yaml"), "app.yaml")


def test_nothing_is_the_default_service() -> None:
    """An empty file is the service "default" of app "default", served from main:app, one instance."""
    service = read("")
    assert (service.application, service.service, service.instances) == ("default", "default", 1)
    assert service.handlers == (Handler("/.*", "main:app"),)
    assert service.ignored == ()


def test_a_file_of_today() -> None:
    """The keys of the Python 3 runtimes come out, with the section of ours."""
    service = read(
        """
runtime: python311
service: back
entrypoint: gunicorn -b :$PORT -w 2 shop.web:create.app
instance_class: F2
manual_scaling: {instances: 3}
env_variables: {NAME: x, COUNT: 3, EMPTY: }
handlers:
- {url: /static, static_dir: static}
- {url: /admin/.*, script: auto, login: admin}
- {url: /.*, script: auto, secure: always}
outgate:
  except: ["10.2.0.0/16:5432"]
  tasks: {mail: back}
"""
    )
    assert service.service == "back"
    assert service.instances == 3
    assert dict(service.env) == {"NAME": "x", "COUNT": "3", "EMPTY": ""}
    assert service.handlers == (
        Handler("/admin/.*", "shop.web:create.app", admin=True),
        Handler("/.*", "shop.web:create.app"),
    )
    assert dict(service.policy) == {"except": ["10.2.0.0/16:5432"]}
    assert dict(service.tasks) == {"mail": "back"}
    assert service.ignored == ("of no effect here: instance_class", "handlers: /static (static_dir)")
    assert service.has_ssl


def test_a_file_of_the_original() -> None:
    """The keys of Python 2.7 come out: application, module, main.app and main.py, libraries."""
    service = read(
        """
application: news-reader
version: 1
runtime: python27
module: front
threadsafe: false
builtins: [{deferred: on}]
libraries:
- {name: ssl, version: latest}
- {name: jinja2, version: "2.6"}
handlers:
- {url: /cgi, script: web/cgi.py}
- {url: /.*, script: main.application}
"""
    )
    assert (service.application, service.service) == ("news-reader", "front")
    assert service.handlers == (Handler("/cgi", "web.cgi:app"), Handler("/.*", "main:application"))
    assert service.libraries == ("ssl", "jinja2")
    assert service.has_original_rules
    assert service.has_ssl
    assert "libraries: jinja2; what pip has installed is used" in service.ignored


@pytest.mark.parametrize(
    ("text", "original", "ssl"),
    [
        ("runtime: python311", False, True),
        ("runtime: python27", True, False),
        ("runtime: python27\nlibraries: [{name: ssl}]", True, True),
        ("runtime: python27\noutgate: {profile: default}", False, True),
        ("runtime: python311\noutgate: {profile: app-engine}", True, False),
        ("outgate: {profile: app-engine}\nlibraries: [{name: ssl, version: 2.7}]", True, True),
    ],
)
def test_when_ssl_must_be_listed(text: str, original: bool, ssl: bool) -> None:
    """S18: by App Engine's own rules, asked for by profile or runtime, ssl is there only where it is listed."""
    service = read(text)
    assert (service.has_original_rules, service.has_ssl) == (original, ssl)


@pytest.mark.parametrize(
    ("command", "script"),
    [
        ("gunicorn main:app", "main:app"),
        ("gunicorn -b :$PORT --workers 2 a.b:c.d", "a.b:c.d"),
        ("uvicorn web:application --host 0.0.0.0 --port $PORT", "web:application"),
        ("python -m gunicorn -k uvicorn.workers.UvicornWorker web:app", "web:app"),
    ],
)
def test_entrypoints(command: str, script: str) -> None:
    """The app object is found in the command that would serve it."""
    assert read(f"entrypoint: '{command}'").handlers == (Handler("/.*", script),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("service: 3", "app.yaml: service: takes text in quotes"),
        ("service: Back", 'service: "Back" is not a name for a service'),
        ("service: a\nmodule: b", 'module: "b" is not "a"'),
        ("application: s~news", "application: "),
        ("runtime: nodejs20", "outgate dev runs Python"),
        ("entrypoint: python main.py", "entrypoint: names no app"),
        ("entrypoint: 'gunicorn \"main:app'", "entrypoint: No closing quotation"),
        ("entrypoint: gunicorn 'main:make()'", "entrypoint: names no app"),
        ("handlers: {url: /}", "handlers: takes a list"),
        ("handlers: [/.*]", "handlers[0]: takes a table"),
        ("handlers: [{script: auto}]", "handlers[0]"),
        ("handlers: [{url: '/(', script: auto}]", "handlers[0].url"),
        ("handlers: [{url: x, script: auto}]", "does not begin with /"),
        ("handlers: [{url: /, script: _go_app}]", 'script: "_go_app" is not a Python app'),
        ("handlers: [{url: /, script: a-b.py}]", "is not a Python app"),
        ("env_variables: [A]", "env_variables: takes a table"),
        ("env_variables: {A: [1]}", "env_variables"),
        ("env_variables: {A: true}", 'write "true" in quotes'),
        ("env_variables: {A B: x}", "is not a name for a variable"),
        ("env_variables: {OUTGATE_SOCKET: x}", "is set by the server"),
        ('env_variables: {A: "x\\0y"}', "NUL"),
        ("libraries: [ssl]", "libraries"),
        ("libraries: [{version: latest}]", "libraries[0]"),
        ("instances: 0", "from 1 to 20"),
        ("instances: 21", "from 1 to 20"),
        ("instances: many", "instances: takes a whole number"),
        ("manual_scaling: {instances: -1}", "manual_scaling.instances"),
        ("instances: 2\nmanual_scaling: {instances: 3}", "2 is not 3"),
        ("outgate: [allow]", "outgate: takes a table"),
        ("outgate: {uid: [0]}", "outgate.uid: says who a program is"),
        ("outgate: {socket: /x}", "outgate.socket"),
        ("outgate: {tasks: [a]}", "outgate.tasks: takes a table"),
        ("outgate: {tasks: {a b: c}}", '"a b" is not a name for a queue'),
        ("outgate: {tasks: {a: C}}", '"C" is not a name for a service'),
    ],
)
def test_what_is_refused_and_where(text: str, says: str) -> None:
    """A wrong value is refused with the file, the place in it, and a hint."""
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert str(caught.value).startswith("app.yaml")
    assert says in str(caught.value)


def test_unknown_keys_are_named_with_the_near_one() -> None:
    """A key that is not known is read over, and said so; one that is nearly known says which was meant."""
    assert read("handlrs: []\nquite_other: 1").ignored == (
        "handlrs is no key that is known; did you mean handlers?",
        "quite_other is no key that is known",
    )


def test_a_bare_folder(tmp_path: Path) -> None:
    """A folder with a main.py is a service; one without has the words for it."""
    with pytest.raises(ConfigError, match=r"neither app.yaml nor"):
        appyaml.bare(str(tmp_path))
    (tmp_path / "main.py").touch()
    service = appyaml.bare(str(tmp_path))
    assert service.folder == str(tmp_path)
    assert service.handlers == (Handler("/.*", "main:app"),)


_KEYS = st.sampled_from([*appyaml._Tables.__struct_fields__, "threadsafe", "version", "x"])
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["url", "script", "login", "name", "instances", "tasks", "allow", "static_dir", "A"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(_KEYS, _VALUES, max_size=6))
def test_any_values_are_a_service_or_a_complaint(table: dict[str, Any]) -> None:
    """Whatever stands behind the keys, it is a service that could run, or one ConfigError that begins with the file."""
    try:
        service = appyaml.of_table(table, "app.yaml")
    except ConfigError as error:
        complaint = str(error)
    else:
        complaint = "app.yaml"
        assert 1 <= service.instances <= appyaml.MAX_INSTANCES
        assert service.handlers
        assert all(isinstance(value, str) for value in service.env.values())
    assert complaint.startswith("app.yaml")
