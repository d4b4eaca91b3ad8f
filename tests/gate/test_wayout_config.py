"""Ways out in the configuration: what is read, what is refused and how, and what is never shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trustme

from outgate.core.wayout.choice import STRAIGHT
from outgate.core.wayout.proxy import Credentials
from outgate.errors import ConfigError
from outgate.gate.configuration.config import load

APP = 'version = 1\n[apps.web]\nuid = [1000]\nbilling = true\nsocket = "web.sock"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of credentials."""
    (tmp_path / "proxy.secret").write_text("gate:password of the gate\n")
    (tmp_path / "proxy.secret").chmod(0o600)
    return tmp_path


def read(folder: Path, text: str, **options: Any) -> Any:
    """Return the settings of a file that has this in its app."""
    path = folder / "outgate.toml"
    path.write_text(APP + text)
    path.chmod(0o600)
    return load(str(path), **options)


def fault(folder: Path, text: str) -> str:
    """Return what is said against such a file."""
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return str(caught.value).removeprefix(f"{folder}/outgate.toml: ")


WHOLE = """
via = "socks5h://proxy.corp:1081"
credentials = "proxy.secret"
source = "192.0.2.7"
ways = [
    { to = "10.0.0.0/8", via = "" },
    { to = "*.example.com:443", via = "http://[2001:db8::1]:3128", credentials = "proxy.secret" },
    { to = "partners", source = "2001:db8::7" },
]
[groups]
partners = ["9.9.9.0/24"]
"""


def test_every_key_is_read(folder: Path) -> None:
    """Each way has its proxy, its credentials and its source, and no other's."""
    app = read(folder, WHOLE).apps["web"]
    default, entries = app.out.default, [entry.way for entry in app.out.entries]
    assert (default.text, default.source) == ("socks5h://proxy.corp:1081", "192.0.2.7")
    assert default.via.credentials == Credentials(b"gate", b"password of the gate")
    assert entries[0] == STRAIGHT
    assert (entries[1].text, entries[1].source) == ("http://[2001:db8::1]:3128", "")
    assert entries[1].via.credentials == default.via.credentials
    assert (entries[2].via, entries[2].source) == (None, "2001:db8::7")
    assert app.credentials == str(folder / "proxy.secret")
    assert app.ways[1]["credentials"] == str(folder / "proxy.secret")


def test_a_password_is_never_shown(folder: Path) -> None:
    """What is printed of the settings names the file, and has nothing of what is in it."""
    settings = read(folder, WHOLE)
    shown = repr(settings) + "".join(map(str, settings.explain()))
    assert "proxy.secret" in shown
    assert "password of the gate" not in shown


def test_who_does_not_serve_reads_no_credentials(folder: Path) -> None:
    """As with tokens, a command that only looks need not be able to read them."""
    (folder / "proxy.secret").unlink()
    app = read(folder, WHOLE, reads_tokens=False).apps["web"]
    assert app.out.default.via.credentials is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('via = "ftp://proxy"', 'apps.web.via: "ftp://proxy" unknown scheme "ftp"; one of'),
        (
            'via = "https://proxy"\ntrusted = true\npath = "direct"',
            'apps.web.via: of TLS to a proxy the gate carries every byte, and path = "direct" leaves them to the kernel'
            "; leave path out, or write http:// and have stunnel",
        ),
        (
            'trusted = true\npath = "direct"\nways = [{ to = "*.corp", via = "https://proxy" }]',
            "apps.web.ways[0].via: of TLS to a proxy the gate carries every byte",
        ),
        (
            'via = "https://proxy"\nguard = true',
            "apps.web.via: of TLS to a proxy the gate carries every byte, and guarded programs have the kernel's own",
        ),
        ('via = "http://proxy"\nca = "ca.pem"', "apps.web.ca: there is no https:// that it could be for"),
        ('via = "https://p"\nca = "none"', "apps.web.ca: {folder}/none cannot be read: No such file"),
        ('via = "https://p"\nca = "proxy.secret"', "apps.web.ca: {folder}/proxy.secret holds no certificate: "),
        ('ways = [{ to = "*", via = "https://p", ca = "none" }]', "apps.web.ways[0].ca: {folder}/none cannot be read"),
        ('via = "http://u:hidden@proxy"', 'apps.web.via: "…" has credentials in it'),
        ("via = 1", "apps.web.via: takes text in quotes, not a whole number"),
        ('credentials = "proxy.secret"', "apps.web.credentials: there is no via that they could be for"),
        ('source = "eth0"', 'apps.web.source: "eth0" is not an address of this host'),
        ('via = "http://10.0.0.1"\nsource = "2001:db8::7"', "apps.web.source: nothing can go from 2001:db8::7 to http"),
        ('ways = [{ via = "" }]', "apps.web.ways[0]: a way says for which destinations it is"),
        ('ways = [{ to = "*" }]', "apps.web.ways[0]: says neither via nor source"),
        ('ways = [{ to = "*", vai = "" }]', 'apps.web.ways[0].vai: unknown key; did you mean "via"?'),
        ('ways = [{ to = "*", via = 1 }]', "apps.web.ways[0].via: takes text in quotes"),
        ('ways = [{ to = "loopbak", via = "" }]', 'apps.web.ways[0].to: "loopbak": there is no group "loopbak"'),
        ('ways = [{ to = "*", via = "x" }]', 'apps.web.ways[0].via: "x" is not the URL of a proxy'),
        ('via = "http://p"\ncredentials = "none"', "apps.web.credentials: {folder}/none cannot be read: No such file"),
        ('via = "http://p"\ncredentials = "."', "apps.web.credentials: {folder}/. is not a file"),
        ('guard = true\nvia = "http://p"', "apps.web.guard: guarded programs have the kernel's own sockets"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, text: str, says: str) -> None:
    """Each fault is said with its place and a way out, and no password with it."""
    said = fault(folder, text)
    assert said.startswith(says.replace("{folder}", str(folder)))
    assert "hidden" not in said


