"""What is tried against a guard, what is to stop it, and what came of it: the data of the table in docs/attacks.md.

With :data:`RECORD` set in the environment the tests write what came of each into :data:`PATH`, as
``make attacks`` has them do.
"""

from __future__ import annotations

import json
import os
import platform
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PATH = ROOT / "docs/data/attacks.toml"
RECORD = "OUTGATE_RECORD_ATTACKS"

#: What an attack is tried at: a gate of the user's own, and one of root's that seals its sockets.
WITHOUT, WITH = LEVELS = ("without the seal", "with the seal")


class Attack(NamedTuple):
    """One attack.

    :ivar what: is tried.
    :ivar by: what stops it: the filter, the guard, the gate, namespaces, Landlock, the kernel.
    :ivar came: what came of it: the errnos that its calls end with, or what else there is to say.
    :ivar sealed: the same at :data:`WITH`, where that is something else.
    """

    what: str
    by: str
    came: str
    sealed: str = ""

    def expected(self, level: str) -> str:
        """Return what is to come of it."""
        return self.sealed or self.came if level == WITH else self.came


#: Attack of ``tests/integration/programs/guard_attacks.py`` → what it is.
ATTACKS = {
    "io uring": Attack("`io_uring_setup`, whose rings make no calls", "filter", "ENOSYS"),
    "numbers of the future": Attack("calls that this kernel, or the filter, does not know", "filter", "ENOSYS"),
    "numbers of x32": Attack("`socket` by its number of the x32 interface", "filter", "ENOSYS"),
    "calls of i386": Attack("`socket` by `int 0x80`, in 32-bit numbers", "filter", "SIGSYS"),
    "threads with files of their own": Attack(
        "`unshare(CLONE_FILES)`, `close_range(CLOSE_RANGE_UNSHARE)`, `clone3`: sockets where nobody looks for them",
        "filter",
        "EINVAL ENOSYS",
    ),
    "a filter of its own": Attack("a seccomp listener, and a filter that allows all", "kernel, guard", "EBUSY EACCES"),
    "other kinds of sockets": Attack(
        "MPTCP, SCTP, UDPLITE, raw, ping, packet, vsock, XDP, netlink, TIPC, the kernel's cryptography",
        "filter",
        "EPROTONOSUPPORT EAFNOSUPPORT",
    ),
    "a domain with high bits": Attack("`socket(0xDEADBEEF00000002, …)`, then connect", "gate", "EACCES"),
    "kernel interfaces": Attack("`userfaultfd`, `bpf`, `perf_event_open`", "filter", "EPERM"),
    "connect to what is denied": Attack("connect to a private address, and to 0.0.0.0", "gate", "EACCES"),
    "addresses in addresses": Attack(
        "a private address as IPv6: mapped, compatible, NAT64; its own; loopback", "gate", "EACCES"
    ),
    "disconnect and connect anew": Attack(
        "`connect(AF_UNSPEC)` on a connection, then to a private address", "guard", "EACCES where it was EISCONN"
    ),
    "shut down and connect anew": Attack(
        "`shutdown` of a dial in progress, then connect to a private address",
        "guard, gate",
        "done ENETUNREACH EACCES",
        "done EPERM EACCES",
    ),
    "fast open": Attack(
        "`MSG_FASTOPEN` in `sendto`, `sendmsg`, `sendmmsg`; `TCP_FASTOPEN_CONNECT`", "filter", "ENOTSUP ENOPROTOOPT"
    ),
    "a name to a tcp socket": Attack("`sendto` with an address on a TCP socket", "kernel", "EPIPE done"),
    "datagrams": Attack(
        "`sendto` and `sendmsg` to private addresses, on connected sockets too; to port 53; connect", "gate", "EACCES"
    ),
    "datagrams with a route": Attack(
        "a routing header (SRv6) as option and as ancillary data of a datagram", "filter, gate", "ENOPROTOOPT"
    ),
    "options that route": Attack(
        "`SO_BINDTODEVICE`, `IP_OPTIONS` with a loose route, `IPV6_RTHDR`, `SO_MARK`, `IP_TRANSPARENT`",
        "filter",
        "ENOPROTOOPT",
    ),
    "listen for others": Attack("`listen`, `bind` to a port, to the host's address", "guard", "EACCES"),
    "daemons by path": Attack(
        "another daemon's Unix socket: by path, relative path, symbolic link", "guard", "ECONNREFUSED"
    ),
    "a path that changes": Attack(
        "a link that leads to the gate's socket and to a daemon's in turn, while it is connected to",
        "guard",
        "ECONNREFUSED",
    ),
    "the gate by its own channel": Attack(
        "reload, drain, kill, take over: as the gate's operator, over the gate's socket", "gate", "no-app"
    ),
    "a socket of the gates by its channel": Attack(
        "a born socket as a client has it sent, then native connect, fast open, listen", "guard, filter",
        "EACCES ENOTSUP",
    ),
    "abstract names of the host": Attack("an abstract Unix name of the host's", "network namespace", "ECONNREFUSED"),
    "unix datagrams": Attack(
        "Unix datagram sockets, and pairs, which a name in a message re-aims", "filter", "EPROTONOSUPPORT"
    ),
    "a path for helpers outside": Attack("`bind` of a Unix path, for a helper outside to pass files in", "guard",
                                         "EACCES"),
    "the networks of a socket": Attack(
        "`SIOCGSKNS`, `SIOCGIFADDR` and their like on a socket of the gate's", "filter", "ENOTTY"
    ),
    "words for the terminal": Attack("`TIOCSTI`, `TIOCLINUX`: words for the shell outside", "filter", "EPERM"),
    "memory of others": Attack(
        "`/proc/PID/mem`, `ptrace`, `process_vm_readv` of guard, gate and a neighbour",
        "user namespace, Landlock",
        "EACCES EPERM",
    ),
    "files and networks of others": Attack(
        "`pidfd_getfd` and `setns` with guard, gate and a neighbour", "filter, user namespace", "EACCES EPERM"
    ),
    "end the guard": Attack("`kill -9` of guard, gate and a neighbour, from inside", "Landlock", "EPERM"),
    "namespaces within": Attack(
        "user and network namespaces of its own, then packet sockets and a connect", "filter, gate",
        "EAFNOSUPPORT EACCES",
    ),
    "a tree of programs": Attack("curl as a child, to a private address", "gate", "curl 7"),
    "an address that changes": Attack(
        "a thread changes the address in memory while another connects", "guard", "EACCES done"
    ),
    "a file that changes": Attack("a thread changes what an fd is while another connects", "guard", "refused"),
    "a socket by another process": Attack(
        "a born socket passed to a child, which connects to a private address, then to an allowed one", "gate",
        "EACCES done",
    ),
    "signals all the time": Attack("2,000 signals a second while it connects", "guard", "some"),
    "rubbish": Attack("random system calls with random arguments, then a connect", "guard", "EACCES"),
}  # fmt: skip


