"""The configuration: what is read, what is refused and how, and what the sample says."""

import os
import pwd
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from outgate.core.policy.decide import Ask, Policy, decide
from outgate.errors import ConfigError
from outgate.gate.configuration.config import KEYS, AppSettings, Settings, default_settings, load, reload
from outgate.gate.configuration.keys import CHOICES
from outgate.gate.configuration.places import toml
from outgate.gate.configuration.tables import AppTable, GateTable

ETC = Path(__file__).parents[2] / "etc"
WEB = "version = 1\n[apps.web]\nuid = [1000]\nbilling = true\n"
ROOT = pwd.getpwuid(0).pw_name


@pytest.fixture
def write(tmp_path):
    """Write a configuration and return its path."""

    def _write(content):
        path = tmp_path / "outgate.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o600)
        return str(path)

    return _write


def decision(app, address):
    """Return the decision of an app's policy on a TCP connect to port 443."""
    return decide(app.policy, Ask(app.name, "tcp", address, address, 443))


def fault(path, **options):
    """Return what load says against a file, less the file's name, which must come first."""
    with pytest.raises(ConfigError) as caught:
        load(path, **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "no traceback of ours is shown"
    return text.removeprefix(f"{path}: ")


def test_every_key_of_an_app_is_read(write):
    """Each key of an app arrives in its settings as written."""
    settings = load(
        write(
            f"""
            version = 1
            [groups]
            own = ["198.51.100.0/24"]
            partners = ["9.9.10.0/28"]
            [apps."web.v2"]
            uid = [1000, {toml(ROOT)}, 0]
            gid = [50]
            billing = false
            trusted = true
            allow = ["public:443", "partners"]
            deny = ["8.8.8.8", {{ rule = "9.9.9.9", mode = "report" }}]
            except = ["10.2.0.0/16:5432"]
            mode = "report"
            path = "direct"
            open_sockets = 12
            listen = "none"
            profile = "default"
            """
        ),
        number=7,
    )
    app = settings.apps["web.v2"]
    assert (app.name, app.uid, app.gid) == ("web.v2", (1000, 0), (50,))
    assert (app.billing, app.trusted, app.mode, app.path, app.open_sockets) == (False, True, "report", "direct", 12)
    assert app.allow == ("public:443", "partners")
    assert app.deny == ("8.8.8.8", {"rule": "9.9.9.9", "mode": "report"})
    assert app.except_ == ("10.2.0.0/16:5432",)
    assert app.policy.number == settings.number == 7
    assert [rule.text for rule in app.policy.except_] == ["10.2.0.0/16:5432"]
    assert app.policy.except_[0].place == 'apps."web.v2".except[0]'
    assert settings.groups == {"own": ("198.51.100.0/24",), "partners": ("9.9.10.0/28",)}
    assert settings.warnings == ()


def test_defaults_are_those_of_the_table(write):
    """An app that says only what it must has the default of the table in every other key."""
    settings = load(write(WEB), environ={}, uid=0)
    by_key = {setting.key: setting for setting in settings.explain()}
    for name, key in KEYS.items():
        if name.startswith("apps.NAME.") and name not in ("apps.NAME.uid", "apps.NAME.billing"):
            assert by_key[name.replace("NAME", "web")].value == toml(key.default)
            assert by_key[name.replace("NAME", "web")].default
        elif name.startswith("gate."):
            assert by_key[name].value == toml(key.default), "what is shown is what a gate of root's has"


def test_idle_sockets_are_reclaimed_under_pressure_unless_the_app_says_always(write):
    """The key has two words, is "pressure" by default, and a wrong word is answered with the nearest."""
    assert load(write(WEB)).apps["web"].idle_reclaim == "pressure"
    assert load(write(WEB + 'idle_reclaim = "always"')).apps["web"].idle_reclaim == "always"
    with pytest.raises(ConfigError, match=r'apps\.web\.idle_reclaim: "allways" .*; did you mean "always"\?'):
        load(write(WEB + 'idle_reclaim = "allways"'))


def test_reasons_are_full_for_those_who_are_trusted(write):
    """Without the key a trusted app is told all and another little, which check shows as defaults; the key decides."""
    for trusted, key, reasons, is_default in (
        ("true", "", "full", True),
        ("false", "", "brief", True),
        ("true", 'reasons = "brief"', "brief", False),
        ("false", 'reasons = "full"', "full", False),
    ):
        settings = load(write(f"version = 1\n[apps.web]\nuid = [7]\nbilling = true\ntrusted = {trusted}\n{key}"))
        assert settings.apps["web"].reasons == reasons
        (shown,) = [each for each in settings.explain() if each.key == "apps.web.reasons"]
        assert (shown.value, shown.default) == (f'"{reasons}"', is_default)
    with pytest.raises(
        ConfigError, match=r'apps\.web\.reasons: "long" is not a value it takes; one of "full", "brief"'
    ):
        load(write(WEB + 'reasons = "long"'))


def test_names_limit_look_ups(write):
    """A list of patterns limits look-ups, an empty one allows none of its own, and "*" or no list any."""
    for text, expected in (
        ("", None),
        ('names = ["*"]', None),
        ('names = ["*", "db.corp"]', None),
        ("names = []", ()),
        ('names = ["DB.corp.", "*.example.com"]', ("db.corp", "*.example.com")),
    ):
        names = load(write(WEB + text)).apps["web"].policy.names
        assert (None if names is None else tuple(map(str, names))) == expected
    with pytest.raises(ConfigError, match=r"apps\.web\.names\[1\]: "):
        load(write(WEB + 'names = ["db.corp", "10.0.0.1"]'))


def test_types_and_table_have_the_same_keys():
    """No key is read that the table does not describe, and none described that is not read."""
    assert {f"gate.{name}" for name in GateTable.__struct_encode_fields__} == {k for k in KEYS if k.startswith("gate.")}
    assert {f"apps.NAME.{name}" for name in AppTable.__struct_encode_fields__} == {
        k for k in KEYS if k.startswith("apps.")
    }
    defaults = {key.rpartition(".")[2]: row.default for key, row in KEYS.items()}
    assert all(defaults[name] in words for name, words in CHOICES.items() if name in defaults)


def test_a_gate_of_a_user_has_private_defaults(write):
    """A gate that is not root's keeps its socket and log to its user."""
    settings = load(write(WEB), environ={"XDG_RUNTIME_DIR": "/run/user/5", "XDG_STATE_HOME": "/state"}, uid=5)
    assert settings.gate.socket == "/run/user/5/outgate/gate.sock"
    assert settings.gate.socket_mode == 0o600
    assert settings.gate.log == "/state/outgate/decisions.jsonl"


def test_paths_start_at_the_folder_of_the_file(write, tmp_path):
    """A path that is not absolute is below the file's folder; - stays standard output."""
    gate = load(write(WEB + '[gate]\nsocket = "s/gate.sock"\nlog = "log.jsonl"\nsocket_mode = "0660"')).gate
    assert (gate.socket, gate.log) == (f"{tmp_path}/s/gate.sock", f"{tmp_path}/log.jsonl")
    assert gate.socket_mode == 0o660
    gate = load(write(WEB + '[gate]\nlog = "-"\nlog_allowed = false')).gate
    assert (gate.log, gate.log_allowed) == ("-", False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "version: missing; begin the file with: version = 1"),
        ("version = 2\nunknown = 1", "version: 2 is newer than this gate reads, which is 1; upgrade"),
        ("version = 0", "version: there was never a version 0"),
        ('version = "1"', "version: takes a whole number, not text in quotes"),
        ("version = true", "version: takes a whole number, not true or false"),
        ("version = 1.0", "version: takes a whole number, not a number with a point"),
        ("version = 1\ngroup = 1", 'group: unknown key; did you mean "groups"?'),
        ("version = 1\ngate = 1", "gate: takes a table, not a whole number"),
        ("version = 1\n[gate]\nsocktet = 1", 'gate.socktet: unknown key; did you mean "socket"?'),
        ('version = 1\n[gate]\nsocket_mode = "999"', 'gate.socket_mode: "999" is not a permission; write it in octal'),
        ("version = 1\n[gate]\nsocket_mode = 0o666", "gate.socket_mode: takes text in quotes, not a whole number"),
        ('version = 1\n[gate]\nsocket = ""', "gate.socket: is not a path"),
        ('version = 1\n[gate]\nlog = "a\\u0000"', "gate.log: is not a path"),
        (f'version = 1\n[gate]\nsocket = "/{"x" * 107}"', f"gate.socket: /{'x' * 107} is longer than the 107 bytes"),
        ("version = 1\napps = []", "apps: takes a table, not a list"),
        ("version = 1\n[apps]\nweb = 1", "apps.web: takes a table, not a whole number"),
        ("version = 1\n[apps.web]\nuid = [1]", "apps.web.billing: missing: a configuration says which apps have"),
        ("version = 1\n[apps.web]\nbilling = 1", "apps.web.billing: takes true or false, not a whole number"),
        ("version = 1\n[apps.web.v2]\n", 'apps.web.v2: unknown key; if the app is named web.v2, write [apps."web.v2"]'),
        ("version = 1\n[apps.Web]\n", "apps.Web: 'Web' is not a name for an app; lower-case letters"),
        ('version = 1\n[apps."-x"]\n', "apps.-x: '-x' is not a name for an app"),
        ('version = 1\n[apps."a\\nb"]\n', "apps.\"a\\nb\": 'a\\nb' is not a name for an app"),
        (f"version = 1\n[apps.{'x' * 64}]\n", f"apps.{'x' * 64}: '{'x' * 64}' is not a name for an app"),
        (WEB + "alow = []", 'apps.web.alow: unknown key; did you mean "allow"?'),
        (WEB + "open-sockets = 1", 'apps.web.open-sockets: unknown key; did you mean "open_sockets"?'),
        (WEB + "zzzzzz = 1", "apps.web.zzzzzz: unknown key; known are uid, gid, socket, token_file"),
        (WEB + '"\\u001b[31m" = 1', 'apps.web."\\u001b[31m": unknown key'),
        (WEB + 'allow = "public"', "apps.web.allow: takes a list, not text in quotes; lists stand in brackets"),
        (WEB + "allow = [1]", "apps.web.allow[0]: takes text in quotes, not a whole number"),
        (WEB + 'allow = ["public", "pubic"]', 'apps.web.allow[1]: "pubic": there is no group "pubic"; did you mean'),
        (WEB + "deny = [1]", "apps.web.deny[0]: takes text in quotes or a table, not a whole number"),
        (WEB + 'deny = [{rule = "1.1.1.1", mood = 1}]', "apps.web.deny[0]: unknown key 'mood'"),
        (WEB + 'except = [""]', "apps.web.except[0]: '' is not a rule"),
        (WEB + 'mode = "repot"', 'apps.web.mode: "repot" is not a value it takes; did you mean "report"?'),
        (WEB + 'mode = "x"', 'apps.web.mode: "x" is not a value it takes; one of "enforce", "report"'),
        (WEB + 'path = "direct"', 'apps.web.path: "direct" gives the kernel\'s own sockets to an app that is not'),
        (WEB + 'listen = "loopback"', "apps.web.listen: listening on loopback comes with a later version"),
        (
            WEB + 'profile = "appengine"',
            'apps.web.profile: "appengine" is not a value it takes; did you mean "app-engine"?',
        ),
        (WEB + "open_sockets = 0", "apps.web.open_sockets: 0 is too few"),
        (WEB + "open_sockets = true", "apps.web.open_sockets: takes a whole number, not true or false"),
        (WEB + "gid = 5", "apps.web.gid: takes a list, not a whole number"),
        (WEB + "gid = [true]", "apps.web.gid[0]: takes a whole number or text in quotes, not true or false"),
        (WEB + "gid = [-1]", "apps.web.gid[0]: -1 is not the number of a group"),
        (WEB + "gid = [4294967295]", "apps.web.gid[0]: 4294967295 is not the number of a group"),
        (WEB + 'gid = ["no such group"]', "apps.web.gid[0]: this host has no group 'no such group'; make it first"),
        (WEB + 'gid = ["12"]', "apps.web.gid[0]: this host has no group '12'; write the number without quotes"),
        (WEB + 'gid = ["a\\u0000"]', "apps.web.gid[0]: this host has no group 'a\\x00'"),
        (WEB + "[apps.b]\nbilling = true\nuid = [7, 1000]", "apps.b.uid: 1000 is app 'web' already"),
        (
            WEB + "gid = [5]\n[apps.b]\nbilling = true\ngid = [5]",
            "apps.b.gid: 5 is app 'web' already; a program is one app",
        ),
        ("version = 1\n[groups]\nprivate = []", "groups.private: 'private' is a built-in group"),
        ("version = 1\n[groups]\nBad = []", "groups.Bad: 'Bad' cannot name a group"),
        ('version = 1\n[groups]\nown = "10.0.0.0/8"', "groups.own: takes a list, not text in quotes"),
        ('version = 1\n[groups]\nown = ["10.0.0.0/33"]', "groups.own[0]: '10.0.0.0/33' is neither an address nor"),
        ("version = 1\nversion = 1", "end of document: Cannot overwrite a value; the key is there twice"),
        ("[gate]\n[gate]", "line 2, column 6: Cannot declare ('gate',) twice; the table is there twice"),
        ("version", "end of document: Expected '=' after a key in a key/value pair; a line is: key = value"),
        ("version = yes", 'line 1, column 11: Invalid value; text stands in quotes: key = "text"'),
        ("\0", "line 1, column 1: Invalid statement; a line is"),
        ("version = " + "[" * 5000, "lists or tables stand too deep in one another"),
        ("version = " + "9" * 5000, "a number in it is too long"),
        (b"version = 1\n\xff", "line 2: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"\xff\xfev\x00", "line 1: byte 0xff is not UTF-8"),
    ],
)
def test_a_fault_is_named_with_its_place_and_a_way_out(write, text, said):
    """A configuration that cannot be used is refused with file, place, fault and hint."""
    assert fault(write(text)).startswith(said)


