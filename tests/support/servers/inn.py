"""INN as the news server of the world: innd with a fresh spool, two groups and a handful of articles."""

from __future__ import annotations

import os
import shutil
import signal
from email.utils import formatdate
from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server, run

GROUPS = ("test.outgate.news", "test.outgate.empty")
#: Groups of the news reader's tests alone: one for what they feed, one in which nobody ever says anything.
FED, SILENT = "test.outgate.fed", "test.outgate.silent"
SUBJECTS = ("Sockets are back", "Gate opened", "Nothing is lost", "Lines, and a dot", "Good night")

_BIN = "/usr/lib/news/bin"

_INN_CONF = """\
domain: outgate.test
fromhost: outgate.test
pathhost: news.outgate.test
server: localhost
organization: "The outgate test world"
mta: "/bin/false %s"
mailcmd: /bin/false
port: 119
pathnews: /usr/lib/news
pathbin: {bin}
pathetc: {folder}/etc
pathdb: {folder}/db
pathfilter: {folder}/etc/filter
pathlog: {folder}/log
pathhttp: {folder}/log
pathrun: {folder}/run
pathspool: {folder}/spool
pathtmp: {folder}/tmp
hismethod: hisv6
ovmethod: tradindexed
enableoverview: true
useoverchan: false
groupbaseexpiry: true
doinnwatch: false
pgpverify: false
nnrpdloadlimit: 0
"""

_FILES = {
    # Every article is kept as a file of its own below the name of its group.
    "storage.conf": "method tradspool {\n    newsgroups: *\n    class: 0\n}\n",
    "newsfeeds": "ME:!*::\n",
    "incoming.conf": "streaming: true\n",  # no peer at all: whoever connects is a reader and gets nnrpd
    "readers.conf": 'auth "all" {\n    hosts: "*"\n    default: "<READER>"\n}\n'
    'access "all" {\n    users: "<READER>"\n    newsgroups: "*"\n    access: RPA\n}\n',
    "expire.ctl": "/remember/:11\n*:A:never:never:never\n",
    "control.ctl": "all:*:*:drop\n",
    "inn-secrets.conf": "",
    "distrib.pats": "",
    "moderators": "",
    "passwd.nntp": "",
}


def start(namespace: Namespace, folder: Path) -> Server:
    """Build the spool and serve on port 119 of every address of the namespace."""
    for part in ("etc/filter", "db", "log/OLD", "run", "tmp", "spool/articles", "spool/overview", "spool/incoming/bad"):
        (folder / part).mkdir(parents=True)
    (folder / "spool/outgoing").mkdir()
    (folder / "spool/archive").mkdir()
    (folder / "etc/inn.conf").write_text(_INN_CONF.format(folder=folder, bin=_BIN))
    for name, text in _FILES.items():
        (folder / "etc" / name).write_text(text)
        os.chmod(folder / "etc" / name, 0o640)  # innd and nnrpd refuse secrets that others may read
    groups = [*GROUPS, FED, SILENT, "control", "control.cancel", "junk"]
    (folder / "db/active").write_text("".join(f"{name} 0000000000 0000000001 y\n" for name in groups))
    (folder / "db/newsgroups").write_text("".join(f"{name}\tGroup {name} of the test world\n" for name in groups))
    (folder / "db/active.times").touch()
    (folder / "db/history").touch()
    for path in [folder, *folder.rglob("*")]:
        shutil.chown(path, "news", "news")
    as_news = ["setpriv", "--reuid=news", "--regid=news", "--clear-groups"]
    run(namespace, [*as_news, f"{_BIN}/makedbz", "-io", "-s", "1000", "-f", f"{folder}/db/history"], environ(folder))
    # innd looks at SIGTERM only when its next timer comes round, and nobody needs this spool afterwards.
    return Server("innd", namespace, folder, [*as_news, f"{_BIN}/innd", "-d", "-N"], environ(folder), signal.SIGKILL)


def environ(folder: Path) -> dict[str, str]:
    """Return what points INN's programs to this folder (INNCONF, see inn.conf(5))."""
    return {"INNCONF": f"{folder}/etc/inn.conf"}


def article(number: int, subject: str) -> str:
    """Write the article of this number (from 1) as a feed would bring it."""
    return (
        f"Path: feed.outgate.test!not-for-mail\nFrom: Editor <editor@outgate.test>\nNewsgroups: {GROUPS[0]}\n"
        f"Subject: {subject}\nDate: {formatdate()}\nMessage-ID: <news-{number}@outgate.test>\n\n"
        f"Article {number} of the test world.\n.A line with a leading dot.\n"
    )


def fill(namespace: Namespace, folder: Path) -> None:
    """Hand the articles to innd as a feed does; they can be read when this returns."""
    feed(namespace, folder, *(article(number, subject).encode() for number, subject in enumerate(SUBJECTS, 1)))


def feed(namespace: Namespace, folder: Path, *articles: bytes) -> None:
    """Hand these articles to innd (rnews(1)); they can be read when this returns."""
    batch = b"".join(b"#! rnews %d\n%s" % (len(each), each) for each in articles)
    command = ["setpriv", "--reuid=news", "--regid=news", "--clear-groups", "rnews", "-N"]
    run(namespace, command, environ(folder), batch)
