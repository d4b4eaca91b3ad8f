"""Every refusal in one table: code, exception class, errno, sentence and cure."""

from __future__ import annotations

import _socket
import errno as _errno

from outgate.errors import (
    BillingDisabled,
    ConnectionCut,
    GateError,
    GateUnavailable,
    LeaseReclaimed,
    LookUpDenied,
    LookUpsExceeded,
    NotOffered,
    OutboundOnly,
    PolicyDenied,
    QuotaExceeded,
    Refusal,
    ResolveFailed,
    TooManyLeases,
    UnknownDescriptor,
)
from outgate.errors.row import Row
from outgate.errors.urlfetch import ROWS as _URL_FETCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Mapping, Optional, Tuple

__all__ = ["TABLE", "Row", "build", "describe"]


#: The cure of every brief refusal.
_IN_THE_LOG = "the gate's log says which rule, and what would permit it"
_BRIEF = "{app} → {host}:{port} ({transport}) denied by the policy; kind of rule: {kind}"
_BRIEF_LOOK_UP = "{app} → {host} (look-up) denied by the policy; kind of rule: {kind}"

_ROWS = (
    # Facts of a denial: app, host, port, transport, what ("10.0.0.5 (private)" or "db.corp is 10.0.0.5 (private)"),
    # rule ("non-public"), permit (a rule text that would permit it), hint (why that text is no name, or nothing).
    Row(
        "policy-denied",
        PolicyDenied,
        _errno.EACCES,
        '{app} → {host}:{port} ({transport}) denied: {what}; rule "{rule}"',
        'to permit: except = ["{permit}"]{hint}',
        _BRIEF,
    ),
    Row(
        "policy-no-rule",
        PolicyDenied,
        _errno.EACCES,
        "{app} → {host}:{port} ({transport}) denied: {what}; no rule of app '{app}' allows it",
        'to permit: allow = ["{permit}"]',
        _BRIEF,
    ),
    Row(
        "policy-name",
        LookUpDenied,
        _errno.EACCES,
        '{app} → {host} (look-up) denied: every address it has is forbidden: {what}; rule "{rule}"',
        'to permit: except = ["{permit}"]{hint}',
        _BRIEF_LOOK_UP,
    ),
    Row(
        "policy-name-denied",
        LookUpDenied,
        _errno.EACCES,
        '{app} → {host} (look-up) denied: rule "{rule}"',
        'to permit: except = ["{permit}"]',
        _BRIEF_LOOK_UP,
    ),
    Row(
        "policy-name-no-rule",
        LookUpDenied,
        _errno.EACCES,
        "{app} → {host} (look-up) denied: no rule of app '{app}' could allow what it leads to",
        'to permit: allow = ["{permit}"]',
        _BRIEF_LOOK_UP,
    ),
    Row(
        "policy-names",
        LookUpDenied,
        _errno.EACCES,
        "{app} → {host} (look-up) denied: the names of app '{app}' do not have it, and no rule allows it by name",
        'to permit: add "{host}" to names, or allow = ["{permit}"]',
        _BRIEF_LOOK_UP,
    ),
    # What a program has denied itself. Facts: limit (which rule of its own, or that none allows it), change (what to
    # write where it narrows itself), the others as above.
    Row(
        "narrowed",
        PolicyDenied,
        _errno.EACCES,
        "{app} → {host}:{port} ({transport}) denied: {what}; narrowed by the program itself: {limit}",
        "nothing takes that back in this process; where it narrows itself: {change}",
        _BRIEF + " (narrowed by the program itself)",
    ),
    Row(
        "narrowed-name",
        LookUpDenied,
        _errno.EACCES,
        "{app} → {host} (look-up) denied: narrowed by the program itself: {limit}",
        "nothing takes that back in this process; where it narrows itself: {change}",
        _BRIEF_LOOK_UP + " (narrowed by the program itself)",
    ),
    Row(
        "no-client",
        GateUnavailable,
        _errno.ENETDOWN,
        "the sockets of this program do not leave through a gate, so {call} would change nothing",
        "start it by outgate run, or call outgate.install() first",
    ),
    Row(
        "billing-disabled",
        BillingDisabled,
        _errno.EACCES,
        "app '{app}' has no billing, and sockets are for paid apps",
        "to permit: billing = true under [apps.{app}]",
    ),
    Row(
        "ledger-behind",
        GateUnavailable,
        _errno.ENETDOWN,
        "the gate cannot write its ledger ({why}), and nothing may go out unbooked",
        'who runs the gate can mend that, or write after_grace = "open" under [ledger]',
    ),
    Row(
        "no-app",
        PolicyDenied,
        _errno.EACCES,
        "no app is configured for uid {uid}",
        "to permit: add {uid} to the uid list of an app in the gate's configuration",
    ),
    Row(
        "no-app-token",
        PolicyDenied,
        _errno.EACCES,
        "no app is configured for the token that this program shows",
        "OUTGATE_TOKEN_FILE must name the token_file of an app in the gate's configuration",
    ),
    Row(
        "token-file",
        PolicyDenied,
        _errno.EACCES,
        "the token file {path} (OUTGATE_TOKEN_FILE) cannot be used: {why}",
        "make one with: outgate token new FILE",
    ),
    Row(
        "untrusted",
        PolicyDenied,
        _errno.EACCES,
        "app '{app}' is not trusted, and nothing contains this program",
        "start it by outgate run, which fences it; or to permit: trusted = true under [apps.{app}]",
    ),
    Row("listen", OutboundOnly, _errno.EACCES, "sockets are outbound only: {call}() is refused", "{hint}"),
    Row(
        "bind",
        OutboundOnly,
        _errno.EACCES,
        "sockets are outbound only: bind to {host}:{port} is refused; only the wildcard or loopback with port 0 may be",
        "leave the bind out, or bind to ('', 0)",
    ),
    Row(
        "family",
        GateError,
        _errno.EAFNOSUPPORT,
        "address family {family} is refused: only AF_INET and AF_INET6 leave through the gate, AF_UNIX stays native",
    ),
    Row(
        "protocol",
        GateError,
        _errno.EPROTONOSUPPORT,
        "socket type {type} with protocol {proto} is refused: only TCP and UDP leave through the gate",
    ),
    Row(
        "raw",
        PolicyDenied,
        _errno.EACCES,
        "raw sockets are refused: only TCP and UDP leave through the gate",
    ),
    Row(
        "fast-open",
        GateError,
        _errno.EOPNOTSUPP,
        "MSG_FASTOPEN would connect without asking the gate",
        "call connect() first",
    ),
    # Facts of these: call ("setsockopt"), option (its name), why, cure (what to do instead, or nothing).
    Row(
        "option",
        GateError,
        _errno.ENOPROTOOPT,
        "{call}: {option} is refused: {why}",
        "{cure}",
    ),
    Row(
        "option-denied",
        PolicyDenied,
        _errno.EACCES,
        "{call}: {option} is refused: {why}",
        "{cure}",
    ),
    Row(
        "option-blocked",
        PolicyDenied,
        _errno.EACCES,
        "attempt to {verb} blocked socket option {option}",
        'only the eight options of App Engine are there; profile = "app-engine" says so',
    ),
    Row("flag", GateError, _errno.EOPNOTSUPP, "{flag} is refused: {why}"),
    Row(
        "not-implemented",
        NotOffered,
        None,
        'App Engine has no {call}, nor has an app with profile = "app-engine"',
        'for smtplib say who you are: smtplib.SMTP(host, 587, local_hostname="myhost")',
    ),
    Row(
        "bind-wildcard",
        OutboundOnly,
        _errno.EACCES,
        "attempt to bind {host}:{port} without permission: only the wildcard address with port 0 may be",
        "leave the bind out, or bind to ('', 0)",
    ),
    Row(
        "too-many-leases",
        TooManyLeases,
        _errno.EMFILE,
        "app '{app}' has {used} sockets open, its limit is {limit}",
        "close some, or raise open_sockets under [apps.{app}]",
    ),
    Row(
        "held-up",
        GateError,
        _errno.EBUSY,
        "a socket of app '{app}' cannot be used: the kernel has kept the gate waiting for {limit:g} s, as it does "
        "while a program sends from, or receives into, memory whose pages do not come",
        "send no memory that is a mapped file of FUSE or of an NFS server which hangs; read it into a buffer first",
    ),
    # Facts: app, quota ("connect.minute"), used, limit (numbers), use ("4,800 of 4,800"), retry_after (s), resets
    # ("3 h").
    Row(
        "quota-exceeded",
        QuotaExceeded,
        _errno.EDQUOT,
        "quota {quota} of app '{app}' is used up: {use}; it resets in {resets}",
        "wait until then, or raise it under [apps.{app}.quotas]",
    ),
    Row(
        "look-ups-exceeded",
        LookUpsExceeded,
        _errno.EDQUOT,
        "quota {quota} of app '{app}' is used up: {use}; it resets in {resets}",
        "wait until then, or raise it under [apps.{app}.quotas]",
    ),
    Row(
        "gate-sockets",
        TooManyLeases,
        _errno.EMFILE,
        "the gate has no file descriptors left for another socket",
        "raise LimitNOFILE of the gate's service",
    ),
    Row("lease-idle", LeaseReclaimed, _errno.EPIPE, "reclaimed after {idle:.0f} s without traffic or operation"),
    Row("cut", ConnectionCut, _errno.ECONNRESET, "connection ended by {by}: {why}"),
    Row("unknown-descriptor", UnknownDescriptor, _errno.EBADF, "no such descriptor for this app"),
    Row(
        "exclusive",
        GateError,
        _errno.EOPNOTSUPP,
        "this socket cannot be taken from the others that have it: {why}",
        "{cure}",
    ),
    Row(
        "taken",
        ConnectionCut,
        _errno.ECONNRESET,
        "another process has taken this connection for itself alone",
        "have it pass the socket back; its descriptors from before are void",
    ),
    Row("resolve-failed", ResolveFailed, getattr(_socket, "EAI_AGAIN", -3), "{host}: {why}"),
    Row(
        "gate-unavailable",
        GateUnavailable,
        _errno.ENETDOWN,
        "no gate answers at {path}: {why}",
        "start one with: outgate serve",
    ),
    Row(
        "draining",
        GateUnavailable,
        _errno.ENETDOWN,
        "this gate is being drained: what is open goes on, and nothing new is opened",
        "wait for the next one; the operator can take it back: outgate drain --cancel",
    ),
    Row("gate-timeout", GateUnavailable, _errno.ENETDOWN, "the gate at {path} did not answer {op} within {limit:g} s"),
    Row(
        "gate-refused-channel",
        GateUnavailable,
        _errno.ENETDOWN,
        "the gate ended the channel: {why}",
    ),
    Row(
        "version",
        GateUnavailable,
        _errno.ENETDOWN,
        "client and gate have no protocol version in common (client {client}, gate {gate})",
        "upgrade the older of the two",
    ),
    *_URL_FETCH,
)