#: Tests of other files that are attacks → (what is tried, what stops it).
TESTS = {
    "test_guard_races.py": {
        "test_an_address_that_changes_is_read_once": ("another process rewrites the address all the time", "guard"),
        "test_a_file_that_changes_is_taken_once": ("`dup2` of other files under the socket all the time", "guard"),
        "test_rubbish_reaches_nothing": ("raw system calls with anything in them", "filter, guard"),
        "test_a_connect_that_signals_interrupt_happens_once": ("2,000 signals a second; effects that stay", "guard"),
        "test_a_guard_that_is_killed_amid_connects": ("`kill -9` of the guard amid connects", "kernel: ENOSYS"),
        "test_a_gate_that_is_killed_amid_connects": ("`kill -9` of the gate amid connects", "guard: ENETDOWN"),
    },
    "test_guard.py": {
        "test_without_its_guard_a_program_opens_nothing": ("`kill -9` of the guard, then `socket`", "kernel: ENOSYS"),
        "test_sockets_from_outside_are_closed": ("a connection of whoever started it, inherited", "launch"),
        "test_only_listed_unix_sockets": ("a Unix socket beside one that its app lists", "guard"),
        "test_root_is_not_guarded": ("to be root of the host, who may change the kernel's settings", "launch"),
    },
    "test_guard_names.py": {
        "test_dig_is_refused": ("a denied name, and a whole zone, asked over TCP", "gate"),
    },
    "test_seal.py": {
        "test_nothing_that_a_hostile_program_holds_can_be_turned": (
            "without a guard: 40 ways to turn a socket of the gate's elsewhere", "seal",
        ),
        "test_the_seal_outlives_the_gate": ("without a guard: the same when the gate was killed", "seal"),
    },
    "test_seal_kernel.py": {
        "test_a_socket_that_listens_hears_nothing": ("without a guard: `connect(AF_UNSPEC)`, then listen", "seal"),
        "test_packets_that_say_their_own_way": ("without a guard, as root: source routes", "seal"),
        "test_datagrams_go_where_the_gate_connected_them": ("without a guard: datagrams to another name", "seal"),
    },
    "test_sandboxes.py": {
        "test_nothing_leads_out_but_the_gate": (
            "in bubblewrap and plain namespaces: round the client, other networks, other sockets", "the sandbox, relay",
        ),
    },
}  # fmt: skip
HELD, FAILED = "held", "FAILED"  # and nothing for what was not run


