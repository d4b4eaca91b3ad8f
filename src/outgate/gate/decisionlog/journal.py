"""Send lines of the decision log to journald, in its native protocol: each an entry with a sentence and fields.

The protocol is that of systemd's "Native Journal Protocol" (JOURNAL_NATIVE_PROTOCOL.md, stable since systemd 38): one
datagram an entry, ``NAME=value`` lines, a value with a line end in it by its length; what no datagram carries goes in a
sealed memfd, whose fd is all that is sent. Used by the thread of :mod:`outgate.gate.decisionlog.log` alone.
"""

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any, Final

import msgspec

__all__ = ["JOURNALD", "SOCKET", "Journal", "entry", "sentence"]

#: What stands for the journal in ``gate.log``.
JOURNALD: Final = "journald"
#: Where journald takes entries (systemd-journald.socket).
SOCKET: Final = "/run/systemd/journal/socket"
_PREFIX: Final = "OUTGATE_"
#: syslog(3): what somebody should look at, and what is as it should be.
_NOTICE, _INFO, _ERROR = "5", "6", "3"
_ERRORS: Final = frozenset(
    (
        *("fault", "ledger-failed", "log-dropped", "log-rotate", "quota-store-failed", "quota-store-refused"),
        *("fleet-name-twice", "fleet-state-failed", "reload-failed", "state-failed"),
    )
)
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
#: Characters of a field's name (systemd: journal_field_valid()).
_LONGEST: Final = 64
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
_encode: Final = msgspec.json.Encoder().encode


class Journal:
    """The way to journald. It has the methods of :class:`~outgate.gate.decisionlog.logfile.LogFile`.

    :param address: of its socket.
    :raises OSError: journald does not listen there.
    """

    path = None
    torn = b""

    def __init__(self, address: str = "") -> None:
        self.limit = self.keep = 0  # of files
        self._address = address or SOCKET
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.connect(self._address)
        # Not connected itself: journald may be restarted, and is then another socket by the same name.
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def write(self, lines: list[bytes]) -> int:
        """Send lines, and return how many of them are lost: all from the first on that journald does not take."""
        for number, line in enumerate(lines):
            try:
                self._send(entry(line))
            except OSError:
                return len(lines) - number
        return 0

    def _send(self, data: bytes) -> None:
        try:
            self._sock.sendto(data, self._address)
            return
        except OSError as e:
            if e.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
        fd = os.memfd_create("outgate-log", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))]
            self._sock.sendmsg([b""], rights, 0, self._address)
        finally:
            os.close(fd)

    def rotate(self, coming: int) -> bool:
        """Do nothing: journald keeps its files."""
        return False

    def reopen(self) -> None:
        """Do nothing: there is no file."""

    def close(self) -> None:
        """Give the socket back. A second call does nothing."""
        self._sock.close()


def entry(line: bytes) -> bytes:
    """Return a line of the log as an entry of the journal.

    Each field is one, as in ``OUTGATE_APP``; ``MESSAGE`` is a sentence, and ``OUTGATE_LINE`` the line as it is.
    """
    fields: dict[str, Any] = _decode(line)
    event = str(fields.get("event"))
    parts = [
        _field("MESSAGE", sentence(fields)),
        _field("PRIORITY", _priority(event, fields)),
        _field("SYSLOG_IDENTIFIER", "outgate"),
    ]
    for name, value in fields.items():
        key = _PREFIX + "".join(c if c.isalnum() and c.isascii() else "_" for c in name.upper())
        parts.append(_field(key[:_LONGEST], value if isinstance(value, str) else _encode(value).decode()))
    parts.append(_field(_PREFIX + "LINE", line.rstrip(b"\n").decode()))
    return b"".join(parts)


def _field(name: str, value: str) -> bytes:
    data = value.encode()
    if b"\n" in data:  # of no line of ours, but an entry must not be open to what a program chose
        return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


def _priority(event: str, fields: Mapping[str, Any]) -> str:
    if event in _ERRORS:
        return _ERROR
    return _NOTICE if fields.get("verdict") in ("deny", "report") and event != "end" else _INFO


def sentence(fields: Mapping[str, Any]) -> str:
    """Return in a sentence what a decoded line of the log says."""
    event, reason = fields.get("event"), fields.get("reason")
    where = f"{fields.get('app')} → {fields.get('host')}:{fields.get('port')} ({fields.get('transport')})"
    if event == "decision":
        return str(reason) if reason else f'{where} allowed; rule "{fields.get("rule")}"'
    if event == "end":
        counts = f"sent {fields.get('sent')}, received {fields.get('received')} in {fields.get('duration')} s"
        return f"{where} ended: {fields.get('how')}; {counts}"
    if event == "overruled":
        return f"{'cut' if fields.get('how') == 'cut' else 'let be'} under policy {fields.get('policy')}: {reason}"
    rest = ", ".join(f"{name} {value}" for name, value in fields.items() if name not in ("v", "time", "event", "trace"))
    return f"{event}: {rest}" if rest else str(event)
