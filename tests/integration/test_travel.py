"""Protocol objects in mid-session go from process to process, with real servers, over both paths."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from support.corp import CORP, Corp
from support.fenced import PROGRAMS, events
from support.lab import Lab
from support.servers import dovecot, inn, nginx, telnetd, vsftpd
from support.serving import Serving
from support.world import DOMAIN, World

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 13), reason="nntplib and telnetlib have left Python 3.13")

_LOGIN = (dovecot.USER, dovecot.PASSWORD)
_COUNT = len("".join(f"{number}\n" for number in range(1, 2001)))


class Journey(NamedTuple):
    """A protocol object, and what each of the three processes prints that has it.

    :ivar port: where it is connected to.
    :ivar needs: the server that is started for it.
    """

    words: tuple[str, ...]
    prints: tuple[str, str, str]
    port: int
    needs: str = ""


JOURNEYS = {
    "Nntp": Journey(
        (f"news.{DOMAIN}", inn.GROUPS[0]), (f"True (5, 1, 5, '{inn.GROUPS[0]}')\n", "1 2 5\n", "3 5 205\n"), 119
    ),
    "Pop3": Journey(
        (f"mail.{DOMAIN}", *_LOGIN),
        (
            "3\n",
            f"{b'Subject: ' + dovecot.SUBJECTS[1].encode()}\n",
            f"{b'Subject: ' + dovecot.SUBJECTS[2].encode()} b'+OK'\n",
        ),
        110,
    ),
    "Imap": Journey(
        (f"mail.{DOMAIN}", *_LOGIN),
        (
            "AUTH ('OK', [b'3'])\n",
            f"SELECTED {b'Subject: ' + dovecot.SUBJECTS[0].encode() + bytes((13, 10, 13, 10))}\n",
            "SELECTED [b'3'] BYE\n",
        ),
        143,
    ),
    "Smtp": Journey((f"smtp.{CORP}", "2525"), ("True 250\n", "250\n", "250 221\n"), 2525, "postfix"),
    "Ftp": Journey(
        (f"www4.{DOMAIN}",),
        (
            "230\n",
            f"['hello from vsftpd'] {sorted([*vsftpd.FILES, vsftpd.INCOMING])}\n",
            f"{len(vsftpd.FILES['large.bin'])} 221\n",
        ),
        21,
        "vsftpd",
    ),
    "Telnet": Journey(
        (f"news.{DOMAIN}", telnetd.USER, telnetd.PASSWORD),
        ("b'Welcome'\n", "", f"b'{_COUNT}'\ngoodbye\n"),
        23,
        "telnetd",
    ),
    "Http": Journey((f"www.{DOMAIN}",), ("200 b'1\\n'\n", "200 b'2\\n'\n", "200 b'3\\n'\n"), 80),
    "Unread": Journey(
        (f"www.{DOMAIN}",),
        ("200 100000\n", f"{nginx.LARGE} 1000000 False\n", f"{nginx.LARGE - 1_100_000} True\n200 b'2\\n'\n"),
        80,
    ),
}


@pytest.mark.parametrize("path", ["direct", "relay"])
@pytest.mark.parametrize("protocol", JOURNEYS)
def test_a_protocol_object_goes_on_in_other_processes(
    request: pytest.FixtureRequest, world: World, tmp_path: Path, protocol: str, path: str
) -> None:
    """Opened in one process, used in a second and ended in a third, it is one connection with one line in the log."""
    journey = JOURNEYS[protocol]
    if journey.needs == "postfix":
        corp: Corp = request.getfixturevalue("corp")
        assert corp.postfix
    elif journey.needs:
        lab: Lab = request.getfixturevalue("lab")
        getattr(lab, journey.needs)
    pickled = tmp_path / "pickle"
    with Serving(world, tmp_path, path) as gate:
        for step, prints in zip(("open", "go_on", "end"), journey.prints, strict=True):
            words = journey.words if step == "open" else ()
            done = gate.python(PROGRAMS / "travel.py", step, protocol, str(pickled), *words)
            assert (done.stdout, done.returncode) == (prints, 0), (step, done.stderr)
    made = [line for line in events(gate.log, "decision") if line["port"] == journey.port]
    ended = [line for line in events(gate.log, "end") if line["port"] == journey.port]
    assert [line["verdict"] for line in made] == ["allow"]
    assert [(line["lease"], line["path"]) for line in ended] == [(made[0]["lease"], path)]
