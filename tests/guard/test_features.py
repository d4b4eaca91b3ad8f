"""What every answer of a host means: each state of each check, with what to change where it is not as it should be."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from outgate.guard import features
from outgate.guard.features import ABSENT, FAIL, OK, WARN, Check, Loaded
from outgate.guard.fence import Fence, FenceUnavailable
from outgate.guard.guard import GuardUnavailable

NET_ADMIN, SYS_ADMIN, BPF = 12, 21, 39


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6.18.44-fc", (6, 18)),
        ("6.1.0-18-amd64", (6, 1)),
        ("5.3", (5, 3)),
        ("5.15.153.1-microsoft-standard-WSL2", (5, 15)),
        ("10.0-rc1", (10, 0)),
        ("6", (0, 0)),
        ("", (0, 0)),
        ("custom", (0, 0)),
    ],
)
def test_release(text: str, expected: tuple[int, int]) -> None:
    """A kernel's release gives its major and minor number, and one that has none gives zeros."""
    assert features.release(text) == expected


@pytest.mark.parametrize(("text", "state"), [("5.2.21", FAIL), ("5.3.0", OK), ("6.1.0", OK), ("4.19.0", FAIL)])
def test_kernel(text: str, state: str) -> None:
    """A kernel before 5.3 cannot run the gate, and the check says so."""
    assert features.kernel(text).state == state


@pytest.mark.parametrize(("version", "state"), [((3, 10, 9), FAIL), ((3, 11, 0), OK), ((3, 14, 1), OK)])
def test_python(version: tuple[int, int, int], state: str) -> None:
    """A Python before 3.11 cannot run the gate."""
    assert features.python(version).state == state


def test_event_loop() -> None:
    """Without uvloop the gate works, slower, and the check says what to install."""
    assert features.event_loop("0.23.0") == Check("event loop", OK, "uvloop 0.23.0")
    assert features.event_loop("").state == WARN
    assert features.event_loop("").change == "pip install uvloop"


@pytest.mark.parametrize(
    ("found", "state", "word"),
    [
        ([], ABSENT, "no Python"),
        ([Loaded("/bin/python3", (3, 11), True)], OK, "/bin/python3 (3.11)"),
        ([Loaded("/a", (3, 11), True), Loaded("/b", (3, 13), True)], OK, "/a (3.11), /b (3.13)"),
        ([Loaded("/a", (3, 11), True), Loaded("/b", (3, 12), False)], FAIL, "/b (3.12) does not load"),
        ([Loaded("/a", (3, 9), False, "boom")], FAIL, "boom"),
        ([Loaded("/a", (3, 8), False, "too old")], WARN, "Python 3.8, too old"),
        ([Loaded("/a", (2, 7), False)], WARN, "Python 2.7, too old"),
        ([Loaded("/a", None, False, "Exec format error")], WARN, "does not run: Exec format error"),
    ],
)
def test_autoload(found: list[Loaded], state: str, word: str) -> None:
    """A Python that should load the client and does not is a failure; one that cannot is a warning."""
    check = features.autoload(found)
    assert check.state == state
    assert word in check.found
    assert bool(check.change) == (state in (FAIL, WARN))


@pytest.mark.parametrize(
    ("hard", "state"), [(-1, OK), (0, WARN), (1024, WARN), (5399, WARN), (5400, OK), (1 << 20, OK)]
)
def test_descriptors(hard: int, state: str) -> None:
    """A hard limit below what one app may hold by default is warned about."""
    assert features.descriptors(hard).state == state


@pytest.mark.parametrize(
    ("setting", "state", "change"),
    [
        ("1", OK, ""),
        ("3", OK, ""),
        ("0x407", WARN, ""),
        ("0", WARN, "sysctl -w net.ipv4.tcp_fastopen=1"),
        ("2", WARN, "sysctl -w net.ipv4.tcp_fastopen=3"),
        ("1027", OK, ""),
        ("", WARN, ""),
        (None, WARN, ""),
    ],
)
def test_fast_open(setting: str | None, state: str, change: str) -> None:
    """Bit 1 is what counts, the cure keeps the other bits, and what cannot be read is not guessed at."""
    check = features.fast_open(setting)
    assert (check.state, check.change) == (state, change)


def test_pass_rights() -> None:
    """Without SO_PASSRIGHTS nothing is wrong: the gate does by itself what the kernel would do."""
    assert features.pass_rights(True).state == OK
    assert features.pass_rights(False).state == ABSENT


def test_closes() -> None:
    """A kernel that does not tell of them leaves nothing to change: what is no more is looked for."""
    assert features.closes(True).state == OK
    assert (features.closes(False).state, features.closes(False).change) == (ABSENT, "")


