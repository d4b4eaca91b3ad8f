"""A console is opened by its token alone, from this machine's names alone, and by forms of its own pages alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.console.access import HEADERS, Access, is_local, new_token


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8470",
        "LOCALHOST:1",
        "127.0.0.1:65535",
        "127.8.9.1",
        "[::1]",
        "[::1]:80",
        "localhost.:80",
    ],
)
def test_names_of_this_machine(host: str) -> None:
    """Whoever asks for loopback, at whatever port it was forwarded to, is answered."""
    assert is_local(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.evil.example", "127.0.0.1:", "[::2]",
     "10.0.0.1", "localhost:80:80", "localhost:x", "127.0.0.1@evil.example", "0.0.0.0", "::1", "[::1", "localhost/"],
)  # fmt: skip
def test_other_names(host: str) -> None:
    """A page whose name resolves to this machine (DNS rebinding) sends that name, and is not answered."""
    assert not is_local(host)


@given(st.text())
def test_no_other_text_opens_it(shown: str) -> None:
    """Whatever is shown in place of token, cookie or proof is judged without a fault, and opens nothing."""
    access = Access("the-token")
    assert not access.has_token(shown)
    assert not access.has_session(shown)
    assert not access.may_change(shown, "localhost", None, None)


def test_what_is_derived_from_the_token() -> None:
    """Cookie and proof are not the token, differ from one another, and are another's for another token."""
    token = new_token()
    one, other = Access(token), Access(new_token())
    assert one.has_token(token)
    assert one.has_session(one.session)
    assert len({token, one.session, one.proof, other.session, other.proof}) == 5
    assert one.cookie != other.cookie
    assert not one.has_session(one.proof)
    assert not one.has_token(one.session)


@pytest.mark.parametrize(
    ("origin", "site", "may"),
    [
        (None, None, True),
        ("http://localhost:80", "same-origin", True),
        ("http://localhost:80", "none", True),
        ("http://localhost:81", "same-site", False),
        ("http://localhost:81", None, False),
        ("null", None, False),
        ("http://evil.example", "cross-site", False),
        (None, "cross-site", False),
    ],
)
def test_forms_of_other_pages(origin: str | None, site: str | None, may: bool) -> None:
    """A form that carries the proof changes something only from a page of the same origin."""
    access = Access("the-token")
    assert access.may_change(access.proof, "localhost:80", origin, site) is may


def test_scripts_are_our_own() -> None:
    """The policy of every page allows scripts and styles of this origin's files, and none in the page."""
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