def test_a_file_that_cannot_be_read_is_named(tmp_path, write):
    """A missing file, a folder, a device without end and a name with a NUL are refused without a traceback."""
    assert fault(str(tmp_path / "none.toml")).startswith("there is no such file; etc/outgate.minimal.toml")
    assert fault(str(tmp_path)) == "is a folder; name the file in it"
    assert fault("/dev/zero").startswith("is larger than 1 MiB")
    assert fault("a\0b").startswith("cannot be read")


def test_a_refused_permission_is_named(write, monkeypatch):
    """Whatever EACCES came from, the error names the gate's uid and what to do."""

    def refuse(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    path = write(WEB)
    monkeypatch.setattr("builtins.open", refuse)
    assert fault(path).endswith("may not read it; give the gate's user the right to")


def test_a_byte_order_mark_is_no_fault(write):
    """A file that an editor began with a byte order mark is read like any other."""
    assert "web" in load(write(b"\xef\xbb\xbf" + WEB.encode())).apps


def test_a_program_is_found_by_user_then_group(write):
    """The app that lists the user comes before one that lists the group, and others have none."""
    settings = load(
        write("version = 1\n[apps.a]\ngid = [50]\nbilling = true\n[apps.b]\nuid = [1, 2]\nbilling = true\n")
    )
    assert settings.find(2, 50) is settings.apps["b"]
    assert settings.find(3, 50) is settings.apps["a"]
    assert settings.find(3, 51) is None


def test_what_is_probably_not_meant_is_a_warning(write):
    """A file that works but will disappoint is taken, with warnings that name place and hint."""
    assert [str(w) for w in load(write("version = 1")).warnings] == [
        "apps: there is no app, so every program is refused; begin one with [apps.NAME]"
    ]
    path = write('version = 1\n[apps.web]\nbilling = true\nexcept = ["*"]')
    os.chmod(path, 0o602)
    warnings = load(path).warnings
    assert [w.place for w in warnings] == [path, "apps.web", "apps.web.except[0]"]
    assert all(w.hint for w in warnings)


def test_the_hosts_addresses_are_own(write):
    """Addresses of the host itself join the operator's ranges in every policy, also after a reload."""
    settings = load(write(WEB + '[groups]\nown = ["9.9.9.0/24"]'), host=["8.8.4.4"])
    for each in (settings, reload(settings)):
        app = each.apps["web"]
        assert [decision(app, address).rule for address in ("8.8.4.4", "9.9.9.7", "8.8.8.8")] == [
            "own",
            "own",
            "public",
        ]


def test_reload_counts_up_and_keeps_what_needs_a_start(write):
    """A reload takes the new rules under the next number; socket and log stay, and a warning says so."""
    path = write(WEB)
    before = load(path, environ={}, uid=0)
    write(WEB.replace("1000", "1001") + 'allow = ["public:443"]\n[gate]\nlog = "-"\nlog_allowed = false')
    after = reload(before)
    assert (before.number, after.number, after.apps["web"].policy.number) == (1, 2, 2)
    assert (after.apps["web"].uid, after.apps["web"].allow) == ((1001,), ("public:443",))
    assert (after.gate.log, after.gate.log_allowed) == (before.gate.log, False)
    assert "gate.log" in [w.place for w in after.warnings]
    assert after.source == before.source


def test_a_reload_that_fails_leaves_the_old_one(write):
    """A file with a fault raises, and the settings in force are untouched."""
    before = load(write(WEB))
    write("version = 1\nx")
    with pytest.raises(ConfigError):
        reload(before)
    assert before.number == 1
    assert list(before.apps) == ["web"]


def test_settings_are_frozen(write):
    """Nobody can change settings or their maps in place."""
    settings = load(write(WEB))
    with pytest.raises(FrozenInstanceError):
        settings.number = 2
    with pytest.raises(TypeError):
        settings.apps["b"] = settings.apps["web"]


def test_the_built_in_default_is_one_trusted_app_of_the_user():
    """Without a configuration there is the app default: billed, trusted, enforced, for one uid and nobody else."""
    settings = default_settings(1000, environ={"HOME": "/home/x"})
    app = settings.find(1000, 5)
    assert app is settings.apps["default"]
    assert settings.find(1001, 1000) is None
    assert (app.billing, app.trusted, app.mode, app.path, app.listen) == (True, True, "enforce", "auto", "none")
    assert app.allow == ("public",)
    assert settings.source == "built-in default"
    assert settings.path is None
    assert settings.gate.socket == "/tmp/outgate-1000/gate.sock"
    assert settings.gate.socket_mode == 0o600
    assert reload(settings).apps["default"].policy.number == 2


def test_the_development_policy_opens_loopback_and_nothing_else():
    """With dev loopback may be connected to and listened on; private addresses stay denied."""
    app = default_settings(1000, dev=True, environ={}).apps["default"]
    assert app.listen == "loopback"
    verdicts = [decision(app, address).verdict for address in ("127.0.0.1", "::1", "10.0.0.1", "8.8.8.8")]
    assert verdicts == ["allow", "allow", "deny", "allow"]
    assert decision(default_settings(1000, environ={}).apps["default"], "127.0.0.1").denied


def test_rules_of_the_command_line_are_checked_like_those_of_a_file():
    """A rule given to run stands in for the default, and a wrong one is refused with its place."""
    settings = default_settings(1, allow=["public:443"], deny=["1.1.1.1"], except_=["10.0.0.1:80"], environ={})
    app = settings.apps["default"]
    assert (app.allow, app.deny, app.except_) == (("public:443",), ("1.1.1.1",), ("10.0.0.1:80",))
    with pytest.raises(ConfigError, match=r"^command line: apps\.default\.allow\[0\]: "):
        default_settings(1, allow=["pubic"], environ={})


def test_the_sample_has_every_key_commented_at_its_default(tmp_path):
    """The sample works as it is; with every comment mark taken away it has every key, at its default."""
    sample = ETC / "outgate.sample.toml"
    assert isinstance(load(str(sample)), Settings)
    text, count = re.subn(r"(?m)^#(?=[a-z_]+ = |\[)", "", sample.read_text())
    assert count == len(KEYS) + 1, "every key but version, and the headers of the app and the fleet"
    opened = tmp_path / "opened.toml"
    opened.write_text(text)
    settings = load(str(opened), environ={}, uid=0)
    assert [w.text for w in settings.warnings] == ["no program is this app"]
    rows = [setting.row for setting in settings.explain()]
    assert rows == list(KEYS.values())
    assert [s.value for s in settings.explain()] == [toml(row.default) for row in rows]


def test_the_minimal_file_works_without_a_warning():
    """The minimal configuration makes one trusted app and gives no reason to warn."""
    settings = load(str(ETC / "outgate.minimal.toml"))
    assert [(app.name, app.uid, app.trusted) for app in settings.apps.values()] == [("web", (1000,), True)]
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("path", "trusted", "sealed", "relayed"),
    [
        ("auto", False, False, True),
        ("auto", False, True, False),
        ("auto", True, False, False),
        ("relay", True, True, True),
        ("direct", True, False, False),
    ],
)
def test_who_is_not_trusted_holds_only_sealed_sockets(path: str, trusted: bool, sealed: bool, relayed: bool) -> None:
    """``auto`` is direct for who is trusted, or could turn no socket; ``relay`` and ``direct`` are what they say."""
    app = AppSettings("web", Policy.build("web", allow=()), trusted=trusted, path=path)
    assert app.is_relayed(sealed) == relayed
