"""The refusals of other ways out: by a proxy, or from an address."""

from __future__ import annotations

import errno as _errno

from outgate.errors import WayOutFailed
from outgate.errors.row import Row

__all__ = ["ROWS"]

_HOW = "see that it runs, and that via under [apps.{app}] has its address, port and scheme"

# Facts of all: app, host, port (what was asked for), via (the proxy's URL) or source. ``errno`` overrides the row's.
ROWS = (
    Row(
        "via-unreachable",
        WayOutFailed,
        _errno.ENETUNREACH,
        "{app} → {host}:{port}: the way out {via} cannot be reached: {why}",
        _HOW,
    ),
    Row(
        "via-timeout",
        WayOutFailed,
        _errno.ETIMEDOUT,
        "{app} → {host}:{port}: the way out {via} has not answered within {limit:g} s",
        _HOW,
    ),
    Row(
        "via-tls",
        WayOutFailed,
        _errno.EPROTO,
        "{app} → {host}:{port}: the way out {via} cannot be spoken to by TLS: {why}",
        "ca under [apps.{app}] names a file with the certificate of who signed its own, which must name that host",
    ),
    Row(
        "via-ended",
        WayOutFailed,
        _errno.ECONNABORTED,
        "{app} → {host}:{port}: the way out {via} has ended the connection before it had an answer",
        "its own log says why; " + _HOW,
    ),
    Row(
        "via-garbage",
        WayOutFailed,
        _errno.EPROTO,
        '{app} → {host}:{port}: the way out {via} answers what is no {protocol}: "{said}"',
        _HOW,
    ),
    Row(
        "via-credentials",
        WayOutFailed,
        _errno.EACCES,
        "{app} → {host}:{port}: the way out {via} does not let the gate in: {why}",
        "credentials under [apps.{app}] names a file with one line, user:password",
    ),
    Row(
        "via-refused",
        WayOutFailed,
        _errno.EACCES,
        "{app} → {host}:{port}: the way out {via} does not connect: {why}",
        "its own rules and log are its operator's",
    ),
    Row(
        "via-interrupted",
        WayOutFailed,
        _errno.ECONNABORTED,
        "{app} → {host}:{port}: the gate was replaced while it spoke to the way out {via}",
        "connect again",
    ),
    Row(
        "via-held",
        WayOutFailed,
        _errno.ENETUNREACH,
        "{app} → {host}:{port}: this socket was made before the app had the way out {via}, and could speak to it",
        "open another socket; a program under a guard has to be started again",
    ),
    Row(
        "via-udp",
        WayOutFailed,
        _errno.ENETUNREACH,
        "{app} → {host}:{port} (udp): the way out {via} takes TCP alone",
        'a way without it: to = "udp://{host}:{port}" with via = "" in ways under [apps.{app}]',
    ),
    Row(
        "source-missing",
        WayOutFailed,
        _errno.EADDRNOTAVAIL,
        "{app} → {host}:{port}: the host has no address {source}, which this is to leave from",
        "give it to the host, or change source under [apps.{app}]",
    ),
    Row(
        "source-family",
        WayOutFailed,
        _errno.ENETUNREACH,
        "{app} → {host}:{port}: it is of another IP version than {source}, which this is to leave from",
        "another source for it stands in ways under [apps.{app}]",
    ),
    Row(
        "source-bound",
        WayOutFailed,
        _errno.EINVAL,
        "{app} → {host}:{port}: this is to leave from {source}, and the program has bound its socket itself",
        "leave the bind out",
    ),
)