@pytest.mark.parametrize(
    ("mode", "content", "says"),
    [
        (0o604, b"a:b", "may be read by everybody"),
        (0o620, b"a:b", "may be changed by others than its owner"),
        (0o600, b"a", "holds no credentials; write one line, as in user:password"),
        (0o600, b"a:b\nc:d", "holds more than one line"),
        (0o600, b"a:" + b"b" * 2000, "is longer than 255 bytes"),
    ],
)
def test_a_file_with_credentials_is_private_and_one_line(folder: Path, mode: int, content: bytes, says: str) -> None:
    """What others may read or write, or what holds no credentials, is refused, with what to do."""
    (folder / "proxy.secret").write_bytes(content)
    (folder / "proxy.secret").chmod(mode)
    said = fault(folder, 'via = "http://p"\ncredentials = "proxy.secret"')
    assert said.startswith("apps.web.credentials: ")
    assert says in said
    assert "bbb" not in said


def test_a_fifo_holds_nobody(folder: Path) -> None:
    """What would block who reads it is refused at once."""
    os.mkfifo(folder / "fifo", 0o600)
    assert "is not a file" in fault(folder, 'via = "http://p"\ncredentials = "fifo"')


def test_a_source_that_the_host_does_not_have_is_doubted(folder: Path) -> None:
    """It may come later, so it is a warning, where the host's addresses are known."""
    doubts = read(folder, 'source = "192.0.2.7"', host=("10.0.0.1",)).warnings
    assert [(each.place, each.text) for each in doubts] == [("apps.web.source", "192.0.2.7 is no address of this host")]
    assert not read(folder, 'source = "192.0.2.7"', host=("192.0.2.7",)).warnings
    assert not read(folder, 'source = "192.0.2.7"').warnings


@pytest.mark.parametrize(
    ("text", "doubted"),
    [
        ('via = "socks5h://p"', ["apps.web.via"]),
        ('ways = [{ to = "*.corp", via = "http://p" }]', ["apps.web.ways[0].via"]),
        ('via = "socks5://p"', []),
        ('via = "socks5h://p"\ntrusted = true', []),
    ],
)
def test_names_of_programs_that_are_not_trusted_are_doubted(folder: Path, text: str, doubted: list[str]) -> None:
    """Who looks a name up is who can be lied to about it, and behind a proxy nobody judges the address."""
    assert [each.place for each in read(folder, text).warnings] == doubted


@pytest.mark.parametrize(
    ("text", "relayed", "guarding"),
    [
        ("", False, "may"),
        ('source = "192.0.2.7"', False, "may"),
        ('via = "http://p"', True, "never"),
        ('ways = [{ to = "*.corp", via = "http://p" }]', True, "never"),
        ('via = "http://p"\npath = "direct"', False, "may"),
    ],
)
def test_by_a_proxy_the_gate_carries(folder: Path, text: str, relayed: bool, guarding: str) -> None:
    """With "auto" whatever has a proxy among its ways is relayed, trusted or not, and cannot be guarded."""
    app = read(folder, f"trusted = true\n{text}").apps["web"]
    assert (app.is_relayed(), app.guarding) == (relayed, guarding)


def test_authorities_are_read_with_the_file(folder: Path) -> None:
    """The certificates of a ``ca`` are there when the configuration is, of an app and of each of its ways."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    app = read(
        folder,
        'via = "https://proxy.corp"\nca = "ca.pem"\n'
        'ways = [{ to = "*.corp", via = "https://other:8443" }, { to = "*.test", via = "https://p", ca = "ca.pem" }]',
    ).apps["web"]
    text = authority.cert_pem.bytes().decode()
    default, plain, own = (each.via for each in (app.out.default, *(entry.way for entry in app.out.entries)))
    assert default is not None
    assert (str(default), default.authorities, default.is_tls) == ("https://proxy.corp:443", text, True)
    assert plain is not None
    assert own is not None
    assert (plain.port, plain.authorities, own.authorities) == (8443, "", text)
    assert (app.ca, app.ways[1]["ca"]) == (str(folder / "ca.pem"), str(folder / "ca.pem"))
    assert app.is_relayed(is_held=True)
    (folder / "ca.pem").chmod(0o664)
    said = fault(folder, 'via = "https://p"\nca = "ca.pem"')
    assert "ca.pem may be changed by others than its owner; chmod 644" in said