def record(level: str, found: Mapping[str, str]) -> None:
    """Write down what came of attacks, where that is asked for.

    :param level: of :data:`LEVELS`.
    """
    if os.environ.get(RECORD):
        known = _known()
        for name, came in found.items():
            known["attack"].setdefault(name, {})[level] = came
        _write(known)


def record_test(file: str, name: str, held: bool) -> None:
    """Write down how a test of :data:`TESTS` ended, where that is asked for; one that failed stays failed in a run."""
    if os.environ.get(RECORD) and name in TESTS.get(file, {}):
        known = _known()
        known["test"][name] = HELD if held and name not in _failed else FAILED
        if not held:
            _failed.add(name)
        _write(known)


#: What failed in this run, with one of its parameters.
_failed: set[str] = set()


def load() -> dict[str, Any]:
    """Return what is written down."""
    return tomllib.loads(PATH.read_text(encoding="utf-8"))


def _known() -> dict[str, dict[str, Any]]:
    if not PATH.exists():
        return {"attack": {}, "test": {}}
    found = load()
    attacks = {each["name"]: {level: each[level] for level in LEVELS if level in each} for each in found["attack"]}
    return {"attack": attacks, "test": {each["name"]: each["came"] for each in found.get("test", ())}}


def _write(known: dict[str, dict[str, Any]]) -> None:
    """Write all that is stated here, with what came of it; what is not tried any more goes."""
    lines = [
        "# What came of the attacks on a guard: written by `make attacks`.",
        "",
        f"linux = {_text('.'.join(platform.release().split('.')[:2]))}",
    ]
    for name, attack in ATTACKS.items():
        lines += ["", "[[attack]]", f"name = {_text(name)}", f"what = {_text(attack.what)}", f"by = {_text(attack.by)}"]
        lines += [f"{_text(level)} = {_text(came)}" for level, came in sorted(known["attack"].get(name, {}).items())]
    for file, tests in TESTS.items():
        for name, (what, by) in tests.items():
            lines += ["", "[[test]]", f"name = {_text(name)}", f"file = {_text(file)}", f"what = {_text(what)}"]
            lines += [f"by = {_text(by)}", f"came = {_text(known['test'].get(name, ''))}"]
    PATH.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
