"""Every refusal of a fence names its father and the setting to change."""

import errno

import pytest

from outgate.guard import obstacles
from outgate.guard.obstacles import MAP, NETWORK, NOT_DUMPABLE, RAISE_LOOPBACK, THREADS, USER_AND_NETWORK, explain

CLONE = {"/proc/sys/kernel/unprivileged_userns_clone": "0"}
APPARMOR = {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"}
SECCOMP = {"/proc/self/status": "Name:\tpython\nSeccomp:\t2\nSeccomp_filters:\t1"}
NO_USER = {"/proc/sys/user/max_user_namespaces": "0"}
NO_NET = {"/proc/sys/user/max_net_namespaces": "0"}


@pytest.mark.parametrize(
    ("step", "number", "settings", "reason", "cure"),
    [
        (USER_AND_NETWORK, errno.ENOSPC, NO_USER, "user.max_user_namespaces is 0", "user.max_user_namespaces="),
        (USER_AND_NETWORK, errno.ENOSPC, NO_NET, "user.max_net_namespaces is 0", "user.max_net_namespaces="),
        (NETWORK, errno.ENOSPC, NO_NET, "user.max_net_namespaces is 0", "user.max_net_namespaces="),
        (NETWORK, errno.ENOSPC, NO_USER, "limit of namespaces is reached", "raise the limit"),
        (USER_AND_NETWORK, errno.ENOSPC, {}, "limit of namespaces is reached", "raise the limit"),
        (USER_AND_NETWORK, errno.EPERM, CLONE, "kernel.unprivileged_userns_clone is 0", "unprivileged_userns_clone=1"),
        (USER_AND_NETWORK, errno.EACCES, APPARMOR, "AppArmor", "'userns,'"),
        (MAP, errno.EPERM, APPARMOR, "AppArmor", "apparmor_restrict_unprivileged_userns=0"),
        (RAISE_LOOPBACK, errno.EPERM, APPARMOR, "AppArmor", "'userns,'"),
        (USER_AND_NETWORK, errno.EPERM, SECCOMP, "seccomp filter", "RestrictNamespaces=no"),
        (USER_AND_NETWORK, errno.EPERM, {**APPARMOR, **SECCOMP}, "seccomp filter", "seccomp profile"),
        (USER_AND_NETWORK, errno.EACCES, {**APPARMOR, **SECCOMP}, "AppArmor", "'userns,'"),
        (MAP, errno.EACCES, {}, "withholds its rights", "SELinux"),
        (RAISE_LOOPBACK, errno.EPERM, SECCOMP, "withholds its rights", "SELinux"),
        (USER_AND_NETWORK, errno.EPERM, {}, "chroot", "leave the chroot"),
        (USER_AND_NETWORK, errno.EINVAL, {}, "no user or no network namespaces", "CONFIG_USER_NS"),
        (NETWORK, errno.ENOSYS, {}, "no network namespaces", "CONFIG_NET_NS"),
        (NETWORK, errno.ENOMEM, {}, "Cannot allocate memory", "try again"),
        (NOT_DUMPABLE, errno.EACCES, {}, "/proc/self/uid_map", "/proc mounted"),
    ],
)
def test_obstacle_is_named_with_its_cure(
    step: str, number: int, settings: "dict[str, str]", reason: str, cure: str
) -> None:
    """The step, its errno and the host's settings give the sentence and the cure of that obstacle."""
    texts = explain(step, number, settings.get)
    assert reason in texts[0]
    assert cure in texts[1]


def test_threads_are_counted_in_the_reason() -> None:
    """A process with threads is told how many."""
    assert explain(THREADS, errno.EINVAL, threads=3)[0].startswith("this process has 3 threads")


def test_every_text_is_one_line() -> None:
    """No sentence has a line end, so it fits a line on stderr and the trial's answer."""
    steps = (THREADS, NOT_DUMPABLE, NETWORK, USER_AND_NETWORK, MAP, RAISE_LOOPBACK)
    numbers = (errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EINVAL, errno.ENOMEM)
    texts = [text for step in steps for number in numbers for text in explain(step, number, lambda path: None)]
    assert all("\n" not in text and text for text in texts)


def test_missing_setting_reads_as_none() -> None:
    """A settings file that is not there is no error."""
    assert obstacles.read_setting("/proc/sys/kernel/no_such_setting") is None
