"""How quotas stand in the configuration, and what a wrong one is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from outgate.core.quota.quotas import APP_ENGINE, CUT, DAY, DEFAULT, DELAY, MINUTE, WARN, Quota
from outgate.errors import ConfigError
from outgate.gate.configuration.config import AppSettings, default_settings, load, reload

APP = "version = 1\n[apps.web]\nuid = [1000]\nbilling = true\n"


def read(folder: Path, text: str) -> AppSettings:
    """Return the app of a configuration."""
    path = folder / "outgate.toml"
    path.write_text(text)
    path.chmod(0o600)
    return load(str(path)).apps["web"]


def test_every_form_of_a_quota(tmp_path: Path) -> None:
    """A limit is a number or text; what is said of one window comes before what is said of the resource."""
    app = read(
        tmp_path,
        APP
        + """
        [apps.web.quotas]
        bytes_sent = { day = "20 GB", minute = { limit = "113 MB", over = "cut" }, over = "warn", warn_at = 0.5 }
        look_ups = { minute = { limit = 100, warn_at = 1 } }
        connect = { day = 864_000 }
        """,
    )
    assert app.quotas == (
        Quota("connect", DAY, 864_000, CUT, 0.8),
        Quota("connect", MINUTE, 60_000, CUT, 0.8),
        Quota("look_ups", MINUTE, 100, CUT, 1.0),
        Quota("bytes_sent", DAY, 20 * 10**9, WARN, 0.5),
        Quota("bytes_sent", MINUTE, 113 * 10**6, CUT, 0.5),
    )


def test_the_defaults(tmp_path: Path) -> None:
    """Without the key there is the default quota, and "unlimited" lifts it; of bytes a minute delays and a day cuts."""
    assert read(tmp_path, APP).quotas == default_settings(1, environ={}).apps["default"].quotas == DEFAULT
    assert read(tmp_path, APP + 'quotas = { connect = { minute = "unlimited" } }').quotas == ()
    quotas = read(tmp_path, APP + 'quotas.bytes_received = { day = "1 GB", minute = "1 MB" }').quotas
    assert [(quota.name, quota.over) for quota in quotas[1:]] == [
        ("bytes_received.day", CUT),
        ("bytes_received.minute", DELAY),
    ]


def test_the_profile_has_quotas_and_a_zone_of_its_own(tmp_path: Path) -> None:
    """S7: the original's fourteen, by its days; what the file says of one of them, or of the zone, comes first."""
    original = APP + 'profile = "app-engine"\n'
    app = read(tmp_path, original)
    assert (app.quotas, app.zone, app.idle_reclaim) == (APP_ENGINE, "America/Los_Angeles", "always")
    app = read(tmp_path, original + 'idle_reclaim = "pressure"\nquotas = { bind = { day = "unlimited", minute = 5 } }')
    assert app.idle_reclaim == "pressure"
    assert [quota for quota in app.quotas if quota not in APP_ENGINE] == [Quota("bind", MINUTE, 5, CUT)]
    assert len(app.quotas) == len(APP_ENGINE) - 1
    assert read(tmp_path, original + '[gate]\nzone = "UTC"').zone == "UTC"
    assert read(tmp_path, APP).zone == "UTC"


def test_zone_command_and_state(tmp_path: Path) -> None:
    """The three keys of the gate are read; zone and command follow a reload, the folder a start."""
    path = tmp_path / "outgate.toml"
    path.write_text(APP + '[gate]\nzone = "Europe/Berlin"\nwarn_command = ["/bin/tell", "-x"]\nstate = "kept"\n')
    path.chmod(0o600)
    before = load(str(path))
    assert (before.gate.zone, before.gate.warn_command) == ("Europe/Berlin", ("/bin/tell", "-x"))
    assert before.gate.state == str(tmp_path / "kept")
    path.write_text(APP + '[gate]\nstate = "elsewhere"\n')
    after = reload(before)
    assert (after.gate.zone, after.gate.warn_command, after.gate.state) == ("UTC", (), before.gate.state)
    assert [warning.place for warning in after.warnings] == ["gate.state"]