def test_fence() -> None:
    """A fence that was made is well; one that could not be made is a failure, with the obstacle's own cure."""
    assert features.fence(Fence(user=True)).state == OK
    assert "user namespace" in features.fence(Fence(user=True)).found
    assert features.fence(FenceUnavailable("it is raining", "take an umbrella")) == Check(
        "fence", FAIL, "cannot be made: it is raining", "take an umbrella"
    )


@pytest.mark.parametrize(
    ("settings", "state", "word"),
    [
        ({"user/max_user_namespaces": "96365"}, OK, "96,365"),
        ({"user/max_user_namespaces": "0"}, WARN, "user.max_user_namespaces"),
        ({}, WARN, "CONFIG_USER_NS"),
        ({"user/max_user_namespaces": "1", "kernel/unprivileged_userns_clone": "1"}, OK, ""),
        (
            {"user/max_user_namespaces": "1", "kernel/unprivileged_userns_clone": "0"},
            WARN,
            "unprivileged_userns_clone=1",
        ),
        ({"user/max_user_namespaces": "1", "kernel/apparmor_restrict_unprivileged_userns": "0"}, OK, ""),
        (
            {"user/max_user_namespaces": "1", "kernel/apparmor_restrict_unprivileged_userns": "1"},
            WARN,
            "apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_user_namespaces(settings: Mapping[str, str], state: str, word: str) -> None:
    """Each setting that keeps ordinary users from user namespaces is named with its cure."""
    check = features.user_namespaces(lambda path: settings.get(path.removeprefix("/proc/sys/")))
    assert check.state == state
    assert word in f"{check.found} {check.change}"


def test_user() -> None:
    """Root is warned that it can leave the fence; nobody else is."""
    assert features.user(0).state == WARN
    assert features.user(1000).state == OK


@pytest.mark.parametrize(("scope", "state"), [(None, WARN), ("0", WARN), ("1", OK), ("2", OK), ("3", OK)])
def test_tracing(scope: str | None, state: str) -> None:
    """Only Yama's scope 0, and no Yama at all, let programs of one user trace one another."""
    check = features.tracing(scope)
    assert check.state == state
    assert bool(check.change) == (state == WARN)


def test_daemons() -> None:
    """A Unix socket by which others could be asked to dial is named."""
    assert features.daemons([]).state == OK
    assert "/run/docker.sock, /run/x" in features.daemons(["/run/docker.sock", "/run/x"]).found


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("Name:\tx\nCapEff:\t0000000000000000\n", set()),
        ("CapEff:\t0000000000001000\n", {NET_ADMIN}),
        ("CapPrm:\tffffffffffffffff\nCapEff:\t0000008000201000\nCapBnd:\tff\n", {NET_ADMIN, SYS_ADMIN, BPF}),
        ("", set()),
        ("CapEff:\tnonsense\n", set()),
    ],
)
def test_capabilities(status: str, expected: set[int]) -> None:
    """The effective set, and no other, is read from a process's status."""
    assert features.capabilities(status) == expected


@pytest.mark.parametrize(
    ("why", "held", "state", "words"),
    [
        ("", {BPF, NET_ADMIN}, OK, ["loaded"]),
        ("", {SYS_ADMIN}, OK, []),
        ("it rains", {BPF}, ABSENT, ["it rains", "no CAP_NET_ADMIN here"]),
        ("it rains", {NET_ADMIN}, ABSENT, ["no CAP_BPF here"]),
        ("it rains", set(), ABSENT, ["no CAP_BPF and no CAP_NET_ADMIN"]),
        ("it rains", {SYS_ADMIN}, ABSENT, ["of this user: it rains"]),
    ],
)
def test_seal(why: str, held: set[int], state: str, words: list[str]) -> None:
    """The seal is there where it could be made; where not, the reason and the rights that are missing are named."""
    check = features.seal(why, frozenset(held))
    assert check.state == state
    assert all(word in check.found for word in words)


def test_guard() -> None:
    """A trial decides on the guard; what it was stopped by is named, with what to change."""
    assert features.guard(None).state == OK
    check = features.guard(GuardUnavailable("root cannot be guarded", "run as another user"))
    assert (check.state, check.change) == (ABSENT, "run as another user")
    assert "root cannot be guarded" in check.found


@pytest.mark.parametrize(
    ("abi", "state", "bans"), [(0, ABSENT, False), (-1, ABSENT, False), (3, OK, False), (4, OK, True)]
)
def test_landlock(abi: int, state: str, bans: bool) -> None:
    """Landlock is reported with its version, and from the fourth on with what it does to connects."""
    check = features.landlock(abi)
    assert check.state == state
    assert ("bans TCP connects" in check.found) == bans
