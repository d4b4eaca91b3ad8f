"""The table of errors: every row is an exception that tells its reason, its cure and its true errno, also pickled."""

import errno
import pickle
import socket
import string

import pytest

from outgate import errors
from outgate.errors import TABLE, GateError, Refusal, build, describe, urlfetch

#: Facts as the gate sends them: every refusal has its own here, and a new row needs one.
WAY = {"app": "blog", "host": "db.corp", "port": 5432, "via": "socks5h://proxy.corp:1080"}
SOURCE = {"app": "blog", "host": "db.corp", "port": 5432, "source": "192.0.2.7"}
FACTS = {
    "policy-denied": {
        "app": "blog",
        "host": "db.corp",
        "port": 5432,
        "transport": "tcp",
        "what": "db.corp is 10.0.0.5 (private)",
        "rule": "non-public",
        "permit": "db.corp:5432",
        "hint": "",
    },
    "policy-no-rule": {
        "app": "blog",
        "host": "192.0.43.8",
        "port": 80,
        "transport": "tcp",
        "what": "192.0.43.8 (public)",
        "permit": "192.0.43.8:80",
    },
    "policy-name": {
        "app": "blog",
        "host": "db.corp",
        "what": "db.corp is 127.0.0.1 (loopback)",
        "rule": "non-public",
        "permit": "127.0.0.1",
        "hint": " (by address: a name does not lift loopback)",
    },
    "policy-name-denied": {"app": "blog", "host": "db.corp", "rule": "*.corp", "permit": "db.corp"},
    "policy-name-no-rule": {"app": "blog", "host": "db.corp", "permit": "db.corp"},
    "policy-names": {"app": "blog", "host": "db.corp", "permit": "db.corp:5432"},
    "narrowed": {
        "app": "blog",
        "host": "192.0.43.8",
        "port": 80,
        "transport": "tcp",
        "what": "192.0.43.8 (public)",
        "limit": 'rule "public:80" (narrow.deny[0])',
        "change": 'leave out "public:80"',
    },
    "narrowed-name": {
        "app": "blog",
        "host": "db.corp",
        "limit": "it is not among the names that it left itself",
        "change": 'add "db.corp" to names',
    },
    "via-unreachable": {**WAY, "why": "Connection refused"},
    "via-timeout": {**WAY, "limit": 15.0},
    "via-tls": {**WAY, "why": "its certificate is not trusted: self-signed certificate"},
    "via-ended": WAY,
    "via-garbage": {**WAY, "protocol": "SOCKS5", "said": "HT"},
    "via-credentials": {**WAY, "why": "it takes no one without credentials"},
    "via-refused": {**WAY, "why": "503 Service Unavailable", "errno": errno.EHOSTUNREACH},
    "via-interrupted": WAY,
    "via-held": WAY,
    "via-udp": WAY,
    "source-missing": SOURCE,
    "source-family": SOURCE,
    "source-bound": SOURCE,
    "no-client": {"call": "narrow()"},
    "not-linux": {"system": "macOS"},
    "billing-disabled": {"app": "blog"},
    "no-app": {"uid": 1000},
    "no-app-token": {},
    "token-file": {"path": "/etc/outgate/blog.token", "why": "Permission denied"},
    "untrusted": {"app": "blog"},
    "listen": {"call": "listen", "hint": "let another server listen"},
    "bind": {"host": "10.0.0.1", "port": 80},
    "family": {"family": 16},
    "protocol": {"type": 1, "proto": 132},
    "raw": {},
    "fast-open": {},
    "option": {"call": "setsockopt", "option": "SO_REUSEPORT", "why": "it is for servers", "cure": "leave it out"},
    "option-denied": {"call": "getsockopt", "option": "SO_MARK", "why": "it leads elsewhere", "cure": "leave it out"},
    "option-blocked": {"verb": "set", "option": "TCP_CORK"},
    "not-implemented": {"call": "socket.gethostbyaddr()"},
    "bind-wildcard": {"host": "127.0.0.1", "port": 0},
    "flag": {"flag": "MSG_OOB", "why": "urgent data do not pass a relay"},
    "too-many-leases": {"app": "blog", "used": 4000, "limit": 4000},
    "held-up": {"app": "blog", "limit": 5.0},
    "quota-exceeded": {"app": "blog", "quota": "connect.minute", "use": "4,800 of 4,800", "resets": "23 s"},
    "look-ups-exceeded": {"app": "blog", "quota": "look_ups.minute", "use": "5 of 5", "resets": "23 s"},
    "gate-sockets": {},
    "ledger-behind": {"why": "the disk is full"},
    "lease-idle": {"idle": 121.4},
    "cut": {"by": "quota", "why": "the day's bytes are used up"},
    "unknown-descriptor": {},
    "resolve-failed": {"host": "db.corp", "why": "Name or service not known", "errno": socket.EAI_NONAME},
    "exclusive": {"why": "it is being connected", "cure": "adopt it again when that has ended"},
    "fleet-unreachable": {"gate": "a", "at": "192.0.2.1:7400", "why": "Connection refused"},
    "fleet-refused": {"gate": "a", "why": "it shows no certificate of a gate"},
    "elsewhere": {"why": "it is a UDP socket", "cure": "open one there"},
    "taken": {},
    "draining": {},
    "gate-unavailable": {"path": "/run/outgate/gate.sock", "why": "No such file or directory"},
    "gate-timeout": {"path": "/run/outgate/gate.sock", "op": "connect", "limit": 60.0},
    "gate-refused-channel": {"why": "the packet is not JSON"},
    "version": {"client": "1-1", "gate": "4-2"},
    "fetch-url": {"url": "ftp://a.example/", "why": "scheme 'ftp'", "cure": "use a socket"},
    "fetch-method": {"url": "http://a.example/", "method": "'TRACE'", "methods": "GET, POST"},
    "fetch-header": {"url": "http://a.example/", "why": "X-A has the character '\\n'", "cure": "leave it out"},
    "fetch-payload": {"url": "http://a.example/", "size": 10485761, "limit": 10485760},
    "fetch-response": {"url": "http://a.example/", "limit": 33554432},
    "fetch-certificate": {"url": "https://a.example/", "why": "self-signed certificate"},
    "fetch-connect": {"url": "http://a.example/", "why": "Connection refused", "errno": 111},
    "fetch-dns": {"url": "http://a.example/", "why": "Name or service not known", "errno": socket.EAI_NONAME},
    "fetch-closed": {"url": "http://a.example/"},
    "fetch-deadline": {"url": "http://a.example/", "deadline": 5.0, "most": 60},
    "fetch-malformed": {"url": "http://a.example/", "why": "illegal status line"},
    "fetch-redirects": {"url": "http://a.example/", "limit": 5},
    "fetch-too-many": {"app": "blog", "used": 1000, "limit": 1000},
    "fetch-missing": {},
    "fetch-unknown": {"path": "/run/outgate/gate.sock"},
}

