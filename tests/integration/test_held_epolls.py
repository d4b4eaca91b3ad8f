"""A program that keeps the mutex of an epoll holds up who looks into it: a thread for its user, and nobody else."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from outgate.testing.running import PATIENCE
from support import fuse

pytestmark = pytest.mark.integration
#: Users of two programs.
KEEPER, OTHER = 1001, 1002

#: Has a socket in an epoll, and waits for its event in memory whose page does not come.
_KEEP = """
import ctypes, json, os, select, socket, sys
path, uid = sys.argv[1], int(sys.argv[2])
sock = socket.socket()
polled = socket.create_server(("127.0.0.1", 0))
connected = socket.create_connection(polled.getsockname())
epoll = select.epoll()
epoll.register(connected, select.EPOLLOUT)
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.epoll_wait.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
file = os.open(path, os.O_RDONLY) if path else -1
os.setresuid(uid, uid, uid)
libc.prctl(4, 1, 0, 0, 0)  # as if it had been started so: its files in /proc are its own
inodes = [os.fstat(each.fileno()).st_ino for each in (sock, connected)]
print(json.dumps([os.getpid(), epoll.fileno(), sock.fileno(), *inodes]), flush=True)
if path:
    libc.epoll_wait(epoll.fileno(), libc.mmap(None, 4096, 3, 2, file, 0), 1, -1)
sys.stdin.read()
"""
#: Looks for both each time it is told to.
_LOOK = """
import json, sys
from outgate.gate.kernel import epolls, fetch, holders
owners = {int(inode): uid for inode, uid in json.loads(sys.argv[1]).items()}
pids = json.loads(sys.argv[2])
for line in sys.stdin:
    found = holders.find(owners.keys(), owners=owners)
    unowned = holders.find(owners.keys(), pids=pids)
    taken = fetch.find(owners.keys())
    awaited, hidden = epolls.registered(owners.keys(), pids)
    print(json.dumps([
        {inode: sorted(pids) for inode, pids in found.items()},
        {inode: sorted(pids) for inode, pids in unowned.items()},
        sorted(taken), sorted(awaited), sorted(hidden),
    ]), flush=True)
"""


@contextlib.contextmanager
def _program(path: str, uid: int) -> Iterator[list[int]]:
    """Give pid, epoll, socket, and two inodes of a program: of that socket, and of one that is in the epoll."""
    words = (sys.executable, "-c", _KEEP, path, str(uid))
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()


#: Of the service's gate (etc/outgate.service): files of others are closed to it, but for what the kernel says of them.
_RIGHTS = {"service": ("setpriv", "--bounding-set", "-all,+chown,+sys_ptrace"), "root": ()}


@pytest.mark.parametrize("who", _RIGHTS)
def test_a_program_that_keeps_its_epoll_is_not_waited_for(pages: fuse.Pages, who: str) -> None:
    """It counts as a holder of what is its user's, others' sockets are found as ever, and when it lets go all are."""
    with contextlib.ExitStack() as stack:
        keeper, _, _, idle, polled = stack.enter_context(_program(pages.path("kept"), KEEPER))
        other, _, _, others, others_polled = stack.enter_context(_program("", OTHER))
        stack.enter_context(pages)
        assert pages.wait_for(1, PATIENCE)
        owners = json.dumps({idle: KEEPER, polled: KEEPER, others: OTHER, others_polled: OTHER})
        words = (*_RIGHTS[who], sys.executable, "-c", _LOOK, owners, json.dumps([keeper, other]))
        pipe = subprocess.PIPE
        looker = stack.enter_context(subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True))
        stack.callback(pages.let_come)  # before it is waited for: a thread of its own is kept too

        def look() -> list[Any]:
            assert looker.stdin is not None
            assert looker.stdout is not None
            looker.stdin.write("look\n")
            looker.stdin.flush()
            line = looker.stdout.readline()
            assert line
            return list(json.loads(line))

        def by(*inodes: int) -> dict[str, list[int]]:
            return {str(each): [keeper] if each in inodes else [] for each in (idle, polled)}

        theirs = {str(each): [other] for each in (others, others_polled)}
        everybodys = by(idle, polled) | theirs
        for _ in range(2):
            found, unowned, taken, awaited, hidden = look()
            assert found == everybodys
            if who == "service":
                assert unowned == by() | theirs
                assert taken == sorted((others, others_polled))
            else:  # who sees by their links what files are, and reads of epolls alone
                assert (awaited, hidden) == ([others_polled], [keeper])
        pages.let_come()
        seen = 1 if who == "service" else 3
        while (found := look())[seen] != (everybodys if who == "service" else sorted((polled, others_polled))):
            pass
        assert found[2] == sorted((idle, polled, others, others_polled))


def test_what_is_read_of_an_epoll_can_be_kept(pages: fuse.Pages) -> None:
    """So the test above can fail: a read of what the kernel says of that epoll does not come back by itself."""
    with _program(pages.path("kept"), KEEPER) as (pid, epoll, *_), pages:
        assert pages.wait_for(1, PATIENCE)
        words = (
            sys.executable,
            "-c",
            "import sys; print(len(open(sys.argv[1]).read()))",
            f"/proc/{pid}/fdinfo/{epoll}",
        )
        with subprocess.Popen(words, stdout=subprocess.PIPE) as reader:
            with pytest.raises(subprocess.TimeoutExpired):
                reader.wait(0.5)
            pages.let_come()
            assert reader.wait(PATIENCE) == 0
