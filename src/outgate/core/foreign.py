"""Name what makes its sockets itself, round the client, and what a program can use in its place.

A library that connects in C, or a program that is not Python, reaches nothing inside the fence, and the error it gives
(ENETUNREACH, or a name that is not found) does not say why. These tables are of those that people meet most; what is
in neither is not named. Standard library only, Python 3.9+: the client uses it too.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing costs more than everything else that the client imports
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional, Tuple

#: Module → what connects for it, and what to do. A module that works in C only in part is named by that part.
MODULES = {
    "MySQLdb": ("libmysqlclient", "use PyMySQL"),
    "_ldap": ("libldap", "use ldap3"),
    "_mysql_connector": ("libmysqlclient", "connect with use_pure=True, or use PyMySQL"),
    "_pylibmc": ("libmemcached", "use pymemcache"),
    "confluent_kafka": ("librdkafka", "use kafka-python or aiokafka"),
    "curl_cffi": ("libcurl", "use httpx or requests"),
    "gevent.resolver.cares": ("c-ares", "leave GEVENT_RESOLVER out, or set it to thread or block"),
    "grpc": ("gRPC's C core", "use grpclib"),
    "hf_xet": ("a client in Rust", "set HF_HUB_DISABLE_XET=1, and huggingface_hub fetches in Python"),
    "mariadb": ("MariaDB's C connector", "use PyMySQL"),
    "psycopg": ("libpq", "use pg8000 or asyncpg"),
    "psycopg2": ("libpq", "use pg8000 or asyncpg"),
    "pyarrow._s3fs": ("a client in C++", "use s3fs or boto3"),
    "pycares": ("c-ares", "look names up with socket or dnspython; aiohttp has its ThreadedResolver"),
    "pycurl": ("libcurl", "use requests, httpx or urllib.request"),
    "pygit2": ("libgit2", "use dulwich"),
    "pylibsshext": ("libssh", "use paramiko or asyncssh"),
    "pymssql": ("FreeTDS", "use python-tds"),
    "pyodbc": ("ODBC", "use a driver of this database that is written in Python"),
    "ssh2": ("libssh2", "use paramiko or asyncssh"),
    "zmq": ("libzmq", "only its ipc: and inproc: transports work"),
}

_FETCH = "use urllib.request, requests or httpx"
_SHELL = "use paramiko or asyncssh, or give it a Python program as ProxyCommand"
_GIT = "use dulwich; what git does without a network works"
_NOT_PYTHON = "only Python programs use the gate"
_GIT_WORDS = frozenset(("clone", "fetch", "ls-remote", "pull", "push", "remote", "submodule"))

#: Program → what to do, and the words of which one must be among its arguments; none: it always connects.
EXECUTABLES = {
    "bun": (_NOT_PYTHON, frozenset()),
    "cargo": (_NOT_PYTHON, frozenset(("add", "build", "fetch", "install", "publish", "run", "search", "test"))),
    "curl": (_FETCH, frozenset()),
    "deno": (_NOT_PYTHON, frozenset()),
    "git": (_GIT, _GIT_WORDS),
    "java": (_NOT_PYTHON, frozenset()),
    "kubectl": ("use kubernetes, its client in Python", frozenset()),
    "mariadb": ("use PyMySQL", frozenset()),
    "mysql": ("use PyMySQL", frozenset()),
    "node": (_NOT_PYTHON, frozenset()),
    "npm": (_NOT_PYTHON, frozenset()),
    "npx": (_NOT_PYTHON, frozenset()),
    "pg_dump": ("use pg8000 or asyncpg", frozenset()),
    "psql": ("use pg8000 or asyncpg", frozenset()),
    "redis-cli": ("use redis, its client in Python", frozenset()),
    "rsync": ("use paramiko or asyncssh", frozenset()),
    "scp": (_SHELL, frozenset()),
    "sftp": (_SHELL, frozenset()),
    "ssh": (_SHELL, frozenset()),
    "uv": ("install with python -m pip", frozenset(("add", "lock", "pip", "sync", "tool"))),
    "uvx": ("install with python -m pip", frozenset()),
    "wget": (_FETCH, frozenset()),
    "yarn": (_NOT_PYTHON, frozenset()),
}

_SHELLS = frozenset(("ash", "bash", "dash", "ksh", "sh", "zsh"))
#: What stands before a command and runs it.
_BEFORE = frozenset(("command", "env", "exec", "nice", "nohup", "setsid", "stdbuf", "sudo", "time"))
#: What ends one command of a shell's text and begins the next.
_BETWEEN = "|&;()\n`"


def of_module(name: str) -> str:
    """Return the sentence about a module of :data:`MODULES`."""
    by, instead = MODULES[name]
    return f"{name} connects by {by} and not through the gate: in the fence it reaches no network; {instead}"


def of_command(words: Sequence[str]) -> Optional[Tuple[str, str]]:
    """Return the name of the first program that a command starts and is in :data:`EXECUTABLES`, and the sentence on it.

    The text of ``sh -c`` is read roughly, since nothing depends on it: quotes, expansions and what scripts start are
    not looked into.
    """
    words = _after_prefixes(list(words))
    if not words:
        return None
    name = words[0].rpartition("/")[2]
    if name in _SHELLS:
        return _of_shell(words)
    if name not in EXECUTABLES:
        return None
    instead, wanted = EXECUTABLES[name]
    if wanted and wanted.isdisjoint(words[1:]):
        return None
    if any("ProxyCommand" in word for word in words):  # ssh_config(5): somebody else connects
        return None
    return name, f"{name} connects by itself and not through the gate: in the fence it reaches no network; {instead}"


def _of_shell(words: Sequence[str]) -> Optional[Tuple[str, str]]:
    for place, word in enumerate(words[1:-1], 1):
        if not word.startswith("-"):
            break  # a script
        if not word.startswith("--") and word.endswith("c"):
            return of_shell_text(words[place + 1])
    return None


def of_shell_text(text: str) -> Optional[Tuple[str, str]]:
    """Return what :func:`of_command` does, for a text as ``sh -c`` or ``system()`` takes it."""
    for mark in _BETWEEN:
        text = text.replace(mark, "\n")
    for line in text.split("\n"):
        found = of_command(line.split())
        if found is not None:
            return found
    return None


def _after_prefixes(words: Sequence[str]) -> Sequence[str]:
    """Return a command without assignments and :data:`_BEFORE` in front of it, and their options."""
    place = 0
    while place < len(words) and (
        words[place].rpartition("/")[2] in _BEFORE
        or "=" in words[place].partition("/")[0]
        or (place and words[place].startswith("-"))
    ):
        place += 1
    return words[place:]