every_row = pytest.mark.parametrize("code", TABLE)


def placeholders(row):
    """Return the facts that a row's sentence and cure name."""
    texts = row.sentence + (row.cure or "")
    return {name for _text, name, _format, _conversion in string.Formatter().parse(texts) if name}


def test_every_row_has_facts_and_no_facts_are_left_over():
    """The facts above are those of the table, both ways."""
    assert FACTS.keys() == TABLE.keys()
    for code, row in TABLE.items():
        assert placeholders(row) == FACTS[code].keys() - {"errno"}


@every_row
def test_a_row_makes_an_error_that_tells_all(code):
    """The exception of a row has its class, errno, code, reason and cure, and its text has the last two."""
    row = TABLE[code]
    error = build(code, FACTS[code])
    assert type(error) is row.cls
    assert isinstance(error, Refusal)
    assert isinstance(error, GateError) is isinstance(error, OSError) is (row.errno is not None)
    assert getattr(error, "errno", None) == FACTS[code].get("errno", row.errno)
    assert error.code == row.code == code
    assert (error.reason, error.cure) == describe(code, FACTS[code])
    text = error.reason + (f"; {error.cure}" if error.cure else "")
    assert text in str(error)
    assert getattr(error, "strerror", text) == text
    assert not {"{", "}"} & set(str(error).replace("match = { uid = [1000] }", "")), "no placeholder is left"
    assert "…" not in str(error)


@every_row
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_refusal_survives_pickling(code, protocol):
    """A refusal that crosses processes is the same one: class, errno, text, code, reason, cure and facts."""
    error = build(code, FACTS[code])
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert str(again) == str(error)
    for name in ("errno", "strerror", "code", "reason", "cure", "facts"):
        assert getattr(again, name, None) == getattr(error, name, None)


@every_row
def test_a_brief_refusal_still_has_a_sentence(code):
    """Facts that the gate withholds leave an ellipsis, or the bare sentence, and never an error."""
    error = build(code, {})
    assert error.reason
    assert getattr(error, "errno", None) == TABLE[code].errno