#: code → row. ``docs/errors.md`` is made from it.
TABLE: Dict[str, Row] = {row.code: row for row in _ROWS}


class _Missing(dict[str, object]):
    """Facts a brief refusal withholds read as an ellipsis instead of failing."""

    def __missing__(self, key: str) -> str:
        return "…"


def describe(code: str, facts: Mapping[str, Any]) -> Tuple[str, Optional[str]]:
    """Return the (reason, cure) sentences of a refusal. Raises ``KeyError`` for a code that is not in the table."""
    row = TABLE[code]
    known = _Missing(facts)
    if row.brief and "kind" in facts:
        return row.brief.format_map(known), _IN_THE_LOG
    try:
        reason = row.sentence.format_map(known)
    except ValueError:  # a withheld number met a format such as {idle:.0f}
        reason = row.sentence
    return reason, (row.cure.format_map(known) or None if row.cure else None)


def build(code: str, facts: Mapping[str, Any]) -> Refusal:
    """Make the exception of a refusal from what the channel carries.

    :param code: a key of :data:`TABLE`; an unknown one (a newer gate's) becomes a plain :class:`GateError`.
    :param facts: plain data for the sentence. ``errno`` in it overrides the row's (EAI numbers of the resolver).
    """
    row = TABLE.get(code)
    if row is None:
        row = Row(code, GateError, _errno.EACCES, str(facts.get("reason", code)))
        reason: str = row.sentence
        cure: Optional[str] = None
    else:
        reason, cure = describe(code, facts)
    text = reason + ("; " + cure if cure else "")
    error = row.cls(text) if row.errno is None else row.cls(facts.get("errno", row.errno), text)
    error.code = code
    error.reason = reason
    error.cure = cure
    error.facts = dict(facts)
    return error
