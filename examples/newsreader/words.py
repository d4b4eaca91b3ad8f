"""Say in words what went wrong with a news server, and what would mend it."""

from __future__ import annotations

import nntplib
import socket
import sqlite3
from typing import NamedTuple

from outgate.dev.taskqueue import TaskError
from outgate.errors import GateError, PolicyDenied


class Trouble(NamedTuple):
    """A sentence for the reader, and what would mend it, "" where nothing is known that would."""

    text: str
    cure: str = ""


#: Reply codes (RFC 3977, RFC 4643) that mean more than what the server writes beside them.
_CODES = {
    "411": Trouble("The server has no group of that name.", "Choose one from its list."),
    "450": Trouble("The server wants a login, which this reader does not have."),
    "480": Trouble("The server wants a login, which this reader does not have."),
    "483": Trouble("The server wants TLS, and an encrypted session cannot be passed on to another process."),
}


def explain(error: BaseException, server: str) -> Trouble:
    """Return what an error means to somebody who wants to read news.

    :param server: host and port, as they were asked for.
    """
    if isinstance(error, PolicyDenied):
        cure = f'{error.cure}  (in the section "outgate" of front.yaml)' if error.cure else ""
        return Trouble(f"The policy of this app refuses {server}. {_sentence(error.reason)}", cure)
    if isinstance(error, GateError):  # of a quota, of a connection that was cut: outgate says it best
        return Trouble(_sentence(error.reason), error.cure)
    if isinstance(error, TaskError):
        return Trouble(f"The session cannot be passed on. {_sentence(str(error))}", "Start this with outgate dev.")
    if isinstance(error, sqlite3.Error):
        return Trouble(f"What is read cannot be kept: {error}.")
    if isinstance(error, socket.gaierror):
        return Trouble(f"No news server is found under the name of {server}: {error.strerror}.", "Check the name.")
    if isinstance(error, TimeoutError):
        return Trouble(f"{server} does not answer.", "It may be down, or too busy; try later.")
    if isinstance(error, ConnectionRefusedError):
        return Trouble(f"Nothing listens at {server}.", "Check the port; a news server's is 119.")
    if isinstance(error, (EOFError, ConnectionError)):
        return Trouble(f"{server} has ended the connection.", "Try again; what has arrived stays here.")
    if isinstance(error, OSError):
        return Trouble(f"{server} cannot be reached: {error.strerror or error}.")
    if isinstance(error, (nntplib.NNTPTemporaryError, nntplib.NNTPPermanentError)):
        return _CODES.get(error.response[:3], Trouble(f"{server} refuses: {_printable(error.response)}"))
    return Trouble(f"{server} does not speak as a news server does: {_printable(str(error)) or type(error).__name__}")


def _sentence(text: str) -> str:
    return text if text.endswith(".") else text + "."


def _printable(text: str) -> str:
    """Return what a server wrote without what a terminal or a page would obey."""
    return "".join(each if each.isprintable() else "?" for each in text)[:200]