def test_a_users_gate_keeps_its_state_with_the_user() -> None:
    """Without the key the folder is root's or below XDG_STATE_HOME."""
    assert default_settings(0, environ={}).gate.state == "/var/lib/outgate"
    assert default_settings(7, environ={"XDG_STATE_HOME": "/home/x/s"}).gate.state == "/home/x/s/outgate"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quotas = 5", "quotas: takes a table, not a whole number"),
        ("quotas = { conect = { minute = 5 } }", 'quotas.conect: unknown key; did you mean "connect"?'),
        ("quotas = { connect = 5 }", "quotas.connect: says no window; write connect = { minute = 5 }, or day"),
        ("quotas = { connect = {} }", "quotas.connect: says no limit; write connect = { minute = 60000 }, or day"),
        (
            "quotas = { connect = { hour = 5 } }",
            "quotas.connect.hour: unknown key; known are day, minute, over, warn_at",
        ),
        ('quotas = { connect = { over = "warn" } }', "quotas.connect: says no limit"),
        ("quotas = { connect = { day = -1 } }", "quotas.connect.day: -1 is no limit; write 60000, or"),
        (
            "quotas = { connect = { day = true } }",
            "quotas.connect.day: takes a whole number or text in quotes, not true",
        ),
        (
            "quotas = { connect = { day = 1.5 } }",
            "quotas.connect.day: takes a whole number or text in quotes, not a num",
        ),
        (
            'quotas = { connect = { day = "5 MB" } }',
            'quotas.connect.day: "5 MB" is no limit; write 60000, or "unlimited"',
        ),
        (
            'quotas = { bytes_sent = { day = "5 mb" } }',
            'quotas.bytes_sent.day: "5 mb" is no limit; write "20 GB", "113',
        ),
        ("quotas = { connect = { day = {} } }", "quotas.connect.day: says no limit; write limit = 60000"),
        ('quotas = { connect = { day = { limit = "x" } } }', 'quotas.connect.day.limit: "x" is no limit'),
        (
            'quotas = { connect = { day = 5, over = "delay" } }',
            'quotas.connect.over: only bytes can be delayed, not connect; "cut" refuses what is above the limit',
        ),
        (
            'quotas = { bytes_sent = { day = { limit = 5, over = "stop" } } }',
            'quotas.bytes_sent.day.over: "stop" is not a value it takes; one of "delay", "cut", "warn"',
        ),
        (
            "quotas = { connect = { day = 5, over = 1 } }",
            "quotas.connect.over: takes text in quotes, not a whole number",
        ),
        (
            "quotas = { connect = { day = 5, warn_at = 0 } }",
            "quotas.connect.warn_at: 0 is no share of a quota; above 0",
        ),
        ("quotas = { connect = { day = 5, warn_at = 80 } }", "quotas.connect.warn_at: 80 is no share of a quota"),
        (
            'quotas = { connect = { day = 5, warn_at = "x" } }',
            "quotas.connect.warn_at: takes a whole number or a number",
        ),
    ],
)
def test_a_wrong_quota_is_named_with_its_place_and_a_way_out(tmp_path: Path, text: str, said: str) -> None:
    """What is no quota is refused with file, place, fault and hint."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, APP + text)
    assert str(caught.value).startswith(f"{tmp_path}/outgate.toml: apps.web.{said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            'zone = "Mars/Olympus"',
            'zone: "Mars/Olympus" is no time zone that this host knows; write one as in "UTC" or',
        ),
        ('zone = ""', 'zone: "" is no time zone'),
        ('zone = "../etc/passwd"', 'zone: "../etc/passwd" is no time zone'),
        ('zone = "Europe"', 'zone: "Europe" is no time zone'),
        ("zone = 1", "zone: takes text in quotes, not a whole number"),
        ('warn_command = "page"', "warn_command: takes a list, not text in quotes; lists stand in brackets"),
        ('warn_command = ["page"]', 'warn_command[0]: "page" is no absolute path; the gate looks in no PATH'),
        ('warn_command = ["/bin/x", "a\\u0000"]', "warn_command[1]: has a null character"),
        ('state = ""', "state: is not a path"),
    ],
)
def test_a_wrong_key_of_the_gate(tmp_path: Path, text: str, said: str) -> None:
    """A zone that nobody knows, and a command that cannot be run, are refused at load."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, f"{APP}[gate]\n{text}")
    assert str(caught.value).startswith(f"{tmp_path}/outgate.toml: gate.{said}")


def test_what_check_shows(tmp_path: Path) -> None:
    """``outgate check`` shows quotas in the form of the file, the default ones as defaults."""
    path = tmp_path / "outgate.toml"
    for text, value, is_default in (
        ("", "{ connect = { minute = 60000 } }", True),
        (
            'quotas.bytes_sent = { day = "20 GB", over = "warn" }',
            '{ connect = { minute = 60000 }, bytes_sent = { day = { limit = 20000000000, over = "warn" } } }',
            False,
        ),
    ):
        path.write_text(APP + text)
        path.chmod(0o600)
        (shown,) = [each for each in load(str(path)).explain() if each.key == "apps.web.quotas"]
        assert (shown.value, shown.default) == (value, is_default)
        path.write_text(f"{APP}quotas = {value}")
        assert load(str(path)).apps["web"].quotas == read(tmp_path, APP + text).quotas
