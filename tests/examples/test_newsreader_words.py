"""The news reader says in words what went wrong, and takes for a server or a group only what could be one."""

from __future__ import annotations

import errno
import pickle
import socket
import sqlite3
import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # nntplib says so in 3.11 and 3.12
    import nntplib

import sessions
from sessions import Server
from words import explain

from outgate import errors
from outgate.dev import taskqueue


def _denied() -> errors.PolicyDenied:
    """Return a refusal as a program gets it."""
    facts = {
        **{"app": "news", "host": "db.corp", "port": 119, "transport": "tcp", "what": "db.corp is 10.0.0.5 (private)"},
        **{"rule": "non-public", "permit": "db.corp:119", "hint": ""},
    }
    made = errors.build("policy-denied", facts)
    assert isinstance(made, errors.PolicyDenied)
    return made


@pytest.mark.parametrize(
    ("error", "says", "cure"),
    [
        (_denied(), "The policy of this app refuses news.test. news → db.corp:119", 'except = ["db.corp:119"]'),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "No news server is found", "Check the name"),
        (TimeoutError("timed out"), "does not answer", "later"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "Nothing listens at news.test", "119"),
        (ConnectionResetError(errno.ECONNRESET, "reset"), "has ended the connection", "Try again"),
        (BrokenPipeError(errno.EPIPE, "pipe"), "has ended the connection", "Try again"),
        (EOFError(), "has ended the connection", "Try again"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "cannot be reached: No route to host", ""),
        (
            taskqueue.QueueUnavailableError("there is no task queue here"),
            "cannot be passed on. there is no",
            "outgate dev",
        ),
        (sqlite3.OperationalError("disk is full"), "cannot be kept: disk is full", ""),
        (nntplib.NNTPTemporaryError("411 no such group"), "no group of that name", "list"),
        (nntplib.NNTPTemporaryError("480 who are you"), "wants a login", ""),
        (nntplib.NNTPPermanentError("502 not for \x1b[31myou"), "news.test refuses: 502 not for ?[31myou", ""),
        (nntplib.NNTPProtocolError("HTTP/1.1 400"), "does not speak as a news server does: HTTP/1.1 400", ""),
        (nntplib.NNTPDataError("line too long"), "does not speak as a news server does: line too long", ""),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "wrong"), "does not speak as a news server does", ""),
        (IndexError(), "does not speak as a news server does: IndexError", ""),
    ],
)
def test_every_error_is_a_sentence(error: Exception, says: str, cure: str) -> None:
    """Whatever goes wrong with a server is said in a sentence that names it, with a cure where one is known."""
    trouble = explain(error, "news.test")
    assert says in trouble.text
    assert cure in trouble.cure
    assert bool(cure) == bool(trouble.cure)


def test_a_refusal_says_the_same_after_a_journey() -> None:
    """A refusal that was pickled, as a task's failure may be, is said in the same words."""
    assert explain(pickle.loads(pickle.dumps(_denied())), "news.test") == explain(_denied(), "news.test")


@pytest.mark.parametrize(
    ("text", "server", "shown"),
    [
        ("news.example.com", ("news.example.com", 119), "news.example.com"),
        (" news.example.com:1119 ", ("news.example.com", 1119), "news.example.com:1119"),
        ("news.example.com:119", ("news.example.com", 119), "news.example.com"),
        ("[2001:db8::1]:120", ("2001:db8::1", 120), "[2001:db8::1]:120"),
        ("[2001:db8::1]", ("2001:db8::1", 119), "[2001:db8::1]"),
    ],
)
def test_servers(text: str, server: tuple[str, int], shown: str) -> None:
    """A server is a name or an address, with a port where it is not 119, and is shown as one would type it."""
    assert Server.of(text) == server
    assert str(Server.of(text)) == shown
    assert Server.of(shown) == server


@pytest.mark.parametrize("text", ["", "a b", "a\r\nQUIT", "x" * 201, "\x00", "a\u2028b", "a\u202eb"])
def test_what_is_no_group(text: str) -> None:
    """What would be another command to the server, or none at all, is no group."""
    with pytest.raises(sessions.Mistyped, match="one word"):
        sessions.word(text)


@pytest.mark.parametrize(
    ("line", "group"),
    [
        (b"a.group 7 3 y\r\n", ("a.group", 5)),
        (b"a.group 0000000000 0000000001 y\r\n", ("a.group", 0)),
        (b"a.gr\xc3\xbcppe 1 1 m\r\n", ("a.grüppe", 1)),
        (b"a.group 7\r\n", None),
        (b"a.group many few y\r\n", None),
        (b"\xe2\x80\xaeturned 1 1 y\r\n", None),
        (b"\r\n", None),
    ],
)
def test_lines_of_a_list(line: bytes, group: tuple[str, int] | None) -> None:
    """A line of a server's list is a group with so many articles; one that is none is passed over."""
    assert sessions.listed(line) == group
