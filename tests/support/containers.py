"""Run what ``deploy/`` describes for real: Podman with its own store, and a base image made of this very Python.

No registry is asked for an image. The image that the Containerfile begins with is made here under its name: this
interpreter, its standard library, pip, a shell and the C library. Packages come from wheels that pip has fetched
before, so that the image is built without network.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

#: The image that is built of the Containerfile.
IMAGE = "localhost/outgate"

#: What a shell and the Containerfile need of a system.
_PROGRAMS = ("sh", "mkdir", "chown", "cat", "sleep")
#: Parts of the C library that wheels are linked to, and what it loads by name; as glob patterns.
_LIBRARIES = (
    *("libpthread.so.0", "librt.so.1", "libdl.so.2", "libutil.so.1", "libm.so.6", "libresolv.so.2", "libanl.so.1"),
    *("libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1", "libstdc++.so.6"),
)
_LEFT_OUT = frozenset(
    (
        "__pycache__",
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "lib2to3",
        "ensurepip",
        "site-packages",
        "dist-packages",
        "EXTERNALLY-MANAGED",
    )
)
_PATIENCE = 240


def missing() -> str | None:
    """Return why this host cannot run containers, or ``None`` when it can."""
    if os.geteuid() != 0:
        return "containers of the tests need root"
    absent = [name for name in ("podman", "runc") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)} (sh tests/integration/install.sh)" if absent else None


class Containers:
    """Podman with a store of its own, in which the image is built. A context manager; removes all that it made."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="outgate-containers-"))
        self.folder.chmod(0o755)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        config = self.folder / "containers.conf"
        config.write_text(
            # Without the right to raise limits a container gets those that there are.
            f'[containers]\ndefault_ulimits = ["nofile={limit}:{limit}", "nproc=4096:4096"]\n'
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
        )
        storage = self.folder / "storage.conf"
        storage.write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.folder}/store"\nrunroot = "{self.folder}/run"\n'
        )
        self.environ = {**os.environ, "CONTAINERS_CONF": str(config), "CONTAINERS_STORAGE_CONF": str(storage)}

    def __enter__(self) -> Containers:
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.podman("rm", "--all", "--force", "--time", "1", check=False)
        self.podman("volume", "prune", "--force", check=False)
        self.podman("rmi", "--all", "--force", check=False)
        self.podman("unmount", "--all", "--force", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def podman(self, *words: str, check: bool = True, patience: float = _PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run ``podman`` with these words. With ``check`` raises ``RuntimeError`` with its complaint if it fails."""
        done = subprocess.run(
            ["podman", *words], env=self.environ, capture_output=True, text=True, timeout=patience, cwd=ROOT
        )
        if check and done.returncode:
            raise RuntimeError(f"podman {' '.join(words)}: {done.stdout}{done.stderr}".strip())
        return done

    def _build(self) -> None:
        base = self.folder / "base.tar"
        _write_base(base)
        self.podman("import", str(base), base_image(), patience=600)
        base.unlink()
        wheels = self.folder / "wheels"
        _fetch_wheels(wheels)
        pip = self.folder / "pip.conf"
        pip.write_text("[global]\nno-index = true\nfind-links = /wheelhouse\ndisable-pip-version-check = true\n")
        self.podman(
            *("build", "--network", "none", "--pull=never", "--tag", IMAGE, "--file", str(DEPLOY / "Containerfile")),
            *("--volume", f"{wheels}:/wheelhouse:ro", "--volume", f"{pip}:/etc/pip.conf:ro", "."),
            patience=900,
        )


def base_image() -> str:
    """Return the name of the image that the Containerfile begins with."""
    text = (DEPLOY / "Containerfile").read_text()
    version = re.search(r"^ARG PYTHON=(\S+)$", text, re.M)
    names = set(re.findall(r"^FROM (\S+)", text, re.M))
    assert version is not None
    assert len(names) == 1, "one base"
    return names.pop().replace("${PYTHON}", version.group(1))


def _write_base(path: Path) -> None:
    """Write the archive of a system that has this Python in ``/usr/local``, as the images of Python have it."""
    library = f"usr/local/lib/python{sys.version_info[0]}.{sys.version_info[1]}"
    standard = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix}))
    interpreter = Path(os.path.realpath(sys.executable))
    programs = [Path(found) for name in _PROGRAMS if (found := shutil.which(name)) is not None]
    pip = importlib.util.find_spec("pip")
    assert pip is not None
    assert pip.origin is not None
    with tarfile.open(path, "w") as tar:
        for folder, mode in {"tmp": 0o1777, "etc": 0o755, "proc": 0o555, "sys": 0o555, "dev": 0o755}.items():
            _add(tar, folder, tarfile.DIRTYPE, mode)
        tar.add(interpreter, "usr/local/bin/python3")
        _add(tar, "usr/local/bin/python", tarfile.SYMTYPE, 0o777, "python3")
        for program in programs:
            tar.add(os.path.realpath(program), f"bin/{program.name}")
        for name, real in _libraries_of([interpreter, *programs, *standard.glob("lib-dynload/*.so")]).items():
            tar.add(real, name.lstrip("/"))
        tar.add(standard, library, filter=_without_extras)
        for site in ("site-packages", "dist-packages"):  # the second is where a Debian Python looks
            tar.add(Path(pip.origin).parent, f"{library}/{site}/pip", filter=_without_extras)


def _without_extras(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = member.name.rpartition("/")[2]
    return None if name in _LEFT_OUT or name.startswith("config-") else member


def _add(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, target: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.linkname = kind, mode, target
    tar.addfile(member, io.BytesIO())


def _libraries_of(programs: list[Path]) -> dict[str, str]:
    """Return path → real file of the shared libraries that programs are linked to, and of :data:`_LIBRARIES`."""
    found: dict[str, str] = {}
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True).stdout
    for path in re.findall(r"(/\S+) \(0x", said):
        found[path] = os.path.realpath(path)
    beside = {os.path.dirname(path) for path in found if os.path.basename(path).startswith("libc.so")}
    for name in _LIBRARIES:
        for folder in beside:
            if os.path.exists(f"{folder}/{name}"):
                found[f"{folder}/{name}"] = os.path.realpath(f"{folder}/{name}")
    return found


def _fetch_wheels(folder: Path) -> None:
    """Have pip fetch what the image is built of: what builds a wheel of outgate, and what its extras need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    text = (DEPLOY / "Containerfile").read_text()
    extras = set(re.findall(r"'(?:\.|outgate)\[([a-z,]+)\]'", text))
    assert len(extras) == 1, "what is made into wheels is what is installed"
    optional = project["project"]["optional-dependencies"]
    wanted = [*project["build-system"]["requires"]]
    for extra in extras.pop().split(","):
        wanted += [each for each in optional[extra] if not each.startswith("outgate")]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--wheel-dir", folder, "--constraint", ROOT / "constraints.txt", *wanted),
        ],
        check=True,
        timeout=300,
    )