def test_every_class_of_refusal_is_in_the_table():
    """Every class of a refusal has a row, and is exported where it is made."""
    for module in (errors, urlfetch):
        own = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Refusal)]
        classes = {cls for cls in own if cls.__module__ == module.__name__} - {Refusal}
        assert classes == {row.cls for row in TABLE.values() if row.cls.__module__ == module.__name__}
        assert {cls.__name__ for cls in classes} <= set(module.__all__)


@pytest.mark.parametrize(
    ("cls", "native", "number"),
    [
        (errors.PolicyDenied, PermissionError, errno.EACCES),
        (errors.BillingDisabled, PermissionError, errno.EACCES),
        (errors.OutboundOnly, PermissionError, errno.EACCES),
        (errors.TooManyLeases, OSError, errno.EMFILE),
        (errors.LeaseReclaimed, BrokenPipeError, errno.EPIPE),
        (errors.ConnectionCut, ConnectionResetError, errno.ECONNRESET),
        (errors.UnknownDescriptor, OSError, errno.EBADF),
        (errors.ResolveFailed, socket.gaierror, socket.EAI_AGAIN),
        (errors.GateUnavailable, ConnectionError, errno.ENETDOWN),
        (errors.NotOffered, NotImplementedError, None),
    ],
)
def test_code_for_socket_keeps_working(cls, native, number):
    """Each class is caught by the except clause that code for sockets has, with the errno that it looks at."""
    assert issubclass(cls, native)
    assert {row.errno for row in TABLE.values() if row.cls is cls} == {number}


def test_a_denial_reads_as_documented():
    """The text of a denial names app, destination, reason, rule and cure in one line."""
    assert str(build("policy-denied", FACTS["policy-denied"])) == (
        "[Errno 13] blog → db.corp:5432 (tcp) denied: db.corp is 10.0.0.5 (private); "
        'rule "non-public"; to permit: except = ["db.corp:5432"]'
    )


@pytest.mark.parametrize("code", [code for code, row in TABLE.items() if row.brief])
def test_a_brief_denial_tells_the_kind_of_rule_alone(code):
    """With the kind among its facts a denial says that and no more, and where the rest is written."""
    error = build(code, {**FACTS[code], "kind": "address"})
    assert "denied by the policy; kind of rule: address" in error.reason
    assert error.cure == "the gate's log says which rule, and what would permit it"
    assert error.code == code
    assert "10.0.0.5" not in str(error)
    assert "non-public" not in str(error)


def test_facts_cannot_write_the_sentence():
    """A fact that looks like a placeholder or a format stays text."""
    error = build("cut", {"by": "{why}", "why": "{0.__class__} %s"})
    assert error.reason == "connection ended by {why}: {0.__class__} %s"


def test_a_code_of_a_newer_gate_is_a_plain_refusal():
    """An unknown code becomes a GateError with the reason that came along, and pickles as well."""
    error = build("from-the-future", {"reason": "not on Sundays", "errno": errno.EBUSY})
    again = pickle.loads(pickle.dumps(error))
    for each in (error, again):
        assert type(each) is GateError
        assert (each.code, each.reason, each.cure, each.errno) == ("from-the-future", "not on Sundays", None, 16)
    assert build("from-the-future", {}).reason == "from-the-future"


@pytest.mark.parametrize("cls", [errors.ProtocolError, errors.ConfigError, errors.InternalError, errors.OutgateError])
def test_what_is_no_refusal_pickles_too(cls):
    """Errors that are no refusals keep class and text, and are no OSErrors."""
    again = pickle.loads(pickle.dumps(cls("why")))
    assert (type(again), str(again)) == (cls, "why")
    assert not isinstance(again, OSError)


@pytest.mark.parametrize("code", ["quota-exceeded", "look-ups-exceeded"])
def test_a_quota_that_is_used_up_says_which_and_for_how_long(code):
    """The refusal names its quota and the seconds until it resets, also pickled, and where a gate sends neither."""
    error = pickle.loads(pickle.dumps(build(code, {**FACTS[code], "retry_after": 22.5})))
    assert isinstance(error, errors.QuotaExceeded)
    assert (error.errno, error.quota, error.retry_after) == (errno.EDQUOT, FACTS[code]["quota"], 22.5)
    assert "is used up: " in str(error)
    assert (build(code, {}).quota, build(code, {}).retry_after) == ("", 0.0)
