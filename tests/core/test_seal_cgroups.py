"""Where a process's cgroup lies in the file system, on hosts and in containers of every kind."""

from __future__ import annotations

import pytest

from outgate.core.seal import cgroups

#: A host whose only hierarchy is version 2; one in hybrid mode; a container that sees a part of the host's.
UNIFIED = "24 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = (
    "30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
    "31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n"
    "32 30 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
)
PART = "24 1 0:22 /machine/box /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
SPACED = "24 1 0:22 / /a\\040b rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("membership", "mountinfo", "expected"),
    [
        ("0::/system.slice/outgate.service\n", UNIFIED, "/sys/fs/cgroup/system.slice/outgate.service"),
        ("0::/\n", UNIFIED, "/sys/fs/cgroup"),
        ("8:pids:/a\n0::/b\n", HYBRID, "/sys/fs/cgroup/unified/b"),
        ("0::/\n", SPACED, "/a b"),
        ("0::/machine/box\n", PART, "/sys/fs/cgroup"),
        ("0::/machine/box/inner\n", PART, "/sys/fs/cgroup/inner"),
        ("0::/machine/boxer\n", PART, ""),
        ("0::/../outside\n", UNIFIED, ""),
        ("8:pids:/a\n", UNIFIED, ""),
        ("0::/a\n", "32 30 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n", ""),
        ("0::/a\n", "short\n\n", ""),
        ("", "", ""),
    ],
)
def test_the_folder_of_a_cgroup(membership: str, mountinfo: str, expected: str) -> None:
    """It is found below the mount of version 2 that shows it, and nowhere where none does."""
    assert cgroups.folder_of(membership, mountinfo) == expected


def test_names_tell_what_may_be_swept_away() -> None:
    """A gate that another will follow has a name of its own kind, and the same one each time."""
    assert cgroups.name_of(0xAB, is_kept=True) == "outgate-gate-000000ab"
    assert cgroups.name_of(0xAB, is_kept=False) == "outgate-run-000000ab"