def as_arguments(pod: dict[str, Any], container: dict[str, Any], volumes: dict[str, str]) -> list[str]:
    """Return the arguments of ``podman run`` that contain a container as its manifest says.

    :param pod: the ``spec`` of its pod.
    :param volumes: name of a volume → folder of this host that stands in its place.
    """
    own = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
    arguments = [f"--user={own['runAsUser']}:{own['runAsGroup']}"]
    capabilities = own.get("capabilities", {})
    arguments += [f"--cap-drop={name}" for name in capabilities.get("drop", ())]
    arguments += [f"--cap-add={name}" for name in capabilities.get("add", ())]
    if not own["allowPrivilegeEscalation"]:
        arguments.append("--security-opt=no-new-privileges")
    if own["readOnlyRootFilesystem"]:
        arguments += ["--read-only", "--read-only-tmpfs=false"]
    if pod.get("hostPID"):
        arguments.append("--pid=host")
    arguments += [f"--env={each['name']}={each['value']}" for each in container.get("env", ())]
    for mount in container["volumeMounts"]:
        mode = ":ro" if mount.get("readOnly") else ""
        arguments.append(f"--volume={volumes[mount['name']]}:{mount['mountPath']}{mode}")
    return arguments


#: Calls that the profile of Debian's Podman lets every program make, and Docker's and containerd's only those with a
#: right (``profiles/seccomp/default.json`` of moby, which containerd follows): the right of each.
DOCKER_WANTS = {
    "CAP_SYS_ADMIN": (
        *("unshare", "clone", "clone3", "setns", "mount", "umount", "umount2", "sethostname", "setdomainname"),
        *("fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree", "mount_setattr"),
    ),
    "CAP_SYS_PTRACE": ("pidfd_getfd", "kcmp", "process_madvise"),
}
#: Calls that they let nobody make.
DOCKER_HAS_NOT = ("pivot_root", "keyctl", "add_key", "request_key", "userfaultfd")
#: Those flags of clone(2) that make namespaces.
_NAMESPACES = 0x7E020000


def docker_profile() -> dict[str, Any]:
    """Return a seccomp profile that is to Podman's what Docker's default is, as far as outgate can notice.

    What is not listed is EPERM there, ENOSYS here; clone(2) is free without the flags that make namespaces, and
    clone3(2), whose flags no filter can see, is ENOSYS so that a C library falls back to clone(2).
    """
    profile: dict[str, Any] = json.loads(Path("/usr/share/containers/seccomp.json").read_text())
    taken = {name for names in DOCKER_WANTS.values() for name in names} | set(DOCKER_HAS_NOT)
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in taken]
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
    profile |= {"defaultErrnoRet": 1, "defaultErrno": "EPERM"}
    allow = "SCMP_ACT_ALLOW"
    for right, names in DOCKER_WANTS.items():
        profile["syscalls"].append({"names": [*names], "action": allow, "includes": {"caps": [right]}})
    without = {"caps": ["CAP_SYS_ADMIN"]}
    flags = {"index": 0, "value": _NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    profile["syscalls"].append({"names": ["clone"], "action": allow, "args": [flags], "excludes": without})
    profile["syscalls"].append(
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "errno": "ENOSYS", "excludes": without}
    )
    return profile
